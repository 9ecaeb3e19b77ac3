"""First dialects for names of unknown make: what is found is right to the bit, what is doubtful is marked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrail.formats.stored import Stored, Tensors
from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, ViTConfig, family_of
from vitrail.models.count import shapes
from vitrail.weights.dialects import TABLES
from vitrail.weights.reshapes import Array, convolution, output_heads, stack_heads, transpose
from vitrail.weights.rules import Dialect
from vitrail.weights.suggest import Suggestion, suggest
from vitrail.weights.translate import read, to_native, write
from vitrail.weights.user_dialect import read_dialect

TINY: dict[str, Any] = {
    "image_size": (32, 32), "classes": 5, "patch": 8, "dim": 24, "depth": 2, "heads": 4, "mlp_ratio": 2.0,
}  # fmt: skip
VITS = {
    "plain": ViTConfig(**TINY),
    "one layer": ViTConfig(**TINY | {"depth": 1}),
    "twelve layers": ViTConfig(**TINY | {"depth": 12}),
    "as wide inside": ViTConfig(**TINY | {"mlp_ratio": 1.0}),
    "three times as wide inside": ViTConfig(**TINY | {"mlp_ratio": 3.0}),
    "no bias": ViTConfig(**TINY, qkv_bias=False),
}
OTHERS: dict[str, ModelConfig] = {
    "layer scale": ViTConfig(**TINY, layer_scale=True),
    "registers": ViTConfig(**TINY, register_tokens=4),
    "distilled": ViTConfig(**TINY, distilled=True),
    "norm before": ViTConfig(**TINY, pre_norm=True),
    "mean": ViTConfig(**TINY, pooling="mean", fc_norm=True),
    "pre_logits": ViTConfig(**TINY, pre_logits=12),
    "no head": ViTConfig(**TINY | {"classes": 0}),
    "beit": BEiTConfig(**TINY),
    "beit, shared": BEiTConfig(**TINY, block_bias=False, shared_bias=True, absolute_positions=True),
    "beit, class": BEiTConfig(**TINY, pooling="class", layer_scale=False),
    "cct": CCTConfig(image_size=(32, 32), dim=32, depth=2, heads=2, mlp_ratio=1.0, conv_layers=2, classes=7),
    "cct, three": CCTConfig(image_size=(32, 32), dim=32, depth=3, heads=2, mlp_ratio=3.0, conv_layers=3, classes=7),
    "vit lite": CCTConfig(
        image_size=(32, 32), dim=32, depth=3, heads=2, kernel=4, stride=4, padding=0, max_pool=False, conv_bias=True,
        pooling="class", classes=7,
    ),
}  # fmt: skip


def native(config: ModelConfig) -> Tensors:
    generator = np.random.default_rng(0)
    return {
        name: Stored.of(generator.standard_normal(shape).astype(np.float32)) for name, shape in shapes(config).items()
    }


def reads_back(suggestion: Suggestion, theirs: Tensors, ours: Tensors, folder: Path) -> None:
    """The YAML as it stands translates to the same tensors."""
    assert (suggestion.unmatched, suggestion.missing) == ((), ()), suggestion.text
    assert suggestion.matched == len(theirs)
    assert "# ?" not in suggestion.text
    (folder / "mine.yaml").write_text(suggestion.text)
    back = to_native(read_dialect(folder / "mine.yaml"), theirs)
    assert back.keys() == ours.keys()
    for name, tensor in ours.items():
        assert (back[name].shape, bytes(back[name].data)) == (tensor.shape, bytes(tensor.data)), name


# a scheme: our name without its number -> theirs, with {i} for the number; several take parts of the rows
Scheme = Mapping[str, str | tuple[str, ...]]
Change = Callable[[str, Array], Array]


def renamed(tensors: Tensors, scheme: Scheme, *, first: int = 0, change: Change = lambda _, array: array) -> Tensors:
    """Our tensors under a scheme's names, in the order of the scheme, layer by layer as ours."""
    out: Tensors = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        number = int(parts.pop(1)) if parts[0] == "blocks" else 0
        theirs = scheme[".".join(parts)]
        several = (theirs,) if isinstance(theirs, str) else theirs
        arrays = np.split(tensor.array(), len(several)) if len(several) > 1 else [tensor.array()]
        for one, array in zip(several, arrays, strict=True):
            out[one.replace("{i}", str(number + first)).replace("{ii}", f"{number:02d}")] = Stored.of(
                change(one, array)
            )
    return out


def pairs(names: Mapping[str, str | tuple[str, ...]], weight: str = ".weight", bias: str = ".bias") -> dict[str, Any]:
    """A scheme for layers: each with a weight and a bias."""
    found: dict[str, Any] = {}
    for ours, theirs in names.items():
        several = isinstance(theirs, tuple)
        for own, their in ((".weight", weight), (".bias", bias)):
            found[ours + own] = tuple(one + their for one in theirs) if several else f"{theirs}{their}"
    return found


_TV = "encoder.layers.encoder_layer_{i}."
TORCHVISION = pairs({
    "patch_embed.proj": "conv_proj", "blocks.norm1": _TV + "ln_1", "blocks.norm2": _TV + "ln_2",
    "blocks.attn.proj": _TV + "self_attention.out_proj", "blocks.mlp.fc1": _TV + "mlp.0",
    "blocks.mlp.fc2": _TV + "mlp.3", "norm": "encoder.ln", "head": "heads.head",
}) | {
    "cls_token": "class_token", "pos_embed": "encoder.pos_embedding",
    "blocks.attn.qkv.weight": _TV + "self_attention.in_proj_weight",
    "blocks.attn.qkv.bias": _TV + "self_attention.in_proj_bias",
}  # fmt: skip
_DINO = "dinov2.encoder.layer.{i}."
DINOV2 = pairs({
    "patch_embed.proj": "dinov2.embeddings.patch_embeddings.projection", "blocks.norm1": _DINO + "norm1",
    "blocks.attn.qkv": tuple(f"{_DINO}attention.attention.{part}" for part in ("query", "key", "value")),
    "blocks.attn.proj": _DINO + "attention.output.dense", "blocks.norm2": _DINO + "norm2",
    "blocks.mlp.fc1": _DINO + "mlp.fc1", "blocks.mlp.fc2": _DINO + "mlp.fc2", "norm": "dinov2.layernorm",
    "head": "classifier",
}) | {
    "cls_token": "dinov2.embeddings.cls_token", "pos_embed": "dinov2.embeddings.position_embeddings",
    "blocks.ls1.gamma": _DINO + "layer_scale1.lambda1", "blocks.ls2.gamma": _DINO + "layer_scale2.lambda1",
}  # fmt: skip
_CLIP = "visual.transformer.resblocks.{i}."
OPEN_CLIP = pairs({
    "norm_pre": "visual.ln_pre", "blocks.norm1": _CLIP + "ln_1", "blocks.attn.proj": _CLIP + "attn.out_proj",
    "blocks.norm2": _CLIP + "ln_2", "blocks.mlp.fc1": _CLIP + "mlp.c_fc", "blocks.mlp.fc2": _CLIP + "mlp.c_proj",
    "norm": "visual.ln_post",
}) | {
    "cls_token": "visual.class_embedding", "pos_embed": "visual.positional_embedding",
    "patch_embed.proj.weight": "visual.conv1.weight", "blocks.attn.qkv.weight": _CLIP + "attn.in_proj_weight",
    "blocks.attn.qkv.bias": _CLIP + "attn.in_proj_bias",
}  # fmt: skip
PRIVATE = pairs({
    "patch_embed.proj": "net.cut", "blocks.norm1": "net.stage_{i}.ln_a", "blocks.attn.qkv": "net.stage_{i}.mix.fused",
    "blocks.attn.proj": "net.stage_{i}.mix.back", "blocks.norm2": "net.stage_{i}.ln_b",
    "blocks.mlp.fc1": "net.stage_{i}.wide.up", "blocks.mlp.fc2": "net.stage_{i}.wide.down", "norm": "net.ln_end",
    "head": "net.answer",
}, ".gain", ".shift") | {"cls_token": "net.start", "pos_embed": "net.where"}  # fmt: skip
_FLAX = "params/Encoder_0/Block_{i}/"
FLAX = pairs({
    "patch_embed.proj": "params/Conv_0", "blocks.norm1": _FLAX + "LayerNorm_0",
    "blocks.attn.qkv": tuple(f"{_FLAX}SelfAttention_0/{part}" for part in ("query", "key", "value")),
    "blocks.attn.proj": _FLAX + "SelfAttention_0/out", "blocks.norm2": _FLAX + "LayerNorm_1",
    "blocks.mlp.fc1": _FLAX + "Dense_0", "blocks.mlp.fc2": _FLAX + "Dense_1", "norm": "params/Encoder_0/LayerNorm_0",
    "head": "params/Dense_0",
}, "/kernel", "/bias") | {"cls_token": "params/cls", "pos_embed": "params/pos_embedding"}  # fmt: skip


def as_flax(name: str, array: Array) -> Array:
    """Kernels (in, out), (in, heads, width) and (heads, width, out), as flax keeps them."""
    reshape = stack_heads if name.endswith(("query/kernel", "key/kernel", "value/kernel")) else transpose
    if name.endswith("out/kernel"):
        reshape = output_heads
    if name.endswith(("query/bias", "key/bias", "value/bias")):
        return array.reshape(4, -1)
    if array.ndim == 4:
        return convolution.write(array, 1, 4)[0]
    return reshape.write(array, 1, 4)[0] if array.ndim == 2 else array


def as_keras(name: str, array: Array) -> Array:
    """Kernels (in, out), without axes for heads."""
    if array.ndim == 4:
        return convolution.write(array, 1, 4)[0]
    return array.T if array.ndim == 2 else array


@pytest.mark.parametrize("name", VITS)
@pytest.mark.parametrize("scheme", [TORCHVISION, DINOV2], ids=["torchvision", "dinov2"])
def test_known_worlds_without_a_table_of_ours(name: str, scheme: Scheme, tmp_path: Path) -> None:
    ours = native(VITS[name])
    theirs = renamed(ours, scheme)
    reads_back(suggest(theirs, model=VITS[name] if name == "no bias" else None), theirs, ours, tmp_path)
    in_order = dict(sorted(theirs.items()))  # as safetensors keeps them
    reads_back(suggest(in_order, model=VITS[name]), theirs, ours, tmp_path)


@pytest.mark.parametrize("change", [as_flax, as_keras])
@pytest.mark.parametrize("name", VITS)
def test_kernels_the_other_way_round(name: str, change: Change, tmp_path: Path) -> None:
    ours = native(VITS[name])
    theirs = renamed(ours, FLAX, change=change)
    reads_back(suggest(theirs, model=VITS[name]), theirs, ours, tmp_path)


def test_a_network_that_two_families_have_is_marked() -> None:
    text = suggest(renamed(native(VITS["no bias"]), TORCHVISION)).text  # a ViT-Lite has the same tensors
    assert "# ? as a network of the family cct they would match as well" in text


@pytest.mark.parametrize("first", [0, 1])
def test_a_private_scheme_of_one_house(first: int, tmp_path: Path) -> None:
    ours = native(VITS["plain"])
    theirs = renamed(ours, PRIVATE, first=first)
    suggestion = suggest(theirs)
    reads_back(suggestion, theirs, ours, tmp_path)
    assert ("{i+1}" in suggestion.text) == (first == 1)


def test_numbers_with_leading_zeros_become_a_rule_for_each_layer(tmp_path: Path) -> None:
    ours = native(VITS["twelve layers"])
    scheme = {key: value.replace("_{i}", "{ii}") for key, value in PRIVATE.items()}
    theirs = renamed(ours, scheme)
    suggestion = suggest(theirs)
    reads_back(suggestion, theirs, ours, tmp_path)
    assert "ours: blocks.11.norm1.weight, theirs: net.stage11.ln_a.gain" in suggestion.text


def test_layer_scale_of_dinov2(tmp_path: Path) -> None:
    ours = native(OTHERS["layer scale"])
    theirs = renamed(ours, DINOV2)
    reads_back(suggest(theirs), theirs, ours, tmp_path)


def test_open_clip(tmp_path: Path) -> None:
    ours = native(ViTConfig(**TINY | {"classes": 0}, pre_norm=True))
    theirs = renamed(ours, OPEN_CLIP)
    reads_back(suggest(theirs), theirs, ours, tmp_path)
    flat = theirs | {
        "visual.class_embedding": Stored.of(theirs["visual.class_embedding"].array()[0, 0]),
        "visual.positional_embedding": Stored.of(theirs["visual.positional_embedding"].array()[0]),
    }
    suggestion = suggest(flat)  # as its files have them
    assert "theirs: visual.positional_embedding, reshape: leading" in suggestion.text
    reads_back(suggestion, flat, ours, tmp_path)


def written(config: ModelConfig, table: Dialect) -> Tensors | None:
    result = write(table, native(config), config)
    return result.tensors if result.whole else None


CASES = [
    pytest.param(name, table, id=f"{name}-{table}")
    for name, config in {**VITS, **OTHERS}.items()
    if name not in ("twelve layers", "three times as wide inside")
    for table in TABLES
    if table.family == family_of(config) and not table.rename and written(config, table) is not None
]


@pytest.mark.parametrize(("name", "table"), CASES)
def test_every_table_of_ours_is_found_again_from_its_names(name: str, table: Dialect, tmp_path: Path) -> None:
    config = {**VITS, **OTHERS}[name]
    theirs = written(config, table)
    assert theirs is not None
    suggestion = suggest(theirs, model=config if name in ("no bias", "vit lite") else None)
    if name == "one layer" and table.form.startswith("Keras 3 file"):  # no number stands in the names of one layer
        assert suggestion.unmatched and "# ?" in suggestion.text
    elif name == "pre_logits" and table.form == "Keras 3 file, pre_logits":  # `dense` and `dense_1` say nothing
        assert {n.split("/")[1] for n in suggestion.unmatched} == {"dense", "dense_1"}
        assert "could be" in suggestion.text
    elif any(tensor.dtype.startswith("I") for tensor in theirs.values()):
        assert all("relative_position_index" in name for name in suggestion.unmatched)
        assert f"# ? {suggestion.unmatched[0].replace('.0.', '.{i}.')}" in suggestion.text
        plain = {name: tensor for name, tensor in theirs.items() if not tensor.dtype.startswith("I")}
        reads_back(suggest(plain), plain, native(config), tmp_path)
    else:
        reads_back(suggestion, theirs, native(config), tmp_path)


def test_two_norms_that_nothing_tells_apart_are_marked(tmp_path: Path) -> None:
    scheme = {key: value.replace("ln_a", "calm").replace("ln_b", "quiet") for key, value in PRIVATE.items()}
    theirs = renamed(native(VITS["plain"]), scheme)
    in_order = suggest(theirs)  # the file's order tells: one stands before attention, one after
    assert not in_order.unmatched
    suggestion = suggest(dict(sorted(theirs.items())))
    assert suggestion.unmatched == tuple(sorted(name for name in theirs if "calm" in name or "quiet" in name))
    mark = "# ? net.stage_{i}.calm.gain  (24,)  could be blocks.{i}.norm1.weight or blocks.{i}.norm2.weight"
    assert mark in suggestion.text
    assert "# ? blocks.{i}.norm1.weight" in suggestion.text.splitlines()
    assert suggestion.matched == len(theirs) - 8
    (tmp_path / "mine.yaml").write_text(suggestion.text)
    half = read(read_dialect(tmp_path / "mine.yaml"), theirs)
    assert set(half.unexplained) == set(suggestion.unmatched)


def test_q_k_v_that_nothing_tells_apart_are_marked() -> None:
    parts = tuple(f"net.stage_{{i}}.mix.{part}" for part in ("red", "green", "blue"))
    scheme = PRIVATE | pairs({"blocks.attn.qkv": parts}, ".gain", ".shift")
    theirs = renamed(native(VITS["plain"]), scheme)
    suggestion = suggest(theirs)
    assert {name.split(".")[3] for name in suggestion.unmatched} == {"red", "green", "blue", "back"}
    assert "blocks.{i}.attn.qkv.weight" in suggestion.missing


def test_what_training_leaves_in_a_file_is_marked_and_never_matched() -> None:
    theirs = renamed(native(VITS["plain"]), TORCHVISION)
    left: Tensors = {
        "mask_token": Stored.of(np.zeros((1, 1, 24), np.float32)),
        "optimizer.state.0.momentum": Stored.of(np.zeros((24, 24), np.float32)),
        "step": Stored.of(np.array(7)),
    }
    suggestion = suggest(theirs | left)
    assert suggestion.unmatched == tuple(left)
    assert "# ? step  ()  I64" in suggestion.text


def test_a_layer_of_another_shape_is_marked() -> None:
    theirs = renamed(native(VITS["plain"]), TORCHVISION)
    odd = "encoder.layers.encoder_layer_1.mlp.0.weight"
    theirs[odd] = Stored.of(np.zeros((40, 24), np.float32))
    suggestion = suggest(theirs)
    assert odd in suggestion.unmatched
    assert any("mlp.fc1.weight" in line for line in suggestion.missing)


def test_a_missing_tensor_of_ours_is_named() -> None:
    theirs = renamed(native(VITS["plain"]), TORCHVISION)
    del theirs["encoder.pos_embedding"]
    suggestion = suggest(theirs)
    assert suggestion.missing == ("pos_embed",)
    assert suggestion.text.splitlines()[-1] == "# ? pos_embed"


def test_two_towers_the_one_with_patches_is_meant() -> None:
    ours = native(ViTConfig(**TINY | {"classes": 0}, pre_norm=True))
    theirs = renamed(ours, OPEN_CLIP)
    text = {name.removeprefix("visual."): tensor for name, tensor in theirs.items() if "resblocks" in name}
    suggestion = suggest(text | theirs)
    assert set(suggestion.unmatched) == set(text)


@pytest.mark.parametrize("theirs", [
    {},
    {"a": Stored.of(np.zeros((), np.float32))},
    {"": Stored.of(np.zeros((3,), np.float32)), "0": Stored.of(np.zeros((0, 3), np.float32))},
    {f"{i}": Stored.of(np.zeros((2, 2), np.float32)) for i in range(40)},
    {"cls{i}": Stored.of(np.zeros((1, 1, 4), np.float32)), "b\nc": Stored.of(np.zeros((1, 4, 4), np.float32))},
    {"1" * 400 + f".{i}": Stored.of(np.zeros((2,), np.float32)) for i in range(3)},
    {".".join(str(i) for i in range(n, 200)): Stored.of(np.zeros((2,), np.float32)) for n in range(40)},
])  # fmt: skip
def test_any_tensors_give_a_text(theirs: Tensors) -> None:
    suggestion = suggest(theirs)
    assert suggestion.matched + len(suggestion.unmatched) == len(theirs)
    assert suggestion.missing
    assert all(line.isprintable() for line in suggestion.text.splitlines())
