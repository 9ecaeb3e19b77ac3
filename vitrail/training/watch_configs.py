"""What is watched while a run trains, as plain values without torch. None of it changes what is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Dump:
    """Tensors written every so many steps, to `dumps/` in the run folder, with their statistics in the journal.

    what: `activations`, the outputs of layers, `gradients` of parameters before clipping, or `weights` after the
    update. layers: patterns of their names, `*` and `?` as in file names; `!` takes out again.
    """

    every: int  # steps
    layers: tuple[str, ...] = ("*",)
    what: Literal["activations", "gradients", "weights"] = "activations"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A window of steps whose operations are timed one by one, to `profile/` in the run folder. first counts from 1."""

    first: int = 11
    steps: int = 5


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is watched. Steps that break are kept for `vitrail replay`, as many as `captures`; 0: none.

    overflows: steps whose loss scale was too great for fp16 are kept, too. activations: every layer's output is looked
    at, and a step with NaN or Inf in one changes nothing, even where its loss and gradient are finite. stall: seconds
    that a step or a save may stand still before the run ends; 0: for ever.
    """

    captures: int = 1
    overflows: bool = False
    activations: bool = False
    stall: float = 120.0
    dump: Dump | None = None
    profile: Profile | None = None
