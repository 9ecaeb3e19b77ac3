"""How a run begins: its recipe settled, or the one that lies in its folder, and the state to go on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from vitrail import __version__
from vitrail.data.sources import Source
from vitrail.disk import remove_leftovers, write_file
from vitrail.errors import RunError
from vitrail.opening import RECIPE_FILE, identity_of
from vitrail.ranks import Ranks
from vitrail.recipe import Recipe
from vitrail.recipe.devices import devices_before, for_devices
from vitrail.recipe.read import parse_recipe
from vitrail.recipe.settle import as_chosen, settle, started_from, taught_by
from vitrail.recipe.write import to_plain, to_yaml
from vitrail.verbs.before import Listener, probed, refuse_early, settled_device
from vitrail.verbs.drift import Bits
from vitrail.verbs.teacher import teacher_of

if TYPE_CHECKING:
    from vitrail.training.checkpoint import Snapshot
    from vitrail.weights import Loaded


@dataclass(frozen=True)
class Call:
    """One call of `train`: the recipe that is wanted, its source, and the run's folder."""

    wanted: Recipe
    source: Source
    folder: Path
    ranks: Ranks
    tell: Listener
    bits: Bits


class Beginning:
    """Finds the recipe, the weights and the state that a run begins with."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.load_s: float | None = None  # of the weights to start from
        self._loaded: Loaded | None = None  # those weights, where settling the recipe took them

    def find(self, *, resume: bool, strict: bool) -> tuple[Recipe, Snapshot | None, str] | None:
        """The run's recipe, the state to go on from, and the hash of its pictures; None where it is finished."""
        if (self.call.folder / RECIPE_FILE).is_file() and not resume:  # again: somebody was faster
            raise exists_already(self.call.folder)
        remove_leftovers(self.call.folder)
        if not (self.call.folder / RECIPE_FILE).is_file():
            return self._settled(), None, self.call.source.fingerprint
        recipe = self._as_before()
        if (self.call.folder / "bundle" / "manifest.json").is_file():
            return None
        return recipe, self._newest(recipe, strict), self.call.source.fingerprint

    def weights(self, recipe: Recipe, snapshot: Snapshot | None) -> Loaded | None:
        """The network to start from, where the recipe names weights and there is no state to go on from."""
        if self._loaded is None and snapshot is None:
            return self._load(recipe)  # of a rank that did not settle the recipe, or of a run without a checkpoint
        return self._loaded

    def _settled(self) -> Recipe:
        """The recipe of a new run, whole, kept in its folder."""
        recipe = settle(for_devices(self.call.wanted, self.call.ranks.size), self.call.source)
        refuse_early(recipe)
        self._loaded = start = self._load(recipe)
        if start is not None:
            recipe = started_from(recipe, start)
        if recipe.loss.teacher is not None:
            recipe = taught_by(recipe, teacher_of(recipe, self.call.source.classes).sha256)
        recipe = probed(recipe, self.call.ranks)
        write_file(self.call.folder / RECIPE_FILE, to_yaml(recipe, version=__version__).encode())
        return recipe

    def _newest(self, recipe: Recipe, strict: bool) -> Snapshot | None:
        """The state to go on from, after making sure that it is of this recipe and these pictures."""
        from vitrail.training.checkpoint import CHECKPOINTS, load, newest_good

        path, passed_over = newest_good(self.call.folder / CHECKPOINTS, set_aside=not strict)
        self._report_damage(passed_over, strict)
        if path is None:
            return None
        snapshot = load(path)
        settled_device(recipe, self.call.ranks.world)  # before it is asked how float32 is computed here
        identity = identity_of(snapshot, path)
        for line in self.call.bits.compare(identity, recipe, self.call.source, self.call.folder, snapshot.step):
            self.call.tell({"event": "warning", "text": line})
        if (ranks := identity.get("ranks", 1)) != self.call.ranks.size:
            text = (
                f"saved by {ranks} ranks, {self.call.ranks.size} go on: the same pictures in order, not the same bits"
            )
            self.call.tell({"event": "note", "text": text})
        return snapshot

    def _report_damage(self, passed_over: Sequence[str], strict: bool) -> None:
        from vitrail.errors import OutsideBound

        for note in passed_over:
            self.call.tell({"event": "warning", "text": note})
        if passed_over and strict:
            raise OutsideBound(
                "V803",
                f"a damaged checkpoint in `{self.call.folder}` was passed over",
                evidence=list(passed_over),
                hint="resume without --strict to go on from the one before it",
            )

    def _load(self, recipe: Recipe) -> Loaded | None:
        from vitrail.verbs.evaluate import refuse_open_order
        from vitrail.verbs.start import start

        began = monotonic()
        loaded = start(recipe, self.call.source.classes)
        self.load_s = monotonic() - began if loaded is not None else None
        if loaded is not None and loaded.by_position:
            refuse_open_order(self.call.source, f"`{recipe.weights.path if recipe.weights else ''}`")
        for line in loaded.report if loaded else ():
            self.call.tell({"event": "note", "text": line})
        return loaded

    def _as_before(self) -> Recipe:
        """The recipe of the run that lies here, after making sure that it is the one that is wanted."""
        path = self.call.folder / RECIPE_FILE
        before = parse_recipe(path.read_text("utf-8"), str(path), name=self.call.wanted.name)
        devices = devices_before(self.call.wanted, before, self.call.ranks.size)
        now = settle(as_chosen(for_devices(self.call.wanted, devices), before), self.call.source)
        self.call.bits.refuse_other_recipe(before, now, self.call.folder)
        if to_plain(now) != to_plain(before):  # what decides nothing: where the pictures lie, how often to save
            write_file(path, to_yaml(now, version=__version__).encode())
        return now


def exists_already(folder: Path) -> RunError:
    """What `train` says of a folder in which a run lies, when it is not told to go on with it."""
    return RunError(
        "V601", f"`{folder}` holds a run already", hint="go on with --resume, or give another folder with --out"
    )
