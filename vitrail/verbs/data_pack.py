"""`data pack`: pictures re-encoded once into shards that are quick to read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vitrail.data.configs import Data
from vitrail.data.pack import Packed, Packing, pack
from vitrail.data.sources import open_source
from vitrail.errors import UsageError
from vitrail.verbs.outside import refuse_inside


@dataclass(frozen=True)
class PackResult:
    """What was packed, and what it cost."""

    packed: Packed
    notes: tuple[str, ...]

    @property
    def psnr(self) -> tuple[float, float] | None:
        """Median and worst over the re-encoded pictures in dB; None where all stayed as they were."""
        lossy = self.packed.psnr[np.isfinite(self.packed.psnr)]
        return (float(np.median(lossy)), float(lossy.min())) if len(lossy) else None

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        return {
            "folder": str(self.packed.folder),
            "pictures": self.packed.counts,
            "bytes": self.packed.bytes,
            "source_bytes": self.packed.source_bytes or None,
            "psnr": None if self.psnr is None else {"median": self.psnr[0], "worst": self.psnr[1]},
            "unchanged": int(np.isinf(self.packed.psnr).sum()),
            "bad": list(self.packed.bad),
        }


def data_pack(
    src: str,
    dst: Path | str,
    *,
    short: int = 256,
    quality: int = 90,
    on_bad: Literal["error", "skip"] = "error",
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PackResult:
    """Pack the pictures of `src` into shards in the folder `dst`, or go on with packing that was stopped.

    short: the short side in pixels. UsageError V006 or V007, DataError V401 to V407.
    """
    for word, value, low, high in (
        ("short", short, 8, 4096),
        ("quality", quality, 1, 100),
        ("workers", workers, 0, 256),
    ):
        if not low <= value <= high:
            raise UsageError("V007", f"{word} {value} does not lie in {low} to {high}", hint=f"give {word} within it")
    refuse_inside(Path(dst), src)
    source = open_source(Data(root=src), split_it=False)
    packing = Packing(short=short, quality=quality, on_bad=on_bad)
    packed = pack(source, Path(dst), packing, workers=workers, progress=progress)
    return PackResult(packed, tuple(note for note in source.notes if note not in source.split_notes))
