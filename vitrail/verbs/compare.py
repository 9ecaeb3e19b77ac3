"""`compare`: whether two models say the same, and which is right more often."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.manifest import weights_hash
from vitrail.class_names import in_words
from vitrail.data.configs import Data
from vitrail.data.sources import Source
from vitrail.engines.opened import Bundle
from vitrail.engines.program import Program
from vitrail.errors import DataError, UsageError
from vitrail.evaluation.answers import CheckPicture
from vitrail.evaluation.compare import BOUND, Comparison, Names
from vitrail.evaluation.compare import compare as measure
from vitrail.evaluation.speed import in_turns
from vitrail.opening import open as open_model
from vitrail.proof.between import why_different
from vitrail.proof.pictures import generated
from vitrail.verbs.evaluate import Part, chosen_source, matched
from vitrail.verbs.export import pictures_of
from vitrail.verbs.refusals import refuse_headless, refuse_random
from vitrail.weights import placeholders

if TYPE_CHECKING:
    from vitrail.engines.program import Answering

SPLIT = {"data_sha256", "data_holdout", "seed"}  # of a provenance: by these a part of a source is chosen


@dataclass(frozen=True)
class Side:
    """One of the two models. p50_s: median seconds for one picture, measured in turns with the other.

    weights_sha256: None for a program, whose weights are its own affair.
    """

    name: str
    engine: str
    weights_sha256: str | None
    p50_s: float


@dataclass(frozen=True)
class CompareResult:
    """What was compared on what. The first pictures are the generated ones, then come those of the source.

    part: of the source that was taken. notes: what was understood of the classes and the source. why: of two models
    that differ, the single mistake that explains it, if one does, and then how well.
    """

    sides: tuple[Side, Side]
    comparison: Comparison
    generated: int
    source: Source | None = None
    part: str | None = None
    indices: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    notes: tuple[str, ...] = ()
    why: tuple[str, ...] = ()

    def title(self, place: int) -> str:
        """What the picture at a place is called."""
        if self.source is None or place < self.generated:
            return f"generated picture {place}"
        return self.source.title(int(self.indices[place - self.generated]))

    def raise_if_differ(self) -> None:
        """OutsideBound V804 when a logit left the bound."""
        self.comparison.raise_if_differ(self.title, self.why)

    def to_json(self) -> dict[str, object]:
        """The result in plain values; the changed decisions with the names of their pictures."""
        changed = [{"picture": self.title(one.place), "classes": list(one.classes)} for one in self.comparison.changed]
        return {
            "models": [vars(side) for side in self.sides],
            "data": None if self.source is None else self.source.place,
            "part": self.part,
            "generated": self.generated,
            "notes": list(self.notes),
            "why": list(self.why),
            **self.comparison.to_json(),
            "changed": changed,
        }


def compare(
    first: str | Path | Answering,
    second: str | Path | Answering,
    *,
    data: str | Path | Data | None = None,
    part: Part = "auto",
    bound: float = BOUND,
    engines: tuple[str, str] = ("auto", "auto"),
    progress: Callable[[int, int], None] | None = None,
) -> CompareResult:
    """Ask two models of the generated pictures and of those of a source, each prepared by the model's own policy.

    part: as `evaluate` takes it; of pictures that both models were trained on, those that both held out. engines: of
    the first and the second, as `vitrail.open` takes them. bound: the difference of a logit that counts as the same.
    UsageError V005 for random weights, V007 where the classes are others; nothing is raised where the models differ:
    `raise_if_differ` does.
    """
    a, b = (_opened(model, engine) for model, engine in zip((first, second), engines, strict=True))
    names, notes = _names(a, b)
    pictures = [CheckPicture.of(pixels) for pixels in generated(a.policy.channels)]
    count = len(pictures)
    source, taken, indices = None, None, np.empty(0, np.int64)
    if data is not None:
        wanted = data if isinstance(data, Data) else Data(root=str(data))
        source, taken, indices = _shared(a, b, wanted, part)
        source = matched(source, names[0])
        pictures += pictures_of(source, indices)
        notes = (*notes, *source.notes)
    found = measure(a, b, pictures, bound=bound, names=names, progress=progress)
    medians = [statistics.median(times) for times in in_turns([a, b])]
    titles = [str(model) if isinstance(model, (str, Path)) else "opened" for model in (first, second)]
    sides = [_side(name, model, p50) for name, model, p50 in zip(titles, (a, b), medians, strict=True)]
    why = () if found.same else why_different(a, b, pictures, bound=bound)
    return CompareResult((sides[0], sides[1]), found, count, source, taken, indices, notes, why)


def _opened(model: str | Path | Answering, engine: str) -> Answering:
    if isinstance(model, (str, Path)):
        opened = open_model(model, engine=engine)
    elif engine == "auto":
        opened = model
    else:
        raise UsageError("V007", f"engine {engine} for a model that is open already", hint="open it on that engine")
    refuse_random(opened.provenance, "compare")
    refuse_headless(opened.classes, "compare")
    return opened


def _names(a: Answering, b: Answering) -> tuple[Names, tuple[str, ...]]:
    """What each calls its classes, to be matched: ImageNet's synsets and their words are the same names."""
    if len(a.classes) == len(b.classes) and a.classes != b.classes:
        for letter, other, model, named in (("A", "B", a, b), ("B", "A", b, a)):
            if placeholders(model.classes):
                note = f"{letter} names no classes: they are taken in {other}'s order"
                return (named.classes, named.classes), (note,)
    return (in_words(a.classes), in_words(b.classes)), ()


def _shared(a: Answering, b: Answering, data: Data, part: Part) -> tuple[Source, Part, NDArray[np.int64]]:
    """The source, the part taken of it, and its pictures: none that one of the two held out and the other learnt."""
    source, taken = chosen_source(a.provenance, data, part)
    indices = source.training if taken == "train" else source.held_out
    if part == "all" or SPLIT.isdisjoint({*a.provenance, *b.provenance}):
        return source, taken, indices
    theirs, their_part = chosen_source(b.provenance, data, part)
    their_indices = theirs.training if their_part == "train" else theirs.held_out
    both = np.intersect1d(indices, their_indices)
    if len(both) == len(indices) == len(their_indices):
        return source, taken, indices
    if not len(both):
        raise DataError(
            "V401",
            f"no picture of `{source.place}` is in the {taken} part of A and in the {their_part} part of B",
            hint="compare on pictures that neither was trained on, or with --part all",
        )
    note = f"{len(both):,} pictures that are in the {taken} part of A and in the {their_part} part of B"
    notes = tuple(dict.fromkeys((*source.notes, *theirs.notes, note)))
    return replace(source, notes=notes), taken, both


def _side(name: str, model: Answering, p50_s: float) -> Side:
    if isinstance(model, Bundle):
        return Side(name, model.engine, model.manifest.weights_sha256, p50_s)
    if isinstance(model, Program):
        return Side(name, "torchscript", None, p50_s)
    from vitrail.weights.tensors import native_tensors

    return Side(name, "torch", weights_hash(native_tensors(model.module)), p50_s)
