"""Our side of the exchange of checkpoints with MindSpore, which has an environment of its own: mindspore_theirs.py.

python tests/oracles/mindspore_ours.py write FOLDER    (what MindSpore is to open, and what it is to find in it)
python tests/oracles/mindspore_ours.py read FOLDER     (what MindSpore wrote, and what it says of it)
"""

from __future__ import annotations

import filecmp
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from held import Held
from networks import fill, numbers

from vitrail import weights
from vitrail.formats import mindspore, read_tensors
from vitrail.formats.stored import DTYPES, Stored, Tensors
from vitrail.models import build
from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, ViTConfig
from vitrail.weights.tensors import native_tensors

LOGITS = 1e-5
SPLIT = (1 << 27) + 3  # float32 numbers, three more than MindSpore puts into one entry
KEY = bytes(range(16))

ENCODER = {"image_size": (32, 32), "classes": 10, "dim": 48, "depth": 3, "heads": 4, "gelu": "tanh"}

# name: generation of names, config
NETWORKS: dict[str, tuple[str, ModelConfig]] = {
    "cct":         ("cct", CCTConfig(**ENCODER, pool_padding="same", conv_layers=2)),
    "vit":         ("vit_base", ViTConfig(**ENCODER, patch=8)),
    "beit":        ("beit", BEiTConfig(**ENCODER, patch=8)),
    "beit_ascend": ("beit_ascend", BEiTConfig(**ENCODER, patch=8, key_bias=True, eps=1e-5, pooling="class")),
}  # fmt: skip


def write(folder: Path) -> int:
    """Each network as `.ckpt`, its tensors once more as `.safetensors`, and pictures with our logits."""
    settings = {}
    for place, (name, (form, config)) in enumerate(NETWORKS.items()):
        module = build(config).eval()
        fill(module, seed=place)
        classifier = weights.from_tensors(native_tensors(module), config, dialect="native")
        for suffix in (".ckpt", ".safetensors"):
            weights.save_as(classifier, folder / f"{name}{suffix}", f"mindspore:{form}")
        images = numbers((2, 3, 32, 32), seed=place).numpy().astype(np.float32)
        np.savez(folder / f"{name}.npz", images=images, logits=classifier.logits(images))
        settings[name] = asdict(config)
    (folder / "settings.json").write_text(json.dumps(settings))
    mindspore.write(folder / "kinds.ckpt", kinds(), crc=True)
    mindspore.write(folder / "split.ckpt", {"a": Stored.of(np.arange(SPLIT, dtype=np.float32)), **kinds()})
    return 0


def kinds() -> Tensors:
    """A tensor of every type, of ranks 0 to 3, with every bit pattern of a byte."""
    found = {}
    for word, (size, _) in DTYPES.items():
        for shape in ((), (3,), (2, 4, 8)):
            count = int(np.prod(shape)) * size
            data = bytes((7 * i + len(word)) % (2 if word == "BOOL" else 256) for i in range(count))
            found[f"{word}.{len(shape)}"] = Stored(word, shape, data)
    return found


def same_bytes(folder: Path, name: str) -> bool:
    """Whether MindSpore saved the very bytes that it opened."""
    return filecmp.cmp(folder / f"{name}.ckpt", folder / f"{name}-theirs.ckpt", shallow=False)


def read(folder: Path) -> int:
    """Every checkpoint that MindSpore wrote: tensors to the bit, and our answers beside its own."""
    held = Held("we open checkpoints of MindSpore")
    for name, (_, config) in NETWORKS.items():
        there = np.load(folder / f"{name}-theirs.npz")
        for path in sorted(folder.glob(f"{name}-theirs*.ckpt")):
            with held.trying(path.name):
                loaded = weights.load(path, config, dialect="mindspore")
                logits = loaded.classifier.logits(there["images"])
                weights.save_as(loaded.classifier, folder / "back.ckpt", "mindspore")
                own, theirs = read_tensors(folder / "back.ckpt")[0], read_tensors(path)[0]
                wrong = [key for key, tensor in own.items() if theirs.get(key) != tensor]
                held.within(
                    f"{path.name}, {len(own)} tensors",
                    ("written back otherwise", len(wrong), 0),
                    ("logits", float(np.abs(logits - there["logits"]).max()), LOGITS),
                )
    held.true("kinds-theirs.ckpt: every type to the bit", read_tensors(folder / "kinds-theirs.ckpt")[0] == kinds())
    split = read_tensors(folder / "split-theirs.ckpt")[0]
    same = np.array_equal(split["a"].array(), np.arange(SPLIT, dtype=np.float32))
    held.true("split-theirs.ckpt: a tensor of 512 MiB and 12 bytes to the bit", same)
    for name in ("kinds", "split"):
        held.true(f"{name}: we write the file that MindSpore writes", same_bytes(folder, name))
    plain = read_tensors(folder / "vit-theirs.ckpt")[0]
    for path in sorted(folder.glob("encrypted-*.ckpt")):
        held.true(f"{path.name}: decrypted to the bit", read_tensors(path, key=KEY)[0] == plain)
    return held.end()


if __name__ == "__main__":
    torch.set_num_threads(2)
    sys.exit({"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2])))
