"""A graph that is compiled for the size of batch that keeps coming gives the answers of one that takes any."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bundle import tiny
from vitrail.engines import open_bundle
from vitrail.engines.openvino import CHANGES, _Sized

BATCH = np.random.default_rng(0).standard_normal((12, 3, *tiny.SIZE)).astype(np.float32)


class Made:
    """What `compile` gives: it tells for which size it was made."""

    def __init__(self, size: int | None) -> None:
        self.size = size

    def create_infer_request(self) -> Made:
        return self


def asked(sizes: list[list[int]], first: int | None, *, free: bool = True) -> tuple[list[int | None], list[int | None]]:
    """What was compiled, and what answered each time."""
    compiled: list[int | None] = []

    def compile(size: int | None) -> Made:
        compiled.append(size)
        return Made(size)

    sized, used = _Sized(compile, first, free=free), []
    for batch in sizes:
        with sized.requests(batch) as requests:
            assert len(requests) == len(batch)
            used.append(requests[0].size)
    return compiled, used


def test_one_size_is_compiled_once() -> None:
    assert asked([[1]] * 9, 1) == ([1], [1] * 9)


def test_a_size_that_keeps_coming_gets_its_own() -> None:
    compiled, used = asked([[8]] * 6 + [[5]] * 5 + [[7]] * 9, 1)
    assert compiled == [1, None, 8, None, 5, None]
    assert used == [None, None, None, 8, 8, 8] + [None, None, None, 5, 5] + [None] * 9


def test_parts_of_two_sizes_take_any() -> None:
    assert asked([[4, 3]] * 9, None) == ([None], [None] * 9)
    assert asked([[4, 4]] * 5 + [[4, 3]], None)[0] == [None, 4, None]


def test_a_graph_of_a_fixed_batch_stays_as_it_is() -> None:
    assert asked([[2]] * 9, None, free=False) == ([None], [None] * 9)


@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=2), max_size=60))
def test_what_answers_takes_the_size_and_little_is_compiled(sizes: list[list[int]]) -> None:
    compiled, used = asked(sizes, 1)
    assert len(compiled) <= 1 + CHANGES
    assert all(size is None or set(batch) == {size} for size, batch in zip(used, sizes, strict=True))


def test_a_request_that_failed_is_not_kept() -> None:
    made: list[object] = []

    class Making(Made):
        def create_infer_request(self) -> Made:
            made.append(self)
            return self

    sized = _Sized(Making, 1, free=True)
    with pytest.raises(RuntimeError), sized.requests([1]):
        raise RuntimeError("the engine's")
    for _ in range(3):
        with sized.requests([1]):
            pass
    assert len(made) == 2


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("graph", ["onnx-fp32", "openvino-fp32"])
def test_the_answers_are_the_same_to_the_bit(tmp_path: Path, graph: str, threads: int) -> None:
    folder = tiny.bundle(tmp_path)
    if graph.startswith("openvino"):
        from vitrail.verbs.export import export

        export(tiny.classifier(), folder, format="openvino")
    sizes = [3, 3, 3, 3, 3, 1, 1, 8, 8, 8, 8, 8, 8, 5, 12]
    opened = open_bundle(folder, engine="openvino", threads=threads)
    for size in sizes:
        fresh = open_bundle(folder, engine="openvino", threads=threads).logits(BATCH[:size])
        np.testing.assert_array_equal(opened.logits(BATCH[:size]), fresh)
    with ThreadPoolExecutor(4) as pool:
        wanted = [opened.logits(BATCH[:size]) for size in sizes]
        for found, truth in zip(pool.map(lambda size: opened.logits(BATCH[:size]), sizes), wanted, strict=True):
            np.testing.assert_array_equal(found, truth)
