"""Names of a network's parts, chosen by patterns: of what is frozen, stays in float32 or is dumped."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from vitrail.errors import RecipeError, nearest


def matching(patterns: Sequence[str], names: Sequence[str], *, key: str, kind: str) -> set[str]:
    """The names that match; a pattern that starts with `!` takes out what those before it took.

    key: of the recipe; kind: what the names are of. RecipeError V104 when a pattern matches none of them.

    >>> sorted(matching(["*", "!head.*"], ["head.bias", "norm.bias"], key="train.freeze", kind="parameter"))
    ['norm.bias']
    """
    taken: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if fnmatchcase(name, pattern.removeprefix("!"))}
        if not found:
            raise RecipeError(
                "V104",
                f"{key}: `{pattern}` matches no {kind} of the model",
                hint=nearest(pattern, names) or f"{kind}s are named like `{names[0]}` and `{names[-1]}`",
            )
        taken = taken - found if pattern.startswith("!") else taken | found
    return taken
