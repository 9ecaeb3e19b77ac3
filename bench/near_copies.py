"""Which copies of a picture the audit takes for near copies, and which different pictures: `DISTANCE` and `ALIKE`.

    python bench/near_copies.py FOLDER [FOLDER ...]       prints a table, writes results/near_copies.json

Every picture is changed in each way and compared with what it was (found), and all pictures of a folder with each
other (mistaken). At most `CHANGED` pictures of a folder are changed; all are compared.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.data.audit import alike
from vitrail.data.looks import Look, look
from vitrail.pictures.decode import decode

CHANGED = 200
LIMITS = (0.85, 0.90, 0.92, 0.95)
RESULTS = Path(__file__).resolve().parents[1] / "results" / "near_copies.json"
Picture = NDArray[np.uint8]


def jpeg(picture: Picture, quality: int) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return decode(buffer.getvalue())


def resized(picture: Picture, across: float, down: float) -> Picture:
    size = (max(1, round(picture.shape[1] * across)), max(1, round(picture.shape[0] * down)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def cropped(picture: Picture, part: float, rng: np.random.Generator) -> Picture:
    height, width = (round(side * (1 - part)) for side in picture.shape[:2])
    top, left = rng.integers(0, picture.shape[0] - height + 1), rng.integers(0, picture.shape[1] - width + 1)
    return picture[top : top + height, left : left + width]


def ways(rng: np.random.Generator) -> dict[str, Callable[[Picture], Picture]]:
    return {
        "JPEG quality 50": lambda p: jpeg(p, 50),
        "JPEG quality 20": lambda p: jpeg(p, 20),
        "half the size": lambda p: jpeg(resized(p, 0.5, 0.5), 85),
        "twice the size": lambda p: jpeg(resized(p, 2, 2), 85),
        "0.8 times the width": lambda p: jpeg(resized(p, 0.8, 1), 85),
        "cropped by 2 % of each side": lambda p: jpeg(cropped(p, 0.02, rng), 85),
        "cropped by 5 %": lambda p: jpeg(cropped(p, 0.05, rng), 85),
        "cropped by 10 %": lambda p: jpeg(cropped(p, 0.10, rng), 85),
    }


def likeness(looks: list[Look], copies: list[Look]) -> NDArray[np.float64]:
    """How alike each look is to its copy; 0 where their hashes are too far apart, or one is too small."""
    close = [
        place
        for place, pair in enumerate(zip(looks, copies, strict=True))
        if (pair[0].hash ^ pair[1].hash).bit_count() <= alike.DISTANCE
        and min(side for one in pair for side in (one.width, one.height)) >= alike.SMALLEST
    ]
    both = [looks[place] for place in close] + [copies[place] for place in close]
    thumbs = alike.standard(np.stack([np.frombuffer(one.thumb, np.uint8) for one in both]))
    found = np.zeros(len(looks))
    found[close] = alike.alikeness(thumbs, np.arange(len(close)), np.arange(len(close)) + len(close))
    return found


def measure(folder: Path) -> dict[str, object]:
    rng = np.random.default_rng(0)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    looks = [look(path, path.name) for path in paths]
    chosen = rng.choice(len(paths), min(CHANGED, len(paths)), replace=False).tolist()
    found: dict[str, NDArray[np.float64]] = {}
    for name, change in ways(rng).items():
        copies = [look(np.ascontiguousarray(change(decode(paths[i]))), "copy") for i in chosen]
        found[name] = likeness([looks[i] for i in chosen], copies)
    mistaken = {}
    for limit in LIMITS:
        alike.ALIKE = limit
        mistaken[str(limit)] = len(alike.near(looks)[0])
    shares = {name: {str(t): float(np.mean(v >= t)) for t in LIMITS} for name, v in found.items()}
    pairs = len(paths) * (len(paths) - 1) // 2
    return {"folder": folder.name, "pictures": len(paths), "pairs": pairs, "found": shares, "mistaken": mistaken}


def main() -> None:
    rows = [measure(Path(folder)) for folder in sys.argv[1:]]
    for row in rows:
        print(f"\n{row['folder']}: {row['pictures']:,} pictures, {row['pairs']:,} pairs")
        print(f"{'':28}" + "".join(f"{limit:>8}" for limit in LIMITS))
        for name, shares in row["found"].items():  # type: ignore[attr-defined]
            print(f"{name:28}" + "".join(f"{100 * share:7.1f}%" for share in shares.values()))
        print(f"{'different pictures':28}" + "".join(f"{n:8}" for n in row["mistaken"].values()))  # type: ignore[attr-defined]
    RESULTS.write_text(json.dumps({"distance": alike.DISTANCE, "alike": 0.92, "folders": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
