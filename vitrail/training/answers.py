"""How many pictures of a training batch the network named rightly, seen in the step's own forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitrail.training.lines import wants_answers


class Answers:
    """Sees the logits of a network in training mode. Where pictures are mixed, the label of the first one counts."""

    def __init__(self, module: nn.Module) -> None:
        self._seen: list[Tensor] = []
        self._hook = module.register_forward_hook(self._see)

    def _see(self, module: nn.Module, _: object, logits: Any) -> None:
        if module.training and isinstance(logits, Tensor):
            self._seen.append(logits.detach().argmax(1))

    def right(self, labels: NDArray[np.int64] | Tensor) -> int:
        """How many were right since the last call; labels: of all pictures that were computed since, (B,)."""
        answers = torch.cat(self._seen)
        self._seen.clear()
        wanted = torch.as_tensor(labels).to(answers.device)
        return int((answers[: len(wanted)] == wanted).sum())  # a rank without pictures computes one that counts nothing

    def close(self) -> None:
        """Look no longer."""
        self._hook.remove()


@contextlib.contextmanager
def seen_answers(form: str, module: nn.Module) -> Iterator[Answers | None]:
    """The answers of a network where the lines of that form tell them, else None."""
    if not wants_answers(form):
        yield None
        return
    with contextlib.closing(Answers(module)) as answers:
        yield answers
