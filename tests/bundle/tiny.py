"""Tiny classifiers of three kinds and a bundle of one, made once for all tests of bundles, engines and proofs."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import torch

from vitrail.bundle.formats import Form
from vitrail.engines import graphs
from vitrail.evaluation.answers import CheckPicture
from vitrail.models import build
from vitrail.models.classifier import Classifier
from vitrail.models.configs import CCTConfig
from vitrail.pictures.policy import CIFAR10, Policy
from vitrail.proof.export import export

CLASSES = ("plane", "car", "bird", "cat", "deer")
SIZE = (16, 20)

_PATCHES = {"kernel": 4, "stride": 4, "padding": 0, "conv_bias": True, "max_pool": False}
KINDS: dict[str, dict[str, object]] = {
    "cct": {"conv_layers": 2, "conv_width": 16},
    "cvt": _PATCHES,
    "vit_lite": {**_PATCHES, "pooling": "class", "positions": "sine"},
}


@functools.cache
def classifier(kind: str = "cct") -> Classifier:
    settings = {"image_size": SIZE, "classes": 5, "depth": 2, "heads": 2, "mlp_ratio": 1.0, "dim": 32, **KINDS[kind]}
    config = CCTConfig(**settings)  # type: ignore[arg-type]
    policy = Policy(size=SIZE, crop=0.9, mean=CIFAR10.mean, std=CIFAR10.std)
    module = build(config)
    rng = np.random.default_rng(3)
    with torch.no_grad():
        for name, tensor in sorted(module.state_dict().items()):
            tensor.copy_(torch.from_numpy(_value(rng, name, tuple(tensor.shape))))
    return Classifier(module, config, policy, CLASSES, {"weights": "random", "variant": kind, "seed": 3})


def _value(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Large on purpose: attention is far from uniform, and every bias, scale and table matters."""
    noise = rng.standard_normal(shape)
    if len(shape) > 1:
        return (noise / np.sqrt(np.sqrt(noise.size))).astype(np.float32)
    return (0.1 * noise + (name.endswith("norm.weight") or name.endswith("norm1.weight"))).astype(np.float32)


@functools.cache
def graph(kind: str = "cct") -> bytes:
    return graphs.write_onnx(classifier(kind), Form())


@functools.cache
def pictures() -> tuple[CheckPicture, ...]:
    rng = np.random.default_rng(5)
    shapes = [(24, 30), (40, 22), (16, 20), (31, 31), (64, 20)]
    return tuple(
        CheckPicture.of(rng.integers(0, 256, (*shape, 3), dtype=np.uint8), label) for label, shape in enumerate(shapes)
    )


@functools.cache
def bundle_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as place:
        folder = export(classifier(), Path(place) / "bundle", pictures=pictures()).folder
        return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def bundle(folder: Path) -> Path:
    """A fresh copy of the exported bundle, with weights and one engine."""
    for name, data in bundle_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
