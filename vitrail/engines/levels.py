"""How far an engine may rewrite a graph before it runs it, in the model zoo's three levels; and what they mean on each.

0: the optimiser off; 1: the graph is rewritten; 2: operators and layouts are chosen for the processor, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vitrail.bundle.read import check
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.engines.program import Answering

# engine -> what each of its levels means, from 0 on
MEANINGS: dict[str, tuple[str, ...]] = {
    "onnx": (
        "ONNX Runtime's optimiser is off (ORT_DISABLE_ALL): operators run as they were written",
        "ONNX Runtime rewrites the graph, constants folded and operators fused (ORT_ENABLE_EXTENDED)",
        "as 1, and layouts are chosen for the processor (ORT_ENABLE_ALL), as without a level",
    ),
    "torch": ("PyTorch runs operator by operator, as without a level: there is no graph to rewrite",),
}


def meaning(engine: str, level: int) -> str:
    """What a level means on an engine. UsageError V007 where the engine has no such level.

    >>> meaning("torch", 0).startswith("PyTorch runs operator by operator")
    True
    """
    have = MEANINGS.get(engine, ())
    if 0 <= level < len(have):
        return have[level]
    if not have:
        raise UsageError(
            "V007",
            f"{engine} has no optimisation levels: what it does to a graph cannot be told apart from outside",
            hint=f"leave --optim-level out, or take one of {', '.join(MEANINGS)}",
        )
    known = ", ".join(map(str, range(len(have))))
    raise UsageError("V007", f"{engine} has no optimisation level {level}", hint=f"it has {known}")


def engine_of(opened: Answering) -> str:
    """What runs a model that is open: a key of `table.ENGINES`."""
    from vitrail.engines.opened import Bundle
    from vitrail.engines.program import Program

    if isinstance(opened, Program):
        return "torchscript"
    return opened.engine if isinstance(opened, Bundle) else "torch"


def at_level(opened: Answering, level: int, *, threads: int | None = None) -> Answering:
    """The same model with its engine at a level; UsageError V007 where it has none such."""
    from vitrail.engines import graphs
    from vitrail.engines.opened import Bundle

    engine = engine_of(opened)
    meaning(engine, level)
    if not isinstance(opened, Bundle) or opened.graph is None:
        return opened
    with check(opened.folder) as held:
        manifest = held.manifest
        graph = graphs.Stored(manifest.engines[opened.graph], manifest.config, manifest.classes, held.read, held.file)
        return replace(opened, runner=graphs.open(graph, engine, threads=threads, level=level))
