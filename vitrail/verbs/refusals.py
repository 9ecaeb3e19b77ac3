"""Models that a verb cannot do anything with."""

from __future__ import annotations

from collections.abc import Mapping

from vitrail.errors import UsageError


def refuse_random(provenance: Mapping[str, object], verb: str) -> None:
    """UsageError V005 for a model whose weights mean nothing."""
    if provenance.get("weights") == "random":
        raise UsageError(
            "V005",
            f"a bare variant has random weights: there is nothing to {verb}",
            hint="train it first, or name a run, a bundle or a weight file",
        )


def refuse_headless(classes: tuple[str, ...], verb: str) -> None:
    """UsageError V007 for a network that gives features and names no classes."""
    if not classes:
        raise UsageError(
            "V007",
            f"the model has no head: there are no classes to {verb}",
            hint="train one on top of it (`vitrail train --weights`), or take its `features` in Python",
        )
