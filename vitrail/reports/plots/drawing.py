"""What all plots share: one palette, bare axes, titles, texts that fit, the file."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.disk import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One palette for plots and page: cobalt for what is, ruby for what went wrong, greys for everything that explains.
INK, MUTED, HAIR, PAPER = "#1f2730", "#6b7682", "#e3e6ea", "#ffffff"
ACCENT, WRONG = "#2557a7", "#b5382f"
FONT = "DejaVu Sans"  # comes with matplotlib, so it is there
DPI = 160


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


def bare(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_facecolor(PAPER)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="y", color=HAIR, linewidth=0.8, linestyle="-")
    axes.tick_params(length=0, labelsize=8.5, labelcolor=MUTED, labelfontfamily=FONT)


def titled(axes: Axes, text: str, *, right: bool = False) -> None:
    axes.set_title(
        text,
        loc="right" if right else "left",
        color=MUTED if right else INK,
        fontsize=8.5 if right else 9.5,
        fontweight="normal" if right else "bold",
        fontfamily=FONT,
        pad=7,
    )


def say_none(axes: Axes, text: str) -> None:
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=MUTED, fontsize=8.5, fontfamily=FONT)


def save(figure: Figure, path: Path, *, dpi: int = DPI) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})  # no version, no date: equal bytes
    write_file(path, buffer.getvalue())
    return buffer.getvalue()
