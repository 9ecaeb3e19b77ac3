"""One run from its recipe to its bundle: what `train` does once its source and its folder are there."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail import __version__
from vitrail.errors import Stopped
from vitrail.machine import keep_pages
from vitrail.recipe import Recipe
from vitrail.recipe.devices import as_told
from vitrail.recipe.precision import in_words
from vitrail.recipe.write import to_yaml
from vitrail.verbs.before import Listener, refuse_full_disk
from vitrail.verbs.begin import Beginning, Call
from vitrail.verbs.planned import plan_of
from vitrail.verbs.sharing import refuse_other_pictures
from vitrail.verbs.telling import told

if TYPE_CHECKING:
    from torch import nn

    from vitrail.evaluation.evaluate import Evaluation
    from vitrail.training.checkpoint import Snapshot
    from vitrail.training.loop import Outcome
    from vitrail.training.plan import Plan


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


class Run:
    """One call of `train` on one rank."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self._last: Evaluation | None = None  # of this process; the loop's last one is of the final weights

    def go(self, *, resume: bool, strict: bool) -> TrainResult:
        if self.call.wanted.train.keep_pages:
            keep_pages()
        beginning = Beginning(self.call)
        begun = self.call.ranks.first(lambda: beginning.find(resume=resume, strict=strict))
        if begun is None:
            self.call.tell({"event": "note", "text": "the run is finished already"})
            return TrainResult(self.call.folder, self.call.folder / "bundle", 0, 0.0, None)
        recipe, snapshot, fingerprint = begun
        refuse_other_pictures(self.call.ranks, self.call.source, fingerprint)
        start = beginning.weights(recipe, snapshot)
        if resume and snapshot is None:
            self.call.tell({"event": "note", "text": "no checkpoint yet: starting at step 0"})
        if (words := in_words(recipe)) is not None:
            self.call.tell({"event": "note", "text": words})
        self.call.tell(
            {"event": "recipe", "text": to_yaml(recipe, version=__version__), "origins": dict(recipe.origins)}
        )
        plan = plan_of(
            self.call,
            recipe,
            start.classifier if start else None,
            evaluate=lambda network: self._quality(network, recipe),
            load_s=beginning.load_s,
        )
        return self._train(recipe, plan, snapshot)

    def _train(self, recipe: Recipe, plan: Plan, snapshot: Snapshot | None) -> TrainResult:
        from vitrail.training.loop import train as run_loop
        from vitrail.training.schedule import total_steps
        from vitrail.verbs.feeding import reading

        loader = plan.loader
        self.call.ranks.first(lambda: refuse_full_disk(self.call.folder, plan.module))
        steps = total_steps(recipe.schedule, max(1, loader.steps_per_epoch))
        self.call.tell({"event": "length", "steps": steps, "steps_per_epoch": loader.steps_per_epoch})
        self.call.tell({"event": "note", "text": as_told(recipe, loader.steps_per_epoch, self.call.ranks.size)})
        if (how := reading(recipe, self.call.source)) is not None:
            self.call.tell({"event": "note", "text": how})
        with self._told(recipe, snapshot) as tell:
            outcome = run_loop(plan, resume=snapshot, listener=tell)
        return self._finish(recipe, outcome)

    def _told(self, recipe: Recipe, snapshot: Snapshot | None) -> AbstractContextManager[Listener]:
        if self.call.ranks.rank:  # a tracker gets each row once
            return nullcontext(self.call.tell)
        return told(self.call.tell, recipe, self.call.folder, snapshot.step if snapshot else 0)

    def _merged(self, recipe: Recipe, module: nn.Module) -> nn.Module:
        """The network with its adapters merged, which the run is judged by; rank 0 keeps them beside it in a file."""
        from vitrail.models.lora import merged
        from vitrail.verbs.adapter import keep_adapter

        made: list[nn.Module] = []

        def keep() -> str:
            plain, line = keep_adapter(self.call.folder, recipe, self.call.source.classes, module)
            made.append(plain)
            return line

        self.call.tell({"event": "note", "text": self.call.ranks.first(keep)})
        self._last = None
        return made[0] if made else merged(module)

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

        model = Classifier(network, recipe.config, recipe.policy, self.call.source.classes)
        return evaluated(model, self.call.source, recipe, self.call.ranks)

    def _evaluate_at_end(self, network: nn.Module, recipe: Recipe) -> Evaluation:
        """Stopped V901 by a signal, which comes after all steps are saved."""
        from vitrail.training.signals import Interrupted, watched

        ranks = self.call.ranks
        with watched() as stop, ranks.watch(lambda: stop.caught):
            try:
                with stop.interrupting() if ranks.size == 1 else nullcontext():
                    return self._evaluate(network, recipe)
            except Interrupted:
                raise Stopped(
                    "V901",
                    f"stopped by {stop.caught or 'a signal'} before the bundle was made",
                    evidence=["all steps are done and saved"],
                    hint="run the same command with --resume: only the last evaluation and the bundle are left",
                ) from None

    def _finish(self, recipe: Recipe, outcome: Outcome) -> TrainResult:
        from vitrail.training.state import final_module
        from vitrail.verbs.feeding import waiting
        from vitrail.verbs.finish import finish_run

        module = final_module(outcome.state)
        if recipe.adapter is not None:
            module = self._merged(recipe, module)
        evaluation = self._last or self._evaluate_at_end(module, recipe)

        def finish() -> Path:
            self.call.tell({"event": "note", "text": waiting(self.call.folder, recipe)})
            return finish_run(self.call.folder, recipe, self.call.source, module, evaluation, drift=self.call.bits.told)

        bundle = self.call.ranks.first(finish)
        return TrainResult(self.call.folder, bundle, outcome.steps, outcome.seconds, evaluation)
