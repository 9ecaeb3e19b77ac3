"""Plots of a run and of an evaluation, as PNG files. The same input gives the same bytes with the same matplotlib.

Figures are made without pyplot: no global state, no window system, any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrail.disk import write_file
from vitrail.evaluation.evaluate import Evaluation
from vitrail.reports.tiles import Tile, fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One palette for plots and page: cobalt for what is, ruby for what went wrong, greys for everything that explains.
INK, MUTED, HAIR, PAPER = "#1f2730", "#6b7682", "#e3e6ea", "#ffffff"
ACCENT, WRONG = "#2557a7", "#b5382f"
FONT = "DejaVu Sans"  # comes with matplotlib, so it is there
DPI = 160

LARGEST_COUNTED = 20  # classes up to which the cells of a confusion matrix carry their counts
LARGEST_NAMED = 30  # classes up to which its rows and columns carry their names

Row = Mapping[str, Any]


def curves(rows: Iterable[Row], path: Path) -> bytes:
    """Loss, learning rate and held-out top-1 over the steps of a run, from its journal. Returns the PNG's bytes.

    Below them, where the journal has them: gradient norm, speed, the share of data wait, memory.
    rows: the journal's; of steps told twice, because a run was resumed, the later telling holds. Rows of other
    events are passed over; a panel without rows says so.
    """
    from matplotlib.figure import Figure

    journal = list(rows)
    steps, evaluations = _latest(journal, "step"), _latest(journal, "evaluation")
    small = [(title, unit, values) for title, unit, values in _small(steps) if np.isfinite(values).any()]
    figure = Figure(figsize=(9.2, 5.1 if small else 3.9), layout="constrained", facecolor=PAPER)
    figure.set_layout_engine("constrained", w_pad=0.14, h_pad=0.09)
    grid = figure.add_gridspec(3 if small else 2, 2, height_ratios=[3.4, 1, *([1.3] if small else [])])
    loss = figure.add_subplot(grid[0, 0])
    rate = figure.add_subplot(grid[1, 0], sharex=loss)
    top1 = figure.add_subplot(grid[:2, 1], sharex=loss)
    told = [row["step"] for row in steps + evaluations]
    if small:
        row = grid[2, :].subgridspec(1, len(small))
        for place, (title, unit, values) in enumerate(small):
            axes = figure.add_subplot(row[0, place])  # with steps of its own: there is room for fewer numbers
            _figure_of_steps(axes, _column(steps, "step"), values, (title, unit))
            axes.set_xlim(0, max(told, default=1))
    _loss(loss, _column(steps, "step"), _column(steps, "loss"))
    _rate(rate, _column(steps, "step"), _column(steps, "lr"))
    _top1(top1, _column(evaluations, "step"), _column(evaluations, "top1"))
    loss.tick_params(labelbottom=False)
    for axes in (rate, top1):
        axes.set_xlabel("step", color=MUTED, fontsize=8.5, fontfamily=FONT)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value == int(value) else "")
    loss.set_xlim(0, max(told, default=1))
    return _save(figure, path)


def rates(tried: Sequence[tuple[float, float, float]], suggested: float | None, path: Path) -> bytes:
    """A learning rate range test: (rate, loss, smoothed loss) of each step, and the rate it suggests.

    Returns the PNG's bytes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.4), layout="constrained", facecolor=PAPER)
    axes = figure.add_subplot()
    _bare(axes)
    _title(axes, "Loss while the learning rate rises")
    rate, loss, smooth = np.array(tried, np.float64).T
    axes.plot(rate, loss, color=ACCENT, alpha=0.22, linewidth=0.8)
    axes.plot(rate, smooth, color=ACCENT, linewidth=1.8)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate", color=MUTED, fontsize=8.5, fontfamily=FONT)
    low, high = float(smooth.min()), float(np.quantile(smooth, 0.95))
    axes.set_ylim(low - 0.1 * (high - low or 1.0), high + 0.5 * (high - low or 1.0))
    if suggested is not None:
        axes.axvline(suggested, color=INK, linewidth=1.2, linestyle=(0, (2, 1)))
        _title(axes, f"suggested {suggested:.2g}", right=True)
    return _save(figure, path)


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
    _bare(axes)
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
    return _save(figure, path)


def class_sizes(classes: Sequence[str], training: Sequence[int], held_out: Sequence[int], path: Path) -> bytes:
    """How many pictures each class has, to train on and held out, the largest first. Returns the PNG's bytes."""
    from matplotlib.figure import Figure

    order = np.argsort(-(np.array(training) + np.array(held_out)), kind="stable")
    first, second = np.array(training)[order], np.array(held_out)[order]
    figure = Figure(figsize=(9.2, 2.9), layout="constrained", facecolor=PAPER)
    axes = figure.add_subplot()
    _bare(axes)
    _title(axes, "Pictures of each class")
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
    return _save(figure, path)


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
    return _save(figure, path, dpi=dpi)


def bars(rows: Sequence[tuple[str, float, float, float, float | None]], title: str, path: Path) -> bytes:
    """Ratios as bars, best read from top to bottom: (name, value, its lower and upper bound, the bar it has to pass).

    Returns the PNG's bytes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 0.9 + 0.46 * len(rows)), layout="constrained", facecolor=PAPER)
    axes = figure.add_subplot()
    _bare(axes)
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
    _title(axes, title)
    return _save(figure, path)


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


def _loss(axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    _bare(axes)
    _title(axes, "Training loss")
    if not np.isfinite(values).any():
        return _say_none(axes, "no steps in the journal")
    window = max(1, len(values) // 40)
    smooth = smoothed(values, window)
    axes.plot(steps, values, color=ACCENT, alpha=0.22, linewidth=0.8)
    axes.plot(steps, smooth, color=ACCENT, linewidth=1.8, marker="o" if len(steps) == 1 else "")
    finite = values[np.isfinite(values)]
    low, high = finite.min(), max(np.nanmax(smooth), np.quantile(finite, 0.99))
    margin = 0.06 * (high - low) or 0.1
    axes.set_ylim(low - margin, high + margin)
    if window > 1:
        spacing = (steps[-1] - steps[0]) / (len(steps) - 1)
        _title(axes, f"mean over {round(window * spacing):,} steps", right=True)


def _rate(axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    _bare(axes)
    _title(axes, "Learning rate")
    if not np.isfinite(values).any():
        return _say_none(axes, "none in the journal")
    axes.plot(steps, values, color=MUTED, linewidth=1.4)
    high = float(np.nanmax(values))
    axes.set_ylim(0, 1.15 * high or 1.0)
    axes.set_yticks([0, high], ["0", ""])
    _title(axes, f"peak {high:.3g}", right=True)


def _small(steps: list[Row]) -> list[tuple[str, str, NDArray[np.float64]]]:
    """Title, unit and values of what the steps tell besides."""
    waited, took = (_column(steps, key) for key in ("wait_s", "step_s"))
    return [
        ("Gradient norm", "", _column(steps, "norm")),
        ("Images a second", "", _column(steps, "images_per_s")),
        ("Waiting for data", " %", 100 * waited / np.maximum(waited + took, 1e-9)),
        ("Memory", " GB", _column(steps, "memory_bytes") / 1e9),
    ]


def _figure_of_steps(
    axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], named: tuple[str, str]
) -> None:
    """A small panel of their centred mean; named: its title, and the unit of its values."""
    _bare(axes)
    _title(axes, named[0])
    smooth = smoothed(values, max(1, len(values) // 40))
    axes.plot(steps, smooth, color=MUTED, linewidth=1.4, marker="o" if len(steps) == 1 else "", markersize=3)
    axes.set_ylim(0, 1.2 * float(np.nanmax(smooth)) or 1.0)
    axes.locator_params(axis="y", nbins=2)
    axes.locator_params(axis="x", nbins=3)
    axes.yaxis.set_major_formatter(lambda value, _: (f"{value:,.0f}" if value >= 100 else f"{value:.3g}") + named[1])
    axes.xaxis.set_major_formatter(lambda value, _: _short(value) if value == int(value) else "")


def _short(count: float) -> str:
    """A number of steps in few characters.

    >>> _short(500.0), _short(25000.0), _short(1500000.0)
    ('500', '25k', '1.5M')
    """
    if count < 10_000:
        return f"{count:,.0f}"
    return f"{count / 1e3:g}k" if count < 1e6 else f"{count / 1e6:g}M"


def _top1(axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    _bare(axes)
    _title(axes, "Held-out top-1")
    if not np.isfinite(values).any():
        return _say_none(axes, "no evaluation in the journal")
    axes.plot(steps, 100 * values, color=ACCENT, linewidth=1.8, marker="o", markersize=3.2, clip_on=False)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    best = int(np.nanargmax(values))
    axes.plot(steps[best], 100 * values[best], "o", markersize=8, mfc="none", mec=ACCENT, clip_on=False)
    low, high = 100 * float(np.nanmin(values)), 100 * float(values[best])
    margin = 0.08 * (high - low) or 1.0
    axes.set_ylim(max(low - margin, 0), min(high + margin, 100))
    _title(axes, f"best {high:.2f} % at step {steps[best]:,.0f}", right=True)
    return None


def smoothed(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The centred mean over `window` values, shorter at the ends; NaN and Inf are left out of every mean.

    >>> smoothed(np.array([1.0, 2.0, np.nan, 6.0]), 3).tolist()
    [1.5, 1.5, 4.0, 6.0]
    """
    finite = np.isfinite(values)
    half = window // 2
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    start = np.maximum(np.arange(len(values)) - half, 0)
    stop = np.minimum(np.arange(len(values)) + half + 1, len(values))
    told = counts[stop] - counts[start]
    return np.where(told > 0, (sums[stop] - sums[start]) / np.maximum(told, 1), np.nan)


def elide(text: str, length: int) -> str:
    """`text`, cut in its middle where it is longer than `length`.

    >>> elide("a rather long class name", 13)
    'a rath\u2026s name'
    """
    if len(text) <= length:
        return text
    head = length // 2
    return f"{text[:head]}\u2026{text[len(text) - (length - head - 1) :]}"


def drawable(text: str) -> str:
    """`text` with a small square for each character the plots' font cannot draw."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont(FONT))
    return "".join(c if font.get_char_index(ord(c)) and c.isprintable() else "\u25a1" for c in text)


def _latest(rows: list[Row], event: str) -> list[Row]:
    by_step = {row["step"]: row for row in rows if row["event"] == event}
    return [by_step[step] for step in sorted(by_step)]


def _column(rows: list[Row], key: str) -> NDArray[np.float64]:
    return np.array([row.get(key) for row in rows], dtype=np.float64)  # null and absent become NaN


def _bare(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_facecolor(PAPER)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="y", color=HAIR, linewidth=0.8, linestyle="-")
    axes.tick_params(length=0, labelsize=8.5, labelcolor=MUTED, labelfontfamily=FONT)


def _title(axes: Axes, text: str, *, right: bool = False) -> None:
    axes.set_title(
        text,
        loc="right" if right else "left",
        color=MUTED if right else INK,
        fontsize=8.5 if right else 9.5,
        fontweight="normal" if right else "bold",
        fontfamily=FONT,
        pad=7,
    )


def _say_none(axes: Axes, text: str) -> None:
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=MUTED, fontsize=8.5, fontfamily=FONT)


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


def _save(figure: Figure, path: Path, *, dpi: int = DPI) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})  # no version, no date: equal bytes
    write_file(path, buffer.getvalue())
    return buffer.getvalue()
