"""Files between us and timm: it opens what we write, strictly, and we open what its training writes.

python tests/oracles/timm_files.py
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import torch
import torchvision_stub  # noqa: F401
from held import Held
from networks import apart, fill, numbers
from torch import nn

from vitrail import weights
from vitrail.models.catalog import VARIANTS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import timm
    from timm.utils import CheckpointSaver

LOGITS = 2e-5  # in float32; the tensors are equal to the bit, and in float64 see timm_networks.py
GOOGLE = ("google", "google:big_vision", "google:big_vision_scanned")

# name, blocks (None: as it stands), the dialects in which timm reads an .npz of it
CASES: tuple[tuple[str, int | None, tuple[str, ...]], ...] = (
    ("vit_tiny_patch16_224",     None, GOOGLE),
    ("vit_tiny_r_s16_p8_224",    None, ("google",)),
    ("vit_small_r26_s32_224",    None, ("google",)),
    ("vit_base_r26_s32_224",     2,    ("google",)),
    ("vit_base_r50_s16_224",     2,    ("google",)),
    ("vit_large_patch16_384",    2,    GOOGLE),
    ("beit_base_patch16_224",    2,    ()),
    ("beitv2_large_patch16_224", 2,    ()),
)  # fmt: skip


def made(name: str, depth: int | None, checkpoint: Path | None = None) -> nn.Module:
    """timm's network, with random weights or those of a file, which it loads strictly."""
    cut = {} if depth is None else {"depth": depth}
    return timm.create_model(name, num_classes=1000, checkpoint_path=str(checkpoint or ""), **cut).eval()


def written_by_us(held: Held, folder: Path) -> None:
    """Every container that timm reads, by every case: it has our tensors to the bit, and our logits."""
    for name, depth, google in CASES:
        start = made(name, depth)
        fill(start, seed=1)
        own = start.state_dict()
        model = name if depth is None else replace(VARIANTS[name].config, depth=depth)
        classifier = weights.from_tensors(own, model, dialect="timm")
        images = numbers((1, 3, *classifier.config.image_size)).float()
        logits = classifier.logits(images)
        for file, dialect in (("a.safetensors", "timm"), ("a.pth", "timm"), *(("a.npz", form) for form in google)):
            with held.trying(f"{name} in {file[1:]} as {dialect}"):
                weights.save_as(classifier, folder / file, dialect)
                theirs = made(name, depth, folder / file)
                equal = [n for n, tensor in theirs.state_dict().items() if torch.equal(tensor, own[n])]
                held.within(
                    f"{name} in {file[1:]} as {dialect}, {len(equal)} tensors",
                    ("tensors that differ", len(own) - len(equal), 0),
                    ("logits", apart(torch.from_numpy(logits), theirs(images)), LOGITS),
                )


def written_by_timm(held: Held, folder: Path) -> None:
    """A checkpoint of timm's training, with optimizer, arguments and an average, opens with what was trained."""
    module, average = (made("vit_tiny_patch16_224", None) for _ in range(2))
    fill(module, seed=2)
    fill(average, seed=3)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.zeros(1, 3, 224, 224)).sum().backward()
    optimizer.step()
    arguments = Namespace(model="vit_tiny_patch16_224", lr=0.1, aa=None)
    for ema in (None, average):
        saver = CheckpointSaver(module, optimizer, arguments, model_ema=ema, checkpoint_dir=str(folder))
        saver.save_checkpoint(epoch=3, metric=0.5)
        loaded = weights.load(folder / "last.pth.tar")
        own = loaded.classifier.module.state_dict()
        same = all(torch.equal(own[name], tensor) for name, tensor in module.state_dict().items())
        said = ema is None or any("state_dict_ema" in line for line in loaded.report)
        held.true(f"we open its checkpoint {'with' if ema else 'without'} an average", same and said)


def main() -> int:
    held = Held(f"files of timm {timm.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        written_by_us(held, Path(folder))
        written_by_timm(held, Path(folder))
    return held.end()


if __name__ == "__main__":
    sys.exit(main())
