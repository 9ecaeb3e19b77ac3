"""Cheap masks: their rate, their independence, what they are a function of; and that dropout with them is dropout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitrail.models.dropout import Dropout, Masks, Rate, first_words, kept, next_words, unmarked

DTYPES = [torch.bfloat16, torch.float32, torch.float64]
RATES = [0.1, 0.25, 0.5, 0.9]


def dropped(rate: float, dtype: torch.dtype, *shape: int) -> NDArray[np.bool_]:
    out: NDArray[np.bool_] = (Masks(rate, dtype).draw(*shape) < 0).numpy()
    return out


def deviation(drops: NDArray[np.int64], count: int, rate: float) -> float:
    """Chi-square over cells, each of `count` draws, in standard deviations (Wilson and Hilferty's cube root)."""
    chi = float(((drops - count * rate) ** 2 / (count * rate * (1 - rate))).sum())
    return standard(chi, drops.size)


def standard(chi: float, freedom: int) -> float:
    return abs(((chi / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5)


def correlation(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """The correlation of two masks, in standard deviations of that of independent ones."""
    a, b = one.ravel() - one.mean(), other.ravel() - other.mean()
    return abs(float((a * b).mean() / (a.std() * b.std()))) * a.size**0.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [0.0, 0.013, *RATES, 0.99])
def test_a_rate_is_rounded_by_less_than_its_lane_shows_and_the_scale_is_of_the_rounded_one(
    rate: float, dtype: torch.dtype
) -> None:
    held = Rate(rate, dtype)
    bits = 8 * dtype.itemsize
    true = held.threshold / 2.0 ** (bits - 1)
    assert abs(true - rate) <= 2.0**-bits <= 2.0**-16
    assert held.scale == pytest.approx(1 / (1 - true), rel=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", RATES)
def test_the_rate_holds_over_all_entries_and_at_every_position_and_lane(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    calls, width = 400, 1024
    masks = np.stack([dropped(rate, dtype, 2, width) for _ in range(calls)])  # (calls, rows, positions)
    true = Rate(rate, dtype).threshold / 2.0 ** (8 * dtype.itemsize - 1)
    spread = (true * (1 - true) / masks.size) ** 0.5
    assert abs(masks.mean() - true) < 4.5 * spread
    positions = masks.sum((0, 1))
    assert deviation(positions, calls * 2, true) < 4.5
    lanes = masks.reshape(calls, -1, 8 // dtype.itemsize).sum((0, 1))  # of one word
    assert deviation(lanes, masks.size // lanes.size, true) < 4.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", RATES)
def test_masks_of_calls_steps_lanes_and_neighbours_are_independent(rate: float, dtype: torch.dtype) -> None:
    size = (64, 4096)

    def step(seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        torch.manual_seed(seed)
        return dropped(rate, dtype, *size), dropped(rate, dtype, *size)

    (first, second), (later, _) = step(10), step(11)
    found = {
        "calls": correlation(first, second),
        "steps": correlation(first, later),
        "rows": correlation(first[1:], first[:-1]),
        **{f"{by} apart": correlation(first[:, by:], first[:, :-by]) for by in (1, 2, 3, 4, 8, 64)},
    }
    assert max(found.values()) < 4.5, found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", RATES)
def test_the_masks_of_one_call_are_independent_of_each_other(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    masks = Masks(rate, dtype)
    drawn = [(masks.draw(64, 4096) < 0).numpy() for _ in range(6)]
    found = {
        f"draws {i} and {j}, {by} apart": correlation(drawn[i][:, by:], drawn[j][:, : 4096 - by])
        for i in range(6)
        for j in range(i)
        for by in (0, 1, 4)
    }
    assert max(found.values()) < 4.5, max(found, key=lambda pair: found[pair])
    true = masks.rate.threshold / 2.0 ** (8 * dtype.itemsize - 1)
    spread = (true * (1 - true) / drawn[0].size) ** 0.5
    assert max(abs(mask.mean() - true) for mask in drawn) < 4.5 * spread


def test_words_are_splitmix64_and_then_xorshift() -> None:
    """By whole numbers of Python, from the papers."""
    torch.manual_seed(6)
    seed = int(torch.empty((), dtype=torch.int64).random_())
    whole = (1 << 64) - 1
    expected = []
    for i in range(5):
        x = (seed + i * 0x9E3779B97F4A7C15) & whole
        x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & whole
        x = ((x ^ x >> 27) * 0x94D049BB133111EB) & whole
        expected.append(x ^ x >> 31)
    torch.manual_seed(6)
    words = first_words(5)
    assert [int(word) & whole for word in words] == expected
    for _ in range(3):
        for i, x in enumerate(expected):
            x ^= x << 13 & whole
            x ^= x >> 7
            expected[i] = x ^ x << 17 & whole
        assert [int(word) & whole for word in next_words(words)] == expected


def test_the_only_mask_of_a_call_is_the_first_one() -> None:
    torch.manual_seed(7)
    first = Masks(0.3, torch.bfloat16).draw(3, 5)
    torch.manual_seed(7)
    assert torch.equal(Masks(0.3, torch.bfloat16).only(3, 5), first)


def test_runs_of_dropped_entries_are_as_long_as_independence_makes_them() -> None:
    torch.manual_seed(2)
    rate, count = 0.5, 1 << 20
    mask = dropped(rate, torch.bfloat16, count)
    patterns = np.zeros(count // 8, np.int64)
    for i in range(8):  # eight entries, two words: each of the 256 patterns is as likely
        patterns = 2 * patterns + mask[i::8]
    seen = np.bincount(patterns, minlength=256)
    expected = count / 8 / 256
    chi = float(((seen - expected) ** 2 / expected).sum())
    assert standard(chi, 255) < 4.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 3, 5, 17])
def test_any_number_of_entries_is_drawn(count: int, dtype: torch.dtype) -> None:
    assert Masks(0.5, dtype).draw(count, 3).shape == (count, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mark_is_put_on_and_taken_off_without_a_trace(dtype: torch.dtype) -> None:
    values = torch.rand(7, 9, 11, dtype=dtype)
    values[0, 0] = 0.0
    marked = values.clone()
    torch.manual_seed(3)
    Masks(0.3, dtype).mark(marked)
    torch.manual_seed(3)
    out = torch.from_numpy(dropped(0.3, dtype, 7, 9, 11))
    assert torch.equal(torch.signbit(marked), out)
    assert torch.equal(unmarked(marked, out=torch.empty_like(values)), values)
    assert torch.equal(kept(marked, out=torch.empty_like(values)), values.masked_fill(out, 0.0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_drops_scales_and_has_the_gradient_of_what_it_did(dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    x = torch.randn(64, 8, 33, dtype=dtype).transpose(1, 2).requires_grad_()  # not contiguous
    y = Dropout(0.25)(x)
    factor = torch.where(y == 0, 0.0, Rate(0.25, dtype).scale).to(dtype)
    assert 0.2 < float((y == 0).float().mean()) < 0.3
    torch.testing.assert_close(y, x * factor)
    grad = torch.randn_like(y)
    (given,) = torch.autograd.grad(y, x, grad)
    torch.testing.assert_close(given, grad * factor)


def test_the_mean_is_unbiased_where_a_rounded_scale_would_show() -> None:
    torch.manual_seed(5)
    x = torch.full((1 << 22,), 64.0, dtype=torch.bfloat16)
    mean = float(Dropout(0.1)(x).double().mean())
    kept_as = float(torch.tensor(64.0 * Rate(0.1, torch.bfloat16).scale).bfloat16())  # the result is rounded, no more
    assert mean == pytest.approx(kept_as * (1 - 3277 / 32768), abs=4.5 * 64 * (0.1 / 0.9 / x.numel()) ** 0.5)


def test_dropout_without_training_or_rate_gives_what_it_got_and_draws_nothing() -> None:
    x, before = torch.randn(5, 5), torch.random.get_rng_state()
    assert Dropout(0.5).eval()(x) is x or torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(torch.random.get_rng_state(), before)


def again(call: Callable[[], Tensor]) -> bool:
    torch.manual_seed(6)
    one = call()
    torch.manual_seed(6)
    return torch.equal(one, call())


def test_masks_are_a_function_of_torch_s_generator_and_the_order_of_calls() -> None:
    x, drop = torch.ones(99, 101), Dropout(0.5)
    assert again(lambda: drop(x))
    assert again(lambda: torch.stack([drop(x), drop(x)]))
    assert not torch.equal(drop(x), drop(x))


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_layer_computed_again_by_checkpointing_has_the_same_masks(reentrant: bool) -> None:
    layer = nn.Sequential(nn.Linear(8, 8), Dropout(0.5), nn.Linear(8, 1))
    x = torch.randn(16, 8, requires_grad=True)
    gradients = []
    for run in (layer, lambda t: checkpoint(layer, t, use_reentrant=reentrant)):
        torch.manual_seed(7)
        gradients.append(torch.autograd.grad(run(x).sum(), [x])[0] if not reentrant else _backward(run(x).sum(), x))
    assert torch.equal(*gradients)


def _backward(loss: Tensor, x: Tensor) -> Tensor:
    """Reentrant checkpoints work with `backward` alone."""
    x.grad = None
    torch.autograd.backward(loss)
    assert x.grad is not None
    return x.grad.clone()
