"""What every hostile item costs, measured in a process of its own: `python -m tests.pictures.costs` prints JSON."""

from __future__ import annotations

import gc
import json
import time
import warnings

from tests.hostile.deeds import forget_the_peak, status
from tests.pictures.hostile import HOSTILE
from vitrail.errors import PictureError
from vitrail.pictures.decode import decode


def cost(data: bytes) -> dict[str, object]:
    """The verdict over a file, its pixels, the bytes that memory grew by at its peak, and the seconds it took."""
    gc.collect()
    before = forget_the_peak()
    began = time.perf_counter()
    pixels = 0
    try:
        verdict, decoded = "ok", decode(data)
        pixels = decoded.shape[0] * decoded.shape[1]
    except PictureError as error:
        verdict = error.code
    seconds = time.perf_counter() - began
    return {"verdict": verdict, "pixels": pixels, "bytes": status("VmHWM") - before, "seconds": round(seconds, 4)}


if __name__ == "__main__":
    warnings.simplefilter("error")
    print(json.dumps({name: cost(make()) for name, (make, _) in HOSTILE.items()}))
