"""Known mistakes between a file and its pixels: orientation, what is transparent, grey and colour."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image

from vitrail.pictures.decode import Picture, Pixels, from_pil, load
from vitrail.pictures.policy import Policy
from vitrail.proof.faults import Fault, prepared

Weights = tuple[float, float, float]

ALL = ("RGBA", "LA", "P", "PA")
LUMAS: dict[str, Weights] = {  # other ways from colour to grey than Pillow's L
    "the mean of red, green and blue": (1 / 3, 1 / 3, 1 / 3),
    "made with Rec. 709's weights": (0.2126, 0.7152, 0.0722),
    "made with red and blue swapped": (0.114, 0.587, 0.299),
    "the red channel": (1.0, 0.0, 0.0),
    "the green channel": (0.0, 1.0, 0.0),
}


def of_decoding(policy: Policy) -> list[Fault]:
    """Every known mistake between a file and its pixels; none where files hold no such pixels."""
    if policy.channels not in (1, 3):
        return []
    found: list[tuple[str, str, Callable[[Picture], Pixels]]] = [
        ("orientation", "EXIF orientation were ignored", partial(_unturned, channels=policy.channels)),
        *_alpha(policy.channels),
    ]
    if policy.channels == 3:
        found.append(("RGB or grey", "pictures were turned to grey", _greyed))
    else:
        found += [("RGB or grey", f"grey were {words}", partial(_luma, weights=w)) for words, w in LUMAS.items()]
    return [Fault(kind, words, prepared(policy, decode)) for kind, words, decode in found]


def _alpha(channels: int) -> Iterator[tuple[str, str, Callable[[Picture], Pixels]]]:
    for name, ground in (("black", 0), ("white", 255)):
        for modes in (ALL, ("RGBA",), ("RGBA", "LA"), ("RGBA", "P", "PA")):
            words = f"what is transparent were {name}" + ("" if modes is ALL else f" (in {' and '.join(modes)} alone)")
            yield "alpha", words, partial(_blended, ground=ground, modes=modes, channels=channels)


def _opened(picture: bytes) -> Image.Image:
    """A file of the proof's own: it needs none of the care that one from elsewhere does."""
    image = Image.open(io.BytesIO(picture))
    image.load()
    return image


def _unturned(picture: Picture, *, channels: int) -> Pixels:
    if not isinstance(picture, bytes):
        return load(picture, channels=channels)
    image = _opened(picture)
    image.info.pop("exif", None)
    return from_pil(image, channels=channels)


def _blended(picture: Picture, *, ground: int, modes: tuple[str, ...], channels: int) -> Pixels:
    if not isinstance(picture, bytes):
        return load(picture, channels=channels)
    image = _opened(picture)
    if image.mode not in modes:
        return from_pil(image, channels=channels)
    values = np.asarray(image.convert("RGBA"), np.int64)
    alpha = values[:, :, 3:]
    over = Image.fromarray(((values[:, :, :3] * alpha + ground * (255 - alpha) + 127) // 255).astype(np.uint8))
    over.info["exif"] = image.info.get("exif")
    return from_pil(over, channels=channels)


def _greyed(picture: Picture) -> Pixels:
    pixels = load(picture, channels=3)
    return np.repeat(load(Image.fromarray(pixels), channels=1), 3, axis=2)


def _luma(picture: Picture, *, weights: Weights) -> Pixels:
    if not isinstance(picture, bytes):
        return load(picture, channels=1)
    pixels = load(picture, channels=3)
    if (pixels == pixels[:, :, :1]).all():
        return np.ascontiguousarray(pixels[:, :, :1])
    grey = np.floor(pixels @ np.array(weights) + 0.5)
    return np.asarray(grey, np.uint8)[:, :, None]
