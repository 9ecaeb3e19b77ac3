"""MindSpore's side of the exchange of checkpoints with us: mindspore_ours.py. Nothing of ours is imported here.

The networks are those of mindspore-ai/models research/cv/cct and vit_base, of BeitMindSpore and of BEiT-Ascend, with
their names of parameters, from MindSpore's own layers.

python tests/oracles/mindspore_theirs.py FOLDER
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import safetensors.numpy
from held import Held
from mindspore import nn, ops

LOGITS = 1e-5
KEY = bytes(range(16))
Settings = dict[str, Any]


def parameter(*shape: int) -> ms.Parameter:
    return ms.Parameter(ms.Tensor(np.zeros(shape, np.float32)))


def attend(x: ms.Tensor, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, heads: int, bias: Any = 0.0) -> ms.Tensor:
    """(B, N, D) each -> (B, N, D)"""
    count, tokens, dim = x.shape
    q, k, v = (t.reshape(count, tokens, heads, -1).transpose(0, 2, 1, 3) for t in (q, k, v))
    scores = ops.matmul(q, k.transpose(0, 1, 3, 2)) / (dim // heads) ** 0.5 + bias
    return ops.matmul(ops.softmax(scores, -1), v).transpose(0, 2, 1, 3).reshape(count, tokens, dim)


def norm(c: Settings) -> nn.Cell:
    return nn.LayerNorm((c["dim"],), epsilon=c.get("eps", 1e-5))


def patches(c: Settings) -> nn.Cell:
    return nn.Conv2d(c["channels"], c["dim"], c["patch"], c["patch"], pad_mode="valid", has_bias=True)


class Mlp(nn.Cell):
    def __init__(self, c: Settings) -> None:
        super().__init__()
        hidden = int(c["dim"] * c["mlp_ratio"])
        self.fc1, self.fc2, self.act = nn.Dense(c["dim"], hidden), nn.Dense(hidden, c["dim"]), nn.GELU()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.fc2(self.act(self.fc1(x)))


class CCTAttention(nn.Cell):
    def __init__(self, c: Settings) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Dense(c["dim"], c["dim"], has_bias=False) for _ in range(3))
        self.proj, self.heads = nn.Dense(c["dim"], c["dim"]), c["heads"]

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.proj(attend(x, self.q(x), self.k(x), self.v(x), self.heads))


class CCTBlock(nn.Cell):
    def __init__(self, c: Settings) -> None:
        super().__init__()
        hidden = int(c["dim"] * c["mlp_ratio"])
        self.pre_norm, self.self_attn, self.norm1 = norm(c), CCTAttention(c), norm(c)
        self.fc1, self.fc2, self.act = nn.Dense(c["dim"], hidden), nn.Dense(hidden, c["dim"]), nn.GELU()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.norm1(x + self.self_attn(self.pre_norm(x)))
        return x + self.fc2(self.act(self.fc1(x)))


class CCTTokenizer(nn.Cell):
    def __init__(self, c: Settings) -> None:
        super().__init__()
        widths = [c["channels"], *[c["conv_width"]] * (c["conv_layers"] - 1), c["dim"]]
        self.conv_layers = nn.SequentialCell(
            [
                nn.SequentialCell(
                    nn.Conv2d(wide, out, c["kernel"], c["stride"], pad_mode="pad", padding=c["padding"]),
                    nn.ReLU(),
                    nn.MaxPool2d(3, 2, pad_mode="same"),
                )
                for wide, out in pairwise(widths)
            ]
        )

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.conv_layers(x)
        return x.reshape(x.shape[0], x.shape[1], -1).transpose(0, 2, 1)


class CCTEncoder(nn.Cell):
    def __init__(self, c: Settings) -> None:
        super().__init__()
        side = c["image_size"][0] // 2 ** c["conv_layers"]
        self.positional_emb = parameter(1, side * side, c["dim"])
        self.attention_pool = nn.Dense(c["dim"], 1)
        self.blocks = nn.CellList([CCTBlock(c) for _ in range(c["depth"])])
        self.norm, self.fc = norm(c), nn.Dense(c["dim"], c["classes"])

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = x + self.positional_emb
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        weights = ops.softmax(self.attention_pool(x), 1).transpose(0, 2, 1)
        return self.fc(ops.matmul(weights, x).squeeze(1))


class CCT(nn.Cell):
    def __init__(self, c: Settings) -> None:
        super().__init__()
        self.tokenizer, self.classifier = CCTTokenizer(c), CCTEncoder(c)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.classifier(self.tokenizer(x))


class ViTAttention(nn.Cell):
    def __init__(self, c: Settings) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Dense(c["dim"], c["dim"]) for _ in range(4))
        self.heads = c["heads"]

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.out(attend(x, self.query(x), self.key(x), self.value(x), self.heads))


class ViTBlock(nn.Cell):
    def __init__(self, c: Settings) -> None:
        super().__init__()
        self.attention_norm, self.ffn_norm, self.ffn, self.attn = norm(c), norm(c), Mlp(c), ViTAttention(c)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = x + self.attn(self.attention_norm(x))
        return x + self.ffn(self.ffn_norm(x))


class ViTEmbeddings(nn.Cell):
    def __init__(self, c: Settings) -> None:
        super().__init__()
        self.position_embeddings = parameter(1, (c["image_size"][0] // c["patch"]) ** 2 + 1, c["dim"])
        self.cls_token, self.patch_embeddings = parameter(1, 1, c["dim"]), patches(c)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.patch_embeddings(x)
        x = x.reshape(x.shape[0], x.shape[1], -1).transpose(0, 2, 1)
        cls = ops.tile(self.cls_token, (x.shape[0], 1, 1))
        return ops.cat((cls, x), 1) + self.position_embeddings


class ViTEncoder(nn.Cell):
    def __init__(self, c: Settings) -> None:
        super().__init__()
        self.layer, self.encoder_norm = nn.CellList([ViTBlock(c) for _ in range(c["depth"])]), norm(c)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        for block in self.layer:
            x = block(x)
        return self.encoder_norm(x)


class ViTBody(nn.Cell):
    def __init__(self, c: Settings) -> None:
        super().__init__()
        self.embeddings, self.encoder = ViTEmbeddings(c), ViTEncoder(c)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.encoder(self.embeddings(x))


class ViT(nn.Cell):
    def __init__(self, c: Settings) -> None:
        super().__init__()
        self.transformer, self.head = ViTBody(c), nn.Dense(c["dim"], c["classes"])

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.head(self.transformer(x)[:, 0])


def relative_index(side: int) -> np.ndarray:
    """Rows of the table of relative positions for class token and patches (N, N)."""
    place = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij")).reshape(2, -1)
    rows, columns = place[:, :, None] - place[:, None, :] + side - 1
    rest = (2 * side - 1) ** 2
    index = np.full((side * side + 1, side * side + 1), rest, np.int32)
    index[1:, 1:], index[1:, 0], index[0, 0] = rows * (2 * side - 1) + columns, rest + 1, rest + 2
    return index


class BEiTAttention(nn.Cell):
    """ascend: q, k, v in one layer, with a bias for each; otherwise apart, keys without bias."""

    def __init__(self, c: Settings, ascend: bool) -> None:
        super().__init__()
        dim, side = c["dim"], c["image_size"][0] // c["patch"]
        if ascend:
            self.qkv = nn.Dense(dim, 3 * dim, has_bias=False)
            self.q_bias, self.k_bias, self.v_bias = (parameter(dim) for _ in range(3))
        else:
            self.q, self.k, self.v = (nn.Dense(dim, dim, has_bias=part != "k") for part in "qkv")
        self.relative_position_bias_table = parameter((2 * side - 1) ** 2 + 3, c["heads"])
        self.relative_position_index = ms.Parameter(ms.Tensor(relative_index(side)), requires_grad=False)
        self.proj, self.heads, self.ascend = nn.Dense(dim, dim), c["heads"], ascend

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        if self.ascend:
            q, k, v = ops.split(self.qkv(x), x.shape[-1], -1)
            q, k, v = q + self.q_bias, k + self.k_bias, v + self.v_bias
        else:
            q, k, v = self.q(x), self.k(x), self.v(x)
        index = self.relative_position_index
        bias = ops.gather(self.relative_position_bias_table, index.reshape(-1), 0)
        bias = bias.reshape(*index.shape, -1).transpose(2, 0, 1)
        return self.proj(attend(x, q, k, v, self.heads, bias))


class BEiTBlock(nn.Cell):
    def __init__(self, c: Settings, ascend: bool) -> None:
        super().__init__()
        self.gamma_1, self.gamma_2 = parameter(c["dim"]), parameter(c["dim"])
        self.norm1, self.attn, self.norm2, self.mlp = norm(c), BEiTAttention(c, ascend), norm(c), Mlp(c)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = x + self.gamma_1 * self.attn(self.norm1(x))
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class BEiTPatches(nn.Cell):
    def __init__(self, c: Settings) -> None:
        super().__init__()
        self.proj = patches(c)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.proj(x)
        return x.reshape(x.shape[0], x.shape[1], -1).transpose(0, 2, 1)


class BEiT(nn.Cell):
    def __init__(self, c: Settings, ascend: bool) -> None:
        super().__init__()
        self.cls_token, self.patch_embed, self.mean = parameter(1, 1, c["dim"]), BEiTPatches(c), c["pooling"] == "mean"
        self.blocks = nn.CellList([BEiTBlock(c, ascend) for _ in range(c["depth"])])
        if self.mean:
            self.fc_norm = norm(c)
        else:
            self.norm = norm(c)
        self.head = nn.Dense(c["dim"], c["classes"])

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.patch_embed(x)
        x = ops.cat((ops.tile(self.cls_token, (x.shape[0], 1, 1)), x), 1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.fc_norm(x[:, 1:].mean(1)) if self.mean else self.norm(x)[:, 0])


NETWORKS = {
    "cct": CCT,
    "vit": ViT,
    "beit": lambda c: BEiT(c, ascend=False),
    "beit_ascend": lambda c: BEiT(c, ascend=True),
}


def equal(there: ms.Tensor, wanted: np.ndarray) -> bool:
    """Type, shape and every bit."""
    found = there.asnumpy()
    return found.dtype == wanted.dtype and found.shape == wanted.shape and found.tobytes() == wanted.tobytes()


def open_ours(held: Held, folder: Path, name: str, net: nn.Cell) -> None:
    """A checkpoint of ours: tensors to the bit, loaded strictly, and the same logits."""
    found = ms.load_checkpoint(str(folder / f"{name}.ckpt"))
    wanted = safetensors.numpy.load_file(folder / f"{name}.safetensors")
    same = found.keys() == wanted.keys() and all(equal(found[n], wanted[n]) for n in wanted)
    made = [(found[one.name], one.asnumpy()) for one in net.get_parameters() if one.name.endswith("_index")]
    same = same and all(equal(there, own) for there, own in made)
    held.true(f"{name}.ckpt: {len(found)} tensors to the bit", same)
    missing, over = ms.load_param_into_net(net, found, strict_load=True)
    held.true(f"{name}.ckpt: loaded strictly", not missing and not over, f"missing {missing}, over {over}")
    there = np.load(folder / f"{name}.npz")
    difference = float(np.abs(net(ms.Tensor(there["images"])).asnumpy() - there["logits"]).max())
    held.within(f"{name}.ckpt", ("logits", difference, LOGITS))


def write_theirs(folder: Path, name: str, net: nn.Cell) -> None:
    """The network with other numbers, in every way of saving it, also inside a training step after a step of it."""
    random = np.random.Generator(np.random.PCG64(9))
    for one in net.get_parameters():
        if one.dtype == ms.float32:
            one.set_data(ms.Tensor((one.asnumpy() + 0.05 * random.standard_normal(one.shape)).astype(np.float32)))
    images = random.standard_normal((2, 3, 32, 32)).astype(np.float32)
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    optimizer = nn.Momentum(net.trainable_params(), learning_rate=0.001, momentum=0.9)
    step = nn.TrainOneStepCell(nn.WithLossCell(net, loss), optimizer)
    step.set_train()
    step(ms.Tensor(images), ms.Tensor(np.array([1, 2], np.int32)))
    net.set_train(False)
    np.savez(folder / f"{name}-theirs.npz", images=images, logits=net(ms.Tensor(images)).asnumpy())
    ms.save_checkpoint(net, str(folder / f"{name}-theirs.ckpt"))
    ms.save_checkpoint(net, str(folder / f"{name}-theirs-crc.ckpt"), crc_check=True)
    extra = {"epoch_num": 3, "step_num": 100, "note": "a text"}
    ms.save_checkpoint(net, str(folder / f"{name}-theirs-append.ckpt"), append_dict=extra)
    ms.save_checkpoint(step, str(folder / f"{name}-theirs-training.ckpt"))
    if name == "vit":
        for mode in ("AES-GCM", "AES-CBC"):
            ms.save_checkpoint(net, str(folder / f"encrypted-{mode}.ckpt"), enc_key=KEY, enc_mode=mode)


def exchange_kinds(held: Held, folder: Path) -> None:
    """Every type of number, and a tensor too large for one entry: opened, and saved again."""
    for name in ("kinds", "split"):
        found = ms.load_checkpoint(str(folder / f"{name}.ckpt"), crc_check=name == "kinds")
        types = sorted({str(one.dtype) for one in found.values()})
        held.true(f"{name}.ckpt: {len(found)} tensors of {len(types)} types", len(types) == 13, ", ".join(types))
        if name == "split":
            same = np.array_equal(found["a"].asnumpy(), np.arange(len(found["a"]), dtype=np.float32))
            held.true("split.ckpt: a tensor in two entries to the bit", same)
        entries = [{"name": key, "data": one} for key, one in found.items()]
        ms.save_checkpoint(entries, str(folder / f"{name}-theirs.ckpt"), crc_check=name == "kinds")


def main(folder: Path) -> int:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    ms.set_device("CPU")
    held = Held(f"MindSpore {ms.__version__}")
    for name, settings in json.loads((folder / "settings.json").read_text()).items():
        net = NETWORKS[name](settings).set_train(False)
        open_ours(held, folder, name, net)
        write_theirs(folder, name, net)
    exchange_kinds(held, folder)
    return held.end()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
