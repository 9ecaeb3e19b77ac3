"""NNCF: OpenVINO's own quantizer, for its models alone."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.engines.table import need
from vitrail.errors import BundleError

EXTRA = "int8"
UNREPORTED = "NNCF_CI"  # read when it is imported


def quantized(model: Any, pictures: Sequence[NDArray[np.generic]], *, left: Collection[str]) -> Any:
    """An OpenVINO model with its products in 8 bits: weights by channel, values by what calibration pictures reach.

    pictures: batches as the model takes them. left: friendly names of the operations that stay in float.
    UsageError V003 without nncf, BundleError V508 when it refuses.
    """
    need("nncf", EXTRA)
    with _quiet():
        import nncf

        nncf.set_log_level(logging.ERROR)
        try:
            return nncf.quantize(
                model,
                nncf.Dataset(pictures),
                model_type=nncf.ModelType.TRANSFORMER,  # without it three to four times the error
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(pictures),
                ignored_scope=nncf.IgnoredScope(names=sorted(left)),
            )
        except RuntimeError as error:
            raise BundleError(
                "V508", f"NNCF {nncf.__version__} cannot quantise the graph", evidence=[str(error).strip()[:200]],
                hint="report the variant and the version of nncf; the weights are untouched",
            ) from error  # fmt: skip


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """It draws bars on stdout, and reports its use to its makers unless it believes itself in a test."""
    before = os.environ.get(UNREPORTED)
    os.environ[UNREPORTED] = "1"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        if before is None:
            del os.environ[UNREPORTED]
        else:
            os.environ[UNREPORTED] = before
