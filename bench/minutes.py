"""Accuracy in the same minutes, beside a peer's loop:  python bench/minutes.py tiny|cifar10 DIR --minutes M

Both sides train the recipe's network from scratch on the same cores, with its augmentation, mixing, loss, batch,
average, schedule (3/35 of it warm-up) and SHI-Labs' own mask rates, for as many steps as fit the minutes. Each
side's step is timed first, on all cores, which must be quiet then; a run after that may share the machine (--threads),
and keeps its own seconds. Ours is `vitrail train`. The peer is timm's loop: its transforms, Mixup, optimizer groups,
schedule and ModelEmaV3 (with its warm-up; the weights without it where they are better), torch's DataLoader with two
workers, fp32 or bf16 autocast, whichever is faster here, around CCT in plain torch (`plain_cct.py`): timm has none.
The learning rate is the best of three on seed 0, on each side; then there are three seeds. Every finished run is kept
in results/minutes-CASE.json at once, and is not made again. The difference is that of the pictures, paired: bounds are
95 % of 10,000 bootstrap samples of pictures and seeds.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.plain_cct import PlainCCT  # noqa: E402
from vitrail import __version__  # noqa: E402
from vitrail.bundle.write import tools  # noqa: E402
from vitrail.data.configs import Mix, PadCrop, RandomResizedCrop  # noqa: E402
from vitrail.data.sources import Source, open_source  # noqa: E402
from vitrail.disk import write_file  # noqa: E402
from vitrail.machine import cores, cpu_name  # noqa: E402
from vitrail.models.configs import CCTConfig  # noqa: E402
from vitrail.recipe import Recipe, load_recipe  # noqa: E402
from vitrail.recipe.write import fingerprint  # noqa: E402
from vitrail.training.configs import EMA, Cosine  # noqa: E402
from vitrail.training.journal import read  # noqa: E402
from vitrail.training.optimizer_configs import AdamW  # noqa: E402
from vitrail.verbs.train import train  # noqa: E402

CASES = {"tiny": "tiny_imagenet/cct_6_3x3_64", "cifar10": "cifar10/cct_7_3x1_32_30minutes"}
MASKS = ["model.attention_dropout=0.1", "model.drop_path=0.1"]  # SHI-Labs'; the short recipes have fewer
RATES, SEEDS = (0.5, 1.0, 2.0), 3  # times the recipe's rate
TIMED, WARM = 24, 8  # steps by which a side's pace is found, after so many
SPARE = 0.97  # of the minutes are planned
WARMUP = 3 / 35  # of a run
Right = NDArray[np.bool_]


# ---------------------------------------------------------------- our side


def ours(recipe: str, given: list[str], steps: int, seed: int, threads: int) -> tuple[Right, list[float]]:
    """Which held-out pictures were named rightly, and the seconds of each step."""
    quiet = ["evaluation.every=0", "checkpoint.every=0", f"train.threads={threads}"]
    run = [f"schedule.steps={steps}", f"train.seed={seed}"]
    with tempfile.TemporaryDirectory() as place:
        done = train(recipe, [*given, *run, *quiet], out=Path(place) / "run")
        rows = [row for row in read(done.folder / "journal.jsonl") if row["event"] == "step"]
    assert done.evaluation is not None
    times = [float(str(row["wait_s"])) + float(str(row["step_s"])) for row in rows]
    return done.evaluation.predictions == done.evaluation.labels, times


# ---------------------------------------------------------------- theirs


class Pictures(Dataset[tuple[Tensor, int]]):
    """Some pictures of a source, by the peer's transform."""

    def __init__(self, source: Source, indices: Sequence[int], transform: Callable[[Image.Image], Tensor]) -> None:
        self.source, self.indices, self.transform = source, indices, transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        index = int(self.indices[place])
        memory = self.source.memory
        stored = memory[index] if memory is not None else self.source.picture(index)
        if isinstance(stored, np.ndarray):
            image = Image.fromarray(stored)
        else:
            image = Image.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored)
        return self.transform(image.convert("RGB")), int(self.source.labels[index])


def transforms(recipe: Recipe) -> tuple[Any, Any]:
    """timm's for training and evaluation, by the words of the recipe."""
    from timm.data import create_transform
    from torchvision import transforms as tv

    policy, crop = recipe.policy, recipe.augment.crop
    numbers = {"mean": policy.mean, "std": policy.std, "interpolation": policy.interpolation}
    whole = create_transform(policy.size, is_training=False, crop_pct=policy.crop, **numbers)
    if isinstance(crop, RandomResizedCrop):
        plain: dict[str, Any] = {"color_jitter": None, "re_prob": 0.0, "hflip": recipe.augment.flip}
        return create_transform(
            policy.size, is_training=True, scale=crop.scale, ratio=crop.ratio, **plain, **numbers
        ), whole
    assert isinstance(crop, PadCrop)
    steps = [tv.RandomCrop(policy.size, padding=crop.padding), tv.RandomHorizontalFlip(recipe.augment.flip)]
    return tv.Compose([*steps, tv.ToTensor(), tv.Normalize(policy.mean, policy.std)]), whole


class Theirs:
    """timm's loop for a recipe."""

    def __init__(self, recipe: Recipe, source: Source, seed: int, precision: str) -> None:
        from timm.data import Mixup
        from timm.loss import SoftTargetCrossEntropy
        from timm.optim import create_optimizer_v2
        from timm.utils import ModelEmaV3

        torch.manual_seed(seed)
        config, mix, how = recipe.config, recipe.mix, recipe.optimizer
        assert isinstance(config, CCTConfig) and isinstance(how, AdamW) and isinstance(recipe.average, EMA)
        module = PlainCCT(replace(config, classes=len(source.classes)))
        for name, parameter in module.named_parameters():  # as their code begins
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter)
            elif parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.2 if name.endswith("positional_emb") else 0.02)
            elif "norm" not in name:
                nn.init.zeros_(parameter)
        self.module, self.precision, self.clip = module.train(), precision, recipe.train.clip
        self.ema, self.updates = ModelEmaV3(module, decay=recipe.average.decay, use_warmup=True), 0
        self.optimizer = create_optimizer_v2(
            module, opt="adamw", lr=recipe.schedule.lr, weight_decay=how.weight_decay, betas=how.betas
        )
        self.mixup: Any = None
        self.loss: nn.Module = nn.CrossEntropyLoss(label_smoothing=getattr(recipe.loss, "smoothing", 0.0))
        if isinstance(mix, Mix):
            self.mixup = Mixup(
                mixup_alpha=mix.mixup, cutmix_alpha=mix.cutmix, prob=mix.probability, switch_prob=mix.switch,
                label_smoothing=getattr(recipe.loss, "smoothing", 0.0), num_classes=len(source.classes),
            )  # fmt: skip
            self.loss = SoftTargetCrossEntropy()

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One update, with the gradient clipped and the average moved."""
        if self.mixup is not None:
            images, labels = self.mixup(images, labels)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            loss = self.loss(self.module(images), labels)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self.optimizer.step()
        self.updates += 1
        self.ema.update(self.module, step=self.updates)

    @torch.no_grad()
    def right(self, batches: DataLoader[Any]) -> Right:
        """Which pictures are named rightly by the averaged network or the last one, whichever names more."""
        found = []
        for module in (self.ema.module.eval(), self.module.eval()):
            named = [(module(images).argmax(1) == labels).numpy() for images, labels in batches]
            found.append(np.concatenate(named))
        return max(found, key=lambda right: int(right.sum()))


def fed(pictures: Pictures, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches without end, by two workers."""
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(
        pictures, batch, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True, generator=generator
    )
    while True:
        yield from loader


def theirs(recipe: Recipe, source: Source, steps: int, seed: int, precision: str) -> tuple[Right, list[float]]:
    """As `ours`."""
    from timm.scheduler import CosineLRScheduler

    schedule = recipe.schedule
    assert isinstance(schedule, Cosine)
    side = Theirs(recipe, source, seed, precision)
    for_training, whole = transforms(recipe)
    per_epoch = len(source.training) // recipe.data.batch
    warmup = round((schedule.warmup_epochs or 0.0) * per_epoch)
    rates = CosineLRScheduler(
        side.optimizer, t_initial=max(1, steps - warmup), lr_min=schedule.min_lr, warmup_t=warmup,
        warmup_lr_init=schedule.warmup_lr, warmup_prefix=True, t_in_epochs=False,
    )  # fmt: skip
    batches = fed(Pictures(source, source.training.tolist(), for_training), recipe.data.batch, seed)
    times = []
    began = time.perf_counter()
    for step in range(steps):
        rates.step_update(step)
        side.step(*next(batches))
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
    return side.right(DataLoader(Pictures(source, source.held_out.tolist(), whole), 256)), times


# ---------------------------------------------------------------- the campaign


class Kept:
    """Finished runs, in their file at once."""

    def __init__(self, path: Path, of: dict[str, Any]) -> None:
        self.path = path
        self.values = json.loads(path.read_text()) if path.exists() else {"of": of, "pace": {}, "runs": {}}
        if self.values["of"] != of:
            sys.exit(f"{path} holds runs of {self.values['of']}, these are of {of}: move it away")

    def write(self, **more: Any) -> None:
        """The file, with what follows from the runs."""
        self.values |= more
        write_file(self.path, (json.dumps(self.values, indent=1) + "\n").encode())

    def run(self, side: str, times: float, seed: int, work: Callable[[], tuple[Right, list[float]]]) -> Right:
        """One run, or what was kept of it."""
        name = f"{side}, rate x {times:g}, seed {seed}"
        if name not in self.values["runs"]:
            right, seconds = work()
            kept = {"top1": float(right.mean()), "seconds": round(sum(seconds), 1), "pictures": len(right)}
            kept |= {"steps": len(seconds), "threads": torch.get_num_threads()}
            self.values["runs"][name] = {**kept, "right": np.packbits(right).tobytes().hex()}
            self.write()
        row = self.values["runs"][name]
        print(f"{name:<34}{100 * row['top1']:6.2f} %  {row['seconds'] / 60:.1f} min", flush=True)
        bits = np.frombuffer(bytes.fromhex(row["right"]), np.uint8)
        return np.unpackbits(bits)[: row["pictures"]].astype(bool)


def difference(mine: NDArray[np.bool_], other: NDArray[np.bool_]) -> dict[str, float]:
    """Of top-1, (seeds, pictures) each: the mean, and bounds over pictures and seeds."""
    paired = mine.astype(np.float64) - other
    random = np.random.default_rng(0)
    seeds, pictures = paired.shape
    rows, columns = random.integers(0, seeds, (10_000, seeds)), random.integers(0, pictures, (10_000, pictures))
    means = [paired[row][:, column].mean() for row, column in zip(rows, columns, strict=True)]
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(paired.mean()), "low": float(low), "high": float(high)}


def identity(name: str, given: list[str], minutes: float) -> dict[str, Any]:
    """What runs must have in common to be compared; a length that is replaced anyway is not part of it."""
    recipe = load_recipe(name, [*given, "schedule.steps=1000", "schedule.warmup_epochs=1"])
    versions = {"vitrail": __version__, **tools(("torch", "numpy", "pillow", "timm"))}
    machine = {"processor": cpu_name(), "cores": os.cpu_count()}
    return {"minutes": minutes, "recipe": fingerprint(recipe), "machine": machine, "versions": versions}


def main() -> None:
    """Time both, find their rates, run the seeds, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("root")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=cores(), help="of the runs; the timing takes every core")
    parser.add_argument("--out", type=Path, help="default: results/minutes-CASE.json")
    args = parser.parse_args()
    import torchvision_beside_cpu_torch  # noqa: F401

    name = CASES[args.case]
    given = [*MASKS, f"data.root={args.root}"]
    recipe = load_recipe(name, given)
    source = open_source(recipe.data)
    kept = Kept(args.out or ROOT / "results" / f"minutes-{args.case}.json", identity(name, given, args.minutes))
    torch.set_num_threads(cores())
    pace = kept.values["pace"]
    if not pace:
        pace["ours"] = statistics.median(ours(name, given, TIMED, 0, cores())[1][WARM:])
        for precision in ("fp32", "bf16"):
            pace[f"theirs {precision}"] = statistics.median(theirs(recipe, source, TIMED, 0, precision)[1][WARM:])
        kept.write()
    precision = min(("fp32", "bf16"), key=lambda word: float(pace[f"theirs {word}"]))
    steps = {side: math.floor(SPARE * 60 * args.minutes / pace[side]) for side in ("ours", f"theirs {precision}")}
    print(", ".join(f"{side}: {count} steps" for side, count in steps.items()), flush=True)

    torch.set_num_threads(args.threads)

    def shortened(side: str, times: float) -> list[str]:
        """The recipe with another rate, and its warm-up as short as the run."""
        warmup = WARMUP * steps[side] * recipe.data.batch / len(source.training)
        return [*given, f"schedule.lr={recipe.schedule.lr * times:.9f}", f"schedule.warmup_epochs={warmup:.9f}"]

    def mine(times: float, seed: int) -> Right:
        words = shortened("ours", times)
        return kept.run("ours", times, seed, lambda: ours(name, words, steps["ours"], seed, args.threads))

    def peer(times: float, seed: int) -> Right:
        side = f"theirs {precision}"
        other = load_recipe(name, shortened(side, times))
        return kept.run("theirs", times, seed, lambda: theirs(other, source, steps[side], seed, precision))

    found: dict[str, list[Right]] = {}
    best: dict[str, dict[float, float]] = {}
    for times in RATES:
        for side, way in (("ours", mine), ("theirs", peer)):
            best.setdefault(side, {})[times] = float(way(times, 0).mean())
    chosen = {side: max(rates, key=lambda times: rates[times]) for side, rates in best.items()}
    for seed in range(SEEDS):
        for side, way in (("ours", mine), ("theirs", peer)):
            found.setdefault(side, []).append(way(chosen[side], seed))
    result = difference(np.array(found["ours"]), np.array(found["theirs"]))
    kept.write(chosen=chosen, difference=result, precision_of_theirs=precision)
    points = {key: 100 * value for key, value in result.items()}
    print(f"ours less theirs: {points['mean']:+.2f} points ({points['low']:+.2f} to {points['high']:+.2f})")


if __name__ == "__main__":
    main()
