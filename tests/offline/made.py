"""A tiny bundle, CIFAR-10-like records and class folders of JPEG; and the packages' own postprocessing as an oracle."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.data.sources.cifar import CIFAR10_CLASSES
from vitrail.models import build
from vitrail.models.classifier import Classifier
from vitrail.models.configs import CCTConfig
from vitrail.pictures.policy import IMAGENET, Policy, Statistics
from vitrail.proof.export import export

THEIRS = Statistics((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # of the ViT package
PICTURES = 50
SYNSETS = ("n01440764", "n01443537", "n01484850")


def classifier(classes: tuple[str, ...], policy: Policy) -> Classifier:
    config = CCTConfig(
        image_size=policy.size, classes=len(classes), depth=1, heads=2, mlp_ratio=1.0, dim=16, conv_layers=1
    )
    return Classifier(build(config, seed=1), config, policy, classes, {"weights": "trained", "variant": "cct"})


@functools.cache
def _exported(name: str, place: Path) -> Path:
    policy = {
        "cifar": Policy(size=(40, 40), interpolation="bilinear", mean=THEIRS.mean, std=THEIRS.std),
        "imagenet": Policy(size=(32, 32), mode="squash", crop=0.875, mean=IMAGENET.mean, std=IMAGENET.std),
    }[name]
    classes = CIFAR10_CLASSES if name == "cifar" else SYNSETS
    return export(classifier(classes, policy), place / name, pictures=()).folder


def bundle(name: str, place: Path) -> Path:
    """`cifar` or `imagenet`: a bundle of a random network that says it is trained, made once for a session."""
    return _exported(name, place)


def cifar(place: Path, pictures: int = PICTURES) -> tuple[Path, NDArray[np.uint8]]:
    """A folder with a test batch alone, and its records (N, 3073)."""
    rng = np.random.default_rng(7)
    rows = rng.integers(0, 256, (pictures, 3073), dtype=np.uint8)
    rows[:, 0] = rng.integers(0, 10, pictures)
    place.mkdir(parents=True)
    (place / "test_batch.bin").write_bytes(rows.tobytes())
    return place, rows


def synsets(place: Path, each: int = 6) -> Path:
    """Class folders as ImageNet's validation pictures lie after valprep.sh."""
    rng = np.random.default_rng(8)
    number = 0
    for name in SYNSETS:
        (place / name).mkdir(parents=True)
        for _ in range(each):
            number += 1
            sides = rng.integers(30, 70, 2)
            pixels = rng.integers(0, 256, (*sides, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / name / f"ILSVRC2012_val_{number:08d}.JPEG", "JPEG")
    return place


def flat(place: Path, of: Path) -> Path:
    """The same pictures in a flat `val` with `val_label.txt` beside it."""
    (place / "val").mkdir(parents=True)
    lines = []
    for label, name in enumerate(SYNSETS):
        for path in sorted((of / name).iterdir()):
            (place / "val" / path.name).write_bytes(path.read_bytes())
            lines.append(f"{path.name} {label}\n")
    (place / "val_label.txt").write_text("".join(lines))
    return place / "val"


# ---- what the packages' postprocessing did, from ../shared/facts, without a line of ours


def acc_log_of_vit(results: Path, labels: Path) -> str:
    """Every file's arg-max against the label file whose name lacks its last two characters before `.bin`."""
    right = total = 0
    for name in os.listdir(results):
        logits = np.fromfile(results / name, np.float32).reshape(1, 10)
        truth = np.fromfile(labels / (name.split(".bin")[0][:-2] + ".bin"), np.int32)
        right += int((logits.argmax(-1) == truth).sum())
        total += 1
    return f"after allreduce eval: top1_correct={right}, tot={total}, acc={100.0 * right / total:.2f}%\n"


def acc_log_of_cct(results: Path, table: Path) -> str:
    """The label of a result is that of the name before `_0.bin` with `.JPEG` behind it."""
    labels = json.loads(table.read_text())
    first = five = 0
    for name in os.listdir(results):
        logits = np.fromfile(results / name, np.float32)
        best = np.argsort(-logits, kind="stable")[:5].tolist()
        label = labels[name.removesuffix("_0.bin") + ".JPEG"]
        first, five = first + (best[0] == label), five + (label in best)
    total = len(os.listdir(results))
    return f"Top1 acc:  {first / total}\nTop5 acc:  {five / total}\n"
