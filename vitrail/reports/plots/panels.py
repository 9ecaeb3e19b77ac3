"""What came of pictures and models: confusion, class sizes, contact sheets, ratios as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrail.evaluation.evaluate import Evaluation
from vitrail.reports.plots.drawing import (
    ACCENT,
    FONT,
    HAIR,
    INK,
    MUTED,
    PAPER,
    WRONG,
    bare,
    drawable,
    elide,
    save,
    titled,
)
from vitrail.reports.tiles import Tile, fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST_COUNTED = 20  # classes up to which the cells of a confusion matrix carry their counts
LARGEST_NAMED = 30  # classes up to which its rows and columns carry their names


def confusion(evaluation: Evaluation, path: Path) -> bytes:
    """The confusion matrix, each row as shares of its true class. Returns the PNG's bytes.

    The colours follow the square root of the share, so that rare confusions are seen; up to 20 classes the counts
    stand in the cells, up to 30 the names at the sides.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.figure import Figure

    counts, count = evaluation.confusion, len(evaluation.classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(0.42 * count, 2.6), 6.6)
    figure = Figure(figsize=(side + 2.2, side + 1.3), layout="constrained", facecolor=PAPER)
    axes = figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("shares", ["#f2f4f7", "#a9c1e6", ACCENT, "#122c58"])
    image = axes.imshow(shares, cmap=colours, norm=PowerNorm(0.5, 0.0, 1.0))
    bare(axes)
    axes.set_axisbelow(False)
    axes.grid(visible=False)
    if count <= LARGEST_NAMED:
        axes.set_xticks(np.arange(count - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
        axes.grid(visible=True, which="minor", color=PAPER, linewidth=1.5)
        axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted class", color=MUTED, fontsize=8.5, fontfamily=FONT)
    axes.set_ylabel("true class", color=MUTED, fontsize=8.5, fontfamily=FONT)
    _name_classes(axes, evaluation.classes, room=side / count)
    if count <= LARGEST_COUNTED:
        _print_counts(axes, counts, shares)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=22, pad=0.02, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.outline.set_visible(False)
    bar.ax.set_yticklabels(["0", "1 %", "10 %", "25 %", "50 %", "100 %"], fontfamily=FONT)
    bar.ax.tick_params(length=0, labelsize=8, labelcolor=MUTED)
    return save(figure, path)


def class_sizes(classes: Sequence[str], training: Sequence[int], held_out: Sequence[int], path: Path) -> bytes:
    """How many pictures each class has, to train on and held out, the largest first. Returns the PNG's bytes."""
    from matplotlib.figure import Figure

    order = np.argsort(-(np.array(training) + np.array(held_out)), kind="stable")
    first, second = np.array(training)[order], np.array(held_out)[order]
    figure = Figure(figsize=(9.2, 2.9), layout="constrained", facecolor=PAPER)
    axes = figure.add_subplot()
    bare(axes)
    titled(axes, "Pictures of each class")
    width = 0.8 if len(classes) <= 200 else 1.0
    places = np.arange(len(classes))
    if first.any():
        axes.bar(places, first, width, color=ACCENT, label="to train on")
    axes.bar(places, second, width, bottom=first, color="#a9c1e6", label="held out" if first.any() else "all")
    named = len(classes) <= LARGEST_NAMED
    names = [drawable(elide(classes[i], 18)) for i in order] if named else []
    axes.set_xticks(places if named else [], names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_xlim(-0.6, len(classes) - 0.4)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=MUTED, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return save(figure, path)


def pictures(tiles: Sequence[tuple[NDArray[np.uint8], str, bool | None]], path: Path) -> bytes:
    """A contact sheet: at most six in a row, each with its caption (up to three lines) and a mark. Returns the bytes.

    Small pictures are enlarged by whole pixels, large ones reduced; blue with a tick is good, red with a cross is not.
    """
    from matplotlib.figure import Figure

    side, gap, foot, dpi = 192, 20, 76, 144
    across = min(max(len(tiles), 1), 6)
    down = max(-(-len(tiles) // across), 1)
    width, height = across * (side + gap) + gap, down * (side + foot) + gap
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor=PAPER)
    for place, tile in enumerate(tiles):
        left = gap + place % across * (side + gap)
        top = height - gap - place // across * (side + foot)
        _place(figure, Tile(*tile), (left, top, side))
    return save(figure, path, dpi=dpi)


def bars(rows: Sequence[tuple[str, float, float, float, float | None]], title: str, path: Path) -> bytes:
    """Ratios as bars, best read from top to bottom: (name, value, its lower and upper bound, the bar it has to pass).

    Returns the PNG's bytes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 0.9 + 0.46 * len(rows)), layout="constrained", facecolor=PAPER)
    axes = figure.add_subplot()
    bare(axes)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=HAIR, linewidth=0.8)
    for place, (_, value, low, high, bar) in enumerate(rows):
        axes.barh(place, value, height=0.62, color=ACCENT if bar is None or low >= bar else WRONG)
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], color=INK, linewidth=1, capsize=2.5)
        axes.annotate(
            f"{value:.2f}", (max(value, high), place), (6, 0), textcoords="offset points", va="center",
            color=INK, fontsize=8.5, fontfamily=FONT,
        )  # fmt: skip
        if bar is not None:
            axes.plot([bar, bar], [place - 0.4, place + 0.4], color=INK, linewidth=1.4, linestyle=(0, (2, 1)))
    axes.axvline(1.0, color=MUTED, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [drawable(name) for name, *_ in rows], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max((high for _, _, _, high, _ in rows), default=1.0))
    titled(axes, title)
    return save(figure, path)


def _place(figure: Figure, tile: Tile, box: tuple[int, int, int]) -> None:
    """Put one tile, its mark and caption under (left, top, side), in pixels from the lower left corner."""
    left, top, side = box
    across, up = figure.get_size_inches() * figure.dpi
    image = fit(tile.image, side)
    height, width = image.shape[:2]
    corner = (left + (side - width) // 2, top - side + (side - height) // 2)
    axes = figure.add_axes((corner[0] / across, corner[1] / up, width / across, height / up))
    axes.imshow(image, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    mark, colour = ("\u2713", ACCENT) if tile.good else ("\u2717" if tile.good is False else "", WRONG)
    for line, text in enumerate([mark, *tile.caption.split("\n")[:3]]):
        figure.text(
            (left + (18 if line and mark else 0)) / across,
            (top - side - 8 - 17 * max(line - 1, 0)) / up,
            drawable(elide(text, 22)),
            color=colour if line == 0 else INK if line == 1 else MUTED,
            fontsize=7.5,
            fontfamily=FONT,
            va="top",
            parse_math=False,
        )


def _name_classes(axes: Axes, classes: Sequence[str], *, room: float) -> None:
    """Names at both sides; below they lie flat where `room` inches per class suffice."""
    if len(classes) > LARGEST_NAMED:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    names = [drawable(elide(name, 18)) for name in classes]
    places = range(len(classes))
    flat = 0.09 * max(map(len, names)) <= room
    turn: dict[str, Any] = {} if flat else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(places, names, parse_math=False, **turn)
    axes.set_yticks(places, names, parse_math=False)


def _print_counts(axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for row, column in np.argwhere(counts > 0):
        axes.text(
            column,
            row,
            f"{counts[row, column]}",
            ha="center",
            va="center",
            color=PAPER if shares[row, column] > 0.2 else INK,
            fontsize=8 if counts.max() < 1000 else 6.5,
            fontfamily=FONT,
        )
