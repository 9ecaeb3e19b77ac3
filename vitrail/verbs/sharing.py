"""What several ranks of a run do together on the floor of verbs: see the same pictures, and evaluate them once each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrail.data.sources import Source
from vitrail.errors import RunError
from vitrail.ranks import Ranks
from vitrail.recipe import Recipe

if TYPE_CHECKING:
    from vitrail.evaluation.evaluate import Evaluation, Found
    from vitrail.models.classifier import Classifier


def refuse_other_pictures(ranks: Ranks, source: Source, fingerprint: str) -> None:
    """RunError V602 on all ranks where one sees other pictures than rank 0, whose are `fingerprint`."""
    other = [rank for rank, found in enumerate(ranks.gather(source.fingerprint)) if found != fingerprint]
    if other:
        raise RunError(
            "V602",
            f"rank {other[0]} sees other pictures than rank 0",
            evidence=[f"ranks with others: {', '.join(map(str, other[:20]))}"],
            hint="every machine must reach the same files under data.root",
        )


def evaluated(model: Classifier, source: Source, recipe: Recipe, ranks: Ranks) -> Evaluation:
    """The held-out pictures, each by one rank, in the batches that one alone would make; the same on all ranks.

    `Interrupted` on all ranks when one of them was told to stop.
    """
    from vitrail.data.loader import evaluation_batches
    from vitrail.evaluation.evaluate import evaluate
    from vitrail.training.signals import Interrupted

    batches = evaluation_batches(
        source,
        source.held_out,
        recipe.policy,
        batch=recipe.evaluation.batch,
        workers=recipe.data.workers,
        patience=recipe.data.patience,
        rank=ranks.rank,
        size=ranks.size,
    )

    def gather(found: Found) -> list[Found]:
        ranks.at("evaluated its part")
        every = ranks.gather((found, ranks.stopping))
        if any(stopping for _, stopping in every):
            raise Interrupted
        return [part for part, _ in every]

    return evaluate(model.logits, ranks.going_on(batches), source.classes, gather=gather)
