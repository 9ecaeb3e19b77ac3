"""Shares that are neither good nor bad: sizes, formats, colours, and what the policy does to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from vitrail.data.audit.shapes import fit
from vitrail.data.audit.single import sizes
from vitrail.data.looks import Look
from vitrail.data.sources import Source
from vitrail.errors import count
from vitrail.pictures.policy import Policy


def facts(source: Source, looks: Sequence[Look], policy: Policy) -> Iterator[tuple[str, str]]:
    good = [one for one in looks if one.good]
    yield "pictures", f"{len(looks):,} in {count(len(source.classes), 'class', 'classes')}, {source.place}"
    counts = source.count(source.training if len(source.training) else source.held_out)
    yield "a class", f"{counts.min():,} to {counts.max():,} pictures, {np.median(counts):,.0f} in the middle"
    if not good:
        return
    width, height = sizes(looks)
    smallest, largest = int((width * height).argmin()), int((width * height).argmax())
    middle = f"{np.median(width):.0f} x {np.median(height):.0f} in the middle"
    least, most = (f"{width[i]:.0f} x {height[i]:.0f}" for i in (smallest, largest))
    yield "sizes", f"{least} to {most} pixels, {middle}"
    ratio = np.quantile(width / height, [0.05, 0.5, 0.95])
    yield "width to height", f"{ratio[1]:.2f} in the middle, {ratio[0]:.2f} to {ratio[2]:.2f} for nine of ten"
    fits = fit(width, height, policy)
    if policy.mode == "squash":
        yield (
            "squash",
            f"stretches one side {np.median(fits.stretch):.2f} times in the middle, {fits.stretch.max():.2f} at most",
        )
    else:
        yield (
            policy.mode,
            f"keeps {100 * fits.kept.mean():.0f} % of the pictures' area, {100 * fits.kept.min():.0f} % at least",
        )
    yield "formats", ", ".join(f"{number:,} {name}" for name, number in Counter(o.format for o in good).most_common())
    for name, shares in (
        ("EXIF orientation", [one.orientation != 1 for one in good]),
        ("grey", [one.colour == "grey" for one in good]),
        ("CMYK", [one.colour == "CMYK" for one in good]),
        ("with alpha", [one.alpha for one in good]),
        ("16 bits", [one.deep for one in good]),
    ):
        if any(shares):
            yield name, _share(shares)


def _share(which: Iterable[bool]) -> str:
    flags = list(which)
    return f"{sum(flags):,} of {len(flags):,} ({100 * sum(flags) / len(flags):.1f} %)"
