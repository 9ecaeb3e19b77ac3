"""Pictures re-encoded once into tar shards, for machines with few cores: smaller JPEGs cost less to decode each epoch.

The shards follow the WebDataset convention: `KEY.jpg` beside `KEY.cls`, the number of its class, in `train-000000.tar`
and on; what the numbers mean stands in `classes.txt`, one name a line. `shards.json` is written last and holds the
hash of each shard; until then the folder is refused as a source. A shard is whole or absent, and the same pictures
give the same bytes: packing that was stopped goes on where it was.
"""

from __future__ import annotations

import io
import json
import math
import re
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail import __version__
from vitrail.data.batches import BadPicture
from vitrail.data.loader import ahead
from vitrail.data.reading import unreadable
from vitrail.data.sources import Source
from vitrail.data.sources.shards import BEGUN, MANIFEST
from vitrail.disk import make_folder, read_file, remove_leftovers, sha256_bytes, sha256_file, write_file
from vitrail.errors import DataError, PictureError, UsageError
from vitrail.pictures import kernels
from vitrail.pictures.decode import decode, opened, whole
from vitrail.pictures.resize import resize

FORMAT = "1.0"
CLASSES = "classes.txt"
PER_SHARD = 1000
LIMIT = 64 << 20  # bytes of a manifest, or of what is known of one shard


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How pictures are packed: the short side in pixels (smaller ones stay as they are), JPEG quality and sampling."""

    short: int = 256
    quality: int = 90
    sampling: Literal["4:2:0", "4:4:4"] = "4:2:0"
    on_bad: Literal["error", "skip"] = "error"


@dataclass(frozen=True)
class Packed:
    """What was packed. psnr: of each picture against itself resized and not encoded, in dB; inf: taken as it was."""

    folder: Path
    counts: dict[str, int]  # pictures by part
    bytes: int
    psnr: NDArray[np.float64]
    bad: tuple[str, ...]
    source_bytes: int  # of the files it was made from


def pack(source: Source, out: Path, packing: Packing, *, workers: int, progress: Callable[[int, int], None]) -> Packed:
    """Pack every picture of `source` into the folder `out`, or go on with it.

    UsageError V006 when something else lies there, DataError V406 for a picture that cannot be read.
    """
    parts = _parts(source)
    what = {"format": FORMAT, "source": source.fingerprint, "classes": list(source.classes), **asdict(packing)}
    mark = sha256_bytes(json.dumps([what, {name: len(mine) for name, mine in parts.items()}]).encode())
    _begin(out, mark)
    kernels.ready()
    total, done = sum(map(len, parts.values())), 0
    shards: dict[str, list[dict[str, Any]]] = {name: [] for name in parts}
    for part, indices in parts.items():
        for number in range(-(-len(indices) // PER_SHARD)):
            mine = indices[number * PER_SHARD : (number + 1) * PER_SHARD]
            name = f"{part}-{number:06d}.tar"
            shards[part].append(_known(out, name) or _shard(source, out, name, mine, packing, workers))
            done += len(mine)
            progress(done, total)
    write_file(out / CLASSES, "".join(f"{name}\n" for name in source.classes).encode())
    rows = [row for part in shards.values() for row in part]
    psnr = np.array([math.inf if value is None else value for row in rows for value in row.pop("psnr")])
    source_bytes = sum(row.pop("source_bytes") for row in rows)
    bad = tuple(name for row in rows for name in row["bad"])
    if not len(psnr):
        raise DataError("V401", f"no picture of `{source.place}` can be read", hint="look it through: data audit")
    counts = {part: sum(row["pictures"] for row in mine) for part, mine in shards.items()}
    manifest = {
        **what,
        "vitrail": __version__,
        "pictures": counts,
        "shards": shards,
        "psnr": _summed(psnr),
    }
    write_file(out / MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
    return Packed(out, counts, sum(row["bytes"] for row in rows), psnr, bad, source_bytes)


def _parts(source: Source) -> dict[str, NDArray[np.int64]]:
    """Which pictures lie together. A split that was only drawn is left to whoever reads: it is drawn the same again."""
    if not source.own_split:
        return {"train": np.arange(len(source.labels), dtype=np.int64)}
    parts = {"train": source.training, "val": source.held_out}
    return {name: indices for name, indices in parts.items() if len(indices)}


def _begin(out: Path, mark: str) -> None:
    """An empty folder, or one in which the same was begun."""
    make_folder(out)
    remove_leftovers(out)
    place = out / BEGUN
    if place.is_file():
        if read_file(place, limit=LIMIT) == mark.encode():
            return
        raise UsageError(
            "V006", f"`{out}` holds other pictures, or packed otherwise", hint="give another folder, or remove it"
        )
    if any(out.iterdir()):
        raise UsageError("V006", f"`{out}` is not empty", hint="give a new folder")
    write_file(place, mark.encode())


def _known(out: Path, name: str) -> dict[str, Any] | None:
    """What was written down of a shard that is there, whole."""
    beside = out / f".{name}.json"
    if not beside.is_file() or not (out / name).is_file():
        return None
    row: dict[str, Any] = json.loads(read_file(beside, limit=LIMIT))
    return row if sha256_file(out / name) == row["sha256"] else None


def _shard(
    source: Source, out: Path, name: str, indices: NDArray[np.int64], packing: Packing, workers: int
) -> dict[str, Any]:
    def make(place: int) -> Encoded | BadPicture:
        index = int(indices[place])
        try:
            return encoded(source, index, packing)
        except PictureError as error:
            return BadPicture(index, source.title(index), error)

    file, psnr, bad, source_bytes = io.BytesIO(), [], [], 0
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for place, found in enumerate(ahead(make, 0, len(indices), workers)):
            if isinstance(found, BadPicture):
                bad.append(found)
                continue
            key = key_of(int(indices[place]), source.title(int(indices[place])))
            _add(archive, f"{key}.jpg", found.data)
            _add(archive, f"{key}.cls", str(int(source.labels[indices[place]])).encode())
            psnr.append(found.psnr)
            source_bytes += found.source_bytes
    if bad and packing.on_bad == "error":
        raise unreadable(bad, len(indices), source.place, way="--on-bad skip")
    data = file.getvalue()
    write_file(out / name, data)
    row = {"name": name, "pictures": len(psnr), "bytes": len(data), "sha256": sha256_bytes(data)}
    row |= {"source_bytes": source_bytes, "bad": [one.name for one in bad], "psnr": psnr}
    write_file(out / f".{name}.json", json.dumps(row, ensure_ascii=False).encode())
    return row


def key_of(index: int, title: str) -> str:
    """A member's name without its ending: printable, without dots, in the source's order.

    >>> key_of(7, "cats/süß 1.jpg")
    '00000007-cats-s-1'
    """
    stem = title.rsplit(".", 1)[0]
    return f"{index:08d}-{re.sub('[^A-Za-z0-9]+', '-', stem).strip('-')[-60:]}".rstrip("-")


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    archive.addfile(member, io.BytesIO(data))


class Encoded(NamedTuple):
    """A picture as it is packed. psnr: what that cost in dB; None where it is a small JPEG and stays as it is."""

    data: bytes
    psnr: float | None
    source_bytes: int  # of its file; 0 for an array


def encoded(source: Source, index: int, packing: Packing) -> Encoded:
    """Picture `index` as it is packed, read once. PictureError V301 to V305, DataError V404."""
    stored, size = source.picture(index), 0
    if isinstance(stored, np.ndarray):
        pixels = stored
    else:
        name = f"`{source.title(index)}`"
        header = opened(stored, name)
        size, pixels = len(header.data), whole(header, name, 3)
        small = min(header.height, header.width) <= packing.short
        if small and header.format == "JPEG" and header.orientation == 1:
            return Encoded(header.data, None, size)
    pixels = _small(pixels, packing.short)
    if pixels.shape[2] not in (1, 3):
        raise DataError(
            "V404", f"`{source.place}` holds pictures of {pixels.shape[2]} channels", hint="pack grey or RGB"
        )
    file = io.BytesIO()
    plain = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    Image.fromarray(plain).save(file, "JPEG", quality=packing.quality, subsampling=packing.sampling, optimize=True)
    again = decode(file.getvalue(), channels=pixels.shape[2])
    return Encoded(file.getvalue(), psnr_of(pixels, again), size)


def _small(pixels: NDArray[np.uint8], short: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    least = min(height, width)
    if least <= short:
        return pixels
    return resize(pixels, (max(1, round(height * short / least)), max(1, round(width * short / least))), "bicubic")


def psnr_of(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal to noise ratio of two pictures in dB.

    >>> round(psnr_of(np.zeros((2, 2, 1), np.uint8), np.ones((2, 2, 1), np.uint8)), 2)
    48.13
    """
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return math.inf if error == 0.0 else 10 * math.log10(255**2 / error)


def _summed(psnr: NDArray[np.float64]) -> dict[str, float | int | None]:
    """Median and worst of the re-encoded pictures, and how many stayed as they were."""
    lossy = psnr[np.isfinite(psnr)]
    median, worst = (float(np.median(lossy)), float(lossy.min())) if len(lossy) else (None, None)
    return {"median": median, "worst": worst, "unchanged": int(len(psnr) - len(lossy))}
