"""Hashes of resized, prepared and augmented pixels, to be equal under every version of Pillow, and by compiled loops.

python tests/oracles/pixels.py write FILE     (under one version)
python tests/oracles/pixels.py check FILE     (under another; exit 1 with the first difference)
python tests/oracles/pixels.py golden SHARED  (under each: the thousand made pictures, the odd ones, as recorded)
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
from PIL import features

from tests.pictures import odd
from tests.pictures.made import catalogue
from vitrail.data.augment.perform import GRADED, MOVED, WHOLE, operate
from vitrail.pictures import kernels
from vitrail.pictures.policy import INTERPOLATIONS, MODES, Policy
from vitrail.pictures.resize import resize

ROOT = Path(__file__).resolve().parents[2]
SIZES = [(1, 1), (5, 3), (37, 52), (61, 97), (97, 61), (200, 20), (20, 200), (300, 200), (200, 301), (500, 375)]
TARGETS = [(1, 1), (24, 40), (32, 32), (63, 57), (224, 224)]


def pictures() -> Iterator[tuple[str, np.ndarray]]:
    """Noise and ramps of many shapes, grey and colour."""
    random = np.random.Generator(np.random.PCG64(7))
    for height, width in SIZES:
        for channels in (1, 3):
            noise = random.integers(0, 256, (height, width, channels), np.uint8)
            ramp = (np.add.outer(np.arange(height), np.arange(width)) % 256).astype(np.uint8)
            yield f"noise {height}x{width}x{channels}", noise
            yield f"ramp {height}x{width}x{channels}", np.repeat(ramp[..., None], channels, axis=2)


def operations() -> Iterator[tuple[str, np.ndarray]]:
    """What every operation of augmentation makes of small pictures, at arguments all over its range."""
    random = np.random.Generator(np.random.PCG64(8))
    reach = {"posterize": 9, "solarize": 257, "solarize_add": 129, "rotate": 60, "hue": 1}
    for channels, height, width in ((1, 29, 33), (3, 29, 33), (3, 70, 101)):
        planes = random.integers(0, 256, (12, channels, height, width), np.uint8)
        for name in (*WHOLE, *GRADED, *MOVED):
            spread = reach.get(name, 20 if name.startswith("translate") else 2)
            arguments = np.linspace(0, spread, 12, endpoint=False)
            if name in MOVED or name == "hue":
                arguments -= spread / 2
            for sampling in ("nearest", "bilinear", "bicubic") if name in MOVED else (None,):
                yield (
                    f"{name} {height}x{width}x{channels} {sampling}",
                    operate(planes, name, arguments, sampling, (9, 99, 199)),
                )


def hashes() -> dict[str, str]:
    """What every case gives here."""
    found = {name: hashlib.sha256(pixels.tobytes()).hexdigest() for name, pixels in operations()}
    for name, picture in pictures():
        for target in TARGETS:
            for interpolation in INTERPOLATIONS:
                pixels = resize(picture, target, interpolation)
                found[f"{name} {interpolation} {target}"] = hashlib.sha256(pixels.tobytes()).hexdigest()
        for mode in MODES:
            for crop in (0.875, 1.0):
                policy = Policy(size=(48, 64), mode=mode, crop=crop, mean=(0.5,) * 3, std=(0.5,) * 3)
                pixels = policy.pixels(picture)
                found[f"{name} {mode} {crop}"] = hashlib.sha256(pixels.tobytes()).hexdigest()
    return found


def golden(shared: Path) -> int:
    """Hold what every file gives here against what is recorded: files to tensors, through the whole policy."""
    made = json.loads((ROOT / "tests" / "pictures" / "golden_made.json").read_text())
    mine = dict(catalogue.row(number) for number in range(catalogue.COUNT))
    differing = [name for name in made if mine.get(name) != made[name]]
    if mine.keys() != made.keys():
        differing.append("the names")
    counts = f"{len(made)} made pictures"
    if (shared / odd.ARCHIVE).exists():
        recorded = json.loads(odd.GOLDEN.read_text())
        found = {name: odd.outcome(data) for name, data in odd.pictures(shared).items()}
        differing += [name for name in recorded | found if recorded.get(name) != found.get(name)]
        counts += f", {len(recorded)} odd ones"
    versions = ", ".join(f"{name} {features.version(name)}" for name in ("libjpeg_turbo", "webp", "zlib"))
    print(f"Pillow {PIL.__version__} ({versions}): {counts}: {len(differing)} differ from what is recorded")
    if differing:
        print(f"first: {differing[0]}")
    return 1 if differing else 0


def main(what: str, file: Path) -> int:
    """Write the hashes, or hold ours against written ones."""
    if what == "golden":
        return golden(file)
    kernels.ready(augment=True)  # numba is installed where we write, and beside no other version
    mine = hashes()
    if what == "write":
        file.write_text(json.dumps(mine))
        print(f"Pillow {PIL.__version__}: {len(mine)} cases written")
        return 0
    theirs = json.loads(file.read_text())
    differing = [name for name in theirs if mine.get(name) != theirs[name]]
    print(f"Pillow {PIL.__version__}: {len(theirs) - len(differing)} passed, {len(differing)} failed")
    if differing:
        print(f"first: {differing[0]}")
    return 1 if differing or mine.keys() != theirs.keys() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
