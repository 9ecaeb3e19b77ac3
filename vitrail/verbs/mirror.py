"""A run whose `--out` is the address of a store: it lies in a local folder, and what is saved is copied there.

Each generation is copied after it was saved: its tensors, then the journal, and its manifest last, so that what has a
manifest there is whole. At the end everything else follows, the bundle's manifest last of all. A copy that fails is
made up for with the next one; the end waits for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from vitrail.disk import make_folder, new_folder, read_file
from vitrail.errors import RunError, VitrailError
from vitrail.opening import RECIPE_FILE
from vitrail.remote import is_address
from vitrail.remote.sending import Sent
from vitrail.remote.web import How
from vitrail.training.checkpoint import CHECKPOINTS, generations
from vitrail.training.generation import MANIFEST
from vitrail.training.journal import JOURNAL, LOG
from vitrail.verbs.before import Listener

TOLD = (RECIPE_FILE, JOURNAL, LOG)  # what a generation needs beside it to be resumed from
_LIMIT = 64 << 20  # bytes of a manifest
_PATIENCE = 3.0  # seconds for a call once a signal came: the run leaves within ten


def local_folder(out: str | Path) -> Path:
    """Where a run lies here: a path as it is; of an address `runs/` and its last part.

    >>> local_folder("s3://bucket/experiments/photos/")
    PosixPath('runs/photos')
    """
    if isinstance(out, Path) or not is_address(out):
        return Path(out)
    return Path("runs") / (out.rstrip("/").rpartition("/")[2] or "run")


def bring_back(out: str | Path, *, how: How | None = None) -> None:
    """The run that an address holds, brought into its local folder where none lies there.

    RunError V601 when the one that lies there is behind the store's.
    """
    if isinstance(out, Path) or not is_address(out):
        return
    folder, sent = local_folder(out), Sent(out, how)
    there = sent.listed()
    if (folder / RECIPE_FILE).is_file():
        newest = max((path for path in there if _generation(path) and path.endswith(MANIFEST)), default="")
        mine = max((path.name for path in (folder / CHECKPOINTS).glob("step-????????")), default="")
        if newest and _generation(newest) > mine:
            raise RunError(
                "V601",
                f"`{folder}` is behind {out}: it goes to {mine or 'no checkpoint'}, there is {_generation(newest)}",
                hint="move the local folder away: then --resume brings the later one back",
            )
        return
    if RECIPE_FILE not in there:
        return
    sealed = {_generation(path) for path in there if path.endswith(MANIFEST)} | {""}
    make_folder(folder.parent)
    with new_folder(folder) as aside:
        for path in sorted(path for path in there if _generation(path) in sealed):
            sent.bring(there[path], aside / path)


def _generation(path: str) -> str:
    """The name of the generation that a path lies in, or nothing."""
    parts = path.split("/")
    return parts[1] if len(parts) == 3 and parts[0] == CHECKPOINTS and parts[1].startswith("step-") else ""


@contextlib.contextmanager
def copied(out: str | Path, listener: Listener, *, resume: bool, how: How | None = None) -> Iterator[Listener]:
    """The listener of a run in `local_folder(out)`; of an address, one that copies what is saved. SystemFault V701.

    RunError V601 when a run lies at the address already and none is to be resumed.
    """
    if isinstance(out, Path) or not is_address(out):
        yield listener
        return
    sent, folder = Sent(out, how), local_folder(out)
    if not resume and RECIPE_FILE in sent.listed():
        raise RunError("V601", f"{out} holds a run already", hint="go on with --resume, or give another address")
    listener({"event": "note", "text": f"the run lies in `{folder}`, and is copied to {sent.url}"})
    mirror = Mirror(sent, folder, listener)
    yield mirror
    mirror.finish()


class Mirror:
    """A listener that copies each generation when it was saved, and tells the other listener what failed."""

    def __init__(self, sent: Sent, folder: Path, listener: Listener) -> None:
        self._sent, self._folder, self._listener = sent, folder, listener
        self._there: dict[str, bytes] = {}  # generation -> its manifest, as it was sent

    def __call__(self, row: Mapping[str, object]) -> None:
        self._listener(row)
        stopped = row["event"] == "stopped"
        if not stopped and not (row["event"] == "checkpoint" and "wall_s" in row):
            return
        try:
            self._generations(self._sent.hurried(_PATIENCE) if stopped else self._sent)
            if not stopped:
                self._prune()
        except VitrailError as error:
            why = "; ".join([error.what, *error.evidence])
            text = f"step {row['step']} is not copied, the next save tries again: {why}"
            self._listener({"event": "warning", "text": text})

    def finish(self) -> None:
        """Send what is not there yet, the bundle's manifest last."""
        self._generations(self._sent)
        self._prune()
        files = [path for path in self._folder.rglob("*") if path.is_file() and not path.is_symlink()]
        names = [path.relative_to(self._folder).as_posix() for path in files]
        rest = [name for name in names if not name.startswith((f"{CHECKPOINTS}/", "."))]
        for name in sorted(rest, key=lambda name: (name.startswith("bundle/"), name == f"bundle/{MANIFEST}", name)):
            self._sent.send(self._folder / name, name)

    def _here(self) -> list[Path]:
        return generations(self._folder / CHECKPOINTS)

    def _generations(self, sent: Sent) -> None:
        for path in self._here():
            manifest = read_file(path / MANIFEST, limit=_LIMIT)
            if self._there.get(path.name) != manifest:
                self._generation(path, sent)
                self._there[path.name] = manifest

    def _generation(self, path: Path, sent: Sent) -> None:
        lead = f"{CHECKPOINTS}/{path.name}"
        if path.name not in self._there:  # of a known one the manifest alone is another, for it became the best
            for file in sorted(path.iterdir()):
                if file.name != MANIFEST:
                    sent.send(file, f"{lead}/{file.name}")
        for name in TOLD:
            if (self._folder / name).is_file():
                sent.send(self._folder / name, name)
        sent.send(path / MANIFEST, f"{lead}/{MANIFEST}")

    def _prune(self) -> None:
        """Remove generations that are no longer kept here, each one's manifest first."""
        here = {path.name for path in self._here()}
        gone = [path for path in self._sent.listed() if _generation(path) and _generation(path) not in here]
        for path in sorted(gone, key=lambda path: (not path.endswith(MANIFEST), path)):
            self._sent.remove(path)
