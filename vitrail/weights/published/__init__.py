"""Published weight files by name: what network is inside, how pictures are prepared for it, where it lies.

The figures stand in `rows.py`, `made.py` makes whole rows of them; a name is timm's tag where timm
has the very file.
"""

from __future__ import annotations

from functools import cache

from vitrail.class_names import class_names
from vitrail.errors import WeightsError, nearest
from vitrail.weights.published.made import all_rows, by_grammar
from vitrail.weights.published.row import Measured, Published
from vitrail.weights.published.rows import NOT_PUBLISHED

__all__ = ["Measured", "Published", "by_file_name", "class_names_of", "names", "of_hub", "published", "with_file_name"]


def published(name: str) -> Published:
    """The row of that name; WeightsError V203 with the nearest one, or with why it was never published.

    >>> published("vit_base_patch8_224.augreg_in21k_ft_in1k").file_name
    'B_8-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.01-res_224.npz'
    """
    if name in _rows():
        return _rows()[name]
    hint = NOT_PUBLISHED.get(name, "")
    if not hint:
        same = [row for row in _rows() if name and row.startswith(name)][:8]
        hint = f"known: {', '.join(same)}" if same else nearest(name, _rows()) or "`vitrail weights list` has all names"
    raise WeightsError("V203", f"no published weights are called `{name}`", hint=hint)


def names() -> tuple[str, ...]:
    """The names of all rows, sorted."""
    return tuple(sorted(_rows()))


def by_file_name(file_name: str, *, classes: int | None = None, image_size: int | None = None) -> Published | None:
    """The one row whose file is called so; any AugReg file by its grammar; nothing when none or several fit.

    classes, image_size: what the tensors show, which tells files of one name apart (`ViT-B_16.npz` is three).

    >>> by_file_name("ViT-B_16.npz", classes=1000, image_size=384).name
    'vit_base_patch16_384.google_in21k_ft_in1k'
    """
    found = [row for row in with_file_name(file_name) if classes is None or row.count == classes]
    found = [row for row in found if image_size is None or row.policy.size[0] == image_size]
    return found[0] if len(found) == 1 else None


def with_file_name(file_name: str) -> tuple[Published, ...]:
    """Every row whose file is called so, and for an AugReg file without a row one made from its name."""
    found = tuple(row for row in _rows().values() if file_name in (row.file_name, row.file_name.removesuffix(".zip")))
    if found:
        return found
    made = by_grammar(file_name)
    return () if made is None else (made,)


def of_hub(name: str) -> tuple[Published, ...]:
    """The rows whose weights, or a mirror of them, are the hub model OWNER/NAME.

    >>> [row.variant for row in of_hub("google/vit-base-patch16-224")]
    ['vit_base_patch16_224']
    """
    return tuple(row for row in _rows().values() if f"hf:{name}" in (row.url, row.mirror))


def class_names_of(row: Published) -> tuple[str, ...]:
    """Names for the outputs of a row's head; none where it has no head.

    >>> class_names_of(published("cct_14_7x2_224.in1k"))[0]
    'tench'
    """
    return class_names(row.classes)


@cache
def _rows() -> dict[str, Published]:
    found = {row.name: row for row in all_rows()}
    assert len(found) == sum(1 for _ in all_rows()), "two rows of one name"
    return found
