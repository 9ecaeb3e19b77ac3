"""Folders between us and transformers: we open what it saves, it opens what we save, and both answer the same.

python tests/oracles/transformers_folders.py
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torchvision_stub  # noqa: F401
import transformers
from held import Held
from networks import apart, apart_by_name, fill, gradients, numbers
from torch import nn

from vitrail import weights
from vitrail.formats import read_tensors
from vitrail.models.classifier import Classifier
from vitrail.pictures.policy import CIFAR10, HALF, IMAGENET, Policy

LOGITS = 1e-9
GRADIENTS = 1e-6  # beside the greatest value of each parameter's gradient

SMALL: dict[str, Any] = {
    "image_size": 48, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 80, "num_labels": 7,
}  # fmt: skip
BASE: dict[str, Any] = {"num_hidden_layers": 2, "num_labels": 1000}
RELATIVE: dict[str, Any] = {"use_relative_position_bias": True}

# name, family, what differs from SMALL or BASE
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("as it comes",            "vit",  SMALL),
    ("no qkv bias",            "vit",  SMALL | {"qkv_bias": False}),
    ("gelu_new, eps 1e-6",     "vit",  SMALL | {"hidden_act": "gelu_new", "layer_norm_eps": 1e-6}),
    ("gelu_pytorch_tanh",      "vit",  SMALL | {"hidden_act": "gelu_pytorch_tanh"}),
    ("quick_gelu",             "vit",  SMALL | {"hidden_act": "quick_gelu"}),
    ("grey, 32 x 64",          "vit",  SMALL | {"num_channels": 1, "image_size": [32, 64]}),
    ("base, 384",              "vit",  BASE | {"image_size": 384}),
    ("as it comes",            "beit", SMALL),
    ("block bias",             "beit", SMALL | RELATIVE),
    ("shared bias",            "beit", SMALL | {"use_shared_relative_position_bias": True}),
    ("block and shared bias",  "beit", SMALL | RELATIVE | {"use_shared_relative_position_bias": True}),
    ("absolute positions",     "beit", SMALL | {"use_absolute_position_embeddings": True}),
    ("class token",            "beit", SMALL | RELATIVE | {"use_mean_pooling": False}),
    ("no LayerScale",          "beit", SMALL | RELATIVE | {"layer_scale_init_value": 0.0}),
    ("gelu_new, eps 1e-6",     "beit", SMALL | RELATIVE | {"hidden_act": "gelu_new", "layer_norm_eps": 1e-6}),
    ("base, 224",              "beit", BASE | RELATIVE),
)  # fmt: skip

CONFIGS = {"vit": transformers.ViTConfig, "beit": transformers.BeitConfig}
CLASSIFIERS = {"vit": transformers.ViTForImageClassification, "beit": transformers.BeitForImageClassification}


def size_of(module: nn.Module) -> tuple[int, int]:
    """Height and width of its pictures."""
    size = module.config.image_size
    return (size, size) if isinstance(size, int) else tuple(size)


def double(classifier: Classifier) -> nn.Module:
    """Our network with the same numbers, widened to float64."""
    tensors = {name: tensor.double() for name, tensor in classifier.module.state_dict().items()}
    return weights.from_tensors(tensors, classifier.config, dialect="native").module.eval()


def same_answers(held: Held, case: str, ours: Classifier, theirs: nn.Module) -> None:
    """Logits and gradients in float64. Their gradients, under the names they have in memory, open as weights do."""
    theirs, module = theirs.double().eval(), double(ours)
    images = numbers((2, ours.config.channels, *ours.config.image_size))
    logits, wanted = module(images), theirs(images).logits
    named = weights.from_tensors(gradients(theirs, wanted), ours.config, dialect="huggingface").module.state_dict()
    found, where = apart_by_name(gradients(module, logits), named)
    held.within(case, ("logits", apart(logits, wanted), LOGITS), (f"gradients ({where})", found, GRADIENTS))


def open_theirs(held: Held, folder: Path) -> list[tuple[str, Classifier]]:
    """Models of theirs, saved by them."""
    opened = []
    for place, (name, family, settings) in enumerate(CASES):
        theirs = CLASSIFIERS[family](CONFIGS[family](**settings)).eval()
        fill(theirs, seed=place)
        target = folder / f"theirs-{place}"
        theirs.save_pretrained(target)
        with held.trying(f"we open {family}, {name}"):
            ours = weights.load(target).classifier
            same_answers(held, f"we open {family}, {name}", ours, theirs)
            opened.append((f"{family}, {name}", ours))
    return opened


def open_bodies(held: Held, folder: Path) -> None:
    """Models of theirs without a classifier give the features, or tokens to start fine-tuning from."""
    body = transformers.ViTModel(transformers.ViTConfig(**SMALL)).eval()
    fill(body, seed=100)
    body.save_pretrained(folder / "body")
    ours = double(weights.load(folder / "body").classifier)
    images = numbers((2, 3, *size_of(body)))
    held.within("we open a ViTModel", ("features", apart(ours(images), body.double()(images).pooler_output), LOGITS))
    settings = SMALL | {"use_shared_relative_position_bias": True, "use_mask_token": True, "vocab_size": 20}
    start = transformers.BeitForMaskedImageModeling(transformers.BeitConfig(**settings)).eval()
    fill(start, seed=101)
    start.save_pretrained(folder / "start")
    case = "we start from a BeitForMaskedImageModeling"
    with held.trying(case):
        ours = double(weights.load(folder / "start", classes=10).classifier)
        tokens = start.double().beit(images).last_hidden_state
        held.within(
            "we start from a BeitForMaskedImageModeling", ("tokens", apart(ours.tokens(images), tokens), LOGITS)
        )


def open_ours(held: Held, name: str, ours: Classifier, target: Path) -> None:
    """A folder of ours opens without a missing or unexpected tensor, with the classes, and answers the same."""
    classes = tuple(f"thing {i}" for i in range(ours.config.classes))
    weights.save_as(replace(ours, classes=classes), target)
    theirs, info = transformers.AutoModelForImageClassification.from_pretrained(target, output_loading_info=True)
    odd = {key: sorted(map(str, value)) for key, value in info.items() if value}
    labels = tuple(theirs.config.id2label[i] for i in range(theirs.config.num_labels))
    theirs.save_pretrained(target.with_name(f"{target.name}-back"))
    first, again = (read_tensors(place)[0] for place in (target, target.with_name(f"{target.name}-back")))
    same = first.keys() == again.keys() and all(first[n].data == again[n].data for n in first)
    whole = f"{len(first)} tensors to the bit, {len(labels)} classes"
    held.true(f"transformers opens {name}, {whole}", not odd and labels == classes and same, f"{odd} {labels[:3]}")
    same_answers(held, f"transformers on {name}", ours, theirs)


def same_policy(held: Held, ours: Classifier, folder: Path) -> None:
    """The processor that they make of our folder has our sizes, means and spreads, and prepares the same pixels."""
    size = ours.config.image_size
    picture = (numbers((61, 97, 3)).clamp(-2, 2) * 60 + 128).to(torch.uint8).numpy()
    policies = {
        "squash, ImageNet": Policy(size=size, mode="squash", mean=IMAGENET.mean, std=IMAGENET.std),
        "squash, half, bilinear": Policy(
            size=size, mode="squash", interpolation="bilinear", mean=HALF.mean, std=HALF.std
        ),
        "squash and cut, CIFAR-10": Policy(size=size, mode="squash", crop=0.875, mean=CIFAR10.mean, std=CIFAR10.std),
    }
    for place, (name, policy) in enumerate(policies.items()):
        target = folder / f"policy-{place}"
        weights.save_as(replace(ours, policy=policy), target)
        theirs = transformers.AutoImageProcessor.from_pretrained(target, use_fast=False)
        cut = getattr(theirs, "crop_size", None) if getattr(theirs, "do_center_crop", False) else theirs.size
        said = ((cut["height"], cut["width"]), tuple(theirs.image_mean), tuple(theirs.image_std))
        wanted = (policy.size, policy.mean, policy.std)
        held.true(f"processor of `{name}`: size, mean, std", said == wanted, str(said))
        pixels = torch.as_tensor(theirs(picture, return_tensors="np")["pixel_values"][0])
        prepared = torch.from_numpy(policy.normalise(policy.pixels(picture)[None])[0])
        held.within(f"processor of `{name}`", ("pixels", apart(pixels, prepared), 1e-6))


def main() -> int:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    held = Held(f"transformers {transformers.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        opened = open_theirs(held, Path(folder))
        for place, (name, ours) in enumerate(opened):
            with held.trying(f"transformers opens {name}"):
                open_ours(held, name, ours, Path(folder) / f"ours-{place}")
        open_bodies(held, Path(folder))
        same_policy(held, opened[0][1], Path(folder))
    return held.end()


if __name__ == "__main__":
    sys.exit(main())
