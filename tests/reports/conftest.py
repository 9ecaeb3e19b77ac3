"""An evaluation and a journal that every report can be made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrail.data.batches import BadPicture, EvalBatch
from vitrail.evaluation.evaluate import Evaluation, evaluate

Make = Callable[..., Evaluation]


@pytest.fixture(scope="session")
def evaluated() -> Make:
    """make(classes, total=240, bad=()): a noisy evaluation with these class names."""

    def make(classes: tuple[str, ...], *, total: int = 240, bad: tuple[BadPicture, ...] = ()) -> Evaluation:
        stream = np.random.Generator(np.random.PCG64(3))
        labels = stream.integers(0, len(classes), total)
        table: NDArray[np.float64] = stream.normal(size=(total, len(classes)))
        table[np.arange(total), labels] += 2.5
        batch = EvalBatch(np.arange(total), np.zeros((total, 1, 1, 1), np.float32), labels, bad)
        return evaluate(lambda images: table, [batch], classes)

    return make


@pytest.fixture(scope="session")
def journal() -> list[dict[str, Any]]:
    """300 steps, an evaluation every 50, a checkpoint, an end."""
    rows: list[dict[str, Any]] = []
    for step in range(1, 301):
        rows.append({"event": "step", "step": step, "epoch": step // 50, "loss": 2.0 / step, "lr": 1e-3 * step / 300})
        if step % 50 == 0:
            rows.append({"event": "evaluation", "step": step, "epoch": step // 50, "top1": step / 400, "top5": 1.0})
            rows.append({"event": "checkpoint", "step": step})
    return [*rows, {"event": "end"}]
