"""`convert`: weights of one world written for another, read back and compared to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrail import disk
from vitrail.errors import OutsideBound, UsageError
from vitrail.formats.stored import Tensors
from vitrail.opening import classifier as opened
from vitrail.opening import create, kind_of, local, require_torch
from vitrail.pictures.policy import Policy
from vitrail.verbs.adapter import merged

if TYPE_CHECKING:
    from vitrail.models.classifier import Classifier
    from vitrail.weights import Loaded
    from vitrail.weights.heads import Head


RANDOM = "its weights are random, of seed 0: nothing was trained"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the weights are read as: arguments of `vitrail.weights.load`."""

    model: str | None = None
    dialect: str | None = None
    classes: int | Sequence[str] | None = None
    head: Head = "auto"
    image_size: int | tuple[int, int] | None = None
    channels: int | None = None
    base: str | Path | None = None  # what the adapters in SRC were trained on


@dataclass(frozen=True)
class ConvertResult:
    """What was written, what was found on the way in (`read`), and what the file will not say or do the same (`lost`).

    The file was read back: its tensors were equal to the bit, and so were the logits of generated pictures.
    """

    target: Path
    dialect: str
    variant: str | None
    tensors: int
    values: int
    read: tuple[str, ...]
    lost: tuple[str, ...]
    pictures: int

    def line(self) -> str:
        """The proof in one line."""
        return (
            f"{self.tensors} tensors, {self.values:,} values in dialect {self.dialect}; read back: every bit equal, "
            f"logits of {self.pictures} generated pictures equal"
        )

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        return {
            "target": str(self.target),
            "dialect": self.dialect,
            "variant": self.variant,
            "tensors": self.tensors,
            "values": self.values,
            "read": list(self.read),
            "lost": list(self.lost),
            "read_back": {"tensors_equal": self.tensors, "logits_equal": self.pictures},
        }


def convert(
    source: str | Path,
    target: str | Path,
    *,
    model: str | None = None,
    to: str | None = None,
    wanted: Wanted | None = None,
) -> ConvertResult:
    """Write the weights of a MODEL for another world: the container by the suffix of `target`, the dialect by `to`.

    model: the variant that SRC is, None to detect it. to: None for the usual dialect of the container. wanted: all else
    about how a weight file is read.
    What is written is read back and compared. Errors as `vitrail.weights.load` and `save_as`; OutsideBound V801, and
    no file, when what was read back differs.
    """
    require_torch()
    from vitrail.weights import load, native_tensors, save_as

    asked = wanted or Wanted()
    loaded = _read(source, replace(asked, model=model or asked.model))
    classifier, path = loaded.classifier, Path(target)
    if path.exists():
        raise UsageError("V006", f"`{path}` exists already", hint="name another file; nothing is overwritten")
    own = native_tensors(classifier.module)
    try:
        lost = save_as(classifier, path, to)
        again = load(path, classifier.config, dialect=_dialect(to)).classifier
        _compare(own, native_tensors(again.module), path)
        pictures = _same_logits(classifier, again, path)
    except BaseException:
        _remove(path)
        raise
    return ConvertResult(
        target=path,
        dialect=str(again.provenance["dialect"]),
        variant=_variant(classifier),
        tensors=len(own),
        values=sum(prod(tensor.shape) for tensor in own.values()),
        read=loaded.report,
        lost=lost,
        pictures=pictures,
    )


def suggested(source: str | Path, *, model: str | None = None) -> str:
    """A first dialect file for a weight file with names of its own, what could not be matched marked; YAML."""
    from vitrail.formats import read_tensors
    from vitrail.models.catalog import variant
    from vitrail.weights.suggest import suggest

    tensors, _, _ = read_tensors(Path(source))
    return suggest(tensors, model=variant(model).config if model else None).text


def _read(source: str | Path, wanted: Wanted) -> Loaded:
    from vitrail.weights import Loaded, load

    if wanted.base is not None:
        if wanted != Wanted(base=wanted.base):
            raise UsageError(
                "V007", f"`{source}` says itself what it is", hint="beside --base leave out how weights are read"
            )
        return merged(source, wanted.base)
    if kind_of(source) in ("weights", "published", "hub"):
        return load(
            local(source), wanted.model, dialect=wanted.dialect, classes=wanted.classes, head=wanted.head,
            image_size=wanted.image_size, channels=wanted.channels,
        )  # fmt: skip
    if kind_of(source) == "variant" and wanted == Wanted(classes=wanted.classes):
        return Loaded(create(str(source), classes=wanted.classes), (RANDOM,), policy_stated=True)
    if wanted != Wanted():
        raise UsageError(
            "V007", f"`{source}` is a {kind_of(source)} and says itself what it is",
            hint="leave model, dialect, classes, head, image size and channels out",
        )  # fmt: skip
    return Loaded(opened(source), (), policy_stated=True)


def _dialect(to: str | None) -> str | None:
    """What the file is read back with: names find their own form, and a dialect of the user's own is needed again."""
    return None if to in (None, "native") else to


def _compare(own: Tensors, back: Tensors, path: Path) -> None:
    wrong = [
        name
        for name in own.keys() | back.keys()
        if name not in own or name not in back or own[name].dtype != back[name].dtype
        or own[name].shape != back[name].shape or own[name].data != back[name].data
    ]  # fmt: skip
    wrong = [name for name in wrong if not name.endswith(".attn.k_bias")]  # of no effect, and not every world has it
    if wrong:
        raise OutsideBound(
            "V801", f"`{path}`: {len(wrong)} tensors read back differ from those written", evidence=sorted(wrong)[:10],
            hint="nothing was left behind; please report this",
        )  # fmt: skip


def _same_logits(classifier: Classifier, again: Classifier, path: Path) -> int:
    batch = _batch(classifier.policy)
    if not np.array_equal(classifier.logits(batch), again.logits(batch), equal_nan=True):
        raise OutsideBound("V801", f"`{path}`: the logits of what was read back differ", hint="please report this")
    return len(batch)


def _remove(path: Path) -> None:
    """What was written is taken away again: it was not proven."""
    if path.is_dir():
        disk.remove_folder(path)
    elif path.is_file():
        path.unlink()


def _batch(policy: Policy) -> np.ndarray:
    """Two of the generated pictures of every proof, prepared."""
    from vitrail.proof.pictures import generated

    return policy.normalise(np.stack([policy.pixels(picture) for picture in generated(policy.channels)[:2]]))


def _variant(classifier: Classifier) -> str | None:
    name = classifier.provenance.get("variant")
    return name if isinstance(name, str) else None
