"""What every family is measured by: outside logits, inner values and gradients, from `shared/reference`.

A family's test names its cases, a config for each, and where in its network the recorded values appear.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitrail.formats import read_tensors
from vitrail.models import build
from vitrail.models.classifier import Classifier
from vitrail.models.configs import ModelConfig
from vitrail.pictures.policy import IMAGENET, Policy

Arrays = dict[str, NDArray[Any]]
BOUND = {np.float64: 1e-9, np.float32: 2e-5}  # of logits up to 5, as the reference states
HYBRID_BOUND = {np.float64: 1e-9, np.float32: 1e-4}
GRADIENT_BOUND = 1e-6  # relative to the greatest entry of the tensor


def by_size(names: Iterable[str]) -> list[Any]:
    """The cases of a test; those of large published networks are left to `make oracles`."""
    quick = ("vit_tiny_patch16_224", "_32", "_c100")

    def case(name: str) -> Any:
        large = "_real_" in name and not name.endswith(quick)
        return pytest.param(name, marks=pytest.mark.published) if large else name

    return [case(name) for name in names]


@dataclass(frozen=True)
class Taps:
    """Paths of modules: what the tokens leave before the first block, after it, and after the norm before pooling."""

    embed: str
    block0: str
    norm: str


class Reference:
    """One case of `shared/reference`: its weights, its input and what the original answered."""

    def __init__(self, shared: Path, name: str) -> None:
        self.folder = shared / "reference"
        with np.load(self.folder / f"{name}.npz", allow_pickle=False) as file:
            self.values: Arrays = dict(file)
        self.meta: dict[str, Any] = json.loads(str(self.values["meta"]))

    def weights(self) -> Arrays:
        """The foreign tensors, float32, names and layouts of the original."""
        return dict(self._weights)

    @cached_property
    def _weights(self) -> Arrays:
        if self.meta["store"] == "formula":
            return self.formula()
        if self.meta["store"] == "native":
            stored, _, _ = read_tensors(self.folder / self.meta["native_file"])
            return {name: tensor.array() for name, tensor in stored.items()}
        return {name[3:]: value for name, value in self.values.items() if name.startswith("sd/")}

    def formula(self) -> Arrays:
        """The drawn tensors, made again from the recipe; their hash is that of the record."""
        generator = np.random.Generator(np.random.PCG64(self.meta["weight_seed"]))
        digest, out = hashlib.sha256(), {}
        for name, shape, kind in sorted(self.meta["spec"]):
            if kind == "z":
                continue
            drawn = generator.standard_normal(shape)
            scaled = {
                "w": lambda n: n * (1.0 / np.sqrt(np.sqrt(float(n.size)))),
                "b": lambda n: 0.1 * n,
                "s": lambda n: 1.0 + 0.1 * n,
            }[kind](drawn)
            out[name] = scaled.astype("<f4")
            digest.update(name.encode() + b"\0" + out[name].tobytes())
        assert digest.hexdigest() == self.meta["weights_sha256"]
        return out

    @cached_property
    def input(self) -> NDArray[np.float32]:
        """The pictures (B, C, H, W)."""
        if "input" in self.values:
            return np.asarray(self.values["input"])
        generator = np.random.Generator(np.random.PCG64(self.meta["input_seed"]))
        return generator.standard_normal(self.meta["input_shape"]).astype(np.float32)

    def classifier(self, config: ModelConfig, dialect: str, kind: type = np.float64) -> Classifier:
        """Our network with the case's weights in that precision, through the dialect."""
        from vitrail.weights import from_tensors

        weights = {name: value.astype(kind) for name, value in self.weights().items()}
        return from_tensors(weights, config, dialect=dialect)

    def native(self, config: ModelConfig, kind: type = np.float64) -> Classifier:
        """Our network with the case's weights in that precision; their names are ours."""
        return filled(config, {name: value.astype(kind) for name, value in self.weights().items()})


def filled(config: ModelConfig, weights: Arrays) -> Classifier:
    """A classifier that holds these tensors under our names, none missing and none left over."""
    module = build(config, device="meta")
    if any(buffer.is_meta for buffer in module.buffers()):  # what no file holds must be made
        module = build(config)
    module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()}, assign=True)
    policy = Policy(size=config.image_size, crop=1.0, mean=IMAGENET.mean, std=IMAGENET.std)
    return Classifier(module, config, policy, tuple(f"class_{i}" for i in range(config.classes)))


def check_logits(
    reference: Reference, classifier: Classifier, kind: type, bounds: Mapping[type, float] = BOUND
) -> None:
    logits = classifier.logits(reference.input)
    assert logits.dtype == kind
    assert logits.shape == reference.values["logits"].shape
    assert np.abs(logits - reference.values["logits"]).max() <= bounds[kind]


def check_activations(reference: Reference, classifier: Classifier, taps: Taps) -> None:
    """Every recorded inner value of the first picture, in float64."""
    keys = [key for key in reference.values if key.startswith(("act/", "act_tokens/"))]
    assert len(keys) == 4
    pictures = reference.input[:1]
    inner = classifier.intermediates(pictures, [taps.embed, taps.block0, taps.norm])
    seen = {"embed": inner[taps.embed], "block0": inner[taps.block0], "norm": inner[taps.norm]}
    seen["features"] = seen["pre_logits_module_output"] = classifier.features(pictures)
    if getattr(classifier.config, "distilled", False):  # recorded is what enters the first of the two heads
        seen["features"] = seen["norm"][:, 0]
    for key in keys:
        kind, name = key.split("/")
        recorded = reference.values[key][:1]
        value = seen[name][:, [0, 1, -1]] if kind == "act_tokens" else seen[name]
        bound = 1e-9 if recorded.dtype == np.float64 else 1e-6 * max(1.0, np.abs(recorded).max())
        assert value.shape == recorded.shape
        assert np.abs(value - recorded).max() <= bound, key


def check_gradients(reference: Reference, classifier: Classifier) -> None:
    """The gradient of every trainable tensor, in float64, without dropout."""
    found, loss = gradients(classifier.module, reference.input, reference.values["labels"])
    recorded = {key[5:]: value for key, value in reference.values.items() if key.startswith("grad/")}
    assert abs(loss - float(reference.values["loss"])) <= 1e-9
    assert found.keys() == recorded.keys()
    for name, gradient in found.items():
        bound = GRADIENT_BOUND * np.abs(recorded[name]).max() + 1e-14  # a shift before softmax has gradient 0
        assert np.abs(gradient - recorded[name]).max() <= bound, name


def gradients(module: nn.Module, pictures: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[Arrays, float]:
    """Gradients of the mean cross entropy by name, and the loss."""
    module.eval()
    kind = next(module.parameters()).dtype
    logits: Tensor = module(torch.from_numpy(pictures.copy()).to(kind))
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels.astype(np.int64)))
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()))
    return {name: g.numpy() for name, g in zip(trained, found, strict=True)}, loss.item()


def golden(shapes: Mapping[str, tuple[int, ...]], skip: tuple[str, ...] = ()) -> Arrays:
    """Weights of the second recipe: 0.1 sin(0.37 i + k) for the k-th name, plus 1 for the scale of a norm."""
    out: Arrays = {}
    for k, name in enumerate(sorted(name for name in shapes if name not in skip)):
        flat = 0.1 * np.sin(0.37 * np.arange(np.prod(shapes[name]), dtype=np.float64) + k)
        scale = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        out[name] = (flat + scale).reshape(shapes[name])
    return out


def golden_input(size: int, channels: int = 3) -> NDArray[np.float64]:
    """One picture of the second recipe: cos(0.01 j)."""
    return np.cos(0.01 * np.arange(channels * size * size, dtype=np.float64)).reshape(1, channels, size, size)
