"""A graph that is compiled for one size of batch, beside one for any: which answers is a matter of the size alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import vitrail
from tests.bundle import tiny
from vitrail.bundle.formats import Form, Precision
from vitrail.bundle.read import read_manifest
from vitrail.engines import open_bundle
from vitrail.engines.openvino import MOST_SIZED, _Sized
from vitrail.errors import BundleError, SystemFault, UsageError
from vitrail.machine import has_fast_bf16
from vitrail.verbs.export import export

BATCH = np.random.default_rng(0).standard_normal((12, 3, *tiny.SIZE)).astype(np.float32)
SIZES = [3, 1, 8, 8, 5, 1, 12, 3, 8, 7, 7, 7, 7, 7, 8]


class Model:
    """What `compile` gives: it counts the requests that were made of it."""

    def __init__(self, size: int | None) -> None:
        self.size, self.requests = size, 0

    def create_infer_request(self) -> Model:
        self.requests += 1
        return self


def asked(sizes: Sequence[Sequence[int]], own: int | None) -> tuple[list[int | None], list[int | None]]:
    """What was compiled, and what answered each time."""
    compiled: list[int | None] = []

    def compile(size: int | None) -> Model:
        compiled.append(size)
        return Model(size)

    sized, used = _Sized(compile, own), list[int | None]()
    for batch in sizes:
        with sized.requests(batch) as requests:
            assert len(requests) == len(batch)
            used.append(requests[0].size)
    return compiled, used


def test_its_own_size_is_compiled_alone_until_another_comes() -> None:
    assert asked([[8]] * 3, 8) == ([8], [8] * 3)
    assert asked([[8], [5], [8], [1]], 8) == ([8, None], [8, None, 8, None])
    assert asked([[4, 4], [4, 3], [4, 4]], 4) == ([4, None], [4, None, 4])
    assert asked([[2], [1]], None) == ([None], [None] * 2)


def test_requests_are_kept_but_one_that_failed() -> None:
    models: list[Model] = []
    sized = _Sized(lambda size: models.append(Model(size)) or models[-1], 1)  # type: ignore[func-returns-value]
    for _ in range(3):
        with sized.requests([1]):
            pass
    assert models[0].requests == 1
    with pytest.raises(RuntimeError), sized.requests([1]):
        raise RuntimeError("the engine's")
    for _ in range(3):
        with sized.requests([1]):
            pass
    assert models[0].requests == 2


PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16", "int8") if has_fast_bf16() else ("fp32", "int8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an IR in every precision that is computed here."""
    place = tmp_path_factory.mktemp("sizes") / "bundle"
    made: list[Precision] = []
    for precision in PRECISIONS:
        try:
            export(tiny.classifier("vit_lite"), place, format="openvino", form=Form(precision))
        except UsageError as error:
            assert (precision, error.code) == ("fp16", "V007")  # a processor without it
        else:
            made.append(precision)
    assert {"fp32", "int8"} <= {*made}
    return place


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_answer_is_no_matter_of_what_came_before(folder: Path, precision: str, batch: int, threads: int) -> None:
    engine = f"openvino-{precision}"
    if engine not in read_manifest(folder).engines:
        pytest.skip(f"this processor does not compute in {precision}")
    wanted: dict[int, NDArray[np.float32]] = {}
    for size in {*SIZES}:
        wanted[size] = open_bundle(folder, engine=engine, threads=threads, batch=batch).logits(BATCH[:size])
    one = open_bundle(folder, engine=engine, threads=threads, batch=batch)
    for size in SIZES:
        np.testing.assert_array_equal(one.logits(BATCH[:size]), wanted[size])
    fresh = open_bundle(folder, engine=engine, threads=threads, batch=batch)
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda size: (size, fresh.logits(BATCH[:size])), SIZES * 3)
        for size, logits in found:
            np.testing.assert_array_equal(logits, wanted[size])


def test_the_size_it_is_compiled_for_changes_no_answer(folder: Path) -> None:
    for threads in (1, 2):
        one, eight = (open_bundle(folder, engine="openvino-fp32", threads=threads, batch=batch) for batch in (1, 8))
        for size in {*SIZES}:
            np.testing.assert_allclose(one.logits(BATCH[:size]), eight.logits(BATCH[:size]), atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_batch_takes_no_memory_before_it_comes(folder: Path, threads: int) -> None:
    for batch in (MOST_SIZED + 1, 10**9):
        runner: Any = open_bundle(folder, engine="openvino-fp32", threads=threads, batch=batch).runner
        compiled = {**runner._together._made, **runner._apart._made}
        assert [*compiled] == [None]
    runner = open_bundle(folder, engine="openvino-fp32", threads=threads, batch=MOST_SIZED).runner
    assert [*{**runner._together._made, **runner._apart._made}] == [MOST_SIZED // threads]


def test_requests_that_hold_a_large_batch_are_let_go(folder: Path) -> None:
    runner: Any = open_bundle(folder, engine="openvino-fp32", threads=1).runner
    for size in (12, MOST_SIZED + 1):
        runner.logits(np.zeros((size, 3, *tiny.SIZE), np.float32))
    (_, idle) = runner._together._made[None]
    assert [request.get_tensor("images").shape[0] for request in idle] == []
    runner.logits(BATCH)
    assert [request.get_tensor("images").shape[0] for request in runner._together._made[None][1]] == [12]


def test_V007_no_pictures_at_a_time(folder: Path) -> None:
    for opening in (partial(open_bundle, folder), partial(vitrail.open, folder), partial(vitrail.open, "cct_2_3x2_32")):
        with pytest.raises(UsageError) as caught:
            opening(batch=0)
        assert (caught.value.code, caught.value.what) == ("V007", "batch is 0")


@pytest.mark.parametrize("engine", ["openvino-fp32", "openvino-int8"])
@pytest.mark.parametrize("shape", [(1, 3, 10, 10), (3, 16, 20), (2, 1, 16, 20), (1, 3, 16, 20, 1)])
def test_V007_a_batch_of_another_shape(folder: Path, engine: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        open_bundle(folder, engine=engine).logits(np.zeros(shape, np.float32))
    assert caught.value.code == "V007" and str(shape) in caught.value.what


def test_a_real_failure_says_why(folder: Path) -> None:
    """OpenVINO's first line is a place in its source."""
    runner = open_bundle(folder, engine="openvino", threads=1).runner
    with pytest.raises(SystemFault) as fault:
        runner.logits(np.zeros((1, 3, 10, 10), np.float32))
    (said,) = fault.value.evidence
    assert "Exception from" not in said and "shape" in said


def test_a_graph_that_cannot_be_made_for_a_size_is_refused(folder: Path) -> None:
    """It adds a constant for eight pictures, which is the size that the limits are counted with."""
    from openvino import opset13 as ops

    from vitrail.engines import openvino

    files = read_manifest(folder).engines["openvino-fp32"].file
    model = openvino.core().read_model(str(folder / files))
    images = model.input(0).get_node()
    added = ops.add(images.output(0), ops.constant(np.zeros((8, 3, *tiny.SIZE), np.float32)))
    for end in list(images.output(0).get_target_inputs()):
        if end.get_node() is not added:
            end.replace_source_output(added.output(0))
    with pytest.raises(BundleError) as refused:
        openvino._compiled(model, "fp32", 1, 2)
    assert refused.value.code == "V505"


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_an_engine_that_gives_no_answer_is_a_fault_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    runner = open_bundle(tiny.bundle(tmp_path), engine=engine, threads=1).runner

    def fails(*given: object, **named: object) -> object:
        raise RuntimeError("Failed to allocate memory\nfor a buffer")

    inside = "_session" if engine == "onnx" else "_together"
    monkeypatch.setattr(runner, inside, SimpleNamespace(run=fails, requests=fails))
    with pytest.raises(SystemFault) as fault:
        runner.logits(BATCH)
    assert (fault.value.code, "12 pictures at a time" in fault.value.what) == ("V703", True)
    assert fault.value.evidence == ("Failed to allocate memory for a buffer",)
