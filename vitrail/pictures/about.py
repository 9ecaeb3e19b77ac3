"""What a file says of its pixels beside their values: colour, alpha, depth. For reports; decoding asks none of it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from vitrail.pictures.decode import header_of

Colour = Literal["grey", "RGB", "CMYK", "palette"]
_COLOURS: dict[str, Colour] = {"1": "grey", "L": "grey", "LA": "grey", "I": "grey", "CMYK": "CMYK", "P": "palette"}
_PNG_DEPTH, _PNG_COLOUR = 24, 25  # bytes of its IHDR


@dataclass(frozen=True)
class About:
    """width, height: as stored, before EXIF orientation (1 to 8). deep: more than 8 bits a channel."""

    format: str
    width: int
    height: int
    orientation: int
    colour: Colour
    alpha: bool
    deep: bool


def about(data: bytes, name: str) -> About:
    """What the bytes of a picture that `decode` reads say of it.

    >>> image = io.BytesIO()
    >>> Image.new("LA", (3, 2)).save(image, "PNG")
    >>> about(image.getvalue(), "a.png")
    About(format='PNG', width=3, height=2, orientation=1, colour='grey', alpha=True, deep=False)
    """
    header = header_of(data, name)
    with Image.open(io.BytesIO(header.data), formats=[header.format]) as image:
        mode, clear = image.mode, "transparency" in image.info
    png = header.format == "PNG"
    return About(
        format=header.format,
        width=header.width,
        height=header.height,
        orientation=header.orientation,
        colour=_COLOURS.get(mode.partition(";")[0], "RGB"),
        alpha=clear or mode in ("LA", "PA", "RGBA") or (png and b"tRNS" in data[: data.find(b"IDAT")]),
        deep=png and data[_PNG_DEPTH] > 8,
    )
