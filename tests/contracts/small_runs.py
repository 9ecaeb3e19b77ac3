"""Every shipped recipe cut to a run of moments, and all that such a run shows of what it was told."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitrail
from tests.training.tiny import fingerprint, timeless
from vitrail.models import build
from vitrail.models.catalog import VARIANTS
from vitrail.models.classifier import Classifier
from vitrail.models.configs import CCTConfig
from vitrail.recipe import Recipe, load_recipe
from vitrail.training import checkpoint, journal, loop
from vitrail.training.checkpoint import Snapshot
from vitrail.training.configs import Constant, DynamicScale
from vitrail.training.plan import Plan
from vitrail.training.schedule import learning_rate, total_steps
from vitrail.verbs import finish
from vitrail.verbs import train as train_verb

CLASSES = 3
COUNTS = (7, 5, 3)  # pictures of each class: unlike, so that balancing shows


def pictures(folder: Path) -> Path:
    """Fifteen pictures of noise, not square, in three classes."""
    path = folder / "pictures.npz"
    if not path.is_file():
        random = np.random.default_rng(0)
        labels = np.repeat(np.arange(CLASSES), COUNTS)
        np.savez(path, x_train=random.integers(0, 256, (len(labels), 40, 48, 3), np.uint8), y_train=labels)
    return path


def cut(name: str, folder: Path, *more: str) -> list[str]:
    """Overrides that make two epochs of three steps of a shipped recipe the work of a blink, on made pictures.

    The network keeps every word of its recipe but its size; what it starts from is made to fit.
    """
    whole = load_recipe(name)
    small = ["model.depth=2", "model.dim=16", "model.heads=2", "model.image_size=32"]
    given = [
        *small,
        f"data.root={pictures(folder)}", "data.source=arrays", "data.batch=4", "data.workers=1",
        "schedule.epochs=2", "schedule.warmup_epochs=0", *unwarmed(whole),
        "train.attention=explicit", "train.threads=1",
    ]  # fmt: skip
    if whole.data.held_out != "val":
        given.append("data.held_out=val")
    scale = whole.train.loss_scale
    if whole.precision == "auto":
        given.append("precision=fp32")
    elif isinstance(scale, DynamicScale) and scale.initial > 2.0**16:  # which would spend the run falling
        given.append("precision=mindspore_cct.O2" if "cct" in whole.variant else "precision=mindspore_cct.O3")
    if whole.weights is not None:
        given.append(f"weights.path={start_of(load_recipe(name, small), folder)}")
    return [*given, *more]


def unwarmed(recipe: Recipe) -> list[str]:
    """Overrides that leave nothing of a warm-up and a cooldown that are no longer there."""
    falls = ["schedule.cooldown_epochs=0", "schedule.warmup_prefix=true"]
    return ["schedule.warmup_lr=0", *([] if isinstance(recipe.schedule, Constant) else falls)]


def start_of(recipe: Recipe, folder: Path) -> Path:
    """A weight file for a recipe to start from: random numbers, in a format that its world uses."""
    assert recipe.weights is not None
    path = folder / f"{recipe.name.replace('/', '-')}.safetensors"
    if not path.is_file():
        config = replace(recipe.config, classes=CLASSES if recipe.weights.head == "keep" else CLASSES + 2)
        names = tuple(map(str, range(config.classes)))
        policy = replace(VARIANTS[recipe.variant].policy, size=config.image_size)
        dialect = "shi_labs" if isinstance(config, CCTConfig) else "timm"
        vitrail.weights.save_as(Classifier(build(config, seed=1), config, policy, names), path, dialect)
    return path


@dataclass
class Shown:
    """What a run did: its rows without times, a hash of all it ended with, and when it saved."""

    rows: list[dict[str, object]] = field(default_factory=list)
    end: str = ""
    saved: list[tuple[int, int, bool]] = field(default_factory=list)  # step, how many are kept, whether it is the best
    steps: int = 0
    classes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list, compare=False)  # the recipe is told in them, whatever comes of it


def run(recipe: Recipe, out: Path) -> Shown:
    """Train as the recipe says to the last step; nothing is saved, no page and no bundle is made."""
    shown = Shown()
    with _watched(shown):
        train_verb.train(recipe, out=out, listener=lambda event: shown.notes.append(str(event.get("text", ""))))
    for row in journal.read(out / journal.JOURNAL):
        echo = ("optimizer", "images_per_s", "threads")  # the config as it was told, and what depends on the machine
        shown.rows.append({key: value for key, value in timeless(row).items() if key not in echo})
    return shown


@contextmanager
def _watched(shown: Shown) -> Iterator[None]:
    real = loop.train

    def watching(plan: Plan, **more: Any) -> loop.Outcome:
        outcome = real(plan, **more)
        shown.end, shown.steps = fingerprint(outcome.state), outcome.steps
        model = plan.identity["model"]
        assert isinstance(model, dict)
        shown.classes = model["classes"]
        return outcome

    def saving(_folder: Path, snapshot: Snapshot, *, keep: int, best: bool = False) -> None:
        shown.saved.append((snapshot.step, keep, best))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train", watching)
        patch.setattr(checkpoint, "save", saving)
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(finish, "finish_run", lambda folder, *_, **__: folder / "bundle")
        yield


def curve(recipe: Recipe, steps_per_epoch: int = 3) -> str:
    """A hash of the learning rate of each step of the whole run, and of its length."""
    total = total_steps(recipe.schedule, steps_per_epoch)
    rates = [learning_rate(recipe.schedule, step, steps_per_epoch=steps_per_epoch) for step in range(total)]
    return hashlib.sha256(json.dumps(rates).encode()).hexdigest()
