"""`train`: from a recipe and pictures to a run folder with a bundle in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from vitrail import __version__
from vitrail.data.sources import Source, open_source
from vitrail.disk import free_space, locked, make_folder, remove_leftovers, write_file
from vitrail.engines.table import need
from vitrail.errors import RunError, SystemFault, UsageError
from vitrail.machine import keep_pages
from vitrail.models.configs import family_of
from vitrail.opening import identity_of
from vitrail.ranks import Ranks, joined
from vitrail.recipe import Recipe, load_recipe
from vitrail.recipe.devices import as_told, devices_before, for_devices
from vitrail.recipe.precision import in_words
from vitrail.recipe.read import parse_recipe
from vitrail.recipe.settle import as_chosen, settle, started_from, taught_by
from vitrail.recipe.write import fingerprint, to_plain, to_yaml
from vitrail.training.trackers import need_trackers
from vitrail.verbs.before import Listener, look_through, probed, refuse_early, settled_device
from vitrail.verbs.drift import Bits
from vitrail.verbs.mirror import bring_back, copied, local_folder
from vitrail.verbs.outside import refuse_inside
from vitrail.verbs.sharing import refuse_other_pictures
from vitrail.verbs.teacher import teacher_of
from vitrail.verbs.telling import about, told

if TYPE_CHECKING:
    from torch import nn

    from vitrail.evaluation.evaluate import Evaluation
    from vitrail.models.classifier import Classifier
    from vitrail.training.checkpoint import Snapshot
    from vitrail.training.loop import Outcome, Plan
    from vitrail.weights import Loaded

RECIPE = "recipe.yaml"


@dataclass(frozen=True)
class TrainResult:
    """A finished run: where it lies, how good it is, and how it got there."""

    folder: Path
    bundle: Path
    steps: int
    seconds: float  # of training, evaluation and saving, all resumed parts together
    evaluation: Evaluation | None  # None where the run was finished before

    @property
    def page(self) -> Path:
        """The HTML page of the run."""
        return self.folder / "report.html"

    @property
    def quality(self) -> dict[str, Any]:
        """The evaluation of the held-out pictures in plain values, read back where the run was finished before."""
        if self.evaluation is not None:
            return self.evaluation.to_json()
        values: dict[str, Any] = json.loads((self.folder / "evaluation.json").read_text())
        return values

    @property
    def speed(self) -> dict[str, float]:
        """`images_per_s` and `sec_per_step` of the whole run, from its journal."""
        from vitrail.training.journal import JOURNAL, pace, read

        return pace(read(self.folder / JOURNAL))

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        values: dict[str, object] = {"folder": str(self.folder), "bundle": str(self.bundle), "steps": self.steps}
        return {**values, "speed": self.speed, "evaluation": self.quality}


def _silent(_: Mapping[str, object]) -> None:
    """The listener of whoever does not listen."""


def shorthand(model: str | None, weights: str | None, data: str | None) -> list[str]:
    """The overrides that `--model`, `--weights` and `--data` stand for."""
    given = {"model.variant": model, "weights.path": weights, "data.root": data}
    found = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items() if value is not None]
    return found if data is None else [*found, "data.source=auto"]


def default_folder(recipe: Recipe) -> Path:
    """`runs/RECIPE-NAME`."""
    return Path("runs") / recipe.name.replace("/", "-")


def train(
    recipe: Recipe | str | Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | str | None = None,
    resume: bool = False,
    strict: bool = False,
    allow_drift: Sequence[str] = (),
    listener: Listener = _silent,
) -> TrainResult:
    """Train as the recipe says; the run folder holds all that came of it, a bundle at its end.

    recipe: a `Recipe`, a path or a shipped name. out: the run folder, by default `runs/RECIPE-NAME`; of the address of
    a store, such as `s3://bucket/runs/x`, the run lies in `runs/x` and is copied there. resume: go on from the newest
    good checkpoint, to the same bits as if never stopped. allow_drift: fields that may differ from the checkpoint's
    although the bits are then others. listener: called with every event. Under torchrun all of its processes call
    this; rank 0 alone listens and writes.
    """
    wanted = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    need("torch", "train")
    need("matplotlib", "train")
    need_trackers(wanted.journal.to)
    place = out if out is not None else default_folder(wanted)
    with joined(wanted.train.patience) as ranks:
        first = ranks.rank == 0
        if resume:
            ranks.first(lambda: bring_back(place))
        with copied(place, listener, resume=resume) if first else nullcontext(_silent) as tell:
            source = _opened(local_folder(place), wanted, ranks, tell, resume=resume)
            with locked(local_folder(place)) if first else nullcontext():
                run = _Run(wanted, source, local_folder(place), ranks, tell, Bits(allow_drift))
                return run.go(resume=resume, strict=strict)


def _opened(folder: Path, wanted: Recipe, ranks: Ranks, listener: Listener, *, resume: bool) -> Source:
    """The source, open and looked through; the run's folder is there then."""
    ranks.first(lambda: _refuse_second_start(folder, resume))
    refuse_inside(folder, wanted.data.root, wanted.data.val)
    source = open_source(wanted.data, seed=wanted.train.seed)
    for note in source.notes:
        listener({"event": "note", "text": note})
    ranks.first(lambda: _prepare(folder, source, wanted, listener))
    return source


def _prepare(folder: Path, source: Source, wanted: Recipe, listener: Listener) -> None:
    if not (folder / RECIPE).is_file():
        look_through(source, wanted, listener)
    make_folder(folder)


def _refuse_second_start(folder: Path, resume: bool) -> None:
    if (folder / RECIPE).is_file() and not resume:
        with locked(folder):  # a run that is still going on says so
            pass
        raise _exists(folder)


def _exists(folder: Path) -> RunError:
    return RunError(
        "V601", f"`{folder}` holds a run already", hint="go on with --resume, or give another folder with --out"
    )


class _Run:
    """One call of `train`: the settled recipe, its source and its folder."""

    def __init__(
        self, recipe: Recipe, source: Source, folder: Path, ranks: Ranks, listener: Listener, bits: Bits
    ) -> None:
        self.wanted = recipe
        self.source = source
        self.folder = folder
        self.ranks = ranks
        self.tell = listener
        self.bits = bits
        self._load_s: float | None = None  # of the weights to start from
        self._started: Loaded | None = None  # where a new run starts from
        self._last: Evaluation | None = None  # of this process; the loop's last one is of the final weights

    def go(self, *, resume: bool, strict: bool) -> TrainResult:
        if self.wanted.train.keep_pages:
            keep_pages()
        begun = self.ranks.first(lambda: self._begin(resume=resume, strict=strict))
        if begun is None:
            self.tell({"event": "note", "text": "the run is finished already"})
            return TrainResult(self.folder, self.folder / "bundle", 0, 0.0, None)
        recipe, snapshot, fingerprint = begun
        refuse_other_pictures(self.ranks, self.source, fingerprint)
        start = self._started
        if start is None and snapshot is None:
            start = self._start(recipe)  # of a rank that did not settle the recipe, or of a run without a checkpoint
        if resume and snapshot is None:
            self.tell({"event": "note", "text": "no checkpoint yet: starting at step 0"})
        if (words := in_words(recipe)) is not None:
            self.tell({"event": "note", "text": words})
        self.tell({"event": "recipe", "text": to_yaml(recipe, version=__version__), "origins": dict(recipe.origins)})
        return self._train(recipe, start.classifier if start else None, snapshot)

    def _begin(self, *, resume: bool, strict: bool) -> tuple[Recipe, Snapshot | None, str] | None:
        """The run's recipe, the state to go on from, and the hash of its pictures; None where it is finished."""
        if (self.folder / RECIPE).is_file() and not resume:  # again: somebody was faster
            raise _exists(self.folder)
        remove_leftovers(self.folder)
        if not (self.folder / RECIPE).is_file():
            return self._settled(), None, self.source.fingerprint
        recipe = self._as_before()
        if (self.folder / "bundle" / "manifest.json").is_file():
            return None
        return recipe, self._newest(recipe, strict), self.source.fingerprint

    def _settled(self) -> Recipe:
        """The recipe of a new run, whole, kept in its folder."""
        recipe = settle(for_devices(self.wanted, self.ranks.size), self.source)
        refuse_early(recipe)
        self._started = start = self._start(recipe)
        if start is not None:
            recipe = started_from(recipe, start)
        if recipe.loss.teacher is not None:
            recipe = taught_by(recipe, teacher_of(recipe, self.source.classes).sha256)
        recipe = probed(recipe, self.ranks)
        write_file(self.folder / RECIPE, to_yaml(recipe, version=__version__).encode())
        return recipe

    def _newest(self, recipe: Recipe, strict: bool) -> Snapshot | None:
        """The state to go on from, after making sure that it is of this recipe and these pictures."""
        from vitrail.training.checkpoint import load, newest_good

        path, passed_over = newest_good(self.folder / "checkpoints", set_aside=not strict)
        self._report_damage(passed_over, strict)
        if path is None:
            return None
        snapshot = load(path)
        settled_device(recipe, self.ranks.world.local)  # before it is asked how float32 is computed here
        identity = identity_of(snapshot, path)
        for line in self.bits.compare(identity, recipe, self.source, self.folder, snapshot.step):
            self.tell({"event": "warning", "text": line})
        if (ranks := identity.get("ranks", 1)) != self.ranks.size:
            text = f"saved by {ranks} ranks, {self.ranks.size} go on: the same pictures in order, not the same bits"
            self.tell({"event": "note", "text": text})
        return snapshot

    def _report_damage(self, passed_over: Sequence[str], strict: bool) -> None:
        from vitrail.errors import OutsideBound

        for note in passed_over:
            self.tell({"event": "warning", "text": note})
        if passed_over and strict:
            raise OutsideBound(
                "V803",
                f"a damaged checkpoint in `{self.folder}` was passed over",
                evidence=list(passed_over),
                hint="resume without --strict to go on from the one before it",
            )

    def _start(self, recipe: Recipe) -> Loaded | None:
        """The network to start from, where the recipe names weights."""
        from vitrail.verbs.evaluate import refuse_open_order
        from vitrail.verbs.start import start

        began = monotonic()
        loaded = start(recipe, self.source.classes)
        self._load_s = monotonic() - began if loaded is not None else None
        if loaded is not None and loaded.by_position:
            refuse_open_order(self.source, f"`{recipe.weights.path if recipe.weights else ''}`")
        for line in loaded.report if loaded else ():
            self.tell({"event": "note", "text": line})
        return loaded

    def _as_before(self) -> Recipe:
        """The recipe of the run that lies here, after making sure that it is the one that is wanted."""
        path = self.folder / RECIPE
        before = parse_recipe(path.read_text("utf-8"), str(path), name=self.wanted.name)
        devices = devices_before(self.wanted, before, self.ranks.size)
        now = settle(as_chosen(for_devices(self.wanted, devices), before), self.source)
        self.bits.refuse_other_recipe(before, now, self.folder)
        if to_plain(now) != to_plain(before):  # what decides nothing: where the pictures lie, how often to save
            write_file(path, to_yaml(now, version=__version__).encode())
        return now

    def plan(self, recipe: Recipe, start: Classifier | None) -> Plan:
        """All that the loop needs for a resolved recipe; nothing is written."""
        import torch

        from vitrail.data.loader import TrainLoader, bad_allowed
        from vitrail.data.mix import mixer
        from vitrail.data.order import part_of
        from vitrail.models import build, set_attention
        from vitrail.training.adapter import put_on
        from vitrail.training.loop import Plan

        device = settled_device(recipe, self.ranks.world.local)
        assert recipe.train.threads is not None
        torch.set_num_threads(recipe.train.threads)
        module = build(recipe.config, seed=recipe.train.seed) if start is None else start.module
        if recipe.adapter is not None:
            put_on(module, recipe.config, recipe.adapter, seed=recipe.train.seed)
        set_attention(module, "fused" if recipe.train.attention == "fused" else "explicit")
        seed, batch, ranks = recipe.train.seed, recipe.data.batch, self.ranks
        part = None
        if ranks.size > 1:
            part = part_of(batch, rank=ranks.rank, size=ranks.size, paired=recipe.mix is not None)
        loader = TrainLoader(self.source, recipe.policy, recipe.augment, recipe.data, seed, part)
        plan = Plan(
            module=module,
            optimizer=recipe.optimizer,
            schedule=recipe.schedule,
            loss=recipe.loss,
            average=recipe.average,
            train=recipe.train,
            checkpoint=recipe.checkpoint,
            evaluation=recipe.evaluation,
            precision="fp32" if recipe.precision == "auto" else recipe.precision,
            device=str(device),
            ranks=ranks,
            loader=loader,
            bad_allowed=bad_allowed(self.source, recipe.data),
            mix=mixer(recipe.mix, seed=seed, classes=recipe.config.classes, batch=batch, part=part),
            class_weights=self._class_weights(recipe),
            teacher=self._teacher(recipe),
            evaluate=lambda network: self._quality(network, recipe),
            folder=self.folder,
            identity=self._identity(recipe),
            told=recipe.journal,
            about=about(recipe, self.source, self._load_s),
            watch=recipe.watch,
            recipe=to_yaml(recipe, version=__version__),
        )
        return plan

    def _train(self, recipe: Recipe, start: Classifier | None, snapshot: Snapshot | None) -> TrainResult:
        from vitrail.training.loop import train as run_loop
        from vitrail.training.schedule import total_steps
        from vitrail.verbs.feeding import reading

        plan = self.plan(recipe, start)
        loader = plan.loader
        self.ranks.first(lambda: self._enough_space(plan.module))
        steps = total_steps(recipe.schedule, max(1, loader.steps_per_epoch))
        self.tell({"event": "length", "steps": steps, "steps_per_epoch": loader.steps_per_epoch})
        self.tell({"event": "note", "text": as_told(recipe, loader.steps_per_epoch, self.ranks.size)})
        if (how := reading(recipe, self.source)) is not None:
            self.tell({"event": "note", "text": how})
        with told(self.tell, recipe, self.folder, snapshot.step if snapshot else 0) as tell:
            outcome = run_loop(plan, resume=snapshot, listener=tell)
        return self._finish(recipe, outcome)

    def _class_weights(self, recipe: Recipe) -> tuple[float, ...] | None:
        from vitrail.training.configs import CrossEntropy
        from vitrail.training.losses import balanced_weights

        if not isinstance(recipe.loss, CrossEntropy) or recipe.loss.class_weights == "none":
            return None
        return balanced_weights(self.source.count(self.source.training).tolist())

    def _teacher(self, recipe: Recipe) -> nn.Module | None:
        if recipe.loss.teacher is None:
            return None
        teacher = teacher_of(recipe, self.source.classes)
        taught_by(recipe, teacher.sha256)
        for line in teacher.report:
            self.tell({"event": "note", "text": line})
        return teacher.module

    def _merged(self, recipe: Recipe, module: nn.Module) -> nn.Module:
        """The network with its adapters merged, which the run is judged by; they lie beside it in a file."""
        from vitrail.verbs.adapter import keep_adapter

        module, line = keep_adapter(self.folder, recipe, self.source.classes, module)
        self.tell({"event": "note", "text": line})
        self._last = None
        return module

    def _enough_space(self, module: nn.Module) -> None:
        size = sum(value.numel() * value.element_size() for value in module.state_dict().values())
        wanted, free = 4 * 3 * size, free_space(self.folder)  # weights, average, two moments; new, old and best
        if free < wanted:
            raise SystemFault(
                "V701",
                f"`{self.folder}` has {free / 1e6:.0f} MB free, a run needs about {wanted / 1e6:.0f} MB",
                hint="free some space and add --resume, or give a folder on another disk with --out",
            )

    def _identity(self, recipe: Recipe) -> dict[str, object]:
        return {
            "recipe": fingerprint(recipe),
            "data": self.source.fingerprint,
            "holdout": recipe.data.holdout,
            "seed": recipe.train.seed,
            **self.bits.recorded(recipe),
            "model": {
                "variant": recipe.variant,
                "family": family_of(recipe.config),
                "config": asdict(recipe.config),
                "policy": recipe.policy.to_json(),
                "classes": list(self.source.classes),
                **({} if recipe.adapter is None else {"adapter": asdict(recipe.adapter)}),
            },
        }

    def _quality(self, network: nn.Module, recipe: Recipe) -> dict[str, float]:
        evaluation = self._last = self._evaluate(network, recipe)
        return {
            "top1": evaluation.top1,
            "top5": evaluation.top5,
            "loss": nan if evaluation.loss is None else evaluation.loss,
        }

    def _evaluate(self, network: nn.Module, recipe: Recipe) -> Evaluation:
        from vitrail.models.classifier import Classifier
        from vitrail.verbs.sharing import evaluated

        model = Classifier(network, recipe.config, recipe.policy, self.source.classes)
        return evaluated(model, self.source, recipe, self.ranks)

    def _finish(self, recipe: Recipe, outcome: Outcome) -> TrainResult:
        from vitrail.training.state import final_module
        from vitrail.verbs.feeding import waiting
        from vitrail.verbs.finish import finish_run

        module = final_module(outcome.state)
        if recipe.adapter is not None:
            module = self._merged(recipe, module)
        evaluation = self._last or self._evaluate(module, recipe)

        def finish() -> Path:
            self.tell({"event": "note", "text": waiting(self.folder, recipe)})
            return finish_run(self.folder, recipe, self.source, module, evaluation, drift=self.bits.told)

        bundle = self.ranks.first(finish)
        return TrainResult(self.folder, bundle, outcome.steps, outcome.seconds, evaluation)


def no_recipe_given() -> UsageError:
    """What `train` says when it is told neither a recipe nor a model."""
    return UsageError(
        "V001",
        "give a RECIPE, or --model and --data",
        hint="`vitrail show recipes` and `vitrail show models` list them",
    )


def plan_of(recipe: Recipe, source: Source, *, started: bool = False) -> Plan:
    """All that the loop needs for a resolved recipe, of no run folder; started: with the weights it starts from."""
    run = _Run(recipe, source, Path(), Ranks(), _silent, Bits())
    start = run._start(recipe) if started else None
    return run.plan(recipe, start.classifier if start else None)
