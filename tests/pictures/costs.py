"""What pictures cost, measured in a process of its own, as JSON.

python -m tests.pictures.costs          every hostile item
python -m tests.pictures.costs NAME     a picture as large as the limits allow
"""

from __future__ import annotations

import gc
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from PIL import Image

from tests.hostile.deeds import forget_the_peak, status
from tests.pictures.hostile import HOSTILE, saved
from vitrail.errors import PictureError
from vitrail.pictures.decode import decode
from vitrail.pictures.jpeg import MAX_SCAN_PIXELS, MAX_SCANS
from vitrail.pictures.limits import MAX_PIXELS


def cost(data: bytes) -> dict[str, object]:
    """The verdict over a file, its pixels, the bytes that memory grew by at its peak, the processor's seconds."""
    gc.collect()
    before = forget_the_peak()
    began = time.process_time()
    pixels = 0
    try:
        verdict, decoded = "ok", decode(data)
        pixels = decoded.shape[0] * decoded.shape[1]
    except PictureError as error:
        verdict = error.code
    seconds = time.process_time() - began
    took = {"bytes": status("VmHWM") - before, "seconds": round(seconds, 3)}
    return {"verdict": verdict, "pixels": pixels, "file": len(data), **took}


def _flat(form: str, mode: str = "RGB", grey: int = 99, **options: Any) -> Callable[[], bytes]:
    colour = grey if mode in ("L", "P") else (grey,) * len(Image.new(mode, (1, 1)).getbands())
    return lambda: saved(Image.new(mode, (SIDE, SIDE), colour), form, **options)


def _many_scans(*, noisy: bool) -> Callable[[], bytes]:
    """As many scans as there may be, of as many pixels as they may have; noisy: each refines every coefficient."""

    def make() -> bytes:
        side = math.isqrt(MAX_SCAN_PIXELS // MAX_SCANS)
        image = Image.effect_noise((side, side), 40) if noisy else Image.new("L", (side, side), 99)
        data = saved(image.convert("RGB"), "JPEG", progressive=True, quality=30)
        at = data.rindex(b"\xff\xda")
        return data[:at] + data[at:-2] * (MAX_SCANS - data.count(b"\xff\xda") + 1) + b"\xff\xd9"

    return make


SIDE = math.isqrt(MAX_PIXELS)

# kind -> (what makes it, the bytes a pixel that it may take at its peak)
LARGEST: dict[str, tuple[Callable[[], bytes], int]] = {
    "jpeg": (_flat("JPEG"), 7),
    "jpeg grey": (_flat("JPEG", "L"), 7),
    "jpeg cmyk": (_flat("JPEG", "CMYK"), 7),
    "jpeg that looks cut": (_flat("JPEG", grey=128), 7),
    "jpeg progressive": (_flat("JPEG", progressive=True, subsampling=0), 10),
    "jpeg of 100 scans": (_many_scans(noisy=False), 10),
    "jpeg of 100 noisy scans": (_many_scans(noisy=True), 10),
    "png": (_flat("PNG"), 7),
    "png alpha": (_flat("PNG", "RGBA"), 7),
    "png palette": (_flat("PNG", "P"), 7),
    "gif": (_flat("GIF", "P"), 7),
    "bmp": (_flat("BMP", "P"), 7),
    "webp": (_flat("WEBP", method=0), 16),
    "webp lossless": (_flat("WEBP", lossless=True, method=0), 16),
}


if __name__ == "__main__":
    warnings.simplefilter("error")
    found = cost(LARGEST[sys.argv[1]][0]()) if len(sys.argv) > 1 else {n: cost(i[0]()) for n, i in HOSTILE.items()}
    print(json.dumps(found))
