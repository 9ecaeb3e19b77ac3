"""Why two models of one kind differ: the single mistake by which one of them could be made of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from vitrail.bundle.manifest import WEIGHTS
from vitrail.engines.opened import Bundle, bundle_classifier
from vitrail.engines.program import Program
from vitrail.engines.table import installed
from vitrail.evaluation.answers import BATCHES, CheckPicture, answers
from vitrail.models.configs import NUMERICS, TRAINING_ONLY, ModelConfig
from vitrail.proof.diagnose import Measured, explained
from vitrail.proof.encoded import encoded

if TYPE_CHECKING:
    from vitrail.engines.program import Answering
    from vitrail.models.classifier import Classifier

ASKED = 128  # pictures, evenly spread
FEW = 2  # tensors in which models may differ that are made of each other: weight and bias of one layer


def why_different(a: Answering, b: Answering, pictures: Sequence[CheckPicture], *, bound: float) -> tuple[str, ...]:
    """The mistake in one line, then how well it explains the difference; nothing where the two are of other kinds or
    other weights, where neither has weights for torch, or where no single known mistake explains it. A bare program is
    held to be of the other's kind.
    """
    kinds = [_kind(model) for model in (a, b) if not isinstance(model, Program)]
    if kinds != kinds[::-1] or len(a.classes) != len(b.classes) or not installed("torch"):
        return ()
    sources = [_classifier(model) for model in (a, b)]
    if None not in sources and _other_weights(sources[0], sources[1]):
        return ()
    places = np.linspace(0, len(pictures) - 1, min(ASKED, len(pictures))).astype(np.int64)
    files = [CheckPicture.of(file) for file in encoded(a.policy.channels)]
    asked = [*(pictures[place] for place in places.tolist()), *files]
    for source, candidate, who in zip(sources, (b, a), ("B", "A"), strict=True):
        if source is not None:
            (expected,), found = answers([(source, BATCHES[-1:]), (candidate, BATCHES[-1:])], asked).logits
            if lines := explained(Measured(source, candidate, asked, expected, found, bound), who):
                return tuple(lines)
    return ()


def _kind(model: Bundle | Classifier) -> dict[str, object]:
    """What a network is besides how it computes."""
    config: ModelConfig = model.manifest.config if isinstance(model, Bundle) else model.config
    return {"": type(config)} | {k: v for k, v in asdict(config).items() if k not in (*TRAINING_ONLY, *NUMERICS)}


def _classifier(model: Answering) -> Classifier | None:
    if isinstance(model, Program):
        return None
    if not isinstance(model, Bundle):
        return model
    return bundle_classifier(model.folder) if WEIGHTS in model.manifest.files else None


def _other_weights(a: Classifier | None, b: Classifier | None) -> bool:
    """Whether more tensors differ than one mistake changes: the two were trained apart."""
    import torch

    assert a is not None and b is not None
    ours, theirs = a.module.state_dict(), b.module.state_dict()
    pairs = ((ours[name].cpu().double(), theirs[name].cpu().double()) for name in ours)
    return sum(not torch.equal(*pair) for pair in pairs) > FEW
