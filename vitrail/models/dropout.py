"""Dropout masks from few random bits, on the processor; other devices have fast generators of their own.

Torch's `bernoulli_` draws 24 bits for each entry, one entry after the other: in a CCT's training step that was a fifth
of the time. Here words of 64 bits are drawn, and each gives several entries: a lane of it, as wide as the entry, is
compared with the rate by one subtraction, whose sign then says what is dropped. So a mask is a sign bit: it costs no
memory on numbers that are not negative, and is put on and taken off by integer instructions.

The words are many generators side by side, begun by SplitMix64 (Steele, Lea, Flood 2014) and moved on by xorshift
(Marsaglia 2003, 13-7-17), in torch's integer operations: so every core draws the words that it will use itself. One
generator on one core was five times slower as soon as another core had touched its memory.

A call of a layer draws one seed from torch's generator and all its entries from that. So masks are a function of
torch's state, as torch's own are: of (seed, step, rank, order of the calls) in a training step, equal when a
checkpointed layer is computed again, and in the hands of `torch.manual_seed` outside of one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

GAMMA, MUL1, MUL2 = 0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64  # SplitMix64's
LANES = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # bytes of an entry -> the lane that it takes


def cheap(x: Tensor) -> bool:
    """Whether masks for `x` are drawn here: eager on the processor; compiled, torch's own are fused with the rest."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


class Dropout(nn.Dropout):
    """torch's Dropout, with cheap masks on the processor."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0.0 or not cheap(input):
            return super().forward(input)
        out: Tensor = _Dropout.apply(input, self.p)  # type: ignore[no-untyped-call]
        return out


class Rate:
    """A drop rate as lanes hold it: of `bits` bits, rounded to 2^-(bits - 1), so within 2^-bits of what was asked.

    Of 16 bits, 0.1 becomes 3277/32768 = 0.100006. What is kept is scaled by the rate that is true: without bias.

    >>> rate = Rate(0.1, torch.bfloat16)
    >>> rate.threshold, rate.scale == 32768 / (32768 - 3277)
    (3277, True)
    """

    def __init__(self, rate: float, dtype: torch.dtype) -> None:
        self.lane = LANES[dtype.itemsize]
        limits = torch.iinfo(self.lane)
        self.sign, self.rest = limits.min, limits.max
        self.threshold = round(rate * (self.rest + 1))
        self.scale = (self.rest + 1) / (self.rest + 1 - self.threshold)


def first_words(count: int) -> Tensor:
    """Random 64-bit words, from one number of torch's generator: SplitMix64."""
    x = torch.arange(count).mul_(GAMMA).add_(torch.empty((), dtype=torch.int64).random_())
    x = _shifted(x, -30).mul_(MUL1)
    x = _shifted(x, -27).mul_(MUL2)
    return _shifted(x, -31)


def next_words(words: Tensor) -> Tensor:
    """The words after these, in place: each is a generator, xorshift."""
    for by in (13, -7, 17):
        _shifted(words, by)
    return words


def _shifted(x: Tensor, by: int) -> Tensor:
    """x ^= x << by, or where that is negative x >> -by, in place; torch's shift to the right repeats the sign."""
    moved = x << by if by > 0 else (x >> -by).bitwise_and_((1 << 64 + by) - 1)
    return x.bitwise_xor_(moved)


class Masks:
    """The masks of one call of a layer, drawn one after the other, the first of them the largest."""

    def __init__(self, rate: float, dtype: torch.dtype) -> None:
        self.rate = Rate(rate, dtype)
        self._words: Tensor | None = None

    def draw(self, *shape: int) -> Tensor:
        """Integers as wide as the entries, less than 0 where the entry is dropped."""
        count = math.prod(shape)
        size = -(-count * self.rate.lane.itemsize // 8)
        self._words = first_words(size) if self._words is None else next_words(self._words)
        lanes = self._words.view(self.rate.lane)[:count].view(shape)
        return torch.bitwise_and(lanes, self.rate.rest).sub_(self.rate.threshold)

    def only(self, *shape: int) -> Tensor:
        """`draw` of a call that draws no more: with no memory beside the words."""
        count = math.prod(shape)
        lanes = first_words(-(-count * self.rate.lane.itemsize // 8)).view(self.rate.lane)[:count].view(shape)
        return lanes.bitwise_and_(self.rate.rest).sub_(self.rate.threshold)

    def mark(self, values: Tensor) -> None:
        """Turn the sign of the dropped ones of some values, none of which is negative."""
        dropped = self.draw(*values.shape).bitwise_and_(self.rate.sign)
        values.view(self.rate.lane).bitwise_or_(dropped)


def unmarked(values: Tensor, *, out: Tensor) -> Tensor:
    """Marked values as they were before."""
    lane = LANES[values.dtype.itemsize]
    torch.bitwise_and(values.view(lane), torch.iinfo(lane).max, out=out.view(lane))
    return out


def kept(values: Tensor, *, out: Tensor) -> Tensor:
    """Marked values with 0 for the dropped ones: taken as integers, these are less than 0."""
    lane = LANES[values.dtype.itemsize]
    torch.clamp_min(values.view(lane), 0, out=out.view(lane))
    return out


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float) -> Tensor:
        masks = Masks(rate, x.dtype)
        ctx.scale = masks.rate.scale
        keep = masks.only(*x.shape).bitwise_right_shift_(8 * x.dtype.itemsize - 1).bitwise_not_()  # all bits, or none
        ctx.save_for_backward(keep)
        return _masked(x, keep, ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        return _masked(grad, keep, ctx.scale), None


def _masked(x: Tensor, keep: Tensor, scale: float) -> Tensor:
    return (x.contiguous().view(keep.dtype) & keep).view(x.dtype).mul_(scale)
