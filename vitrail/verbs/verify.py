"""`verify`: the proof of a bundle again, on the machine where it counts, without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.data.configs import Data
from vitrail.engines import open_bundle
from vitrail.errors import UsageError
from vitrail.evaluation.answers import CheckPicture
from vitrail.opening import kind_of
from vitrail.verbs.evaluate import chosen_source, matched
from vitrail.verbs.export import check_pictures

if TYPE_CHECKING:
    from vitrail.proof.verify import Verification


@dataclass(frozen=True)
class VerifyResult:
    """What was measured here, against what the proof says."""

    folder: Path
    verification: Verification

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        return {"bundle": str(self.folder), **asdict(self.verification)}


def verify(bundle: str | Path, data: str | Path | None = None, *, engine: str = "auto") -> VerifyResult:
    """Prove a bundle again; OutsideBound V802 when its answers left the proven bound.

    Without data the generated pictures are asked; with data also those that the proof knows by their pixels, and the
    accuracy on the others is counted.
    """
    folder = Path(bundle)
    kind = kind_of(bundle)
    if kind == "run" and (folder / "bundle").is_dir():
        folder, kind = folder / "bundle", "bundle"
    if kind != "bundle":
        raise UsageError(
            "V007", f"`{bundle}` is no bundle: only a bundle holds a proof", hint="make one with `vitrail export`"
        )
    from vitrail.proof.verify import verify as measure

    opened = open_bundle(folder, engine=engine)
    pictures: list[CheckPicture] = []
    if data is not None:
        source, _ = chosen_source(opened.provenance, Data(root=str(data)), "auto")
        pictures = check_pictures(matched(source, opened.classes), len(source.held_out))
    done = measure(opened, pictures=pictures)
    done.raise_if_failed()
    return VerifyResult(folder, done)
