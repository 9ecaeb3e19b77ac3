"""Joining the others, and leaving them: in peace, or so that all of them end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vitrail.ranks.alone import Ranks
from vitrail.ranks.world import world


@contextmanager
def joined(patience: float) -> Iterator[Ranks]:
    """The ranks of this run. patience: seconds that one may keep the others waiting; 0: for ever.

    An error of one ends all with the same error; SystemFault V706 names a rank that died or hangs.
    """
    found = world()
    if found.size == 1:
        yield Ranks()
        return
    from vitrail.ranks.group import Group

    group = Group(found, patience)
    try:
        yield group
    except BaseException as error:
        instead = group.failed(error)
        if instead is None:
            raise
        raise instead from error
    group.leave()
