"""A world of one, and with it what every world offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal, TypeVar

from vitrail.ranks.world import World

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")
ALONE = World()
Parallel = Literal["ddp", "fsdp"]


class Ranks:
    """The ranks of a run, seen from one of them. What it offers is called by all of them, in the same order."""

    def __init__(self, world: World = ALONE) -> None:
        self.world = world

    @property
    def rank(self) -> int:
        """This process's number, from 0; rank 0 alone writes."""
        return self.world.rank

    @property
    def size(self) -> int:
        """How many there are."""
        return self.world.size

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of the ranks, on all of them."""
        return [value]

    def total(self, number: int) -> int:
        """The sum of every rank's number."""
        return number

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum of every rank's tensor."""
        return tensor

    def first(self, do: Callable[[], T]) -> T:
        """What rank 0's `do` gives, on all; the others wait for it, and its error is raised on all."""
        return do()

    def at(self, where: str) -> None:
        """Say how far this rank has come, for those that wait for it."""

    def watch(self, caught: Callable[[], str | None]) -> AbstractContextManager[None]:
        """Inside, the signal that `caught` tells of ends the others' `going_on` as well."""
        return nullcontext()

    def going_on(self, items: Iterator[T]) -> Iterator[T]:
        """The items, up to when any rank is told to stop."""
        return items

    @property
    def stopping(self) -> bool:
        """Whether any rank was told to stop, as far as is known here."""
        return False

    def spread(self, module: nn.Module, parallel: Parallel) -> nn.Module:
        """The network to train by: its backward pass leaves the mean of all ranks' gradients."""
        return module
