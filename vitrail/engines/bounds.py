"""How big every value of a graph becomes, worked out before an engine gives memory to it."""

from __future__ import annotations

from vitrail.engines.graph import Graph


def check_sizes(graph: Graph) -> None:
    """BundleError V505 for a graph with a value beyond the limit."""
