"""How good a recipe is, over several seeds:  python bench/recipe.py digits/cct_2_3x2_32 --seeds 5 [key=value ...]

Trains each seed in a fresh folder, prints a table and writes results/RECIPE.json with the median, every seed's figure
with its interval, seconds, machine and versions. Overrides (such as data.root=DIR) go to the recipe.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from vitrail import __version__
from vitrail.bundle.write import tools
from vitrail.machine import cores, cpu_name
from vitrail.training.journal import read
from vitrail.verbs.train import train

RESULTS = Path(__file__).resolve().parents[1] / "results"


def one(name: str, overrides: list[str], seed: int) -> dict[str, Any]:
    """Train one seed; its figures."""
    with tempfile.TemporaryDirectory() as place:
        done = train(name, [*overrides, f"train.seed={seed}"], out=Path(place) / "run")
        rows = read(done.folder / "journal.jsonl")
    steps = [row for row in rows if row["event"] == "step"]
    seconds = sum(float(str(row["step_s"])) + float(str(row["wait_s"])) for row in steps)
    quality = done.quality
    keys = ("top1", "top1_interval", "correct", "pictures", "loss")
    return {"seed": seed, **{key: quality[key] for key in keys}, "steps": done.steps, "training_s": round(seconds, 1)}


def main() -> None:
    """Parse, train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    runs = []
    for seed in range(args.seeds):
        runs.append(one(args.recipe, args.overrides, seed))
        low, high = runs[-1]["top1_interval"]
        print(
            f"seed {seed}  top-1 {100 * float(str(runs[-1]['top1'])):.2f} %  ({100 * low:.2f} to {100 * high:.2f})  "
            f"{runs[-1]['training_s']} s of steps",
            flush=True,
        )
    median = statistics.median(float(str(run["top1"])) for run in runs)
    seconds = statistics.median(float(str(run["training_s"])) for run in runs)
    print(f"median  top-1 {100 * median:.2f} %  {seconds} s of steps on {cpu_name()}, {cores()} cores")
    values = {
        "recipe": args.recipe,
        "overrides": [o for o in args.overrides if not o.startswith("data.root")],
        "median_top1": median,
        "median_training_s": seconds,
        "runs": runs,
        "machine": {"processor": cpu_name(), "cores": cores()},
        "versions": {"vitrail": __version__, **tools(("torch", "numpy", "pillow"))},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{args.recipe.replace('/', '-')}.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
