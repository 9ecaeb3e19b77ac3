"""What compiled loops gain on RandAugment's operations:  python bench/operations.py [--shared DIR] [--rounds 31]

Each operation on one photograph of 224 x 224, without loops and with them, in turns and to the same bytes, on one core.
Prints the medians of the processor's milliseconds and their ratio, and writes results/operations.json.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail import __version__
from vitrail.bundle.write import tools
from vitrail.machine import cpu_name
from vitrail.pictures import kernels
from vitrail.pictures.operations import enhance, geometry, tones
from vitrail.pictures.operations.planes import Planes, as_planes

ROOT = Path(__file__).resolve().parents[1]
SIDE, FILL, CALLS = 224, (124, 116, 104), 10
Operation = Callable[[Planes], Planes]

OPERATIONS: dict[str, Operation] = {
    "turn, bicubic": lambda x: geometry.rotate(x, np.array([17.0]), "bicubic", FILL),
    "turn, bilinear": lambda x: geometry.rotate(x, np.array([17.0]), "bilinear", FILL),
    "shear across, bicubic": lambda x: geometry.shear_x(x, np.array([0.2]), "bicubic", FILL),
    "shear down, bicubic": lambda x: geometry.shear_y(x, np.array([0.2]), "bicubic", FILL),
    "shift across, bicubic": lambda x: geometry.translate_x(x, np.array([20.5]), "bicubic", FILL),
    "shift down, bicubic": lambda x: geometry.translate_y(x, np.array([20.5]), "bicubic", FILL),
    "colour": lambda x: enhance.colour(x, np.array([1.4])),
    "contrast": lambda x: enhance.contrast(x, np.array([1.4])),
    "brightness": lambda x: enhance.brightness(x, np.array([1.4])),
    "sharpness": lambda x: enhance.sharpness(x, np.array([1.4])),
    "autocontrast": tones.autocontrast,
    "equalize": tones.equalize,
}


def photograph(shared: Path) -> NDArray[np.uint8]:
    """The first of the full-size photographs, made 224 x 224."""
    with tarfile.open(shared / "data" / "photos" / "imagenet_samples90.tar") as archive:
        member = min((one for one in archive if one.isfile()), key=lambda one: one.name)
        file = archive.extractfile(member)
        assert file is not None
        with Image.open(io.BytesIO(file.read())) as image:
            return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def milliseconds(operation: Operation, planes: Planes) -> float:
    began = time.process_time()
    for _ in range(CALLS):
        operation(planes)
    return 1000 * (time.process_time() - began) / CALLS


def compared(operation: Operation, planes: Planes, rounds: int) -> dict[str, Any]:
    """Both ways in turns, after one call of each whose bytes must be equal."""
    compiled = kernels.ready(augment=True)
    assert compiled is not None, "needs numba: pip install vitrail[fast]"
    times: dict[str, list[float]] = {"plain": [], "compiled": []}
    answers = []
    for turn in range(rounds + 1):
        for way, loops in (("plain", None), ("compiled", compiled)):
            with mock.patch.object(kernels, "loaded", return_value=loops):
                if turn == 0:
                    answers.append(operation(planes).tobytes())
                else:
                    times[way].append(milliseconds(operation, planes))
    assert answers[0] == answers[1], "the two ways give other bytes"
    ratios = [a / b for a, b in zip(times["plain"], times["compiled"], strict=True)]
    found = {f"{way}_ms": round(statistics.median(values), 4) for way, values in times.items()}
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {**found, "ratio": statistics.median(ratios), "ratio_from": float(low), "ratio_to": float(high)}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--rounds", type=int, default=31)
    args = parser.parse_args()
    planes = as_planes(photograph(args.shared)[None])
    rows = {}
    for name, operation in OPERATIONS.items():
        rows[name] = row = compared(operation, planes, args.rounds)
        print(f"{name:<24}{row['plain_ms']:8.3f} ms {row['compiled_ms']:8.3f} ms {row['ratio']:6.1f} times", flush=True)
    versions = {"vitrail": __version__, **tools(("numpy", "pillow", "numba"))}
    values = {"operations": rows, "rounds": args.rounds, "machine": {"processor": cpu_name()}, "versions": versions}
    (ROOT / "results" / "operations.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
