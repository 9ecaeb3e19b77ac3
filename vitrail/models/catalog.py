"""Every variant by name: a family's config, and the policy its published weights were trained with.

SHI-Labs rows: github.com/SHI-Labs/Compact-Transformers src/cct.py, cvt.py, vit.py at cd11f091. Its `cct_*_sine` and
`cvt_*_sine` builders lose the word on the way and make learned tables; the rows here make the sine table that their
names, and the published files, mean.

ViT, hybrid and BEiT rows: timm's names and settings (github.com/huggingface/pytorch-image-models), GELU by erf and
epsilons as timm runs them, 1000 classes; training noise 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vitrail.errors import WeightsError, nearest
from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, ViTConfig
from vitrail.pictures.policy import CIFAR10, CIFAR100, FLOWERS102, HALF, IMAGENET, Policy, Statistics


@dataclass(frozen=True)
class Variant:
    """A named config of a family with its default policy."""

    name: str
    config: ModelConfig
    policy: Policy


# Encoder sizes: blocks, heads, MLP ratio, width.
SIZES = {
    "2":  (2, 2, 1.0, 128),
    "4":  (4, 2, 1.0, 128),
    "6":  (6, 4, 2.0, 256),
    "7":  (7, 4, 2.0, 256),
    "14": (14, 6, 3.0, 384),
}  # fmt: skip

# name, size, kernel, convolutions, image, classes, statistics, crop
CCT_ROWS = (
    ("cct_2_3x2_32",       "2",  3, 2,  32,   10, CIFAR10,    1.0),
    ("cct_4_3x2_32",       "4",  3, 2,  32,   10, CIFAR10,    1.0),
    ("cct_6_3x1_32",       "6",  3, 1,  32,   10, CIFAR10,    1.0),
    ("cct_6_3x2_32",       "6",  3, 2,  32,   10, CIFAR10,    1.0),
    ("cct_7_3x1_32",       "7",  3, 1,  32,   10, CIFAR10,    1.0),
    ("cct_7_3x1_32_c100",  "7",  3, 1,  32,  100, CIFAR100,   1.0),
    ("cct_7_3x2_32",       "7",  3, 2,  32,   10, CIFAR10,    1.0),
    ("cct_7_7x2_224",      "7",  7, 2, 224,  102, FLOWERS102, 1.0),
    ("cct_14_7x2_224",     "14", 7, 2, 224, 1000, IMAGENET,   0.9),
    ("cct_14_7x2_384",     "14", 7, 2, 384, 1000, IMAGENET,   0.9),
    ("cct_14_7x2_384_fl",  "14", 7, 2, 384,  102, FLOWERS102, 1.0),
)  # fmt: skip

# CVT and ViT-Lite: patches of 4 x 4, CIFAR-10
PATCH_SIZES = ("2", "4", "6", "7")

# Encoder sizes of ViT and BEiT: width, blocks, heads, MLP ratio.
WIDTHS = {
    "tiny":  ( 192, 12,  3, 4.0),
    "small": ( 384, 12,  6, 4.0),
    "base":  ( 768, 12, 12, 4.0),
    "large": (1024, 24, 16, 4.0),
    "huge":  (1280, 32, 16, 4.0),
    "giant": (1408, 40, 16, 48 / 11),  # 6144 inside the MLP
}  # fmt: skip

# name, size, patch, image, crop
VIT_ROWS = (
    ("vit_tiny_patch16_224",  "tiny",  16, 224, 0.9),
    ("vit_tiny_patch16_384",  "tiny",  16, 384, 1.0),
    ("vit_small_patch32_224", "small", 32, 224, 0.9),
    ("vit_small_patch32_384", "small", 32, 384, 1.0),
    ("vit_small_patch16_224", "small", 16, 224, 0.9),
    ("vit_small_patch16_384", "small", 16, 384, 1.0),
    ("vit_small_patch8_224",  "small",  8, 224, 0.9),
    ("vit_base_patch32_224",  "base",  32, 224, 0.9),
    ("vit_base_patch32_384",  "base",  32, 384, 1.0),
    ("vit_base_patch16_224",  "base",  16, 224, 0.9),
    ("vit_base_patch16_384",  "base",  16, 384, 1.0),
    ("vit_base_patch8_224",   "base",   8, 224, 0.9),
    ("vit_large_patch32_224", "large", 32, 224, 0.9),
    ("vit_large_patch32_384", "large", 32, 384, 1.0),
    ("vit_large_patch16_224", "large", 16, 224, 0.9),
    ("vit_large_patch16_384", "large", 16, 384, 1.0),
    ("vit_large_patch14_224", "large", 14, 224, 0.9),
    ("vit_huge_patch14_224",  "huge",  14, 224, 0.9),
    ("vit_giant_patch14_224", "giant", 14, 224, 0.9),
)  # fmt: skip

# name, size, units of the ResNet's stages, patch in its cells, image, crop. R+Ti/16 shrinks by 4 x 8 = 32, not by 16.
HYBRID_ROWS = (
    ("vit_tiny_r_s16_p8_224",  "tiny",  (),           8, 224, 0.9),
    ("vit_tiny_r_s16_p8_384",  "tiny",  (),           8, 384, 1.0),
    ("vit_small_r26_s32_224",  "small", (2, 2, 2, 2), 1, 224, 0.9),
    ("vit_small_r26_s32_384",  "small", (2, 2, 2, 2), 1, 384, 1.0),
    ("vit_base_r26_s32_224",   "base",  (2, 2, 2, 2), 1, 224, 0.9),
    ("vit_base_r50_s16_224",   "base",  (3, 4, 9),    1, 224, 0.9),
    ("vit_base_r50_s16_384",   "base",  (3, 4, 9),    1, 384, 1.0),
    ("vit_large_r50_s32_224",  "large", (3, 4, 6, 3), 1, 224, 0.9),
    ("vit_large_r50_s32_384",  "large", (3, 4, 6, 3), 1, 384, 1.0),
)  # fmt: skip

# name, size, image, start of LayerScale, statistics, crop; patches of 16
BEIT_ROWS = (
    ("beit_base_patch16_224",    "base",  224, 0.1,  HALF,     0.9),
    ("beit_base_patch16_384",    "base",  384, 0.1,  HALF,     1.0),
    ("beit_large_patch16_224",   "large", 224, 1e-5, HALF,     0.9),
    ("beit_large_patch16_384",   "large", 384, 1e-5, HALF,     1.0),
    ("beit_large_patch16_512",   "large", 512, 1e-5, HALF,     1.0),
    ("beitv2_base_patch16_224",  "base",  224, 1e-5, IMAGENET, 0.9),
    ("beitv2_large_patch16_224", "large", 224, 1e-5, IMAGENET, 0.95),
)  # fmt: skip


def _cct(size: str, kernel: int, convolutions: int, image: int, classes: int) -> CCTConfig:
    depth, heads, mlp_ratio, dim = SIZES[size]
    return CCTConfig(
        image_size=(image, image),
        classes=classes,
        kernel=kernel,
        stride=max(1, kernel // 2 - 1),
        padding=max(1, kernel // 2),
        conv_layers=convolutions,
        dim=dim,
        depth=depth,
        heads=heads,
        mlp_ratio=mlp_ratio,
    )


def _patches(size: str) -> CCTConfig:
    """CVT: patches in place of pooled convolutions."""
    config = _cct(size, kernel=4, convolutions=1, image=32, classes=10)
    return replace(config, stride=4, padding=0, conv_bias=True, max_pool=False)


def _vit(size: str, patch: int, image: int) -> ViTConfig:
    dim, depth, heads, mlp_ratio = WIDTHS[size]
    return ViTConfig(image_size=(image, image), patch=patch, dim=dim, depth=depth, heads=heads, mlp_ratio=mlp_ratio)


def _beit(size: str, image: int, layer_scale_init: float) -> BEiTConfig:
    dim, depth, heads, mlp_ratio = WIDTHS[size]
    return BEiTConfig(
        image_size=(image, image),
        dim=dim,
        depth=depth,
        heads=heads,
        mlp_ratio=mlp_ratio,
        layer_scale_init=layer_scale_init,
    )


def _policy(image: int, statistics: Statistics, crop: float) -> Policy:
    return Policy(size=(image, image), crop=crop, mean=statistics.mean, std=statistics.std)


def _compact() -> list[Variant]:
    """CCT, CVT and ViT-Lite, then their twins with the sine table."""
    rows = []
    for name, size, kernel, convolutions, image, classes, statistics, crop in CCT_ROWS:
        config = _cct(size, kernel, convolutions, image, classes)
        rows.append(Variant(name, config, _policy(image, statistics, crop)))
    for size in PATCH_SIZES:
        policy = _policy(32, CIFAR10, 1.0)
        rows.append(Variant(f"cvt_{size}_4_32", _patches(size), policy))
        rows.append(Variant(f"vit_{size}_4_32", replace(_patches(size), pooling="class"), policy))
    return rows + [_sine(row) for row in rows if not row.name.endswith("_fl")]


def _rows() -> dict[str, Variant]:
    rows = _compact()
    for name, size, patch, image, crop in VIT_ROWS:
        rows.append(Variant(name, _vit(size, patch, image), _policy(image, HALF, crop)))
    for name, size, stages, patch, image, crop in HYBRID_ROWS:
        config = replace(_vit(size, patch, image), stem="resnet", stages=stages)
        rows.append(Variant(name, config, _policy(image, HALF, crop)))
    for name, size, image, layer_scale_init, statistics, crop in BEIT_ROWS:
        rows.append(Variant(name, _beit(size, image, layer_scale_init), _policy(image, statistics, crop)))
    return {row.name: row for row in rows}


def _sine(row: Variant) -> Variant:
    """`cct_7_3x1_32_c100` -> `cct_7_3x1_32_sine_c100`, with the fixed sine table."""
    assert isinstance(row.config, CCTConfig)
    stem, ending = (row.name.removesuffix("_c100"), "_c100") if row.name.endswith("_c100") else (row.name, "")
    return Variant(f"{stem}_sine{ending}", replace(row.config, positions="sine"), row.policy)


VARIANTS: dict[str, Variant] = _rows()


def variant(name: str) -> Variant:
    """The row of that name; WeightsError V203 with the nearest one otherwise.

    >>> variant("cct_2_3x2_32").config.dim
    128
    """
    if name not in VARIANTS:
        raise WeightsError(
            "V203", f"no variant is called `{name}`", hint=nearest(name, VARIANTS) or "`vitrail show models` lists them"
        )
    return VARIANTS[name]
