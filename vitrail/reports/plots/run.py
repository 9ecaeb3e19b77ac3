"""The curves of a run, and the rates that a range test tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrail.reports.plots.drawing import (
    ACCENT,
    FONT,
    INK,
    MUTED,
    PAPER,
    bare,
    save,
    say_none,
    titled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    return save(figure, path)


def rates(tried: Sequence[tuple[float, float, float]], suggested: float | None, path: Path) -> bytes:
    """A learning rate range test: (rate, loss, smoothed loss) of each step, and the rate it suggests.

    Returns the PNG's bytes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.4), layout="constrained", facecolor=PAPER)
    axes = figure.add_subplot()
    bare(axes)
    titled(axes, "Loss while the learning rate rises")
    rate, loss, smooth = np.array(tried, np.float64).T
    axes.plot(rate, loss, color=ACCENT, alpha=0.22, linewidth=0.8)
    axes.plot(rate, smooth, color=ACCENT, linewidth=1.8)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate", color=MUTED, fontsize=8.5, fontfamily=FONT)
    low, high = float(smooth.min()), float(np.quantile(smooth, 0.95))
    axes.set_ylim(low - 0.1 * (high - low or 1.0), high + 0.5 * (high - low or 1.0))
    if suggested is not None:
        axes.axvline(suggested, color=INK, linewidth=1.2, linestyle=(0, (2, 1)))
        titled(axes, f"suggested {suggested:.2g}", right=True)
    return save(figure, path)


def _loss(axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    bare(axes)
    titled(axes, "Training loss")
    if not np.isfinite(values).any():
        return say_none(axes, "no steps in the journal")
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
        titled(axes, f"mean over {round(window * spacing):,} steps", right=True)


def _rate(axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    bare(axes)
    titled(axes, "Learning rate")
    if not np.isfinite(values).any():
        return say_none(axes, "none in the journal")
    axes.plot(steps, values, color=MUTED, linewidth=1.4)
    high = float(np.nanmax(values))
    axes.set_ylim(0, 1.15 * high or 1.0)
    axes.set_yticks([0, high], ["0", ""])
    titled(axes, f"peak {high:.3g}", right=True)


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
    bare(axes)
    titled(axes, named[0])
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
    bare(axes)
    titled(axes, "Held-out top-1")
    if not np.isfinite(values).any():
        return say_none(axes, "no evaluation in the journal")
    axes.plot(steps, 100 * values, color=ACCENT, linewidth=1.8, marker="o", markersize=3.2, clip_on=False)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    best = int(np.nanargmax(values))
    axes.plot(steps[best], 100 * values[best], "o", markersize=8, mfc="none", mec=ACCENT, clip_on=False)
    low, high = 100 * float(np.nanmin(values)), 100 * float(values[best])
    margin = 0.08 * (high - low) or 1.0
    axes.set_ylim(max(low - margin, 0), min(high + margin, 100))
    titled(axes, f"best {high:.2f} % at step {steps[best]:,.0f}", right=True)
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


def _latest(rows: list[Row], event: str) -> list[Row]:
    by_step = {row["step"]: row for row in rows if row["event"] == event}
    return [by_step[step] for step in sorted(by_step)]


def _column(rows: list[Row], key: str) -> NDArray[np.float64]:
    return np.array([row.get(key) for row in rows], dtype=np.float64)  # null and absent become NaN
