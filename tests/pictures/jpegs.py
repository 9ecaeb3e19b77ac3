"""JPEGs of every kind that a camera or a program may write, made here: sampling, scans, restarts, odd sizes."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "optimised": {"optimize": True},
}
SAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1", "grey")


def scene(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture (height, width, 3) with soft and sharp parts, whose last corner is no grey."""
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    waves = 127 + 70 * np.sin(rows / 9 + np.arange(3) * 2 + seed) + 50 * np.cos(columns / 5 + seed)
    noise = np.random.default_rng(seed).integers(-25, 26, (height, width, 3))
    picture = (waves + noise).clip(0, 255).astype(np.uint8)
    picture[-16:, -16:] = (250, 10, 40)
    return picture


def jpeg(height: int, width: int, *, sampling: str = "4:4:4", option: str = "plain", seed: int = 0) -> bytes:
    """A file of that kind. Pillow writes no 4:4:0 and no 4:1:1: for those, the frame of a file with as many blocks in
    a unit is made to say so, and the units come to lie elsewhere: as good a picture to decode."""
    across, down, written, factors = {
        "4:4:0": (height, width, "4:2:2", 0x12),
        "4:1:1": (2 * height, -(-width // 2), "4:2:0", 0x41),
    }.get(sampling, (height, width, sampling, 0))
    if sampling == "4:4:0":
        across, down = width, height
    picture, file = scene(across, down, seed), io.BytesIO()
    if sampling == "grey":
        Image.fromarray(picture[:, :, 0]).save(file, "JPEG", quality=90, **OPTIONS[option])
    else:
        Image.fromarray(picture).save(file, "JPEG", quality=90, subsampling=written, **OPTIONS[option])
    return _reframed(file.getvalue(), height, width, factors) if factors else file.getvalue()


def _reframed(data: bytes, height: int, width: int, factors: int) -> bytes:
    frame = re.search(rb"\xff[\xc0\xc1\xc2]\x00\x11\x08", data)
    assert frame is not None
    sides = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    at = frame.end()
    return data[:at] + sides + data[at + 4 : at + 6] + bytes([factors]) + data[at + 7 :]
