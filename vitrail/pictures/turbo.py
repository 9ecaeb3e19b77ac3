"""JPEG by way of simplejpeg, where it is installed and gives Pillow's bits: faster, and at a smaller scale if asked.

It is handed nothing but JPEGs that passed `jpeg.read_jpeg`, of the kinds below, and its word is taken only where it has
no complaint at all. For everything else the caller asks Pillow.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.pictures.jpeg import cut_below, read_jpeg
from vitrail.pictures.limits import Header

Pixels = NDArray[np.uint8]
SCALES = (8, 4, 2, 1)  # a picture is decoded at one of 1 / 8 to 1; others are slower than the whole

# component sampling -> its name; other ones are left to Pillow
KINDS = {
    ((1, 1),): "Gray",
    ((1, 1), (1, 1), (1, 1)): "444",
    ((2, 1), (1, 1), (1, 1)): "422",
    ((2, 2), (1, 1), (1, 1)): "420",
    ((1, 2), (1, 1), (1, 1)): "440",
    ((4, 1), (1, 1), (1, 1)): "411",
}


def decoded(header: Header, *, scale: int = 1, rows: int | None = None) -> Pixels | None:
    """Pixels (ceil(H / scale), ceil(W / scale), 1 or 3), before orientation; None where Pillow is to be asked.

    rows: only so many of the whole picture's first rows are needed; then fewer may come back, and a file that is
    damaged below them is not noticed.
    """
    frame, decode = header.frame, decoder()
    if decode is None or frame is None or frame.sampling not in KINDS:
        return None
    whole = rows is None or not frame.one_scan
    return _decoded(decode, header if whole else cut_below(header, rows or 0), scale, strict=whole)


def _decoded(decode: Callable[..., Pixels], header: Header, scale: int, *, strict: bool) -> Pixels | None:
    assert header.frame is not None
    height, width = -(-header.height // scale), -(-header.width // scale)
    colours = "GRAY" if len(header.frame.sampling) == 1 else "RGB"
    least: dict[str, Any] = {} if scale == 1 else {"min_height": height, "min_width": width}
    try:
        pixels = decode(header.data, colours, strict=strict, **least)
    except (ValueError, MemoryError):  # damaged, unusual, too large: Pillow decides
        return None
    return pixels if pixels.shape[:2] == (height, width) else None


@lru_cache(maxsize=1)
def decoder() -> Callable[..., Pixels] | None:
    """simplejpeg's decoder, after a look whether it and this Pillow agree on small pictures; None where not."""
    if importlib.util.find_spec("simplejpeg") is None:
        return None
    import simplejpeg

    decode: Callable[..., Pixels] = simplejpeg.decode_jpeg
    columns, rows = np.arange(77)[None, :, None], np.arange(61)[:, None, None]
    picture = ((columns * 5 + rows * 3 + np.arange(3) * 60 + (columns * rows) % 29 * 4) % 256).astype(np.uint8)
    for kind in KINDS.values():
        grey = kind == "Gray"
        source = np.ascontiguousarray(picture[:, :, :1] if grey else picture)
        file = simplejpeg.encode_jpeg(source, quality=85, colorspace="GRAY" if grey else "RGB", colorsubsampling=kind)
        header = read_jpeg(file, kind)
        for scale in SCALES:
            pixels = _decoded(decode, header, scale, strict=True)
            if pixels is None or not np.array_equal(pixels, by_pillow(header, scale)):
                return None
    return decode


def by_pillow(header: Header, scale: int = 1) -> Pixels:
    """The same through Pillow; whatever it raises."""
    with Image.open(io.BytesIO(header.data), formats=["JPEG"]) as image:
        if scale > 1:
            image.draft(image.mode, (header.width // scale, header.height // scale))
        pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]
