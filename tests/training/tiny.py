"""A run small enough to be taken hundreds of times: a CCT of two blocks on random pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitrail.data.batches import TrainBatch
from vitrail.data.configs import Mix
from vitrail.data.mix import apply, draw
from vitrail.models import build
from vitrail.models.configs import CCTConfig
from vitrail.training import configs, optimizer_configs
from vitrail.training.checkpoint import CHECKPOINTS, Snapshot, load, newest_good
from vitrail.training.journal import JOURNAL, read
from vitrail.training.plan import Plan
from vitrail.training.state import TrainState, snapshot

CLASSES, BATCH, STEPS_PER_EPOCH, EPOCHS = 5, 8, 3, 2
TOTAL = STEPS_PER_EPOCH * EPOCHS
NETWORK = CCTConfig(
    image_size=(8, 8), classes=CLASSES, dim=16, depth=2, heads=2, mlp_ratio=1.0, dropout=0.1, drop_path=0.2
)
ADAMW = optimizer_configs.AdamW(weight_decay=0.05)
SGD = optimizer_configs.SGD(momentum=0.9, nesterov=True, weight_decay=1e-4)
OPTIMIZERS: dict[str, optimizer_configs.Optimizer] = {
    "adamw": ADAMW,
    "sgd": SGD,
    "adam": optimizer_configs.Adam(weight_decay=1e-3),
    "adam_weight_decay": optimizer_configs.AdamWeightDecay(layer_decay=0.7, layer_decay_grouping="unilm"),
    "lion": optimizer_configs.Lion(decayed="all_but_norms"),
    "lamb": optimizer_configs.Lamb(always_adapt=True),
    "muon": optimizer_configs.Muon(layer_decay=0.8),
}

Hook = Callable[[TrainBatch], TrainBatch]


@dataclass(frozen=True)
class Loader:
    """Random pictures, each batch a function of its number; hook sees, and may change, a batch before the step."""

    hook: Hook = lambda batch: batch
    steps_per_epoch: int = STEPS_PER_EPOCH
    size: int = BATCH

    def iterate(self, start: int, stop: int) -> Iterator[TrainBatch]:
        for step in range(start, stop):
            yield self.hook(batch(step, self.size, self.steps_per_epoch))


def batch(step: int, size: int = BATCH, steps_per_epoch: int = STEPS_PER_EPOCH) -> TrainBatch:
    random = np.random.default_rng(step)
    images = random.standard_normal((size, 3, 8, 8), np.float32)
    labels = random.integers(0, CLASSES, size)
    return TrainBatch(step, step // steps_per_epoch, random.permutation(100)[:size], images, labels)


def mixed(images: Tensor, labels: Tensor, step: int, epoch: int) -> tuple[Tensor, Tensor]:
    mixing = draw(
        Mix(mixup=0.8, cutmix=1.0, probability=0.8), seed=3, step=step, epoch=epoch, shape=(len(images), 8, 8)
    )
    return (images, labels) if mixing is None else apply(mixing, images, labels, CLASSES)


def top1(module: nn.Module) -> dict[str, float]:
    """An evaluation that draws random numbers, which must not be seen by the training."""
    assert not module.training
    torch.rand(7)
    images = torch.as_tensor(batch(10**6, 32).images)
    logits = module(images)
    return {"top1": float((logits.argmax(1) == 0).float().mean()), "mean": float(logits.double().mean())}


def plan(folder: Path, **changes: Any) -> Plan:
    base = Plan(
        module=build(NETWORK, seed=1),
        optimizer=ADAMW,
        schedule=configs.Cosine(epochs=EPOCHS, lr=3e-3, warmup_epochs=0.5, warmup_lr=1e-4, min_lr=1e-5),
        loss=configs.CrossEntropy(smoothing=0.1),
        average=configs.EMA(decay=0.99),
        train=configs.Train(seed=5, clip=1.0),
        checkpoint=configs.Checkpoint(),
        evaluation=configs.Evaluation(),
        precision="fp32",
        device="cpu",
        loader=Loader(),
        mix=mixed,
        evaluate=top1,
        folder=folder,
        identity={"recipe": "abc", "data": "def"},
    )
    return replace(base, **changes)


def silent(_: Mapping[str, object]) -> None:
    """Listens to nothing."""


def saved(folder: Path) -> Snapshot:
    path, passed_over = newest_good(folder / CHECKPOINTS)
    assert path is not None
    assert passed_over == []
    return load(path)


def fingerprint(state: TrainState) -> str:
    """SHA-256 of all weights, averages, optimizer tensors and plain values of a state, times apart."""
    whole = snapshot(state, {})
    digest = hashlib.sha256()
    for file in sorted(whole.files):
        for name in sorted(whole.files[file]):
            tensor = whole.files[file][name]
            digest.update(f"{file} {name} {tensor.dtype} {tensor.shape}".encode())
            digest.update(tensor.data)
    digest.update(json.dumps(timeless(whole.state), sort_keys=True).encode())
    return digest.hexdigest()


def timeless(row: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in row.items() if not key.endswith(("_s", "_bytes"))}


def story(folder: Path) -> list[dict[str, object]]:
    """The journal without times, and without what only tells that the run was stopped and resumed."""
    rows = read(folder / JOURNAL)
    return [timeless(row) for row in rows if row["event"] not in ("resume", "stopped", "warning")]
