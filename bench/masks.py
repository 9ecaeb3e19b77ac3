"""Whether cheap masks train like torch's own:  python bench/masks.py [digits/cct_2_3x2_32 --seeds 3 key=value ...]

Trains each seed twice, with attention dropout and drop path of 0.1: once with masks of `models/dropout.py`, once with
torch's `bernoulli_`, everything else alike. Prints a table and writes results/masks.json: the mean training loss of the
last epoch and of the whole run, top-1 and loss on the held-out pictures, and the difference of the means beside the
spread of seeds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from vitrail import __version__
from vitrail.bundle.write import tools
from vitrail.machine import cpu_name
from vitrail.training.journal import read
from vitrail.verbs.train import train

RESULTS = Path(__file__).resolve().parents[1] / "results"
NOISE = ["model.attention_dropout=0.1", "model.drop_path=0.1"]
FIGURES = ("loss_last_epoch", "loss_whole_run", "held_out_loss", "top1")


@contextlib.contextmanager
def torchs_masks() -> Iterator[None]:
    """Every mask is torch's own, as on a device of another kind."""
    with (
        mock.patch("vitrail.models.layers.cheap", return_value=False),
        mock.patch("vitrail.models.dropout.cheap", return_value=False),
    ):
        yield


def one(recipe: str, overrides: list[str], seed: int, masks: str) -> dict[str, float]:
    """Train once; its figures."""
    with tempfile.TemporaryDirectory() as place, torchs_masks() if masks == "torch" else contextlib.nullcontext():
        done = train(recipe, [*NOISE, *overrides, f"train.seed={seed}"], out=Path(place) / "run")
        rows = [row for row in read(done.folder / "journal.jsonl") if row["event"] == "step"]
    losses = [float(str(row["loss"])) for row in rows]
    last = [float(str(row["loss"])) for row in rows if row["epoch"] == rows[-1]["epoch"]]
    figures = (statistics.fmean(last), statistics.fmean(losses), done.quality["loss"], done.quality["top1"])
    return dict(zip(FIGURES, figures, strict=True))


def main() -> None:
    """Parse, train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="digits/cct_2_3x2_32")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {"cheap": [], "torch": []}
    for seed in range(args.seeds):
        for masks, found in runs.items():
            found.append(one(args.recipe, args.overrides, seed, masks))
            print(f"seed {seed}  {masks}  " + "  ".join(f"{k} {v:.4f}" for k, v in found[-1].items()), flush=True)
    differences: dict[str, dict[str, float]] = {}
    for name in FIGURES:
        cheap, torchs = ([run[name] for run in found] for found in runs.values())
        difference = statistics.fmean(cheap) - statistics.fmean(torchs)
        spread = statistics.stdev(torchs)
        differences[name] = {"difference": difference, "spread_of_seeds": spread}
        print(f"{name:<16} cheap - torch {difference:+.4f}; standard deviation over seeds {spread:.4f}")
    values = {
        "recipe": args.recipe,
        "overrides": [*NOISE, *args.overrides],
        "runs": runs,
        "differences": differences,
        "processor": cpu_name(),
        "versions": {"vitrail": __version__, **tools(("torch", "numpy"))},
    }
    (RESULTS / "masks.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
