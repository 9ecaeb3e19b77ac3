"""Whole rows of published files, made from the figures of `rows.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from vitrail.class_names import COUNTS, ClassSet
from vitrail.models.catalog import VARIANTS
from vitrail.pictures.policy import CIFAR10, CIFAR100, HALF, Policy
from vitrail.weights.published import rows
from vitrail.weights.published.row import Measured, Published


def all_rows() -> Iterator[Published]:
    """Every row; `published.py` finds them by name."""
    for family in (_augreg, _originals, _jx, _vit_keras, _hub, _shi_labs, _unilm):
        yield from family()


def _of_side(variant: str, side: int) -> tuple[str, dict[str, object]]:
    """The variant at a size of pictures, with the override where the catalogue has no row for it."""
    sized = f"{variant}_{side}"
    return (sized, {}) if sized in VARIANTS else (f"{variant}_224", {"image_size": (side, side)})


def _timm(side: int, crop: float | None = None) -> Policy:
    crop = (0.9 if side < 384 else 1.0) if crop is None else crop
    return Policy(size=(side, side), crop=crop, mean=HALF.mean, std=HALF.std)


def _squashed(side: int) -> Policy:
    """Google's, vit-keras's and the hub's: resized whole, bilinear (Google's and vit-keras's without antialias)."""
    return Policy(size=(side, side), mode="squash", interpolation="bilinear", mean=HALF.mean, std=HALF.std)


def _head(classes: ClassSet) -> dict[str, object]:
    return {} if classes == "imagenet1k" else {"classes": COUNTS[classes]}


# ---- AugReg


def _augreg() -> Iterator[Published]:
    google = {(model, how, lr): top1 for model, how, lr, top1, _ in rows.AUGREG_RECOMMENDED}
    chosen: set[tuple[str, str, str]] = set()
    for model, side, how, lr, top1, top5 in rows.AUGREG_FINE_TUNED:
        measured = [Measured("timm", top1, top5)]
        if side == 384 and (model, how, lr) in google:
            chosen.add((model, how, lr))
            measured.append(Measured("google", google[model, how, lr]))
        file = f"{model}-i21k-300ep-lr_0.001-{how}--imagenet2012-steps_20k-lr_{lr}-res_{side}.npz"
        yield replace(_augreg_row(file, "augreg_in21k_ft_in1k"), measured=tuple(measured))
    for model, how, mib in rows.AUGREG_21K:
        yield replace(_augreg_row(f"{model}-i21k-300ep-lr_0.001-{how}.npz", "augreg_in21k"), mib=mib)
    for model, side, how, top1, top5 in rows.AUGREG_1K:
        file = f"{model}-i1k-300ep-lr_0.001-{how}--imagenet2012-steps_20k-lr_0.01-res_{side}.npz"
        yield replace(_augreg_row(file, "augreg_in1k"), measured=(Measured("timm", top1, top5),))
    yield from _augreg_of_google(chosen)
    yield from _augreg_again()


def _augreg_of_google(chosen: set[tuple[str, str, str]]) -> Iterator[Published]:
    """Google's choice, but for the fine-tuned files that timm chose too."""
    before = {(model, how) for model, how, _ in rows.AUGREG_21K}
    for model, how, lr, top1, mib in rows.AUGREG_RECOMMENDED:
        start = f"{model}-i21k-300ep-lr_0.001-{how}"
        if (model, how) not in before:
            yield replace(_of_google(_augreg_row(f"{start}.npz", "augreg_google_in21k")), mib=mib)
        if (model, how, lr) not in chosen:
            row = _augreg_row(f"{start}--imagenet2012-steps_20k-lr_{lr}-res_384.npz", "augreg_google_in21k_ft_in1k")
            yield replace(_of_google(row), measured=(Measured("google", top1),))


def _augreg_again() -> Iterator[Published]:
    for variant, top1, top5 in rows.AUGREG2:
        name = f"{variant}.augreg2_in21k_ft_in1k"
        yield Published(
            name=name,
            variant=variant,
            url=f"hf:timm/{name}",
            dialect="timm",
            classes="imagenet1k",
            policy=_timm(224),
            protocol="timm",
            gelu_trained="erf",
            gelu_timm="erf",
            measured=(Measured("timm", top1, top5),),
            source="AugReg of ImageNet-21k, fine-tuned again by timm",
        )


AUGREG_FILE = re.compile(
    r"(?P<model>[A-Z][\w]*)-(?P<on>i21k|i1k)-\d+ep-lr_[\d.]+-aug_\w+-wd_[\d.]+-do_[\d.]+-sd_[\d.]+"
    r"(--(?P<then>\w+)-steps_\d+k-lr_[\d.]+-res_(?P<side>224|384))?\.npz",
    re.ASCII,
)
AUGREG_SETS: dict[str, ClassSet] = {
    "i21k": "imagenet21k", "i1k": "imagenet1k", "imagenet2012": "imagenet1k", "cifar10": "cifar10",
    "cifar100": "cifar100",
}  # fmt: skip


def _augreg_row(file: str, tag: str) -> Published:
    found = AUGREG_FILE.fullmatch(file)
    assert found, file
    side = int(found["side"] or 224)
    classes = AUGREG_SETS[found["then"] or found["on"]]
    variant, sized = _of_side(rows.AUGREG_MODELS[found["model"]], side)
    name = f"{rows.AUGREG_MODELS[found['model']]}_{side}.{tag}"
    return Published(
        name=name,
        variant=variant,
        url=rows.AUGREG_URL + file,
        dialect="google",
        classes=classes,
        policy=_timm(side),
        protocol="timm",
        gelu_trained="tanh",
        gelu_timm="erf",
        overrides={**sized, **_head(classes)},
        mirror=f"hf:timm/{name}" if tag in ("augreg_in21k_ft_in1k", "augreg_in21k", "augreg_in1k") else "",
        source="google-research/vision_transformer, AugReg (arXiv 2106.10270)",
    )


def _of_google(row: Published) -> Published:
    return replace(row, policy=_squashed(row.policy.size[0]), protocol="google", gelu_timm=None)


def by_grammar(file_name: str) -> Published | None:
    """The row of one of the 52,000 files that have none, as far as its name tells the network and the classes."""
    found = AUGREG_FILE.fullmatch(file_name)
    if not found or found["model"] not in rows.AUGREG_MODELS or (found["then"] or found["on"]) not in AUGREG_SETS:
        return None
    row = _augreg_row(file_name, "augreg")
    return replace(row, name=f"{row.name}_{file_name.removesuffix('.npz')}")


# ---- the originals, and copies of them


def _originals() -> Iterator[Published]:
    tags = {"imagenet21k": "google_in21k", "imagenet21k+imagenet2012": "google_in21k_ft_in1k", "sam": "sam_in1k"}
    for folder, file, variant, side, width, mib in rows.ORIGINALS:
        place = (folder, file)
        shown = variant if side is None else f"{variant.rsplit('_', 1)[0]}_{side}"
        side = side or int(variant.rsplit("_", 1)[-1])
        by_timm = place in rows.ORIGINAL_TIMM
        measured = [Measured("timm", *rows.ORIGINAL_TIMM[place])] if by_timm else []
        measured += [Measured("google", rows.ORIGINAL_GOOGLE[place])] if place in rows.ORIGINAL_GOOGLE else []
        name = f"{shown}.{tags[folder]}"
        sized: dict[str, object] = {"image_size": (side, side)} if shown != variant else {}
        yield Published(
            name=name,
            variant=variant,
            url=f"{rows.ORIGINAL_URL}{folder}/{file}.npz",
            dialect="google",
            classes="imagenet21k" if width else "imagenet1k",
            policy=_timm(side) if by_timm else _squashed(side),
            protocol="timm" if by_timm else "google",
            head_valid=not width,
            gelu_trained="tanh",
            gelu_timm="erf" if by_timm else None,
            overrides=sized | _pre_logits(width),
            measured=tuple(measured),
            mib=mib,
            mirror=f"hf:timm/{name}" if by_timm else "",
            source="google-research/vision_transformer" + _SAM.get(place, ""),
        )


_SAM = {("sam", "ViT-S_16"): "; three times as large as its weights: most likely with the optimizer's state"}


def _pre_logits(width: int) -> dict[str, object]:
    return {"classes": COUNTS["imagenet21k"], "pre_logits": width} if width else {}


def _jx() -> Iterator[Published]:
    for variant, file, width, of_timm, top1, top5 in rows.JX:
        side = int(variant.rsplit("_", 1)[-1])
        tag = ("orig_in21k" if width else "orig_in21k_ft_in1k") + ("" if of_timm else "_jx")
        yield Published(
            name=f"{variant}.{tag}",
            variant=variant,
            url=f"{rows.JX_URL}{file}.pth",
            dialect="timm",
            classes="imagenet21k" if width else "imagenet1k",
            policy=_timm(side),
            protocol="timm",
            head_valid=not width,
            gelu_trained="tanh",
            gelu_timm="erf",
            overrides=_pre_logits(width),
            measured=(Measured("timm", top1, top5),) if top1 else (),
            sha256_prefix=file[-8:],
            mirror=f"hf:timm/{variant}.{tag}" if of_timm else "",
            source="timm's conversion of the original" + ("" if of_timm else ", from before timm's hub"),
        )
    for variant in ("vit_base_patch32_224", "vit_base_patch16_224", "vit_large_patch32_224", "vit_large_patch16_224",
                    "vit_huge_patch14_224", "vit_base_r50_s16_224"):  # fmt: skip
        yield Published(
            name=f"{variant}.orig_in21k",
            variant=variant,
            url=f"hf:timm/{variant}.orig_in21k",
            dialect="timm",
            classes="none",
            policy=_timm(224),
            protocol="timm",
            head_valid=False,
            gelu_trained="tanh",
            gelu_timm="erf",
            overrides=_head("none"),
            source="timm's conversion of the original, without head and pre_logits",
        )


def _vit_keras() -> Iterator[Published]:
    for variant, file, width, size in rows.VIT_KERAS:
        yield Published(
            name=f"{variant}.vitkeras_" + ("in21k" if width else "in21k_ft_in1k"),
            variant=variant,
            url=f"{rows.VIT_KERAS_URL}{file}.npz",
            dialect="google",
            classes="imagenet21k" if width else "imagenet1k",
            policy=_squashed(int(variant.rsplit("_", 1)[-1])),
            protocol="vit-keras",
            head_valid=not width,
            gelu_trained="tanh",
            gelu_timm="erf",
            overrides=_pre_logits(width),
            size=size,
            source="faustomorales/vit-keras, a copy of Google's file; vit-keras runs it with GELU by erf",
        )


def _hub() -> Iterator[Published]:
    for repository, variant, classes in (*rows.HUB_VIT, *rows.HUB_BEIT):
        vit = variant.startswith("vit")
        overrides = _head(classes)
        if not vit and classes == "none":
            overrides = dict(_PRETRAINED)
        elif classes == "none":
            overrides["pre_logits"] = _WIDTHS[variant.split("_")[1]]
        yield Published(
            name=f"{variant}.hub_" + _hub_tag(vit, classes),
            variant=variant,
            url=f"hf:{repository}",
            dialect="huggingface",
            classes=classes,
            policy=_squashed(int(variant.rsplit("_", 1)[-1])),
            protocol="huggingface",
            head_valid=classes != "none",
            gelu_trained="tanh" if vit else "erf",
            gelu_timm="erf",
            eps=1e-12,
            overrides=overrides,
            source="transformers' conversion, which runs GELU by erf" if vit else "transformers' conversion of unilm's",
        )


_WIDTHS = {"base": 768, "large": 1024, "huge": 1280}
# what pre-training by masked patches leaves: one table for all blocks, the norm before the head, no classes
_PRETRAINED: dict[str, object] = {"classes": 0, "shared_bias": True, "block_bias": False, "pooling": "class"}


def _hub_tag(vit: bool, classes: ClassSet) -> str:
    if vit:
        return "in21k_ft_in1k" if classes == "imagenet1k" else "in21k"
    return {"imagenet1k": "in22k_ft_in22k_in1k", "imagenet22k": "in22k_ft_in22k"}.get(classes, "in22k")


# ---- SHI-Labs, unilm


def _shi_labs() -> Iterator[Published]:
    for variant, file, classes, crop, top1, tag in rows.SHI_LABS:
        short = "in1k" if classes == "imagenet1k" else classes
        words = (tag, short) if tag.endswith("ft") else (short, tag)
        yield _shi_row(variant, f"{rows.SHI_LABS_URL}{file}.pth", classes, top1, "_".join(filter(None, words)), crop)
    for variant, number, file, classes, top1, tag in rows.SHI_LABS_ISSUES:
        url = f"{rows.SHI_LABS_ISSUES_URL}{number}/{file}.pth.zip"
        yield replace(_shi_row(variant, url, classes, top1, f"{classes}_{tag}", 1.0), pull_only=True)


def _shi_row(variant: str, url: str, classes: ClassSet, top1: float, tag: str, crop: float) -> Published:
    row = VARIANTS[variant]
    statistics = {"cifar10": CIFAR10, "cifar100": CIFAR100}.get(classes)
    policy = replace(row.policy, crop=crop)
    return Published(
        name=f"{variant}.{tag}",
        variant=variant,
        url=url,
        dialect="shi_labs",
        classes=classes,
        policy=policy if statistics is None else replace(policy, mean=statistics.mean, std=statistics.std),
        protocol="shi_labs",
        gelu_trained="erf",
        eps=1e-5,
        overrides={} if row.config.classes == COUNTS[classes] else {"classes": COUNTS[classes]},
        measured=(Measured("shi_labs", top1),),
        source="SHI-Labs/Compact-Transformers",
    )


def _unilm() -> Iterator[Published]:
    for base, table in ((rows.BEIT_URL, rows.BEIT), (rows.BEIT2_URL, rows.BEIT2)):
        for variant, how, classes, tag, top1, top5, timm1, timm5 in table:
            by_timm = tag.endswith(("ft_in22k", "in22k_in1k")) or (tag == "in1k_ft_in1k")
            measured = [Measured("timm", timm1, timm5)] if timm1 else []
            measured += [Measured("unilm", top1, top5)] if top1 else []
            known = VARIANTS[variant].policy
            side = known.size[0]
            crop = (0.95 if "large" in variant and classes == "imagenet1k" else 0.9) if "v2" in variant else None
            policy = replace(_timm(side, crop), mean=known.mean, std=known.std)
            yield Published(
                name=f"{variant}.{tag}",
                variant=variant,
                url=f"{base}{variant}_{how}.pth",
                dialect="unilm",
                classes=classes,
                policy=policy if by_timm else replace(policy, crop=0.875 if side < 384 else 1.0),
                protocol="timm" if by_timm else "unilm",
                head_valid=classes != "none",
                gelu_trained="erf",
                gelu_timm="erf" if by_timm else None,
                overrides=_ABSOLUTE if how == "pt1k_800ep" else _PRETRAINED if classes == "none" else _head(classes),
                licence="MIT",
                measured=tuple(measured),
                mirror=f"hf:timm/{variant}.{tag}" if by_timm else "",
                source="microsoft/unilm" + (", pre-training by masked patches" if classes == "none" else ""),
            )


_ABSOLUTE: dict[str, object] = {
    "classes": 0, "absolute_positions": True, "block_bias": False, "layer_scale": False, "pooling": "class",
}  # fmt: skip
