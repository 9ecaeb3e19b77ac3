"""From the start of a process to the answer for one JPEG:  python bench/first_answer.py BUNDLE PICTURE --runs 9

Beside `vitrail predict BUNDLE PICTURE --engine onnx`, which hashes the whole bundle first, a bare script that opens the
same graph by its path with onnxruntime and asks no more of it. Both as fresh processes, in turns; seconds of wall time
and the largest memory of each. Kept in results/first_answer.json by the name of the bundle.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from vitrail.bundle.read import read_manifest
from vitrail.bundle.write import tools
from vitrail.disk import write_file
from vitrail.evaluation.speed import ratio
from vitrail.machine import cores, cpu_name

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "first_answer.json"
BARE = """
import json, sys
import numpy as np, onnxruntime
from PIL import Image
graph, picture, size, mean, std = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:])
session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
with Image.open(picture) as image:
    pixels = np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC), np.float32)
images = ((pixels / 255 - np.array(mean, np.float32)) / np.array(std, np.float32)).transpose(2, 0, 1)[None]
(logits,) = session.run(None, {"images": np.ascontiguousarray(images, np.float32)})
print(int(logits.argmax()))
"""


def timed(words: list[str]) -> tuple[float, int]:
    """Seconds and largest memory in bytes of one process."""
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, words
    return seconds, used.ru_maxrss * 1024


def main() -> None:
    """Time both in turns and say how they compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    args = parser.parse_args()
    # Nothing is opened here: the largest memory of a process begins with that of the one that starts it.
    manifest = read_manifest(args.bundle)
    entry = next(engine for engine in manifest.engines.values() if engine.format == "onnx")
    graph, policy = args.bundle.resolve() / entry.file, manifest.policy
    numbers = [json.dumps(list(values)) for values in (policy.size, policy.mean, policy.std)]
    picture = str(args.picture.resolve())
    predict = [sys.executable, "-m", "vitrail", "predict"]
    ways = {
        "bare onnxruntime": [sys.executable, "-c", BARE, str(graph), picture, *numbers],
        "vitrail predict": [*predict, str(args.bundle.resolve()), picture, "--engine", "onnx"],
    }
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
    for _ in range(args.runs + 1):  # the first round warms the page cache
        for name, words in ways.items():
            found[name].append(timed(words))
    rows = {
        name: {
            "seconds": round(statistics.median(seconds for seconds, _ in times[1:]), 3),
            "peak_MB": round(statistics.median(peak for _, peak in times[1:]) / 1e6, 1),
        }
        for name, times in found.items()
    }
    bare, ours = ([seconds for seconds, _ in found[name][1:]] for name in ways)
    longer = ratio(ours, bare)
    result = {
        "graph_MB": round(graph.stat().st_size / 1e6, 1),
        "bundle_MB": round(sum(file.size for file in manifest.files.values()) / 1e6, 1),
        "rows": rows,
        "times_as_long": dict(zip(("median", "low", "high"), longer, strict=True)),
        "runs": args.runs,
        "machine": {"processor": cpu_name(), "cores": cores()},
        "versions": tools(("vitrail", "onnxruntime", "numpy", "pillow")),
    }
    for name, row in rows.items():
        print(f"{name:<18}{row['seconds']:7.2f} s  {row['peak_MB']:8.1f} MB")
    print(f"{longer.median:.2f} times as long ({longer.low:.2f} to {longer.high:.2f})")
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[args.bundle.resolve().name] = result
    write_file(RESULTS, (json.dumps(kept, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
