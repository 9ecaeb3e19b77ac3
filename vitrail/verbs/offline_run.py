"""`offline run`: packed, answered and scored in one go, as the packages' `run_infer_310.sh`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitrail.disk import ASIDE, make_folder, remove_folder, remove_leftovers
from vitrail.errors import UsageError, VitrailError
from vitrail.locks import locked
from vitrail.offline import inputs
from vitrail.offline import pack as packing
from vitrail.offline.infer import Inferred
from vitrail.offline.layout import PACKED, RESULTS, SCORE_LOG, Packed, known, read_packed
from vitrail.recipe.evaluating import evaluation_recipe
from vitrail.verbs.evaluate import Part
from vitrail.verbs.offline import (
    Chosen,
    Progress,
    ScoreResult,
    answered,
    chosen_pictures,
    offline_score,
    open_answering,
)
from vitrail.verbs.outside import refuse_inside

_LOCK = ".lock"
Say = Callable[[str], None]


@dataclass(frozen=True)
class RunResult:
    """What each of the three steps gave."""

    folder: Path
    packed: Packed
    inferred: Inferred
    score: ScoreResult
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        return {
            "folder": str(self.folder),
            "packed": self.packed.to_json(),
            "mean_ms": self.inferred.mean_ms,
            **self.score.to_json(),
            "notes": list(self.notes),
        }


def offline_run(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    dataset: str,
    settings: Sequence[str] = (),
    part: Part = "auto",
    engine: str = "auto",
    device: str = "auto",
    progress: Progress = lambda done, total: None,
    say: Say = lambda line: None,
) -> RunResult:
    """In the folder `out`: `preprocess_Result`, `result_Files`, `time_Result`, `infer.log` and, last, `acc.log`.

    The first step that fails ends it with its own error; `say` is told which. Begun before and stopped, it goes on with
    what was packed. UsageError V006 where `out` holds a finished run or anything else.
    """
    files, place = known(dataset), Path(out)
    recipe = evaluation_recipe(str(model), str(data), settings)
    opened = open_answering(recipe, engine=engine, device=device)
    chosen = chosen_pictures(opened, recipe, part)
    wanted = packing.planned(chosen.source, chosen.indices, opened.policy, files)
    refuse_inside(place, data)
    make_folder(place)
    with locked(place):
        with _step("preprocess dataset failed", say):
            _pack(chosen, wanted, place, progress, say)
        with _step("execute inference failed", say):
            if files == "cifar10":
                asked = inputs.records(place / PACKED, opened.policy, wanted.classes)
            else:
                asked = inputs.pictures(chosen.source, chosen.indices, opened.policy)
            inferred = answered(opened, asked, place, progress)
        with _step("calculate accuracy failed", say):
            score = offline_score(place / RESULTS, place / PACKED, out=place / SCORE_LOG)
    return RunResult(place, wanted, inferred, score, chosen.source.notes)


@contextlib.contextmanager
def _step(failed: str, say: Say) -> Iterator[None]:
    try:
        yield
    except VitrailError:
        say(failed)  # the packages' words
        raise


def _pack(chosen: Chosen, wanted: Packed, out: Path, progress: Progress, say: Say) -> None:
    """The pictures of the run in `out`, packed now or by a run that was stopped, whose results are removed."""
    remove_leftovers(out)
    held = {name for name in os.listdir(out) if name != _LOCK and not name.startswith(ASIDE)}
    if not held:
        packing.pack(chosen.source, chosen.indices, wanted, out / PACKED, progress=progress)
        return
    if SCORE_LOG in held or read_packed(out / PACKED) != wanted:
        what = "holds a finished run" if SCORE_LOG in held else "holds something else than this run begun"
        raise UsageError("V006", f"`{out}` {what}", hint="give a new folder, or remove it")
    say(f"{wanted.pictures:,} pictures are packed in `{out / PACKED}` already")
    if RESULTS in held:
        remove_folder(out / RESULTS)
