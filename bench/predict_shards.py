"""Does `vitrail predict --out` keep its memory over many pictures, and its engine busy?

    python bench/predict_shards.py MODEL FOLDER [--pictures 200000] [--rows 10000] [--workers 2]

FOLDER gets a tar of small JPEGs, made from the digits, of which every member is one of them. Prints the rate, and the
memory of this process after every shard as a slope; writes results/predict_shards.json. A second pass without threads
says what reading beside the engine is worth.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tarfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.data.configs import Data
from vitrail.data.sources import open_source
from vitrail.verbs.asking import Asking
from vitrail.verbs.predict_shards import predict_shards

ROOT = Path(__file__).resolve().parents[1]
KINDS = 500  # different pictures


def resident() -> float:
    """Memory of this process in MiB, as the kernel counts it now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def tar_of(path: Path, count: int) -> Path:
    """A tar of so many JPEGs of 64 x 64 pixels."""
    source = open_source(Data(root="digits"))
    kinds = []
    for index in range(KINDS):
        file = io.BytesIO()
        Image.fromarray(source.read(index)[..., 0]).resize((64, 64)).convert("RGB").save(file, "JPEG")
        kinds.append(file.getvalue())
    with tarfile.open(path, "w") as archive:
        for index in range(count):
            member = tarfile.TarInfo(f"{index:08d}.jpg")
            member.size = len(kinds[index % KINDS])
            archive.addfile(member, io.BytesIO(kinds[index % KINDS]))
    return path


def measured(model: Path, data: Path, out: Path, how: Asking) -> dict[str, float]:
    """One pass: pictures, their rate, memory after the first shards and at the end, its slope."""
    seen: list[tuple[int, float]] = []
    began: list[float] = []

    def progress(done: int, total: int) -> None:
        if not began:
            began.append(time.perf_counter())
        if done % how.shard_rows == 0:
            seen.append((done, resident()))

    done = predict_shards(model, data, out, how, progress=progress)
    seconds = time.perf_counter() - began[0]
    settled = seen[2:] if len(seen) > 4 else seen  # the first shards fill what is then used again
    pictures, memory = np.array(settled).T
    slope = float(np.polyfit(pictures / 1e5, memory, 1)[0])
    return {
        "pictures": done.job.pictures,
        "pictures_per_s": done.job.pictures / seconds,
        "mib_first": float(memory[0]),
        "mib_last": float(memory[-1]),
        "mib_per_100000": slope,
    }


def main() -> None:
    """Both passes, as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=200_000)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    data = tar_of(given.folder / "pictures.tar", given.pictures)
    few = tar_of(given.folder / "few.tar", max(1, given.pictures // 10))
    rows = {}
    for name, place, workers in (("whole", data, given.workers), ("few", few, given.workers), ("alone", few, 0)):
        how = Asking(shard_rows=max(1, min(given.rows, given.pictures // 50)), batch=64, workers=workers)
        rows[name] = measured(given.model, place, given.folder / name, how)
        row = rows[name]
        print(
            f"{workers} threads: {row['pictures']:,} pictures, {row['pictures_per_s']:,.0f} a second, "
            f"{row['mib_first']:.0f} MiB after the first shards, {row['mib_last']:.0f} at the end, "
            f"{row['mib_per_100000']:+.2f} for 100,000 pictures",
            flush=True,
        )
    (ROOT / "results" / "predict_shards.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
