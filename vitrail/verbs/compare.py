"""`compare`: whether two models say the same, and which is right more often."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.bundle.manifest import weights_hash
from vitrail.data.configs import Data
from vitrail.data.sources import Source
from vitrail.engines.opened import Bundle
from vitrail.evaluation.answers import CheckPicture
from vitrail.evaluation.compare import BOUND, Comparison
from vitrail.evaluation.compare import compare as measure
from vitrail.evaluation.speed import in_turns
from vitrail.opening import open as open_model
from vitrail.proof.pictures import generated
from vitrail.verbs.evaluate import Part, chosen_source, matched, refuse_headless
from vitrail.verbs.export import check_pictures

if TYPE_CHECKING:
    from vitrail.models.classifier import Classifier


@dataclass(frozen=True)
class Side:
    """One of the two models. p50_s: median seconds for one picture, measured in turns with the other."""

    name: str
    engine: str
    weights_sha256: str
    p50_s: float


@dataclass(frozen=True)
class CompareResult:
    """What was compared on what. The first pictures are the generated ones, then come those of the source."""

    sides: tuple[Side, Side]
    comparison: Comparison
    source: Source | None
    generated: int

    def title(self, place: int) -> str:
        """What the picture at a place is called."""
        if place < self.generated or self.source is None:
            return f"generated picture {place}"
        return self.source.title(int(self.source.held_out[place - self.generated]))

    def raise_if_differ(self) -> None:
        """OutsideBound V804 when a logit left the bound."""
        self.comparison.raise_if_differ(self.title)

    def to_json(self) -> dict[str, object]:
        """The result in plain values; the changed decisions with the names of their pictures."""
        values = self.comparison.to_json()
        changed = [{"picture": self.title(one.place), "classes": list(one.classes)} for one in self.comparison.changed]
        return {
            "models": [vars(side) for side in self.sides],
            "data": None if self.source is None else self.source.place,
            "generated": self.generated,
            **values,
            "changed": changed,
        }


def compare(
    first: str | Path | Classifier | Bundle,
    second: str | Path | Classifier | Bundle,
    *,
    data: str | Path | Data | None = None,
    part: Part = "auto",
    bound: float = BOUND,
    engines: tuple[str, str] = ("auto", "auto"),
) -> CompareResult:
    """Ask two models of the generated pictures and of those of a source, each prepared by the model's own policy.

    engines: of the first and the second, as `vitrail.open` takes them. bound: the difference of a logit that counts as
    the same. UsageError V007 where the classes are others; nothing is raised where the models differ:
    `raise_if_differ` does.
    """
    models = [
        open_model(model, engine=engine) if isinstance(model, (str, Path)) else model
        for model, engine in zip((first, second), engines, strict=True)
    ]
    for model in models:
        refuse_headless(model.classes, "compare")
    source = None
    pictures = [CheckPicture.of(pixels) for pixels in generated(models[0].policy.channels)]
    count = len(pictures)
    if data is not None:
        wanted = data if isinstance(data, Data) else Data(root=str(data))
        source = matched(chosen_source(models[0].provenance, wanted, part)[0], models[0].classes)
        pictures += check_pictures(source, len(source.held_out))
    found = measure(models[0], models[1], pictures, bound=bound)
    medians = [statistics.median(times) for times in in_turns(models)]
    names = [str(model) if isinstance(model, (str, Path)) else "opened" for model in (first, second)]
    sides = [_side(name, model, p50) for name, model, p50 in zip(names, models, medians, strict=True)]
    return CompareResult((sides[0], sides[1]), found, source, count)


def _side(name: str, model: Classifier | Bundle, p50_s: float) -> Side:
    if isinstance(model, Bundle):
        return Side(name, model.engine, model.manifest.weights_sha256, p50_s)
    from vitrail.weights.tensors import native_tensors

    return Side(name, "torch", weights_hash(native_tensors(model.module)), p50_s)
