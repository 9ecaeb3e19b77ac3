"""The 1,797 handwritten digits of 8 x 8 pixels that come inside scikit-learn's package.

Source: UCI optical recognition of handwritten digits (Alpaydin, Kaynak 1998), CC BY 4.0. Grey values 0 to 16 are
scaled to 0 to 255. Every fifth picture of each class is held out: a fixed split, the same for every seed.
"""

from __future__ import annotations

import numpy as np

from vitrail.data.configs import Data
from vitrail.data.sources.found import Found
from vitrail.errors import DataError, UsageError

HELD_OUT_EVERY = 5


def find(data: Data) -> Found:
    """All digits; UsageError V003 when scikit-learn is absent."""
    if data.root not in (None, "digits") or data.val is not None:
        raise DataError("V402", "the digits are built in: data.root and data.val have no effect", hint="leave them out")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError(
            "V003", "the built-in digits come with scikit-learn, which is absent", hint='pip install "vitrail[demo]"'
        ) from error
    bunch = load_digits()
    pictures = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]  # (N, 8, 8, 1)
    labels = bunch.target.astype(np.int64)
    rank = np.empty(len(labels), np.int64)  # of each picture within its class
    for label in range(10):
        mine = np.flatnonzero(labels == label)
        rank[mine] = np.arange(len(mine))
    return Found(
        place="digits (built in)",
        classes=tuple("0123456789"),
        labels=labels,
        held_out=rank % HELD_OUT_EVERY == HELD_OUT_EVERY - 1,
        picture=lambda index: pictures[index],
        title=lambda index: f"digit-{index:04d}",
        memory=pictures,
        notes=(f"scikit-learn's {len(labels):,} digits, every {HELD_OUT_EVERY}th of each class held out",),
        own_order=True,
    )
