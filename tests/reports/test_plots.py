"""Plots: sizes, equal bytes, no hidden state, names that no font was made for."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from vitrail.errors import SystemFault
from vitrail.evaluation.evaluate import Evaluation
from vitrail.reports import plots
from vitrail.reports.plots import drawing, run
from vitrail.reports.tiles import Tile

Make = Callable[..., Evaluation]
DIGITS = tuple("0123456789")


def chunks(data: bytes) -> set[str]:
    """The kinds of chunks in a PNG file."""
    kinds, at = set(), 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kinds.add(data[at + 4 : at + 8].decode("ascii"))
        at += 12 + length
    return kinds


def tiles(count: int) -> list[Tile]:
    stream = np.random.Generator(np.random.PCG64(4))
    return [
        Tile(stream.integers(0, 256, (8, 8, 1), dtype=np.uint8), f"cat {i}\ntrue: dog", i % 2 == 0)
        for i in range(count)
    ]


def test_every_plot_is_the_same_bytes_twice_and_holds_no_date(
    tmp_path: Path, evaluated: Make, journal: list[dict[str, Any]]
) -> None:
    seen = evaluated(DIGITS)
    for write in (
        lambda path: plots.curves(journal, path),
        lambda path: plots.confusion(seen, path),
        lambda path: plots.pictures(tiles(7), path),
    ):
        first, second = write(tmp_path / "a.png"), write(tmp_path / "b.png")
        assert first == second == (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
        assert chunks(first) <= {"IHDR", "pHYs", "IDAT", "IEND"}


def test_curves_have_their_size_and_show_the_data(tmp_path: Path, journal: list[dict[str, Any]]) -> None:
    with Image.open(BytesIO(plots.curves(journal, tmp_path / "a.png"))) as image:
        assert image.size == (1472, 624)
    other = [{**row, "loss": 3 * row["loss"] + 1} if row["event"] == "step" else row for row in journal]
    assert plots.curves(other, tmp_path / "b.png") != (tmp_path / "a.png").read_bytes()


def test_speed_norm_waiting_and_memory_have_panels_of_their_own(tmp_path: Path, journal: list[dict[str, Any]]) -> None:
    more = {"norm": 1.5, "images_per_s": 900.0, "wait_s": 0.01, "step_s": 0.09, "memory_bytes": 5e8}
    rows = [{**row, **more} if row["event"] == "step" else row for row in journal]
    drawn = plots.curves(rows, tmp_path / "a.png")
    with Image.open(BytesIO(drawn)) as image:
        assert image.size == (1472, 816)
    for key in more:
        other = [{**row, key: row["step"] * row[key]} if row["event"] == "step" else row for row in rows]
        assert plots.curves(other, tmp_path / "b.png") != drawn, key


@pytest.mark.parametrize("steps", [720, 9_999, 1_234_567])
def test_the_numbers_below_a_small_panel_stand_apart(steps: int) -> None:
    figure = Figure(figsize=(9.2, 5.1), layout="constrained")
    axes = figure.add_gridspec(3, 4)[2, 0].subgridspec(1, 1)
    panel = figure.add_subplot(axes[0])
    run._figure_of_steps(panel, np.linspace(1, steps, 50), np.ones(50), ("Memory", " GB"))
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in panel.get_xticklabels() if label.get_text()]
    assert len(boxes) >= 2
    assert all(one.x1 < other.x0 for one, other in pairwise(sorted(boxes, key=lambda box: box.x0)))


def test_of_steps_told_twice_the_later_telling_holds(tmp_path: Path, journal: list[dict[str, Any]]) -> None:
    stale = [{**row, "loss": 9.0, "top1": 0.9} for row in journal[:200]]
    resumed = [*stale, *journal]
    assert plots.curves(resumed, tmp_path / "a.png") == plots.curves(journal, tmp_path / "b.png")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_short_journals_are_drawn(tmp_path: Path, journal: list[dict[str, Any]], count: int) -> None:
    assert plots.curves(journal[:count], tmp_path / "a.png").startswith(b"\x89PNG")


def test_no_accuracy_above_100_is_on_the_axis() -> None:
    axes = Figure().add_subplot()
    run._top1(axes, np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    assert axes.get_ylim() == (99, 100)
    run._top1(axes, np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    assert axes.get_ylim() == (0, 1)


def test_broken_losses_leave_a_gap(tmp_path: Path, journal: list[dict[str, Any]]) -> None:
    rows = [
        {**row, "loss": (None, float("inf"), 1.0)[row["step"] % 3]} for row in journal[:40] if row["event"] == "step"
    ]
    assert plots.curves(rows, tmp_path / "a.png").startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [1, 2, 20, 25, 60])
def test_confusion_of_any_number_of_classes(tmp_path: Path, evaluated: Make, count: int) -> None:
    seen = evaluated(tuple(f"class {i}" for i in range(count)))
    with Image.open(BytesIO(plots.confusion(seen, tmp_path / "a.png"))) as image:
        assert image.height <= 1264
        assert image.width <= 1408


def test_hostile_names_are_drawn_without_a_warning(tmp_path: Path, evaluated: Make) -> None:
    names = ("$\\frac{", "猫", "a\nb", "\u202egpj.exe", "x" * 300, "\ud800", "<script>", "")
    assert plots.confusion(evaluated(names), tmp_path / "a.png").startswith(b"\x89PNG")
    told = [Tile(np.zeros((4, 4, 3), np.uint8), f"{name}\n{name}", False) for name in names]
    assert plots.pictures(told, tmp_path / "b.png").startswith(b"\x89PNG")


@pytest.mark.parametrize(("count", "size"), [(1, (232, 288)), (6, (1292, 288)), (7, (1292, 556))])
def test_a_contact_sheet_shows_every_pixel_as_a_square(tmp_path: Path, count: int, size: tuple[int, int]) -> None:
    shown = tiles(count)
    with Image.open(BytesIO(plots.pictures(shown, tmp_path / "a.png"))) as image:
        assert image.size == size
        pixels = np.asarray(image.convert("RGB"))
    for place, tile in enumerate(shown):
        left, top = 20 + place % 6 * 212, 20 + place // 6 * 268
        assert (pixels[top + 12 : top + 192 : 24, left + 12 : left + 192 : 24] == tile.image).all()


def test_large_and_long_pictures_fit_their_tile(tmp_path: Path) -> None:
    shown = [Tile(np.zeros(shape, np.uint8), "one\ntwo\nthree\nfour", True) for shape in ((900, 30, 3), (7, 640, 1))]
    assert plots.pictures(shown, tmp_path / "a.png").startswith(b"\x89PNG")


def test_an_empty_sheet_is_a_sheet(tmp_path: Path) -> None:
    assert plots.pictures([], tmp_path / "a.png").startswith(b"\x89PNG")


def test_a_folder_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(SystemFault) as caught:
        plots.pictures(tiles(1), tmp_path / "no" / "a.png")
    assert caught.value.code == "V701"


def test_plots_load_matplotlib_late_and_never_pyplot(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import vitrail.reports.html; from vitrail.reports import plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"plots.curves([], Path({str(tmp_path)!r}) / 'a.png')\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(1, 60))
def test_smoothing_is_the_mean_of_the_neighbours(values: list[float], window: int) -> None:
    half = window // 2
    expected = [np.mean(values[max(i - half, 0) : i + half + 1]) for i in range(len(values))]
    np.testing.assert_allclose(run.smoothed(np.array(values), window), expected, rtol=1e-9, atol=1e-5)


@given(st.text(max_size=60), st.integers(3, 40))
def test_elided_text_fits_and_keeps_both_ends(text: str, length: int) -> None:
    out = drawing.elide(text, length)
    assert len(out) <= max(length, 0)
    assert (out == text) == (len(text) <= length or text == out)
    if len(text) > length:
        assert out[0] == text[0]
        assert out[-1] == text[-1]


def test_bars_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    rows = [
        ("ours to theirs", 2.1, 2.0, 2.2, 1.8),
        ("one that missed", 1.5, 1.2, 1.6, 1.6),
        ("no bar", 3.0, 2.9, 3.1, None),
    ]
    one, other = (plots.bars(rows, "Ratios", tmp_path / name) for name in ("a.png", "b.png"))
    assert one == other == (tmp_path / "a.png").read_bytes()
    assert Image.open(BytesIO(one)).width > 800
    plots.bars([], "None", tmp_path / "c.png")
