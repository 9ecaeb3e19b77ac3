"""Counts by formula against the published table and against the networks themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vitrail.models import build, count
from vitrail.models.catalog import VARIANTS, variant

# name, parameters, multiply-adds in millions: measured on SHI-Labs' code at cd11f091
TABLE = {
    "cct_14_7x2_224":    (22_367_273,  "5521.902"),
    "cct_14_7x2_384":    (22_513_193, "18580.282"),
    "cct_14_7x2_384_fl": (22_167_463, "18579.938"),
    "cct_2_3x2_32":      (   283_723,    "35.342"),
    "cct_4_3x2_32":      (   482_123,    "50.022"),
    "cct_6_3x1_32":      ( 3_233_803,  "1013.844"),
    "cct_6_3x2_32":      ( 3_326_923,   "253.463"),
    "cct_7_3x1_32":      ( 3_760_139,  "1181.617"),
    "cct_7_3x1_32_c100": ( 3_783_269,  "1181.640"),
    "cct_7_3x2_32":      ( 3_853_259,   "289.115"),
    "cct_7_7x2_224":     ( 4_573_735,  "1604.554"),
    "cvt_2_4_32":        (   214_539,    "15.091"),
    "cvt_4_4_32":        (   412_939,    "29.771"),
    "cvt_6_4_32":        ( 3_190_283,   "214.731"),
    "cvt_7_4_32":        ( 3_716_619,   "250.383"),
    "vit_2_4_32":        (   214_666,    "15.337"),
    "vit_2_4_32_sine":   (   214_666,    "15.337"),
    "vit_4_4_32":        (   413_066,    "30.280"),
    "vit_4_4_32_sine":   (   413_066,    "30.280"),
    "vit_6_4_32":        ( 3_190_538,   "218.241"),
    "vit_6_4_32_sine":   ( 3_190_538,   "218.241"),
    "vit_7_4_32":        ( 3_716_874,   "254.482"),
    "vit_7_4_32_sine":   ( 3_716_874,   "254.482"),
}  # fmt: skip
TRAINABLE = {
    "vit_2_4_32_sine": 206_346,
    "vit_4_4_32_sine": 404_746,
    "vit_6_4_32_sine": 3_173_898,
    "vit_7_4_32_sine": 3_700_234,
}


@pytest.mark.parametrize("name", TABLE)
def test_counts_are_the_published_ones(name: str) -> None:
    config = variant(name).config
    assert (count.parameters(config), f"{count.macs(config) / 1e6:.3f}") == TABLE[name]
    assert count.trainable(config) == TRAINABLE.get(name, TABLE[name][0])


def test_sine_twins_count_as_the_variant_they_belong_to() -> None:
    for name, row in VARIANTS.items():
        twin = VARIANTS[re.sub("_sine", "", name)].config
        assert (count.parameters(row.config), count.macs(row.config)) == (count.parameters(twin), count.macs(twin))


@pytest.mark.parametrize("name", VARIANTS)
def test_formula_and_network_hold_the_same_tensors(name: str) -> None:
    config = VARIANTS[name].config
    module = build(config, device="meta")
    assert [(key, tuple(tensor.shape)) for key, tensor in module.state_dict().items()] == list(
        count.shapes(config).items()
    )
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == count.trainable(config)


def test_counting_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from vitrail.models import count; from vitrail.models.catalog import "
        "variant; print(count.macs(variant('cct_2_3x2_32').config))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "35341568\n"
