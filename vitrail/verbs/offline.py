"""`offline pack`, `infer`, `score`: the steps of the model zoo's offline flow, each by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrail.data.sources import Source
from vitrail.disk import make_folder, write_file
from vitrail.errors import UsageError
from vitrail.locks import locked
from vitrail.offline import infer as running
from vitrail.offline import inputs
from vitrail.offline import pack as packing
from vitrail.offline import score as scoring
from vitrail.offline.infer import Inferred
from vitrail.offline.inputs import Inputs
from vitrail.offline.layout import SCORE_LOG, Dataset, Packed, known
from vitrail.offline.score import Scored
from vitrail.opening import open as open_model
from vitrail.pictures.policy import Policy
from vitrail.recipe.evaluating import EvaluationRecipe, PolicyChange, evaluation_recipe
from vitrail.verbs.evaluate import Part, chosen_source, data_of, matched, with_policy
from vitrail.verbs.outside import refuse_inside
from vitrail.verbs.refusals import refuse_headless, refuse_random
from vitrail.weights import placeholders

if TYPE_CHECKING:
    from vitrail.engines.program import Answering

Progress = Callable[[int, int], None]


def _unwatched(done: int, total: int) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class PackResult:
    """What was packed, and what was understood of its source."""

    folder: Path
    packed: Packed
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        return {"folder": str(self.folder), **self.packed.to_json(), "notes": list(self.notes)}


@dataclass(frozen=True)
class InferResult:
    """What was answered, and what was understood of its source."""

    inferred: Inferred
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        return {**asdict(self.inferred), "notes": list(self.notes)}


@dataclass(frozen=True)
class ScoreResult:
    """How the results came out, and where the packages' lines of it lie."""

    scored: Scored
    log: Path

    def to_json(self) -> dict[str, object]:
        """The result in plain values. top5: None where the package did not have it."""
        scored = self.scored
        top5 = scored.top5 / scored.pictures if scored.dataset == "imagenet2012" else None
        return {
            "pictures": scored.pictures,
            "correct": scored.correct,
            "top1": scored.correct / scored.pictures,
            "top1_interval": list(scored.interval),
            "top5": top5,
            "lines": scored.lines(),
            "log": str(self.log),
        }


@dataclass(frozen=True)
class Chosen:
    """Pictures, and which of them."""

    source: Source
    indices: NDArray[np.int64]


def offline_pack(
    data: str | Path,
    out: str | Path,
    *,
    dataset: str,
    model: str | Path | None = None,
    settings: Sequence[str] = (),
    part: Part = "auto",
    progress: Progress = _unwatched,
) -> PackResult:
    """The pictures of `data` as the files that a package's program reads, in the folder `out`, whole or not at all.

    dataset: `cifar10`, a record of float32 and a label file a picture; `imagenet2012`, one table of labels. model:
    whose policy prepares them and in whose order classes are numbered; without one, `settings` say the policy and the
    data their order. settings: `policy.key=value` and `data.key=value`. Errors as those of `offline.pack.pack`.
    """
    files = known(dataset)
    recipe = evaluation_recipe("" if model is None else str(model), str(data), settings)
    if model is None:
        policy = _policy_of(recipe.policy, files)
        chosen = _pictures({}, None, recipe, part)
    else:
        opened = open_model(recipe.weights.path)
        policy, chosen = recipe.policy.of(opened.policy), chosen_pictures(opened, recipe, part)
    refuse_inside(Path(out), data)
    packed = packing.planned(chosen.source, chosen.indices, policy, files)
    packing.pack(chosen.source, chosen.indices, packed, Path(out), progress=progress)
    return PackResult(Path(out), packed, chosen.source.notes)


def offline_infer(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    dataset: str,
    settings: Sequence[str] = (),
    part: Part = "auto",
    engine: str = "auto",
    device: str = "auto",
    progress: Progress = _unwatched,
) -> InferResult:
    """`result_Files`, `time_Result` and `infer.log` in the folder `out`: the answers of `model` one by one.

    data: for `cifar10` a folder of records, packed by us or by others; for `imagenet2012` the pictures themselves. No
    torch is needed where `model` is a bundle with a graph. Errors as those of `offline.infer.infer`.
    """
    files = known(dataset)
    recipe = evaluation_recipe(str(model), str(data), settings)
    opened = open_answering(recipe, engine=engine, device=device)
    refuse_inside(Path(out), data)
    notes: tuple[str, ...] = ()
    if files == "cifar10":
        named = None if placeholders(opened.classes) else opened.classes
        asked = inputs.records(Path(data), opened.policy, named)
    else:
        chosen = chosen_pictures(opened, recipe, part)
        asked, notes = inputs.pictures(chosen.source, chosen.indices, opened.policy), chosen.source.notes
    make_folder(Path(out))
    with locked(Path(out)):
        return InferResult(answered(opened, asked, Path(out), progress), notes)


def offline_score(results: str | Path, labels: str | Path, *, out: str | Path | None = None) -> ScoreResult:
    """Result files against labels, and the packages' lines of it in `acc.log`, beside the results by default.

    Errors as those of `offline.score.score`.
    """
    scored = scoring.score(Path(results), Path(labels))
    log = Path(out) if out is not None else Path(results).absolute().parent / SCORE_LOG
    write_file(log, "".join(f"{line}\n" for line in scored.lines()).encode())
    return ScoreResult(scored, log)


def open_answering(recipe: EvaluationRecipe, *, engine: str, device: str) -> Answering:
    """The MODEL of a recipe with the recipe's policy, ready; UsageError V005 or V007 where its answers mean nothing."""
    opened = open_model(recipe.weights.path, engine=engine, device=device)
    refuse_random(opened.provenance, "score")
    refuse_headless(opened.classes, "score")
    return with_policy(opened, recipe.policy.of(opened.policy))


def chosen_pictures(opened: Answering, recipe: EvaluationRecipe, part: Part) -> Chosen:
    """What `vitrail evaluate` would measure the model on, labels in the model's order."""
    refuse_headless(opened.classes, "number")
    return _pictures(opened.provenance, opened.classes, recipe, part)


def answered(opened: Answering, asked: Inputs, out: Path, progress: Progress) -> Inferred:
    """The answers of a model, as files."""
    return running.infer(opened.logits, asked, out, classes=len(opened.classes), progress=progress)


def _pictures(
    provenance: Mapping[str, object],
    classes: tuple[str, ...] | None,
    recipe: EvaluationRecipe,
    part: Part,
) -> Chosen:
    source, taken = chosen_source(provenance, data_of(recipe.weights.path, recipe.data), part)
    if classes is not None:
        source = matched(source, classes)
    return Chosen(source, source.training if taken == "train" else source.held_out)


def _policy_of(change: PolicyChange, dataset: Dataset) -> Policy | None:
    """A policy said without a model; labels alone need none."""
    given = {item.name: getattr(change, item.name) for item in fields(change)}
    said = {name: value for name, value in given.items() if value is not None}
    if dataset == "imagenet2012":
        if said:
            raise UsageError(
                "V007", "imagenet2012 packs labels alone, no policy", hint="say it where the pictures are read"
            )
        return None
    lacking = [f"policy.{name}" for name in ("size", "mean", "std") if name not in said]
    if lacking:
        raise UsageError(
            "V007",
            f"records need a policy: {', '.join(lacking)} not said",
            hint="give --model MODEL, or policy.size=[224,224] policy.mean=[0.5,0.5,0.5] policy.std=[0.5,0.5,0.5]",
        )
    policy = Policy(**said)
    if problems := policy.problems():
        raise UsageError("V007", "the policy does not stand", evidence=problems, hint="change what it names")
    return policy
