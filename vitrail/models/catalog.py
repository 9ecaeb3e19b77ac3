"""Every variant by name: a family's config, and the policy its published weights were trained with.

SHI-Labs rows: github.com/SHI-Labs/Compact-Transformers src/cct.py, cvt.py, vit.py at cd11f091. Its `cct_*_sine` and
`cvt_*_sine` builders lose the word on the way and make learned tables; the rows here make the sine table that their
names, and the published files, mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vitrail.errors import WeightsError, nearest
from vitrail.models.configs import CCTConfig, ModelConfig
from vitrail.pictures.policy import CIFAR10, CIFAR100, FLOWERS102, IMAGENET, Policy, Statistics


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


def _policy(image: int, statistics: Statistics, crop: float) -> Policy:
    return Policy(size=(image, image), crop=crop, mean=statistics.mean, std=statistics.std)


def _rows() -> dict[str, Variant]:
    rows = []
    for name, size, kernel, convolutions, image, classes, statistics, crop in CCT_ROWS:
        config = _cct(size, kernel, convolutions, image, classes)
        rows.append(Variant(name, config, _policy(image, statistics, crop)))
    for size in PATCH_SIZES:
        policy = _policy(32, CIFAR10, 1.0)
        rows.append(Variant(f"cvt_{size}_4_32", _patches(size), policy))
        rows.append(Variant(f"vit_{size}_4_32", replace(_patches(size), pooling="class"), policy))
    with_sine = [_sine(row) for row in rows if not row.name.endswith("_fl")]
    return {row.name: row for row in (*rows, *with_sine)}


def _sine(row: Variant) -> Variant:
    """`cct_7_3x1_32_c100` -> `cct_7_3x1_32_sine_c100`, with the fixed sine table."""
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
