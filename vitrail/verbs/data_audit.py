"""`data audit`: what is wrong with a source of pictures, before training shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrail import __version__
from vitrail.data.audit import Audit, Finding, audit
from vitrail.data.audit.findings import KINDS
from vitrail.data.configs import Data
from vitrail.data.loader import evaluation_batches
from vitrail.data.scan import scan
from vitrail.data.sources import Source, open_source
from vitrail.disk import make_folder, write_file
from vitrail.engines.table import need
from vitrail.errors import PictureError, UsageError
from vitrail.models.catalog import VARIANTS
from vitrail.opening import open as open_model
from vitrail.pictures.policy import HALF, MODES, Mode, Policy
from vitrail.pictures.predict import probabilities
from vitrail.verbs.evaluate import matched
from vitrail.verbs.refusals import refuse_headless, refuse_random

if TYPE_CHECKING:
    from vitrail.engines.program import Answering
    from vitrail.reports.tiles import Tile

SIZE = 224  # pixels, where neither a size nor a model is named
SHOWN = 24  # cases of each finding on the page; audit.json has all
BATCH = 64  # pictures that a model is asked of at a time
OF_A_GROUP = 3  # pictures of a group of copies on the page

Progress = Callable[[int, int], object]


def data_audit(
    data: str | Path,
    *,
    val: str | Path | None = None,
    model: str | Path | None = None,
    policy: Policy | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Audit:
    """Look at every picture of a source and say what is wrong with it; see `Audit`.

    val: another place for the held-out pictures. model: predicts, so that likely mislabelled pictures are named.
    policy: against which sizes are held, by default the model's, or a centre crop of 224. progress: called with
    pictures done and in all. DataError V401 to V405 when the source does not open.
    """
    source = open_source(Data(root=str(data), val=None if val is None else str(val)), split_it=False)
    opened = None
    if model is not None:
        opened = open_model(model, batch=BATCH)
        refuse_random(opened.provenance, "audit with")
        refuse_headless(opened.classes, "audit with")
        source = matched(source, opened.classes)
        policy = policy or opened.policy
    looks = scan(source, workers=workers, progress=progress)
    asked = None if opened is None else _predicted(opened, source, workers, progress)
    return audit(source, looks, policy or plain_policy(), probabilities=asked)


def plain_policy(size: int = SIZE, mode: Mode = "crop") -> Policy:
    """A policy that stands for its geometry alone; UsageError V007 for a size or mode that no policy has."""
    policy = Policy(size=(size, size), mode=mode, mean=HALF.mean, std=HALF.std)
    if mode not in MODES or (problems := policy.problems()):
        raise UsageError("V007", "no policy is so", evidence=problems if mode in MODES else [f"mode `{mode}`"])
    return policy


def policy_of(model: str) -> Policy:
    """The policy of a MODEL, a variant's without opening it."""
    return VARIANTS[model].policy if model in VARIANTS and not Path(model).exists() else open_model(model).policy


def _predicted(model: Answering, source: Source, workers: int, progress: Progress | None) -> NDArray[np.float32]:
    """Probabilities (N, K) of every picture, NaN for those that cannot be read."""
    total = len(source.labels)
    asked = np.full((total, len(source.classes)), np.nan, np.float32)
    done = 0
    for batch in evaluation_batches(source, np.arange(total), model.policy, batch=BATCH, workers=workers):
        asked[batch.indices] = probabilities(model.logits(batch.images))
        asked[[one.index for one in batch.bad]] = np.nan
        done += len(batch.indices)
        if progress is not None:
            progress(done, total)
    return asked


def write_audit(done: Audit, folder: Path) -> Path:
    """Write `audit.html`, `audit.json` and a contact sheet for each finding that has pictures. Returns the page."""
    need("matplotlib", "data audit --out")
    from vitrail.reports.audit import AuditPage, page
    from vitrail.reports.plots import class_sizes, pictures

    make_folder(folder)
    write_file(folder / "audit.json", (json.dumps(done.to_json(), indent=1, allow_nan=False) + "\n").encode())
    sheets: list[tuple[Finding, tuple[Tile, ...]]] = []
    for one in done.findings:
        tiles = tuple(_tile(done, one, place) for place, row in enumerate(one.rows[:SHOWN]) if one.drawn)
        sheets.append((one, tiles))
        if tiles:
            pictures(tiles, folder / _sheet(one.kind))
    for kind in set(KINDS) - {one.kind for one, tiles in sheets if tiles}:
        (folder / _sheet(kind)).unlink(missing_ok=True)  # of an audit that was written here before
    source = done.source
    counts = [source.count(part).tolist() for part in (source.training, source.held_out)]
    plot = class_sizes(source.classes, counts[0], counts[1], folder / "classes.png")
    content = AuditPage(
        title=f"Audit of {Path(source.place).name}",
        pictures=len(done.looks),
        classes=len(source.classes),
        findings=tuple(sheets),
        facts=(*done.facts, *(("note", note) for note in source.notes)),
        plot=plot,
        footer=f"made by vitrail {__version__}; audit.json has every case",
    )
    page(content, folder / "audit.html")
    return folder / "audit.html"


def _sheet(kind: str) -> str:
    return f"{kind.replace(' ', '-')}.png"


def _tile(done: Audit, finding: Finding, place: int) -> Tile:
    from vitrail.reports.tiles import Tile, beside

    row = finding.rows[place]
    names = [done.source.title(i) for i in row.pictures]
    shown = beside([_pixels(done, i) for i in row.pictures[:OF_A_GROUP]])
    more = [f"and {len(names) - OF_A_GROUP} more"] if len(names) > OF_A_GROUP else []
    head = [row.note] if row.note else [f"{len(names)} times the same"]
    return Tile(shown, "\n".join([*head, *names[:OF_A_GROUP], *more]), None if finding.weight == "advice" else False)


def _pixels(done: Audit, index: int) -> NDArray[np.uint8]:
    """The picture, or a grey square in the place of one that cannot be read."""
    nothing = np.full((64, 64, 1), 200, np.uint8)
    if not done.looks[index].good:
        return nothing
    try:
        return done.source.read(index)
    except PictureError:  # it went bad since it was looked at
        return nothing
