"""Counts by formula against outside figures, the tensors of the original networks, and our networks themselves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vitrail.models import build, count
from vitrail.models.catalog import VARIANTS, variant
from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, ViTConfig

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

CLASSES = (1000, 10, 100, 21841, 21843, 0)
# name, tokens, parameters with each of CLASSES, multiply-adds in thousand millions with 1000: measured on timm 1.0.31
TIMM_TEXT = """
vit_tiny_patch16_224      197    5717416    5526346    5543716    9739729    9740115    5524416   1.2537
vit_tiny_patch16_384      577    5790376    5599306    5616676    9812689    9813075    5597376   4.6822
vit_small_patch32_224      50   22878952   22497802   22532452   30902737   30903507   22493952   1.1429
vit_small_patch32_384     145   22915432   22534282   22568932   30939217   30939987   22530432   3.4429
vit_small_patch16_224     197   22050664   21669514   21704164   30074449   30075219   21665664   4.5989
vit_small_patch16_384     577   22196584   21815434   21850084   30220369   30221139   21811584  15.4904
vit_small_patch8_224      785   22055272   21674122   21708772   30079057   30079827   21670272  22.4057
vit_base_patch32_224       50   88224232   87462922   87532132  104250961  104252499   87455232   4.4092
vit_base_patch32_384      145   88297192   87535882   87605092  104323921  104325459   87528192  13.0436
vit_base_patch16_224      197   86567656   85806346   85875556  102594385  102595923   85798656  17.5638
vit_base_patch16_384      577   86859496   86098186   86167396  102886225  102887763   86090496  55.4844
vit_base_patch8_224       785   86576872   85815562   85884772  102603601  102605139   85807872  78.1483
vit_large_patch32_224      50  306535400  305520650  305612900  327897425  327899475  305510400  15.3775
vit_large_patch32_384     145  306632680  305617930  305710180  327994705  327996755  305607680  45.2760
vit_large_patch16_224     197  304326632  303311882  303404132  325688657  325690707  303301632  61.5547
vit_large_patch16_384     577  304715752  303701002  303793252  326077777  326079827  303690752 191.0663
vit_large_patch14_224     257  304203752  303189002  303281252  325565777  325567827  303178752  81.0130
vit_huge_patch14_224      257  632045800  630777610  630892900  658743121  658745683  630764800 167.2951
vit_giant_patch14_224     257 1012611432 1011216522 1011343332 1041976401 1041979219 1011202432 267.0315
vit_tiny_r_s16_p8_224      50    6337704    6146634    6164004   10360017   10360403    6144704   0.4337
vit_tiny_r_s16_p8_384     145    6355944    6164874    6182244   10378257   10378643    6162944   1.3269
vit_small_r26_s32_224      50   36431912   36050762   36085412   44455697   44456467   36046912   3.4639
vit_small_r26_s32_384     145   36468392   36087242   36121892   44492177   44492947   36083392  10.2636
vit_base_r26_s32_224       50  101383976  100622666  100691876  117410705  117412243  100614976   6.7109
vit_base_r50_s16_224      197   98659112   97897802   97967012  114685841  114687379   97890112  21.5354
vit_base_r50_s16_384      577   98950952   98189642   98258852  114977681  114979219   98181952  67.1558
vit_large_r50_s32_224      50  328994856  327980106  328072356  350356881  350358931  327969856  19.4133
vit_large_r50_s32_384     145  329092136  328077386  328169636  350454161  350456211  328067136  57.1361
beit_base_patch16_224     197   86530984   85769674   85838884  102557713  102559251   85761984  17.5638
beit_base_patch16_384     577   86744104   85982794   86052004  102770833  102772371   85975104  55.4844
beit_large_patch16_224    197  304430568  303415818  303508068  325792593  325794643  303405568  61.5547
beit_large_patch16_384    577  304998888  303984138  304076388  326360913  326362963  303973888 191.0663
beit_large_patch16_512   1025  305674728  304659978  304752228  327036753  327038803  304649728 361.9863
beitv2_base_patch16_224   197   86530984   85769674   85838884  102557713  102559251   85761984  17.5638
beitv2_large_patch16_224  197  304430568  303415818  303508068  325792593  325794643  303405568  61.5547
"""
TIMM = {row.split()[0]: row.split()[1:] for row in TIMM_TEXT.strip().splitlines()}

# what the original networks with 21843 classes and pre_logits hold
WITH_PRE_LOGITS = {
    "vit_base_patch16_224":  103_186_515,
    "vit_base_patch32_224":  104_843_091,
    "vit_large_patch16_224": 326_740_307,
    "vit_large_patch32_224": 328_949_075,
    "vit_huge_patch14_224":  660_385_363,
    "vit_base_r50_s16_224":  115_277_971,
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_counts_are_the_published_ones(name: str) -> None:
    config = variant(name).config
    assert (count.parameters(config), f"{count.macs(config) / 1e6:.3f}") == TABLE[name]
    assert count.trainable(config) == TRAINABLE.get(name, TABLE[name][0])


@pytest.mark.parametrize("name", TIMM)
def test_counts_are_those_of_timm(name: str) -> None:
    config = variant(name).config
    tokens, *parameters, macs = TIMM[name]
    assert config.tokens == int(tokens)
    assert [count.parameters(replace(config, classes=classes)) for classes in CLASSES] == [int(n) for n in parameters]
    assert count.trainable(config) == count.parameters(config)
    assert f"{count.macs(config) / 1e9:.4f}" == macs


def test_every_row_of_timm_is_counted() -> None:
    assert TIMM.keys() == {name for name, row in VARIANTS.items() if not isinstance(row.config, CCTConfig)}


@pytest.mark.parametrize("name", WITH_PRE_LOGITS)
def test_the_original_pre_training_networks_have_a_layer_more(name: str) -> None:
    config = variant(name).config
    assert isinstance(config, ViTConfig)
    assert count.parameters(replace(config, classes=21843, pre_logits=config.dim)) == WITH_PRE_LOGITS[name]


def test_other_heads_and_starts() -> None:
    base = variant("vit_base_patch16_224").config
    assert count.parameters(replace(base, classes=102)) == 85_877_094
    assert count.parameters(replace(base, classes=5)) == 85_802_501
    assert count.macs(base) == 17_563_828_224
    for name, parameters in {"beit_base_patch16_224": 85_665_360, "beit_large_patch16_224": 303_136_192}.items():
        config = variant(name).config
        assert isinstance(config, BEiTConfig)
        pre_trained = replace(config, classes=0, block_bias=False, shared_bias=True)  # pt22k without its own heads
        assert count.parameters(pre_trained) == parameters


VIT = ViTConfig(image_size=(32, 32), classes=10, patch=8, dim=32, depth=2, heads=4)
BEIT = BEiTConfig(image_size=(64, 64), classes=10, dim=32, depth=2, heads=4)
RESNET = replace(VIT, image_size=(64, 64), stem="resnet")

# cases of the reference, whose records list the original's tensors in its own order
ORIGINALS: dict[str, ModelConfig] = {
    "timm_vit_tiny_p8_cls":             VIT,
    "timm_vit_tiny_p16_avg":            replace(VIT, image_size=(64, 64), patch=16, pooling="mean", fc_norm=True),
    "timm_vit_tiny_p14_noqkvbias":      replace(VIT, image_size=(56, 56), patch=14, heads=2, qkv_bias=False),
    "timm_vit_tiny_p32_nocls_gap":      replace(VIT, image_size=(96, 96), patch=32, dim=16, heads=8, pooling="mean",
                                                fc_norm=True, class_token=False),
    "timm_vit_tiny_p8_nonsquare":       replace(VIT, image_size=(40, 64)),
    "timm_vit_tiny_p8_gray":            replace(VIT, channels=1),
    "timm_vit_tiny_p8_layerscale":      replace(VIT, layer_scale=True, mlp_ratio=3.0),
    "timm_vit_tiny_p8_reg4_noembedcls": replace(VIT, register_tokens=4, class_position=False),
    "timm_vit_tiny_p8_prenorm":         replace(VIT, pre_norm=True),
    "timmold_vit_tiny_prelogits":       replace(VIT, pre_logits=24),
    "timmold_vit_tiny_distilled":       replace(VIT, distilled=True),
    "timm_hybrid_tiny_stem_p4":         replace(RESNET, patch=4),
    "timm_hybrid_tiny_111":             replace(RESNET, patch=1, stages=(1, 1, 1)),
    "timm_real_vit_small_r26_s32_224":  variant("vit_small_r26_s32_224").config,
    "timm_real_vit_base_r50_s16_224":   replace(variant("vit_base_r50_s16_224").config, classes=0),
    "timm_real_vit_tiny_r_s16_p8_224":  variant("vit_tiny_r_s16_p8_224").config,
    "timm_real_vit_large_patch16_384":  variant("vit_large_patch16_384").config,
    "timm_real_beitv2_base_patch16_224": variant("beitv2_base_patch16_224").config,
    "timm_beit_tiny_relpos_mean":       BEIT,
    "timm_beit_tiny_sharedrelpos":      replace(BEIT, block_bias=False, shared_bias=True),
    "timm_beit_tiny_abs_cls":           replace(BEIT, block_bias=False, absolute_positions=True, pooling="class",
                                                layer_scale=False),
    "timm_beit_tiny_all":               replace(BEIT, absolute_positions=True, shared_bias=True, qkv_bias=False),
    "timm_beit_tiny_nonsquare":         replace(BEIT, image_size=(32, 80)),
}  # fmt: skip


@pytest.mark.parametrize("case", ORIGINALS)
def test_tensors_are_those_of_the_original_in_its_order(case: str, shared: Path) -> None:
    with np.load(shared / "reference" / f"{case}.npz", allow_pickle=False) as file:
        spec = json.loads(str(file["meta"]))["spec"]
    assert list(count.shapes(ORIGINALS[case]).items()) == [(name, tuple(shape)) for name, shape, _ in spec]


def test_sine_twins_count_as_the_variant_they_belong_to() -> None:
    for name, row in VARIANTS.items():
        twin = VARIANTS[re.sub("_sine", "", name)].config
        assert (count.parameters(row.config), count.macs(row.config)) == (count.parameters(twin), count.macs(twin))


OTHERS: dict[str, ModelConfig] = {
    "key bias": replace(BEIT, key_bias=True),
    "no head, class token": replace(BEIT, classes=0, pooling="class"),
    "no head, two tokens": replace(VIT, classes=0, distilled=True),
    "no head, pre_logits": replace(VIT, classes=0, pre_logits=24),
    "mean before norm": replace(VIT, pooling="mean"),
    "odd picture behind a resnet": replace(RESNET, image_size=(48, 80), stages=(1, 2), patch=2, channels=1),
}
CONFIGS = {name: row.config for name, row in VARIANTS.items()} | ORIGINALS | OTHERS


@pytest.mark.parametrize("name", CONFIGS)
def test_formula_and_network_hold_the_same_tensors(name: str) -> None:
    config = CONFIGS[name]
    module = build(config, device="meta")
    assert [(key, tuple(tensor.shape)) for key, tensor in module.state_dict().items()] == list(
        count.shapes(config).items()
    )
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == count.trainable(config)


COUNTED = [
    *ORIGINALS, *OTHERS, "cct_2_3x2_32", "cct_7_7x2_224", "vit_2_4_32", "cvt_2_4_32", "vit_tiny_patch16_224",
    "vit_large_r50_s32_224", "beit_base_patch16_224",
]  # fmt: skip


@pytest.mark.parametrize("name", COUNTED)
def test_multiply_adds_are_half_of_what_torch_counts(name: str) -> None:
    config = CONFIGS[name]
    module = build(config, device="meta").train()  # in evaluation the last block leaves tokens out
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, config.channels, *config.image_size, device="meta"))
    assert counter.get_total_flops() == 2 * count.macs(config)


def test_counting_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from vitrail.models import count; from vitrail.models.catalog import "
        "variant; print(count.macs(variant('cct_2_3x2_32').config))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "35341568\n"
