"""`predict`: what is on pictures."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.errors import UsageError
from vitrail.opening import open as open_model
from vitrail.pictures.limits import ENDINGS
from vitrail.pictures.predict import Failed, Prediction
from vitrail.verbs.refusals import refuse_headless, refuse_random

FEW = 8  # pictures for which it does not pay to pack weights for the processor

if TYPE_CHECKING:
    from vitrail.engines.program import Answering


def predict(
    model: str | Path | Answering,
    pictures: Sequence[str | Path] | str | Path,
    *,
    top: int = 5,
    batch: int = 32,
    engine: str = "auto",
    device: str = "auto",
) -> Iterator[Prediction | Failed]:
    """The `top` best classes of each picture, in order. A picture that cannot be read gives a `Failed` in its place.

    pictures: files, folders (all pictures below, by name) and glob patterns. device: of what torch runs, as
    `vitrail.open` takes it; a model that is open already stays where it lies. UsageError V004 when one matches nothing.
    """
    if top < 1 or batch < 1:
        raise UsageError("V007", f"top is {top} and batch {batch}", hint="both must be 1 or more")
    if isinstance(pictures, (str, Path)):
        pictures = [pictures]
    if isinstance(model, (str, Path)):
        files = all(Path(place).is_file() for place in pictures)  # folders and patterns may hold any number
        once, together = files and len(pictures) <= FEW, min(batch, len(pictures)) if files else batch
        opened = open_model(model, engine=engine, device=device, once=once, batch=max(1, together))
    else:
        opened = model
    refuse_random(opened.provenance, "predict with")
    refuse_headless(opened.classes, "predict")
    return opened.predict(found_pictures(pictures), top=min(top, len(opened.classes)), batch=batch)


def found_pictures(places: Sequence[str | Path]) -> list[Path]:
    """The files that the places name; UsageError V004 for a place that names none."""
    files: list[Path] = []
    for place in places:
        if not str(place).strip():
            raise UsageError(
                "V004", "the name of a picture is an empty text", hint="name a file, a folder or a pattern"
            )
        path = Path(place)
        if path.is_dir():
            mine = _below(path)
        elif path.exists() or not glob.has_magic(str(place)):
            mine = [path]
        else:
            mine = sorted(map(Path, glob.glob(str(place), recursive=True)), key=os.fsencode)
        if not mine:
            raise UsageError("V004", f"no pictures at `{place}`", hint=f"pictures end in {', '.join(ENDINGS)}")
        files += mine
    return files


def _below(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=os.fsencode)
        mine = (name for name in files if name.lower().endswith(ENDINGS) and not name.startswith("."))
        found += [Path(parent, name) for name in sorted(mine, key=os.fsencode)]
    return found
