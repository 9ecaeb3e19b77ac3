"""Whether everything names a whole validation set alike:  python bench/validation.py BUNDLE --data DIR [--cpp PROGRAM]

Every held-out picture of DATA once through torch and through each graph of the bundle, in Python and, where the C++
program is built, there too (`evaluate`, on the same files). Prints and keeps in results/validation.json, by the name of
the bundle: how many are right at first and among five, and in Python how many decisions are others than torch's. DATA
is a folder with `val`, or lies in arrays (CIFAR): then it is written out as PNG files, which Python reads too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from vitrail.bundle.read import read_manifest  # noqa: E402
from vitrail.bundle.write import tools  # noqa: E402
from vitrail.data.configs import Data  # noqa: E402
from vitrail.data.sources import Source, open_source  # noqa: E402
from vitrail.disk import write_file  # noqa: E402
from vitrail.machine import cores, cpu_name  # noqa: E402
from vitrail.verbs.evaluate import evaluate  # noqa: E402

RESULTS = ROOT / "results" / "validation.json"


def as_files(source: Source, place: Path) -> Path:
    """The held-out pictures as PNG files in class folders."""
    for index in source.held_out.tolist():
        folder = place / source.classes[int(source.labels[index])]
        folder.mkdir(exist_ok=True)
        Image.fromarray(source.read(index).squeeze()).save(folder / f"{index:06}.png")
    return place


def in_cpp(program: Path, bundle: Path, data: Path, graph: str) -> dict[str, Any]:
    """What the C++ program counts."""
    command = [str(program), "evaluate", str(bundle), str(data), "--engine", graph, "--trust", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().partition("\n")[0]}
    said = json.loads(done.stdout)
    return {"correct": said["correct"], "in_five": round(said["top5"] * said["pictures"])}


def main() -> None:
    """Ask, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--cpp", type=Path, default=ROOT / "build" / "cpp" / "vitrail-cpp")
    args = parser.parse_args()
    source = open_source(Data(root=args.data), seed=0)
    with tempfile.TemporaryDirectory() as place:
        files = as_files(source, Path(place)) if source.memory is not None else Path(args.data) / "val"
        truth = evaluate(args.bundle, files, part="all", engine="torch").evaluation
        ways: dict[str, dict[str, Any]] = {"torch": counts(truth.correct, truth.top5 * truth.total, 0)}
        print(f"{'torch':34}{truth.correct:7} of {truth.total}", flush=True)
        for graph in sorted(read_manifest(args.bundle).engines):
            began = time.monotonic()
            found = evaluate(args.bundle, files, part="all", engine=graph).evaluation
            other = int((found.predictions != truth.predictions).sum())
            ways[graph] = counts(found.correct, found.top5 * found.total, other)
            if args.cpp.is_file():
                ways[f"{graph}, C++"] = in_cpp(args.cpp, args.bundle, files, graph)
            told = ways.get(f"{graph}, C++", {"error": "not built"})
            cpp = told.get("correct", told.get("error"))
            took = time.monotonic() - began
            print(f"{graph:34}{found.correct:7}, C++ {cpp}, {other} others than torch  {took:.0f} s", flush=True)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[args.bundle.resolve().name] = {
        "variant": read_manifest(args.bundle).variant,
        "pictures": truth.total,
        "ways": ways,
        "machine": {"processor": cpu_name(), "cores": cores()},
        "versions": tools(("torch", "onnxruntime", "openvino")),
    }
    write_file(RESULTS, (json.dumps(kept, indent=1, sort_keys=True) + "\n").encode())


def counts(correct: int, in_five: float, other: int) -> dict[str, Any]:
    """A row of Python's."""
    return {"correct": correct, "in_five": round(in_five), "other_than_torch": other}


if __name__ == "__main__":
    main()
