"""Fitting weights to another size, against what each world's own code made of the same tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vitrail.models.configs import FAMILIES
from vitrail.weights import adapt
from vitrail.weights.adapt import Grid, Relative, Resize

Array = NDArray[Any]
BOUND = {"zoom": 1e-6} | dict.fromkeys(("bilinear", "bilinear_antialias", "bicubic", "bicubic_antialias"), 1e-5)

# key of the record: our method, whether the table has a class token
POSITIONS: dict[str, tuple[Resize, bool]] = {
    "timm_bicubic_antialias":       ("bicubic_antialias", True),
    "timm_bicubic_antialias_nocls": ("bicubic_antialias", False),
    "timm_bicubic_noantialias":     ("bicubic", True),
    "timm_bilinear_antialias":      ("bilinear_antialias", True),
    "cct_bilinear_cls":             ("bilinear", True),
    "cct_bilinear_nocls":           ("bilinear", False),
    "unilm_bicubic":                ("bicubic", True),
    "google_zoom_cls":              ("zoom", True),
    "google_zoom_nocls":            ("zoom", False),
    "keras_zoom":                   ("zoom", True),
}  # fmt: skip
RELATIVE: dict[str, Relative] = {
    "timm_geometric_linear": "linear",
    "timm_simple_bicubic": "bicubic",
    "unilm_geometric_cubic": "cubic",
}


@pytest.fixture(scope="module")
def vectors(shared: Path) -> dict[str, Array]:
    with np.load(shared / "reference" / "resize_vectors.npz", allow_pickle=False) as file:
        return dict(file)


def sizes(vectors: dict[str, Array], key: str) -> tuple[Grid, Grid]:
    """The grids before and after of a case such as `posrect0`."""
    kind, number = key.rstrip("0123456789"), int(key.lstrip("posrectl"))
    old, new, _ = json.loads(str(vectors["meta"]))["cases"][kind][number]
    return (old, old), (new, new) if isinstance(new, int) else tuple(new)


def test_every_recorded_table_is_made_again(vectors: dict[str, Array]) -> None:
    measured = set()
    for key, wanted in vectors.items():
        case, _, made = key.partition("/")
        if made in POSITIONS:
            method, token = POSITIONS[made]
            old, new = sizes(vectors, case)
            table = vectors[f"{case}/in_cls" if token else f"{case}/in_nocls"]
            found = adapt.positions(table, old=old, new=new, prefix=int(token), method=method)
            assert np.array_equal(found[:, : int(token)], table[:, : int(token)]), key
            bound = BOUND[method]
        elif made in RELATIVE:
            old, new = sizes(vectors, case)
            table = vectors[f"{case}/in"]
            found = adapt.relative_table(table, old=old, new=new, method=RELATIVE[made])
            assert np.array_equal(found[-3:], table[-3:]), key
            bound = 1e-5
        elif made == "geometric_src_positions":
            old, new = sizes(vectors, case)
            found, bound = adapt.geometric(2 * old[0] - 1, 2 * new[0] - 1), 1e-12
            assert found[len(found) // 2 + 2] - 1 == pytest.approx(float(vectors[f"{case}/geometric_q"]), abs=1e-12)
        else:
            assert made in ("", "in", "in_cls", "in_nocls", "geometric_q"), key
            continue
        assert found.shape == wanted.shape, key
        assert found.dtype == wanted.dtype, key
        assert np.abs(found - wanted).max() <= bound, key
        measured.add(made)
    assert measured == {*POSITIONS, *RELATIVE, "geometric_src_positions"}


GOLDEN: dict[Resize, tuple[list[float], list[float]]] = {  # 2 x 2 values 0..3 to 3 x 3, 4 x 4 values 0..15 to 2 x 2
    "zoom": ([0, 0.5, 1, 1, 1.5, 2, 2, 2.5, 3], [0, 3, 12, 15]),
    "bilinear": ([0, 0.5, 1, 1, 1.5, 2, 2, 2.5, 3], [2.5, 4.5, 10.5, 12.5]),
    "bilinear_antialias": ([0, 0.5, 1, 1, 1.5, 2, 2, 2.5, 3], [3.571429, 5.142857, 9.857143, 11.428571]),
    "bicubic": (
        [-0.260417, 0.326389, 0.913194, 0.913195, 1.5, 2.086806, 2.086806, 2.673611, 3.260417],
        [2.03125, 4.21875, 10.78125, 12.96875],
    ),
    "bicubic_antialias": (
        [-0.197368, 0.368421, 0.934211, 0.934211, 1.5, 2.065790, 2.065790, 2.631579, 3.197369],
        [2.933884, 4.760331, 10.239670, 12.066115],
    ),
}


@pytest.mark.parametrize("method", GOLDEN)
def test_golden_grids(method: Resize) -> None:
    for side, new, wanted in zip((2, 4), (3, 2), GOLDEN[method], strict=True):
        table = np.arange(side * side, dtype=np.float64).reshape(1, -1, 1)
        found = adapt.positions(table, old=(side, side), new=(new, new), prefix=0, method=method)
        assert found.ravel() == pytest.approx(wanted, abs=2e-6)


@given(
    old=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    new=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    prefix=st.integers(0, 2),
    method=st.sampled_from(get_args(Resize)),
)
@settings(max_examples=150, deadline=None)
def test_positions_are_torchs_resize_in_float64(old: Grid, new: Grid, prefix: int, method: Resize) -> None:
    table = np.random.default_rng(0).standard_normal((1, prefix + old[0] * old[1], 3))
    found = adapt.positions(table, old=old, new=new, prefix=prefix, method=method)
    assert np.array_equal(found[:, :prefix], table[:, :prefix])
    grid = torch.from_numpy(table[:, prefix:]).reshape(1, *old, 3).permute(0, 3, 1, 2)
    mode = "bilinear" if method == "zoom" else method.removesuffix("_antialias")
    resized = F.interpolate(
        grid, size=new, mode=mode, align_corners=method == "zoom", antialias=method.endswith("_antialias")
    )
    wanted = resized.permute(0, 2, 3, 1).reshape(1, -1, 3).numpy()
    assert np.abs(found[:, prefix:] - wanted).max() <= 1e-12


@pytest.mark.parametrize("method", get_args(Resize))
def test_equal_grids_and_every_type_of_number(method: Resize) -> None:
    table = np.random.default_rng(1).standard_normal((1, 10, 4)).astype(np.float32)
    assert np.array_equal(adapt.positions(table, old=(3, 3), new=(3, 3), prefix=1, method=method), table)
    wide = adapt.positions(table.astype(np.float64), old=(3, 3), new=(5, 2), prefix=1, method=method)
    for kind in (np.float64, np.float32, np.float16):
        found = adapt.positions(table.astype(kind), old=(3, 3), new=(5, 2), prefix=1, method=method)
        assert found.dtype == kind
        assert np.abs(found - wide).max() <= 8 * np.finfo(kind).eps


def test_what_is_not_of_the_grid_is_refused() -> None:
    table = np.zeros((1, 17, 8))
    with pytest.raises(ValueError, match=r"\(1, 17, 8\), needed is \(1, 26, D\)"):
        adapt.positions(table, old=(5, 5), new=(7, 7), prefix=1, method="bicubic")
    with pytest.raises(ValueError, match=r"needed is \(12, H\)"):
        adapt.relative_table(np.zeros((11, 2)), old=(2, 2), new=(3, 3), method="cubic")
    with pytest.raises(ValueError, match="lanczos"):
        adapt.positions(table, old=(4, 4), new=(7, 7), prefix=1, method="lanczos")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="quintic"):
        adapt.relative_table(np.zeros((12, 2)), old=(2, 2), new=(3, 3), method="quintic")  # type: ignore[arg-type]
    for refuse in (lambda kernel: adapt.channels(kernel, 1),):
        with pytest.raises(ValueError, match=r"needed is \(D, C, h, w\)"):
            refuse(np.zeros((3, 16, 16)))


def test_golden_ratios_and_places_of_relative_positions() -> None:
    ratios = {(14, 24): 1.0903074455, (14, 32): 1.1349178123, (14, 40): 1.1685036278, (24, 32): 1.0261433601,
              (14, 16): 1.0234928322, (14, 12): 1.0100009346, (24, 14): 1.0100009346}  # fmt: skip
    outermost = {(14, 24): 22.999934, (14, 32): 31.000182, (14, 40): 39.000083, (24, 32): 30.999963,
                 (14, 16): 14.999963, (14, 12): 13.8094, (24, 14): 25.7166}  # fmt: skip
    for (old, new), ratio in ratios.items():
        places = adapt.geometric(2 * old - 1, 2 * new - 1)
        middle = len(places) // 2
        assert np.array_equal(places, -places[::-1])
        assert places[middle : middle + 3] == pytest.approx([0, 1, 1 + ratio], abs=1e-9)
        assert places[-1] == pytest.approx(outermost[old, new], abs=5e-5 if new < old else 1e-6)
    wanted = [1, 2.0903, 3.2791, 4.5752, 5.9884, 7.5292, 9.2091, 11.0408, 13.0378, 15.2152, 17.5893, 20.1777, 22.9999]
    assert adapt.geometric(27, 47)[14:] == pytest.approx(wanted, abs=5e-5)


def test_golden_relative_tables() -> None:
    table = (np.arange(732) / 732)[:, None]
    linear, cubic = (
        adapt.relative_table(table, old=(14, 14), new=(24, 24), method=method)[:, 0] for method in ("linear", "cubic")
    )
    assert len(linear) == len(cubic) == 2212
    assert linear[:3] == pytest.approx([0, 0.000484030, 0.000968092], abs=2e-9)
    assert linear[1104:1107] == pytest.approx([0.497267753, 0.498633891, 0.499886841], abs=1e-7)
    assert linear[-3:] == pytest.approx([0.995901644, 0.997267783, 0.998633862], abs=1e-7)
    assert cubic[1:3] == pytest.approx([0.000470799, 0.000955846], abs=2e-9)
    assert np.abs(linear - cubic).max() == pytest.approx(0.000413, abs=5e-7)


@pytest.mark.parametrize("method", get_args(Relative))
def test_relative_tables_of_any_size(method: Relative) -> None:
    for old in ((1, 1), (1, 3), (2, 2), (4, 3)):
        table = np.random.default_rng(2).standard_normal(((2 * old[0] - 1) * (2 * old[1] - 1) + 3, 2))
        assert np.array_equal(adapt.relative_table(table, old=old, new=old, method=method), table)
        for new in ((1, 2), (5, 3), (6, 6)):
            found = adapt.relative_table(table, old=old, new=new, method=method)
            assert found.shape == ((2 * new[0] - 1) * (2 * new[1] - 1) + 3, 2)
            assert np.isfinite(found).all()
            assert np.array_equal(found[-3:], table[-3:])
            if method != "bicubic" and method != "cubic":  # those two may overshoot
                assert found.min() >= table.min() - 1e-12
                assert found.max() <= table.max() + 1e-12
            constant = adapt.relative_table(np.full_like(table, 0.7), old=old, new=new, method=method)
            assert np.abs(constant - 0.7).max() <= 1e-12


@pytest.mark.parametrize("new", [(3, 7), (9, 5), (5, 8)])
def test_the_spline_gives_back_every_cubic(new: Grid) -> None:
    """A not-a-knot spline through values of a cubic polynomial is that polynomial, inside the range."""
    old = (5, 5)
    rows, columns = (adapt.geometric(9, 2 * side - 1) for side in new)

    def polynomial(y: Array, x: Array) -> Array:
        return (0.1 * y**3 - y + 1)[:, None] * (0.3 * x**3 + 0.2 * x**2 - 2)[None, :]

    table = np.concatenate([polynomial(rows, columns).reshape(-1), [1.0, 2.0, 3.0]])[:, None]
    at = [np.arange(1.0 - side, side) for side in new]
    inside = [np.clip(wanted, places[0], places[-1]) for wanted, places in zip(at, (rows, columns), strict=True)]
    wanted = polynomial(*inside).reshape(-1)
    found = adapt.relative_table(table, old=old, new=new, method="cubic")[:-3, 0]
    assert np.abs(found - wanted).max() <= 1e-9 * np.abs(wanted).max()


def test_a_shared_table_goes_to_every_block() -> None:
    table = np.ones((12, 2))
    tensors = {"cls_token": np.zeros(1), adapt.SHARED_TABLE: table, "head.bias": np.zeros(2)}
    found = adapt.shared_to_blocks(tensors, 3)
    assert set(found) == {"cls_token", "head.bias", *(adapt.BLOCK_TABLE.format(i=i) for i in range(3))}
    assert all(found[adapt.BLOCK_TABLE.format(i=i)] is table for i in range(3))
    for wrong in ({"cls_token": table}, found | {adapt.SHARED_TABLE: table}):
        with pytest.raises(ValueError, match="rel_pos_bias"):
            adapt.shared_to_blocks(wrong, 3)


def test_channels_follow_timms_rule_to_the_bit() -> None:
    kernel = np.random.default_rng(3).standard_normal((5, 3, 4, 4)).astype(np.float32)
    one = torch.from_numpy(kernel)
    assert np.array_equal(adapt.channels(kernel, 1), one.sum(dim=1, keepdim=True).numpy())
    assert adapt.channels(kernel, 3) is kernel
    for count in (2, 4, 6, 10):
        repeated = one.repeat(1, -(-count // 3), 1, 1)[:, :count] * (3 / float(count))
        assert np.array_equal(adapt.channels(kernel, count), repeated.numpy()), count
    half = adapt.channels(kernel.astype(np.float16), 1)
    assert half.dtype == np.float16
    assert np.abs(half - kernel.sum(1, keepdims=True)).max() <= 1e-2


@given(have=st.integers(1, 5), times=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_a_grey_picture_keeps_its_answer(have: int, times: int) -> None:
    kernel = np.random.default_rng(have).standard_normal((2, have, 3, 3))
    for count in (1, have * times):
        assert adapt.channels(kernel, count).sum(1) == pytest.approx(kernel.sum(1), abs=1e-12)


def test_every_world_has_a_rule_for_every_family_it_holds() -> None:
    for (dialect, family), method in adapt.POSITIONS.items():
        assert family in FAMILIES
        assert method in get_args(Resize)
        assert (family == "beit") <= (dialect in adapt.RELATIVE)
    assert set(adapt.RELATIVE.values()) <= set(get_args(Relative))
    assert set(adapt.RELATIVE) == {dialect for dialect, family in adapt.POSITIONS if family == "beit"}
