"""Twelve faults, planted in an export before its manifest is made: the export is whole and agrees with itself, but it
is not what its source does. And the clean exports, of which none may be called faulty.
"""

from __future__ import annotations

import copy
import functools
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from tests.bundle import tiny
from tests.engines import networks
from tests.engines.networks import classifier
from vitrail.bundle.manifest import Manifest
from vitrail.engines import graph as graphs
from vitrail.engines import onnx
from vitrail.engines.facts import said as says
from vitrail.errors import OutsideBound
from vitrail.models.classifier import Classifier
from vitrail.pictures.decode import from_pil, load
from vitrail.pictures.policy import CIFAR10, HALF, IMAGENET, Policy
from vitrail.pictures.predict import Model
from vitrail.pictures.resize import resize
from vitrail.proof.export import Candidate, describe
from vitrail.proof.prove import prove

Way = Callable[[Policy, Any], Any]  # the pixels (H, W, C) that a program not ours hands to the network


@dataclass(frozen=True)
class Foreign:
    """A policy whose description is one thing and what is done to pictures another."""

    said: Policy
    way: Way
    done: Policy  # by which it normalises

    def __getattr__(self, name: str) -> Any:
        return getattr(self.said, name)

    def pixels(self, picture: Any) -> Any:
        return np.ascontiguousarray(self.way(self.done, picture))

    def normalise(self, pixels: Any) -> Any:
        return self.done.normalise(pixels)


def _plain(policy: Policy, picture: Any) -> Any:
    return policy.pixels(picture)


def _bgr(policy: Policy, picture: Any) -> Any:
    return policy.pixels(picture)[:, :, ::-1]


def _corner(policy: Policy, picture: Any) -> Any:
    """The crop's corner in whole numbers, as `//` gives it."""
    pixels = load(picture, channels=policy.channels)
    size = policy._resized(*pixels.shape[:2])
    top, left = (math.floor((resized - side) / 2) for resized, side in zip(size, policy.size, strict=True))
    return resize(pixels, size, policy.interpolation, window=(top, left, *policy.size))


def _opened(picture: Any) -> Image.Image | None:
    return Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else None


def _unturned(policy: Policy, picture: Any) -> Any:
    image = _opened(picture)
    if image is None:
        return policy.pixels(picture)
    image.load()
    image.info.pop("exif", None)
    return policy.pixels(from_pil(image, channels=policy.channels))


def _on(colour: str, policy: Policy, picture: Any) -> Any:
    image = _opened(picture)
    if image is None:
        return policy.pixels(picture)
    exif = image.info.get("exif")
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, colour), over).convert("RGB")
        image.info["exif"] = exif
    return policy.pixels(from_pil(image, channels=policy.channels))


def _grey(policy: Policy, picture: Any) -> Any:
    return policy.pixels(np.array(Image.fromarray(load(picture, channels=3)).convert("L").convert("RGB")))


@dataclass(frozen=True)
class Planted:
    """A fault in an export of a source. name: what it is called. words: one of them must stand in the first line."""

    name: str
    words: tuple[str, ...]
    policy: Callable[[Policy], Any] | None = None
    module: Callable[[nn.Module], None] | None = None
    classes: Callable[[tuple[str, ...]], tuple[str, ...]] | None = None

    def into(self, source: Classifier) -> Classifier:
        """The source with the fault, to be exported as if it were right."""
        module = copy.deepcopy(source.module)
        with torch.no_grad():
            if self.module is not None:
                self.module(module)
        return replace(
            source,
            module=module,
            policy=source.policy if self.policy is None else self.policy(source.policy),
            classes=source.classes if self.classes is None else self.classes(source.classes),
        )


def hidden(way: Way = _plain, **changes: Any) -> Callable[[Policy], Any]:
    """The right policy in the manifest, and a program that does something else."""
    return lambda policy: Foreign(policy, way, replace(policy, **changes))


def said(**changes: Any) -> Callable[[Policy], Policy]:
    """Another policy, in the manifest as well."""
    return lambda policy: replace(policy, **changes)


def attribute(kind: type[nn.Module], name: str, value: object) -> Callable[[nn.Module], None]:
    def change(module: nn.Module) -> None:
        for part in module.modules():
            if isinstance(part, kind) and hasattr(part, name):
                setattr(part, name, value)

    return change


def epsilon(module: nn.Module) -> None:
    """1e-5 for 1e-6, and the other way round: both are in use, and who ports a network takes the one for the other."""
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = 1e-5 if part.eps == 1e-6 else 1e-6


def scaled(module: nn.Module) -> None:
    """The second layer of the last MLP by 1.01."""
    next(tensor for name, tensor in reversed([*module.named_parameters()]) if name.endswith(SECOND)).mul_(1.01)


SECOND = ("fc2.weight", "linear2.weight")


def permuted(module: nn.Module) -> None:
    """The rows of the head in another order, with the names as they were: how class lists are lost in practice."""
    head = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
    for tensor in (head.weight, head.bias):
        tensor.copy_(tensor[[1, 2, 0, *range(3, len(tensor))]])


OTHER = {"mean": (0.45, 0.5, 0.4), "std": (0.25, 0.3, 0.2)}  # in no table
FAULTS = (
    Planted("other mean and std",          ("std were [0.25, 0.3, 0.2]",),   policy=said(**OTHER)),
    Planted("BGR for RGB",                 ("channels were BGR",),           policy=hidden(_bgr)),
    Planted("crop rounded the other way",  ("corner were rounded down",),    policy=hidden(_corner)),
    Planted("squash for crop",             ("mode were squash",),            policy=said(mode="squash")),
    Planted("tanh for erf in GELU",        ("GELU were of the tanh form",),
            module=attribute(nn.Module, "gelu", "tanh")),
    Planted("LayerNorm's epsilon",         ("LayerNorm's epsilon were", "layernorm_eps: "),
            module=epsilon),
    Planted("classes permuted",            ("3 classes were permuted",),
            classes=lambda names: (names[2], names[0], names[1], *names[3:])),
    Planted("other interpolation",         ("interpolation were bilinear",), policy=said(interpolation="bilinear")),
    Planted("one tensor scaled by 1 %",    SECOND,                           module=scaled),
    Planted("EXIF orientation ignored",    ("EXIF orientation were ignored",), policy=hidden(_unturned)),
    Planted("white for what is transparent", ("transparent were white",),
            policy=hidden(functools.partial(_on, "white"))),
    Planted("grey for RGB",                ("turned to grey",),              policy=hidden(_grey)),
)  # fmt: skip
HIDDEN = (  # the same, where the manifest says the right thing and something else is done
    Planted("other mean and std, unsaid",  ("std were [0.25, 0.3, 0.2]",),   policy=hidden(**OTHER)),
    Planted("squash for crop, unsaid",     ("mode were squash",),            policy=hidden(mode="squash")),
    Planted("classes permuted, unsaid",    ("3 classes were permuted",),     module=permuted),
    Planted("other interpolation, unsaid", ("interpolation were bilinear",), policy=hidden(interpolation="bilinear")),
)  # fmt: skip

POLICIES: dict[str, dict[str, Any]] = {  # as published networks have them
    "crop 0.9, half":       {"crop": 0.9, "mean": HALF.mean, "std": HALF.std},
    "crop 0.875, ImageNet": {"crop": 0.875, "interpolation": "bilinear", "mean": IMAGENET.mean, "std": IMAGENET.std},
    "squash, CIFAR":        {"mode": "squash", "mean": CIFAR10.mean, "std": CIFAR10.std},
    "pad, lanczos":         {"mode": "pad", "interpolation": "lanczos", "mean": IMAGENET.mean, "std": IMAGENET.std},
}  # fmt: skip
FAMILIES = ("vit", "beit", "cct")


def source(network: str, policy: str = "crop 0.9, half") -> Classifier:
    """A tiny network whose every weight matters, with one of the policies."""
    made = tiny.classifier() if network == "cct" else classifier(network)
    return replace(made, policy=Policy(size=made.config.image_size, **POLICIES[policy]))


def graph(network: str) -> bytes:
    """The clean network as an ONNX file."""
    return tiny.graph() if network == "cct" else networks.graph(network)


def exported(faulty: Classifier, data: bytes) -> Candidate:
    """What the export is taken from the disk as: its policy and classes as the manifest gives them back."""
    described = describe(replace(faulty, policy=getattr(faulty.policy, "said", faulty.policy)), {})
    manifest = Manifest.from_json(described.to_json())
    foreign = isinstance(faulty.policy, Foreign)
    return Candidate(onnx.open(data, threads=1), faulty.policy if foreign else manifest.policy, manifest.classes)  # type: ignore[arg-type]


def first_line(source: Classifier, candidate: Model, data: bytes | None = None) -> str | None:
    """What the proof says first; None where it passes."""
    read = None if data is None else says(graphs.read(data))
    try:
        prove(source, candidate, said=read).raise_if_failed()
    except OutsideBound as error:
        return error.what.removeprefix("the proof failed: ")
    return None


def written(faulty: Classifier) -> bytes:
    """The faulty network as an ONNX file, with the classes that it is said to have."""
    image = (faulty.config.channels, *faulty.config.image_size)
    return onnx.write(faulty.module, classes=faulty.classes, image=image)
