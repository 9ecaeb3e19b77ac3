"""A thousand pictures, each with the policy that prepares it: what is promised to be one tensor everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.pictures.made import flat, jpeg, png, webp
from tests.pictures.made.draw import Draw
from vitrail.pictures.policy import HALF, IMAGENET, INTERPOLATIONS, Mode, Policy

COUNT = 1000
LONGEST = 4000
STREAMS = Path(__file__).resolve().parents[2] / "golden" / "webp"

_MODES: tuple[Mode, ...] = ("crop", "squash", "pad")
_AREA = 60_000  # of most pictures; one in fifty is large
_LARGE = 1_000_000
WHOLE = {100: (4000, 3000), 301: (3001, 4000), 502: (2999, 3989), 703: (4000, 4000)}


@dataclass(frozen=True)
class Made:
    """A picture by its number: what it is, its size as stored, its bytes, the policy."""

    name: str
    height: int
    width: int
    orientation: int  # as the file states it; 0 where it states none
    policy: Policy
    kind: object
    data: Callable[[], bytes]


def made(number: int) -> Made:
    """The picture of that number, 0 to COUNT - 1."""
    draw = Draw(f"picture {number}")
    family = ["jpeg", "png", "jpeg", "webp", "jpeg", "bmp", "png", "jpeg", "gif", "png"][number % 10]
    turn = (number // 10) % 10 if family in ("jpeg", "png", "webp") else 0  # 0: none; 9: out of range
    height, width = _size(draw, number)
    kind, encode, (height, width) = _FAMILIES[family](draw, number, turn, (height, width))
    policy = _policy(draw, number)
    size = "x".join(map(str, (*policy.size, policy.channels)))
    name = (
        f"{number:03d} {kind} {height}x{width}{f' exif {turn}' if turn else ''}: "
        f"{policy.mode} {policy.crop:g} {policy.interpolation} {size}"
    )
    return Made(name, height, width, turn, policy, kind, lambda: encode(draw))


Chosen = tuple[object, Callable[[Draw], bytes], tuple[int, int]]


def _jpeg(draw: Draw, number: int, turn: int, size: tuple[int, int]) -> Chosen:
    colours, samplings = list(jpeg.COLOURS), list(jpeg.SAMPLINGS)
    nth = number // 10 * 4 + (0, 2, 4, 7).index(number % 10)
    coding = jpeg.CODINGS[(nth + nth // 4) % len(jpeg.CODINGS)]
    if coding == "progressive" and size[0] * size[1] > _AREA:
        coding = "baseline"  # refining is written in plain Python
    restart = (0, 0, 1, 7, 100)[draw.below(5)]
    kind = jpeg.Jpeg(draw.of(colours), samplings[nth % len(samplings)], coding, restart, turn)
    return kind, lambda stream: jpeg.encode(stream, *size, kind), size


def _png(draw: Draw, number: int, turn: int, size: tuple[int, int]) -> Chosen:
    nth = number // 10 * 2 + (number % 10 == 6)
    colour, depth = png.KINDS[nth % len(png.KINDS)]
    transparent = colour in (png.GREY, png.RGB, png.PALETTE) and draw.below(2) == 1
    kind = png.Png(colour, depth, nth // len(png.KINDS) % 2 == 1, transparent, turn)
    return kind, lambda stream: png.encode(stream, *size, kind), size


def _webp(draw: Draw, number: int, turn: int, size: tuple[int, int]) -> Chosen:
    if number // 10 % 2:
        kind = webp.WebP(draw.below(2) == 1, draw.below(2) == 1, turn)
        return kind, lambda stream: webp.encode(stream, *size, kind), size
    path = sorted(STREAMS.glob("*.webp"))[number // 100]  # each with every other orientation
    nth, sides, *alpha = path.stem.split("-")
    height, width = map(int, sides.split("x"))
    lossy = webp.WebP(bool(alpha), False, turn, int(nth))
    return lossy, lambda stream: webp.encode(stream, height, width, lossy, _stream(path)), (height, width)


@cache
def _stream(path: Path) -> bytes:
    """The chunks of a lossy stream, without the container around them."""
    data = path.read_bytes()
    return data[30:] if data[12:16] == b"VP8X" else data[12:]


def _gif(draw: Draw, number: int, turn: int, size: tuple[int, int]) -> Chosen:
    flags = [draw.below(2) == 1 for _ in range(4)]
    kind = flat.Gif(1 + number // 10 % 8, *flags)
    return kind, lambda stream: flat.encode_gif(stream, *size, kind), size


def _bmp(draw: Draw, number: int, turn: int, size: tuple[int, int]) -> Chosen:
    word = flat.BMP_KINDS[number // 10 % len(flat.BMP_KINDS)]
    kind = flat.Bmp(word, word[0].isdigit() and draw.below(2) == 1)
    return kind, lambda stream: flat.encode_bmp(stream, *size, kind), size


_FAMILIES = {"jpeg": _jpeg, "png": _png, "webp": _webp, "gif": _gif, "bmp": _bmp}


def _size(draw: Draw, number: int) -> tuple[int, int]:
    if number in WHOLE:
        return WHOLE[number]
    most = _LARGE if number % 50 == 7 else _AREA
    height, width = draw.side(LONGEST), draw.side(LONGEST)
    if height * width > most:
        height, width = (height, max(most // height, 1)) if draw.below(2) else (max(most // width, 1), width)
    return height, width


def _policy(draw: Draw, number: int) -> Policy:
    square = draw.of((224, 1 + draw.below(120)))
    size = (1 + draw.below(97), 1 + draw.below(97)) if draw.below(4) else (square, square)
    statistics = (HALF, IMAGENET)[draw.below(2)]
    channels = 1 if draw.below(5) == 0 else 3
    return Policy(
        size=size,
        mode=_MODES[number % 3],
        crop=draw.of((1.0, 0.875, 0.9, 0.95, 0.5)),
        interpolation=INTERPOLATIONS[number // 3 % len(INTERPOLATIONS)],
        mean=statistics.mean[:channels],
        std=statistics.std[:channels],
    )


def digest(data: bytes) -> str:
    """The first 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def row(number: int) -> tuple[str, str]:
    """(name, "hash of the file, hash of the tensor or code of the refusal") of a picture, as computed here."""
    picture = made(number)
    data = picture.data()
    return picture.name, f"{digest(data)} {prepared(picture.policy, data)}"


def prepared(policy: Policy, data: bytes) -> str:
    """The hash of the tensor (1, C, H, W) that a policy makes of a file, or the code of the refusal."""
    from vitrail.errors import PictureError

    try:
        pixels = policy.pixels(data)
    except PictureError as error:
        return error.code
    return digest(policy.normalise(pixels[None]).astype("<f4").tobytes())
