"""The whole of a recipe, summed up from the configs that each part owns, and its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vitrail.data.configs import Augment, Data, Mix
from vitrail.models.configs import ModelConfig
from vitrail.pictures.policy import Policy
from vitrail.training.configs import (
    Average,
    Checkpoint,
    CrossEntropy,
    Evaluation,
    Journal,
    LoRA,
    Loss,
    Precision,
    Schedule,
    Train,
)
from vitrail.training.optimizer_configs import AdamW, Optimizer
from vitrail.training.watch_configs import Watch


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights to start from: a file or folder of any world, a published name, `hf:OWNER/NAME`, a run, a bundle or a
    checkpoint.

    dialect: a name, or a YAML file of own rules; None to detect it. head: `auto` makes a zero head where the classes
    differ, `zero` always, `first-k` keeps the first rows, `keep` changes nothing. sha256: of the tensors that the
    network started with, written by resolving and held against them when the recipe is run again.
    """

    path: str
    dialect: str | None = None
    head: Literal["auto", "zero", "first-k", "keep"] = "auto"
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run. config is the variant's with the recipe's settings; `auto` and None are settled by resolving."""

    variant: str
    config: ModelConfig
    classes_given: bool  # whether the recipe itself names model.classes
    policy: Policy
    weights: Weights | None = None
    adapter: LoRA | None = None
    data: Data = Data()
    augment: Augment = Augment()
    mix: Mix | None = None
    loss: Loss = CrossEntropy()
    optimizer: Optimizer = AdamW()
    schedule: Schedule
    precision: Precision = "auto"
    average: Average | None = None
    train: Train = Train()
    checkpoint: Checkpoint = Checkpoint()
    evaluation: Evaluation = Evaluation()
    journal: Journal = Journal()
    watch: Watch = Watch()
    name: str = "recipe"
    origins: Mapping[str, str] = field(default_factory=dict)  # dotted key -> recipe, command line, variant, ...


# The parts that are built by their annotations alone; model and policy depend on the variant.
PARTS: dict[str, object] = {
    "weights": Weights | None,
    "adapter": LoRA | None,
    "data": Data,
    "augment": Augment,
    "mix": Mix | None,
    "loss": Loss,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "precision": Precision,
    "average": Average | None,
    "train": Train,
    "checkpoint": Checkpoint,
    "evaluation": Evaluation,
    "journal": Journal,
    "watch": Watch,
}
KEYS = ("format", "name", "model", "policy", *PARTS)
FORMAT = "1.0"  # of recipes; another major version is refused

# Of each pair exactly one stands; an override of one replaces the other.
PAIRS = (
    ("schedule.epochs", "schedule.steps"),
    ("schedule.warmup_epochs", "schedule.warmup_steps"),
    ("data.batch", "data.batch_per_device"),
)
