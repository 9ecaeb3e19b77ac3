"""What a verb writes never lies among the pictures it reads: there it would be taken for a class of them."""

from __future__ import annotations

from pathlib import Path

from vitrail.errors import UsageError


def refuse_inside(out: Path, *places: str | Path | None) -> None:
    """UsageError V007 where `out` is one of these folders of pictures, or lies in one."""
    for place in places:
        if place is None or not Path(place).is_dir():
            continue
        if out.resolve().is_relative_to(Path(place).resolve()):
            raise UsageError(
                "V007",
                f"`{out}` lies in `{place}`, among the pictures",
                hint="name a folder outside: what is written there would be taken for a class",
            )
