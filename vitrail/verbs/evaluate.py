"""`evaluate`: how good a model is on labelled pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from vitrail.class_names import in_words
from vitrail.data.configs import Data
from vitrail.data.loader import evaluation_batches
from vitrail.data.sources import Source, open_source, whole
from vitrail.data.sources.classes import natural
from vitrail.data.sources.found import mapping
from vitrail.disk import write_file
from vitrail.errors import BundleError, DataError, RunError, UsageError
from vitrail.evaluation.evaluate import ROW_FIELDS, Evaluation, Running
from vitrail.evaluation.evaluate import evaluate as measure
from vitrail.opening import RECIPE_FILE, kind_of
from vitrail.opening import open as open_model
from vitrail.pictures.policy import Policy
from vitrail.recipe.evaluating import EvaluationRecipe, PolicyChange
from vitrail.verbs.refusals import refuse_headless, refuse_random
from vitrail.weights import placeholders

if TYPE_CHECKING:
    from vitrail.engines.program import Answering

Part = Literal["auto", "all", "held-out", "train"]


@dataclass(frozen=True)
class EvaluateResult:
    """What was evaluated on what, and how it came out."""

    source: Source
    part: str
    evaluation: Evaluation
    knn: Mapping[str, object] | None = None  # k, temperature and size of the bank, where neighbours were asked

    @property
    def place(self) -> str:
        """Where the pictures are."""
        return self.source.place

    def write_rows(self, path: str | Path) -> None:
        """Write a CSV file with one row a picture."""
        text = io.StringIO()
        # every text in quotes: a carriage return in a name would otherwise stand bare and end its row
        writer = csv.DictWriter(text, ROW_FIELDS, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows(self.evaluation.rows(self.source.title))
        write_file(Path(path), text.getvalue().encode("utf-8", "backslashreplace"))

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        knn = {} if self.knn is None else {"knn": dict(self.knn)}
        notes = list(self.source.notes)
        return {"data": self.place, "part": self.part, **knn, "notes": notes, **self.evaluation.to_json()}


def evaluate(
    model: str | Path | Answering,
    data: str | Path | Data | None = None,
    *,
    part: Part = "auto",
    batch: int = 64,
    engine: str = "auto",
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    running: Callable[[Running], None] | None = None,
) -> EvaluateResult:
    """Every picture of a source once through `model`; classes are matched by name.

    data: a source, or its settings (`Data(root=..., rename={...})`); for a run folder its own held-out pictures by
    default. part: `auto` takes the held-out pictures where the source has its own split or the model was trained on
    it, else all. device: of what torch runs, as `vitrail.open` takes it; a model that is open already stays where it
    lies. progress: called with pictures done and pictures in all; running: with the answers so far.
    """
    opened = open_model(model, engine=engine, device=device, batch=batch) if isinstance(model, (str, Path)) else model
    refuse_random(opened.provenance, "evaluate")
    refuse_headless(opened.classes, "evaluate")
    source, part_taken = chosen_source(opened.provenance, data_of(model, data), part)
    if data is None and source.fingerprint != opened.provenance.get("data_sha256"):
        raise RunError(
            "V602",
            f"the pictures in `{source.place}` are not those that `{model}` was trained on",
            hint="put the same files back, or name what to evaluate with --data",
        )
    source = matched(source, opened.classes)
    indices = source.training if part_taken == "train" else source.held_out
    batches = evaluation_batches(source, indices, opened.policy, batch=batch, workers=2)
    total = len(indices)
    told = None if progress is None else (lambda done: progress(done, total))
    evaluation = measure(opened.logits, batches, source.classes, progress=told, running=running)
    return EvaluateResult(source, part_taken, evaluation)


def evaluate_as(
    recipe: EvaluationRecipe,
    *,
    part: Part = "auto",
    batch: int = 64,
    engine: str = "auto",
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    running: Callable[[Running], None] | None = None,
) -> EvaluateResult:
    """As `evaluate`, of the MODEL of an evaluation recipe, with its pictures prepared as the recipe says."""
    path = recipe.weights.path
    model: str | Answering = path
    own = policy = None
    if recipe.policy != PolicyChange():
        opened = open_model(path, engine=engine, device=device, batch=batch)
        own, policy = opened.policy, recipe.policy.of(opened.policy)
        model = with_policy(opened, policy)
    data = recipe.data if own is None else data_of(path, recipe.data)
    result = evaluate(
        model, data, part=part, batch=batch, engine=engine, device=device, progress=progress, running=running
    )
    return result if own is None or policy is None else prepared_as(result, policy, own)


def with_policy(opened: Answering, policy: Policy) -> Answering:
    """The model with its pictures prepared by another policy. UsageError V007 where the graph normalises by its own."""
    from vitrail.engines.opened import Bundle
    from vitrail.engines.program import Program

    own = opened.policy
    inside = isinstance(opened, Bundle | Program) and opened.takes == "pixels"
    if inside and (policy.mean, policy.std) != (own.mean, own.std):
        raise UsageError(
            "V007",
            "policy.mean and policy.std lie inside a graph that takes pixels",
            evidence=[f"mean {list(own.mean)}, std {list(own.std)}"],
            hint="leave them out, or take an engine whose graph takes images: `vitrail export MODEL`",
        )
    if isinstance(opened, Bundle):
        return replace(opened, manifest=replace(opened.manifest, policy=policy))
    return replace(opened, policy=policy)


def prepared_as(result: EvaluateResult, policy: Policy, own: Policy) -> EvaluateResult:
    """The result with a note where its pictures were prepared otherwise than by the model's own policy."""
    if policy == own:
        return result
    taken, before = policy.to_json(), own.to_json()
    changes = ", ".join(f"{key} {taken[key]} for {value}" for key, value in before.items() if value != taken[key])
    note = f"pictures prepared otherwise than the model says: {changes}"
    return replace(result, source=replace(result.source, notes=(*result.source.notes, note)))


def data_of(model: object, data: str | Path | Data | None) -> Data:
    """The data that are meant: as given, or those that a run folder was trained on. UsageError V001."""
    if isinstance(data, Data):
        return data
    if data is not None:
        return Data(root=str(data))
    if isinstance(model, (str, Path)) and kind_of(model) == "run":
        return run_data(Path(model))
    raise UsageError("V001", "no pictures to evaluate are named", hint="give --data; a run folder brings its own")


def run_data(run: Path) -> Data:
    """The data that a run was trained on."""
    from vitrail.recipe import load_recipe

    return load_recipe(run / RECIPE_FILE).data


def chosen_source(provenance: Mapping[str, object], data: Data, part: Part) -> tuple[Source, Part]:
    """The source and the part of it that `part` means for a model of this provenance."""
    if part not in get_args(Part):
        raise UsageError("V007", f"part is `{part}`", hint=f"known: {', '.join(get_args(Part))}")
    seed, holdout = provenance.get("seed", 0), provenance.get("data_holdout", data.holdout)
    if type(seed) is not int or type(holdout) is not float or not 0 < holdout < 1:
        raise BundleError("V501", f"the provenance names seed {seed!r}, holdout {holdout!r}", hint="make it again")
    data = replace(data, holdout=holdout)
    try:
        source = open_source(data, seed=seed)
    except DataError as error:
        if error.code != "V407" or part in ("held-out", "train"):
            raise
        source = open_source(data, seed=seed, split_it=False)  # too few pictures to split: all of them, then
    trained_on = source.fingerprint == provenance.get("data_sha256")
    if part == "auto":
        part = "held-out" if source.own_split or trained_on else "all"
    if part != "all":
        return source, part
    known = "they are not those that the model was trained on"
    unknown = "the model does not say what it was trained on, so its own pictures may be among them"
    note = f"all pictures are taken: {known if 'data_sha256' in provenance else unknown}"
    return (whole(source) if trained_on else replace(whole(source), notes=(*source.notes, note))), "all"


def matched(source: Source, classes: tuple[str, ...]) -> Source:
    """The source with its labels in the model's class order, by name; DataError V403 for a class it does not know.

    ImageNet's synsets and their words are the same names.
    """
    if source.classes == classes:
        return source
    if placeholders(classes) and len(classes) == len(source.classes):
        refuse_open_order(source, "the model")
        note = "the model names no classes: they are taken in the data's order"
        return replace(source, notes=(*source.notes, note))
    number = {name: label for label, name in enumerate(in_words(classes))}
    theirs = in_words(source.classes)
    if len(number) != len(classes):
        raise DataError(
            "V405", "the model calls two of its classes by one name", hint="give it other names: train or convert again"
        )
    unknown = [name for name in theirs if name not in number]
    if unknown:
        missing = [name for name in number if name not in set(theirs)]
        also = len(unknown) < len(theirs) and [n for n in theirs if n in number] != [n for n in number if n in theirs]
        raise DataError(
            "V403",
            f"{len(unknown)} of {len(theirs)} classes of `{source.place}` are unknown to the model",
            evidence=[f"only in the data: {name}" for name in unknown[:5]]
            + [f"only in the model: {name}" for name in missing[:5]]
            + (["the others are in another order too, which matters not: they are matched by name"] if also else []),
            hint=f"rename the class folders to the model's names (`vitrail show MODEL`){mapping(unknown, missing)}",
        )
    place = np.array([number[name] for name in theirs], np.int64)
    how = "another order alone" if len(theirs) == len(classes) else f"{len(theirs)} of its {len(classes)} classes"
    note = f"labels put into the model's class order by name ({how})"
    return replace(source, classes=classes, labels=place[source.labels], notes=(*source.notes, note))


def refuse_open_order(source: Source, who: str) -> None:
    """DataError V403 where positions are to decide, and the order of the data's names may be meant in two ways."""
    if not source.open_order:
        return
    by_number = sorted(source.classes, key=natural)
    differing = [
        f"class {label}: `{one}` by bytes, `{other}` by numbers"
        for label, (one, other) in enumerate(zip(source.classes, by_number, strict=True))
        if one != other
    ]
    raise DataError(
        "V403",
        f"{who} names no classes, and those of `{source.place}` may be ordered in two ways",
        evidence=[*differing[:5], f"{len(differing)} of {len(source.classes)} places differ: another order alone"],
        hint="say data.class_order=bytes, or data.class_order=natural as timm does; or give data.classes",
    )
