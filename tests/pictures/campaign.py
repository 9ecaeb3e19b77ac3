"""The promises about pictures at full length, with the figures of one run.

    python -m tests.pictures.campaign [NAME...] [--seconds S] [--count N] [--out results/pictures.json]

Mutants of every kind of file, as many as promised or as can be read in so many seconds each, by what became of them;
and what the largest pictures cost. The figures say what was really run.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import PIL
from PIL import features

from tests.hostile.campaign import run
from tests.pictures.costs import LARGEST
from tests.pictures.mutants import READERS
from vitrail.disk import write_file
from vitrail.machine import cores, cpu_name

PARTS = ("mutants", "largest")


def mutants(names: Sequence[str], count: int | None, seconds: float) -> dict[str, object]:
    """What became of the mutants of each kind of file."""
    rows: dict[str, object] = {}
    for name in names:
        reader = READERS[name]
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            tally = run(reader, count or reader.full, 2, Path(folder), seconds=seconds)
        print(f"{name}: {tally.line()}", *tally.findings[:20], sep="\n  ", flush=True)
        rows[name] = tally.counts(reader.full)
    return rows


def largest() -> dict[str, object]:
    """Memory and processor time of the largest pictures that are accepted, each in a process of its own."""
    rows: dict[str, object] = {}
    for kind, (_, most) in LARGEST.items():
        command = [sys.executable, "-m", "tests.pictures.costs", kind]
        cost = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        beside = cost["bytes"] - 2 * cost["file"]
        rows[kind] = {**cost, "bytes_a_pixel": round(beside / cost["pixels"], 2), "allowed_a_pixel": most}
        print(f"{kind}: {rows[kind]}", flush=True)
    return rows


def note(out: Path, part: str, rows: dict[str, object]) -> None:
    """Put the rows of one part into the file of results."""
    values = json.loads(out.read_text()) if out.exists() else {}
    values = {key: values.get(key, {}) for key in PARTS}
    values[part] |= rows
    values |= {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"processor": cpu_name(), "cores": cores()},
        "versions": {
            "python": platform.python_version(),
            **{key: importlib.metadata.version(key) for key in ("vitrail", "numpy")},
            "pillow": PIL.__version__,
            **{key: str(features.version(key)) for key in ("libjpeg_turbo", "webp", "zlib")},
        },
    }
    write_file(out, (json.dumps(values, indent=1) + "\n").encode())


def main() -> int:
    """Run what is asked for; 1 when anything was found."""
    parser = argparse.ArgumentParser(description="The promises about pictures at full length.")
    parser.add_argument("names", nargs="*", default=[*READERS, "largest"], help=f"of {', '.join(READERS)} ...")
    parser.add_argument("--count", type=int, help="mutants of each; default: the promised count")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="the most for the mutants of each")
    parser.add_argument("--out", type=Path, help="the JSON file of results")
    asked = parser.parse_args()
    out: Path | None = asked.out
    faults = 0
    for name in asked.names:
        if name == "largest":
            part, rows = "largest", largest()
        else:
            part, rows = "mutants", mutants([name], asked.count, asked.seconds)
            faults += '"findings": []' not in json.dumps(rows)
        if out:
            note(out, part, rows)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
