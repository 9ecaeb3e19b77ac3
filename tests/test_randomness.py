"""Randomness is a pure function of (seed, stream, where): order, batch, worker and release change nothing."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.randomness import Stream, generator, key, permutation, uniforms, words

STREAMS: tuple[Stream, ...] = get_args(Stream)
SEEDS = st.integers(0, 2**63 - 1)
INDICES = st.lists(st.integers(0, 2**40), min_size=1, max_size=40)

# Frozen for ever (promise B17): permutation(seed, "order", epoch 1, 12), and the SHA-256 of
# permutation(seed, "order", 3, 10_000) as little-endian int64.
GOLDEN: dict[int, tuple[list[int], str]] = {
    0: (
        [2, 11, 0, 3, 10, 1, 4, 8, 9, 5, 6, 7],
        "1c2a11615975e6ec5cc2c866b9abff287d057d6be1b13b9a2a6cb2be91d2049e",
    ),
    1: (
        [8, 4, 0, 7, 1, 11, 2, 5, 10, 3, 9, 6],
        "85c9bcbf944ec7a919626ac5559b77a9c37e28049e5b04bd2e3a11b749412bcc",
    ),
    2: (
        [2, 8, 4, 3, 1, 0, 6, 10, 7, 5, 11, 9],
        "3c5fdc6c51652cfebdcea2c70d716710c830eeabd374c90822b669401bcc7a85",
    ),
    3: (
        [3, 8, 9, 4, 1, 7, 6, 11, 10, 2, 5, 0],
        "e3b9437cb163b73c280b75d9e42c7760d097bd88704bcd751f0b36a96752a67d",
    ),
    4: (
        [8, 3, 6, 9, 1, 7, 4, 5, 2, 10, 0, 11],
        "e3f6e0f054cf6fc6c024df8400e3d9fbd79f8338193c8176dc39fccdbe184c80",
    ),
    42: (
        [4, 1, 2, 8, 7, 10, 3, 9, 0, 11, 6, 5],
        "ac7b744b9d84d724b894a0b9e6da55bf443653c22a55938ae27ddd855c24351b",
    ),
    1234: (
        [6, 9, 4, 5, 2, 7, 10, 3, 0, 11, 8, 1],
        "87c919f286d3f2dea09c04780ec77db595038400bd3f35dcc5cd5813261ca4c3",
    ),
    2147483647: (
        [3, 7, 6, 0, 4, 8, 10, 9, 1, 2, 5, 11],
        "c2ece5e2d8bdea21f814728f9139230e71fafa9c59b9179a5fcd73cd506d87dd",
    ),
    4294967296: (
        [9, 5, 4, 3, 6, 2, 0, 1, 10, 11, 8, 7],
        "0493f77b94aa46d97daf44ca0151e06379f17912f8d632782cb64691f52725a2",
    ),
    9223372036854775807: (
        [7, 2, 10, 0, 5, 1, 9, 3, 6, 8, 4, 11],
        "d06111e38a19e4802e2ebd1db7444414e377be9ca49fab3f74b562bd72d5d26f",
    ),
}
GOLDEN_WORDS = [
    [7759045149800304080, 15819104904293280678],
    [2277259203242464536, 1172133170666872727],
    [1789244259875049222, 13160109106457597975],
]
GOLDEN_KEYS: dict[Stream, int] = {
    "init": 16719702886431190542,
    "order": 852456441368087581,
    "split": 4351984068158622751,
    "drop": 9377001884976026753,
    "crop": 7338699039883159167,
    "flip": 6596714965992905680,
    "mix": 2801719181089308991,
    "probe": 5743702743986450248,
    "pictures": 2795057013332476705,
}


def digest(order: np.ndarray) -> str:
    return hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()


@pytest.mark.parametrize("seed", GOLDEN)
def test_B17_the_order_for_a_seed_is_frozen(seed: int) -> None:
    short, long = GOLDEN[seed]
    assert permutation(seed, "order", 1, 12).tolist() == short
    assert digest(permutation(seed, "order", 3, 10_000)) == long


def test_B17_the_orders_of_a_thousand_seeds_are_frozen() -> None:
    orders = [permutation(seed, "order", 2, 1000) for seed in range(1000)]
    assert digest(np.concatenate(orders)) == "e9a4e57553493e3b1293483248198ae10aff7c7d8be22759e5572491e80503ab"


def test_B17_there_are_ten_seeds() -> None:
    assert len(GOLDEN) == 10


def test_B17_a_fresh_process_gives_the_same_order() -> None:
    code = "from vitrail.randomness import permutation; print(permutation(4, 'order', 1, 12).tolist())"
    for hash_seed in ("0", "77"):
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[1])}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == str(GOLDEN[4][0])


def splitmix(word: int) -> int:
    """The finaliser of SplitMix64 in plain integers."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return word ^ (word >> 31)


@given(seed=SEEDS, indices=INDICES, epoch=st.integers(0, 1000))
def test_words_are_splitmix64_in_plain_integers(seed: int, indices: list[int], epoch: int) -> None:
    gamma = 0x9E3779B97F4A7C15
    start = int.from_bytes(hashlib.blake2b(f"{seed}/order/{epoch}".encode(), digest_size=8).digest(), "little")
    rows = [splitmix((splitmix((index * gamma + start) % 2**64) + gamma) % 2**64) for index in indices]
    wanted = [[splitmix((row + column * gamma) % 2**64) for column in (1, 2, 3)] for row in rows]
    assert words(seed, "order", epoch, np.array(indices), 3).tolist() == wanted


def test_words_and_keys_are_frozen() -> None:
    assert words(5, "crop", 2, np.array([0, 1, 2**33]), 2).tolist() == GOLDEN_WORDS
    assert {stream: key(0, stream, 1, 2) for stream in GOLDEN_KEYS} == GOLDEN_KEYS


@given(seed=SEEDS, count=st.integers(0, 300), epoch=st.integers(0, 10**6))
def test_a_permutation_is_one(seed: int, count: int, epoch: int) -> None:
    order = permutation(seed, "order", epoch, count)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(count))
    assert np.array_equal(order, permutation(seed, "order", epoch, count))


@given(seed=SEEDS, indices=INDICES, epoch=st.integers(0, 1000), count=st.integers(1, 6), data=st.data())
def test_a_row_depends_on_its_index_alone(
    seed: int, indices: list[int], epoch: int, count: int, data: st.DataObject
) -> None:
    whole = words(seed, "crop", epoch, np.array(indices), count)
    mixed = data.draw(st.permutations(range(len(indices))))
    assert np.array_equal(words(seed, "crop", epoch, np.array(indices)[mixed], count), whole[mixed])
    at = data.draw(st.integers(0, len(indices)))
    parts = [words(seed, "crop", epoch, np.array(part, np.int64), count) for part in (indices[:at], indices[at:])]
    assert np.array_equal(np.concatenate(parts), whole)


@given(seed=SEEDS, indices=INDICES, fewer=st.integers(1, 5))
def test_a_further_number_changes_none_before_it(seed: int, indices: list[int], fewer: int) -> None:
    more = uniforms(seed, "mix", 0, np.array(indices), 6)
    assert np.array_equal(uniforms(seed, "mix", 0, np.array(indices), fewer), more[:, :fewer])


@given(seed=SEEDS, indices=INDICES)
def test_uniforms_are_at_least_0_and_below_1(seed: int, indices: list[int]) -> None:
    numbers = uniforms(seed, "flip", 0, np.array(indices), 3)
    assert numbers.shape == (len(indices), 3)
    assert bool(((numbers >= 0) & (numbers < 1)).all())


def test_the_largest_word_stays_below_1() -> None:
    assert (np.uint64(2**64 - 1) >> np.uint64(11)).astype(np.float64) * 2.0**-53 < 1.0


def test_nothing_shares_its_numbers() -> None:
    places = list(itertools.product(range(4), STREAMS, range(4)))
    seen = {int(word) for place in places for word in words(*place, np.arange(20), 2).ravel()}
    assert len(seen) == len(places) * 40
    assert len({key(seed, stream, *where) for seed, stream, *where in places}) == len(places)
    assert key(1, "drop", 11) != key(11, "drop", 1)
    assert key(1, "drop", 1, 1) != key(1, "drop", 11)


def test_nothing_drawn_elsewhere_changes_anything() -> None:
    before = uniforms(3, "crop", 1, np.arange(8), 2)
    np.random.seed(1)
    np.random.rand(100)
    generator(3, "crop", 1).random(1000)
    assert np.array_equal(uniforms(3, "crop", 1, np.arange(8), 2), before)


def test_no_input_is_written_to() -> None:
    indices = np.arange(8)
    indices.flags.writeable = False
    words(0, "crop", 0, indices, 2)


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2).sum() / expected)


# 99.99 % points of chi-square: 99 degrees of freedom 161.3, 63: 113.9, 99 for pairs 10 x 10 the same.
@pytest.mark.parametrize("seed", range(10))
def test_uniforms_are_uniform_and_neighbours_independent(seed: int) -> None:
    numbers = uniforms(seed, "crop", 0, np.arange(20_000), 4)
    for column in range(4):
        assert chi_square(np.bincount((numbers[:, column] * 100).astype(int), minlength=100)) < 161.3
    tens = (numbers * 10).astype(int)
    for left, right in ((tens[:, 0], tens[:, 1]), (tens[:, 1], tens[:, 3]), (tens[:-1, 0], tens[1:, 0])):
        assert chi_square(np.bincount(left * 10 + right, minlength=100)) < 161.3
    later = (uniforms(seed, "crop", 1, np.arange(20_000), 1)[:, 0] * 10).astype(int)
    assert chi_square(np.bincount(tens[:, 0] * 10 + later, minlength=100)) < 161.3
    other = (uniforms(seed + 1, "crop", 0, np.arange(20_000), 1)[:, 0] * 10).astype(int)
    assert chi_square(np.bincount(tens[:, 0] * 10 + other, minlength=100)) < 161.3


def test_every_bit_of_a_word_is_fair() -> None:
    found = words(0, "mix", 0, np.arange(10_000), 1)[:, 0]
    ones = np.array([int(((found >> np.uint64(bit)) & np.uint64(1)).sum()) for bit in range(64)])
    assert float((((ones - 5000) / 50.0) ** 2).sum()) < 113.9 + 1.9  # 64 degrees of freedom


def test_every_place_of_a_permutation_is_equally_likely() -> None:
    counts = np.zeros((8, 8))
    for epoch in range(4000):
        counts[np.arange(8), permutation(0, "order", epoch, 8)] += 1
    assert chi_square(counts) * 7 / 8 < 49 + 60  # 49 degrees of freedom, far beyond their 99.99 % point of 95


def test_a_generator_is_a_function_of_its_place() -> None:
    first = generator(1, "mix", 5).beta(0.8, 0.8, 4)
    assert np.array_equal(generator(1, "mix", 5).beta(0.8, 0.8, 4), first)
    assert not np.array_equal(generator(1, "mix", 6).beta(0.8, 0.8, 4), first)
