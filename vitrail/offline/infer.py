"""A network asked about one input after the other, its answers kept as files: the twin of the packages' programs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail.disk import make_folder, new_folder, write_file
from vitrail.errors import NumbersBroke, UsageError, VitrailError, printable
from vitrail.offline.inputs import Inputs
from vitrail.offline.layout import INFER_LOG, RESULTS, TIME_FILE, TIMES

Ask = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Inferred:
    """How many inputs were answered, and milliseconds of one answer in the mean, reading and writing apart."""

    pictures: int
    mean_ms: float

    def line(self, blank: str = " ") -> str:
        """The packages' line; on the screen they printed it without the blank before ms.

        >>> Inferred(10000, 52.22741).line()
        'NN inference cost average time: 52.2274 ms of infer_count 10000'
        """
        return f"NN inference cost average time: {self.mean_ms:g}{blank}ms of infer_count {self.pictures}"


def infer(
    logits: Ask,
    inputs: Inputs,
    out: Path,
    *,
    classes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inferred:
    """Each input alone through `logits`, (1, C, H, W) to (1, classes): in `out` the mean time, the log, and
    `result_Files` with one file of raw float32 an input, whole or not at all.

    Each answer is timed by itself, without a warm-up, as the packages did. UsageError V006 where `result_Files` is
    there; NumbersBroke V811 for an input or an answer that is NaN or Inf.
    """
    if (out / RESULTS).exists():
        raise UsageError("V006", f"`{out / RESULTS}` is there already", hint="give a new folder, or remove it")
    lines: list[str] = []
    try:
        make_folder(out / TIMES)
        with new_folder(out / RESULTS, many=True) as folder:
            seconds = _answers(logits, inputs, folder, classes, lines, progress)
            done = Inferred(len(seconds), 1000 * sum(seconds) / len(seconds))
            # before the results have their name: these say that all is done
            write_file(out / TIMES / TIME_FILE, f"{done.line()}\n".encode())
        lines.append(done.line(blank=""))
    except VitrailError as error:
        lines.append(str(error))
        raise
    finally:
        write_file(out / INFER_LOG, "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))
    return done


def _answers(
    logits: Ask,
    inputs: Inputs,
    folder: Path,
    classes: int,
    lines: list[str],
    progress: Callable[[int, int], None],
) -> list[float]:
    seconds: list[float] = []
    for file, result, images in zip(inputs.files, inputs.results, inputs.read(), strict=True):
        lines.append(f"Start predict input files:{printable(file)}")
        _check_finite(images, f"the numbers of `{file}`", "pack the pictures again")  # some engines answer NaN well
        start = time.perf_counter()
        answer = logits(images)
        seconds.append(time.perf_counter() - start)
        assert answer.shape == (1, classes), f"logits {answer.shape}, expected {(1, classes)}"
        _check_finite(answer, f"the logits of `{file}`", "check the weights and the precision")
        (folder / result).write_bytes(answer.astype("<f4").tobytes())
        progress(len(seconds), len(inputs.files))
    return seconds


def _check_finite(values: NDArray[np.float32], what: str, hint: str) -> None:
    if not np.isfinite(values).all():
        raise NumbersBroke("V811", f"{what} are NaN or Inf", hint=hint)
