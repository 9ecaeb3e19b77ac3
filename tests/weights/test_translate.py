"""The engine in both directions, on a made-up dialect with joins, transposes, numbers and a drop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.errors import WeightsError
from vitrail.formats.stored import Stored, Tensors
from vitrail.models.configs import BEiTConfig, CCTConfig, ViTConfig
from vitrail.models.count import shapes
from vitrail.weights.dialects import TABLES
from vitrail.weights.patterns import fill
from vitrail.weights.reshapes import Array, Reshape
from vitrail.weights.rules import Dialect, Drop, Rule
from vitrail.weights.translate import from_native, read, to_native


def ranked(array: Array, rank: int) -> Array:
    if array.ndim != rank:
        raise ValueError(f"rank {array.ndim}, needed is {rank}")
    return array


def permuted(name: str, read: tuple[int, ...], write: tuple[int, ...]) -> Reshape:
    return Reshape(
        name,
        lambda theirs: ranked(theirs[0], len(read)).transpose(read),
        lambda ours, _, __: [ranked(ours, len(read)).transpose(write)],
    )


def stack(theirs: Sequence[Array]) -> Array:
    if len({part.shape for part in theirs}) != 1:
        raise ValueError(f"shapes {', '.join(str(part.shape) for part in theirs)} differ")
    return np.concatenate(theirs)


transpose = permuted("transpose", (1, 0), (1, 0))  # (in, out) <-> (out, in)
conv = permuted("conv", (3, 2, 0, 1), (2, 3, 1, 0))  # HWIO <-> OIHW
rows = Reshape(
    "rows", stack, lambda ours, count, _: np.split(ours, count)
)  # q, k, v <-> their rows one below the other

CONFIG = CCTConfig(image_size=(8, 8))

MADE_UP = Dialect(
    name="made_up",
    family="cct",
    rules=(
        Rule("patch.weight",          "embedding/kernel",                                  conv),
        Rule("scale",                 "scale",                                             optional=True),
        Rule("blocks.{i}.qkv.weight", ("b{i}/q/kernel", "b{i}/k/kernel", "b{i}/v/kernel"), rows),
        Rule("blocks.{i}.fc.weight",  "b{i}/dense/kernel",                                 transpose),
        Rule("stages.{s}.{u}.bias",   "s{s}u{u}b"),
    ),
    drop=(Drop("b{i}/index", "computed from the grid"),),
)  # fmt: skip


def ours(depth: int = 2, kind: str = "<f4") -> Tensors:
    generator = np.random.default_rng(0)

    def some(*shape: int) -> Stored:
        return Stored.of(generator.standard_normal(shape).astype(kind))

    tensors = {"patch.weight": some(5, 3, 4, 2), "scale": some(1)}
    tensors |= {"stages.0.1.bias": some(2), "stages.10.0.bias": some(2)}
    for i in range(depth):
        tensors[f"blocks.{i}.qkv.weight"] = some(9, 3)
        tensors[f"blocks.{i}.fc.weight"] = some(4, 3)
    return tensors


def test_names_shapes_and_values_on_the_way_out() -> None:
    native = ours()
    theirs = from_native(MADE_UP, native, CONFIG)
    assert theirs["embedding/kernel"].shape == (4, 2, 3, 5)
    assert theirs["b1/dense/kernel"].shape == (3, 4)
    assert theirs["s10u0b"] == native["stages.10.0.bias"]
    qkv = native["blocks.1.qkv.weight"].array()
    for part, word in enumerate("qkv"):
        assert np.array_equal(theirs[f"b1/{word}/kernel"].array(), qkv[3 * part : 3 * part + 3])
    kernel = theirs["embedding/kernel"].array()
    assert kernel[1, 0, 2, 4] == native["patch.weight"].array()[4, 2, 1, 0]


@given(st.integers(0, 12), st.sampled_from(["<f4", "<f8", "<f2"]))
def test_C12_there_and_back_is_bit_equal(depth: int, kind: str) -> None:
    native = ours(depth, kind)
    back = to_native(MADE_UP, from_native(MADE_UP, native, CONFIG))
    assert back.keys() == native.keys()
    for name, tensor in native.items():
        assert (back[name].dtype, back[name].shape) == (tensor.dtype, tensor.shape)
        assert bytes(back[name].data) == bytes(tensor.data)


def test_C12_bfloat16_with_every_bit_pattern_survives_a_transpose() -> None:
    bits = np.arange(1 << 16, dtype="<u2")
    native = ours(1) | {"blocks.0.fc.weight": Stored("BF16", (256, 256), bits.tobytes())}
    theirs = from_native(MADE_UP, native, CONFIG)
    assert theirs["b0/dense/kernel"].dtype == "BF16"
    assert bytes(to_native(MADE_UP, theirs)["blocks.0.fc.weight"].data) == bits.tobytes()


def test_a_dropped_tensor_is_named_with_its_reason() -> None:
    theirs = from_native(MADE_UP, ours(), CONFIG) | {"b1/index": Stored("I64", (1,), bytes(8))}
    assert read(MADE_UP, theirs).dropped == ("b1/index dropped: computed from the grid",)
    assert to_native(MADE_UP, theirs).keys() == ours().keys()


def test_what_is_optional_may_be_absent() -> None:
    native = ours()
    del native["scale"]
    assert "scale" not in from_native(MADE_UP, native, CONFIG)


@pytest.mark.parametrize("name", [n for n in sorted(from_native(MADE_UP, ours(), CONFIG)) if "/" in n])
def test_C12_a_missing_foreign_tensor_is_named(name: str) -> None:
    theirs = from_native(MADE_UP, ours(), CONFIG)
    del theirs[name]
    with pytest.raises(WeightsError) as caught:
        to_native(MADE_UP, theirs)
    assert caught.value.code == "V204"
    assert f"{name} is missing" in caught.value.evidence


@pytest.mark.parametrize("name", ["patch.weight", "blocks.0.qkv.weight", "blocks.1.fc.weight"])
def test_C12_a_missing_tensor_of_ours_is_named(name: str) -> None:
    native = ours()
    del native[name]
    with pytest.raises(WeightsError) as caught:
        from_native(MADE_UP, native, CONFIG)
    assert caught.value.code == "V204"
    assert f"{name} is missing" in caught.value.evidence


@pytest.mark.parametrize("name", ["extra", "b01/dense/kernel", "b-1/dense/kernel", "b0/dense/kernel ", "b9999999/q"])
def test_C12_a_foreign_tensor_that_no_rule_explains_is_named(name: str) -> None:
    theirs = from_native(MADE_UP, ours(), CONFIG) | {name: Stored("F32", (1,), bytes(4))}
    with pytest.raises(WeightsError) as caught:
        to_native(MADE_UP, theirs)
    assert caught.value.code == "V205"
    assert name in caught.value.evidence


def test_C12_a_whole_block_left_out_is_noticed() -> None:
    theirs = {
        name: tensor for name, tensor in from_native(MADE_UP, ours(4), CONFIG).items() if not name.startswith("b2/")
    }
    with pytest.raises(WeightsError) as caught:
        to_native(MADE_UP, theirs)
    assert "b2/q/kernel is missing: the numbers go up to 3" in caught.value.evidence


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("embedding/kernel", Stored("F32", (2, 2), bytes(16))),
        ("b0/dense/kernel", Stored("F32", (4,), bytes(16))),
        ("b0/k/kernel", Stored("F32", (2, 2), bytes(16))),
        ("b0/v/kernel", Stored("F64", (3, 3), bytes(72))),
    ],
)
def test_C12_a_tensor_that_cannot_be_reshaped_is_named(name: str, other: Stored) -> None:
    with pytest.raises(WeightsError) as caught:
        to_native(MADE_UP, from_native(MADE_UP, ours(), CONFIG) | {name: other})
    assert caught.value.code == "V204"
    assert any(name in line for line in caught.value.evidence)


def test_C12_a_joined_tensor_that_does_not_split_is_named() -> None:
    with pytest.raises(WeightsError) as caught:
        from_native(MADE_UP, ours() | {"blocks.0.qkv.weight": Stored("F32", (4, 1), bytes(16))}, CONFIG)
    assert any("blocks.0.qkv.weight" in line for line in caught.value.evidence)


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_no_table_drops_what_its_rules_explain_or_explains_a_name_twice(table: Dialect) -> None:
    index = (("i", 1), ("j", 1), ("s", 1), ("u", 1))
    theirs = [fill(part, index) for rule in table.rules for part in rule.parts]
    ours = [fill(rule.ours, index) for rule in table.rules]
    assert len(set(theirs)) == len(theirs)
    assert len(set(ours)) == len(ours)
    stored = {name: Stored("F32", (), bytes(4)) for name in theirs}
    found = read(table, stored, values=False)
    assert not found.dropped
    assert not found.made
    assert not found.unexplained or table.rename is not None


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_every_tensor_of_ours_in_a_table_is_one_of_the_family(table: Dialect) -> None:
    index = (("i", 0), ("j", 0), ("s", 0), ("u", 0))
    known = {name for config in EVERYTHING[table.family] for name in shapes(config)}
    assert {fill(rule.ours, index) for rule in table.rules} <= known


_VIT = ViTConfig(image_size=(32, 32), dim=6, depth=1, heads=3)
_HYBRID = ViTConfig(image_size=(32, 32), patch=1, dim=6, depth=1, heads=3, stem="resnet", stages=(1,), pre_logits=3)
EVERYTHING = {
    "vit": (
        _HYBRID,
        ViTConfig(image_size=(32, 32), patch=8, dim=6, depth=1, heads=3, stem="resnet"),
        ViTConfig(image_size=(32, 32), dim=6, depth=1, heads=3, distilled=True, layer_scale=True, pre_norm=True),
        ViTConfig(
            image_size=(32, 32), dim=6, depth=1, heads=3, register_tokens=1, pooling="mean", fc_norm=True
        ),
        _VIT,
    ),
    "beit": tuple(
        BEiTConfig(image_size=(32, 32), dim=6, depth=1, heads=3, key_bias=True, shared_bias=True,
                   absolute_positions=True, pooling=pooling)
        for pooling in ("class", "mean")
    ),
    "cct": (
        CCTConfig(image_size=(32, 32), dim=6, depth=1, heads=3, conv_bias=True),
        CCTConfig(image_size=(32, 32), dim=6, depth=1, heads=3, pooling="class"),
    ),
}  # fmt: skip


def test_numbers_from_one_bare_first_names_and_whole_stacks() -> None:
    one = Dialect(name="x", family="vit", rules=(Rule("b.{i}.w", "unit{i+1}/w"), Rule("c.{i}.w", "layer{_i}/w")))
    stored = {name: Stored("F32", (1,), bytes(4)) for name in ("unit1/w", "unit2/w", "layer/w", "layer_1/w")}
    assert set(to_native(one, stored)) == {"b.0.w", "b.1.w", "c.0.w", "c.1.w"}
    assert set(from_native(one, to_native(one, stored), CONFIG)) == set(stored)
    assert read(one, {"unit0/w": stored["unit1/w"]}).unexplained == ("unit0/w",)
    assert read(one, {"layer_0/w": stored["unit1/w"]}).unexplained == ("layer_0/w",)
    all_layers = Dialect(name="x", family="vit", rules=(Rule("b.{i}.w", "layers/w", transpose), Rule("g", "g")))
    values = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    scanned = {"layers/w": Stored.of(values), "g": Stored.of(np.ones(1, np.float32))}
    native = to_native(all_layers, scanned)
    assert list(native) == ["b.0.w", "b.1.w", "b.2.w", "b.3.w", "g"]
    assert np.array_equal(native["b.2.w"].array(), values[2].T)
    back = from_native(all_layers, native, CONFIG)
    assert np.array_equal(back["layers/w"].array(), values)


def test_a_prefix_is_taken_off_whole_or_not_at_all_and_dropped_tensors_are_counted() -> None:
    one = Dialect(
        name="x", family="vit", rules=(Rule("a", "a"), Rule("b", "b")), prefixes=("module.",),
        drop=(Drop("adam.{*}", "optimizer state"),),
    )  # fmt: skip
    scalar = Stored("F32", (), bytes(4))
    found = read(one, dict.fromkeys(("module.a", "module.b", "adam.a", "adam.b", "adam.c", "adam.d"), scalar))
    assert found.whole
    assert found.dropped == (
        "`module.` taken off 2 names",
        "4 tensors dropped: optimizer state (adam.a, adam.b, adam.c, ...)",
    )
    assert read(one, {"module.a": scalar, "b": scalar}).unexplained == ("module.a",)
