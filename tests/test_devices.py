"""Devices: what a word means, who refuses it, and that a step holds nothing on another device than its own.

No accelerator is needed: `meta` stands for one, and no operation may have tensors of it and of the processor.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import vitrail
from tests.training.tiny import CLASSES, NETWORK, OPTIMIZERS, batch, mixed
from tests.verbs.small import small
from vitrail import machine
from vitrail.cli.main import run
from vitrail.data.batches import TrainBatch
from vitrail.errors import RecipeError, RunError, UsageError
from vitrail.machine import device, move, set_float32_products
from vitrail.models import build
from vitrail.models.configs import BEiTConfig, ModelConfig, ViTConfig
from vitrail.ranks import Ranks, World
from vitrail.recipe import load_recipe
from vitrail.recipe.write import fingerprint
from vitrail.training import average, step
from vitrail.training.configs import CrossEntropy, SoftTeacher
from vitrail.training.optimizers import make
from vitrail.training.probe import fastest_way
from vitrail.training.step import How, forward_backward, generators_kept
from vitrail.training.upload import uploaded
from vitrail.verbs.before import probed, refuse_early, settled_device
from vitrail.verbs.train import train

CUDA, META = torch.device("cuda", 0), torch.device("meta")
FAMILIES: dict[str, ModelConfig] = {
    "cct": NETWORK,
    "vit": ViTConfig(image_size=(8, 8), classes=CLASSES, patch=4, dim=16, depth=2, heads=2, dropout=0.1, drop_path=0.2),
    "beit": BEiTConfig(image_size=(8, 8), classes=CLASSES, patch=4, dim=16, depth=2, heads=2, shared_bias=True),
}


class OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses an operation on tensors of two devices, as CUDA does; moving and single numbers apart."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.ndim]
        devices = {x.device.type for x in given}
        assert len(devices) <= 1 or "copy" in func.name(), f"{func.name()} on {devices}"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def four_cards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine with four CUDA devices, as far as their number goes; the indices that became the current one."""
    made_current: list[int] = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda found: made_current.append(found.index))
    return made_current


def test_words_where_there_is_no_accelerator() -> None:
    assert machine.accelerator() == ("", 0), "this test is for machines without one"
    assert device("auto") == device("cpu") == device("auto", 3) == torch.device("cpu")
    for word, known in (("cuda", "cuda:0"), ("cuda:3", "cuda:3"), ("mps", "mps:0"), ("npu:0", "npu:0")):
        with pytest.raises(UsageError, match=f"no device `{known}`") as caught:
            device(word)
        assert (caught.value.code, caught.value.evidence) == ("V007", ("torch finds here: cpu",))
    with pytest.raises(UsageError) as caught:
        device("npu")
    assert "torch_npu" in caught.value.hint


def test_words_where_there_are_four(four_cards: list[int]) -> None:
    assert device("auto") == device("cuda") == CUDA
    assert device("cuda", 2) == device("auto", 2) == device("cuda:2") == torch.device("cuda", 2)
    assert device("cuda:3", 1) == torch.device("cuda", 3)
    assert device("cpu", 3) == torch.device("cpu")
    assert four_cards == [0, 0, 2, 2, 2, 3]
    for word in ("cuda:4", "xpu", "mps:0"):
        with pytest.raises(UsageError) as caught:
            device(word)
        assert caught.value.evidence == ("torch finds here: cpu, cuda:0 to cuda:3",)


@pytest.mark.parametrize("word", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:1", "auto:0", "cuda:1:2"])
def test_words_that_mean_nothing(word: str, four_cards: list[int]) -> None:
    if word != "cuda:":  # the recipe is stricter
        with pytest.raises(UsageError, match="is no device"):
            device(word)
    with pytest.raises(RecipeError, match=r"train\.device|problem"):
        load_recipe("digits/cct_2_3x2_32", [f"train.device='{word}'"])


@pytest.mark.parametrize(
    "words",
    [
        ["train", "digits/cct_2_3x2_32", "--out", "run"],
        ["evaluate", "w.safetensors", "--data", "digits"],
        ["predict", "w.safetensors", "."],
    ],
)
def test_every_verb_refuses_an_absent_device(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    vitrail.weights.save_as(vitrail.create("cct_2_3x2_32"), tmp_path / "w.safetensors")
    assert run([*words, "--device", "cuda:7"]) == 2
    assert "error[V007]: there is no device `cuda:7`" in capsys.readouterr().err


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, whose bundle holds weights alone."""
    return train(small("schedule.epochs=1"), out=tmp_path_factory.mktemp("devices") / "run").folder


def test_an_engine_that_has_no_device(finished: Path) -> None:
    for engine in ("auto", "torch"):
        opened = vitrail.open(finished, engine=engine, device="auto")
        assert isinstance(opened, vitrail.Bundle)
        assert opened.engine == "torch"
    with pytest.raises(UsageError, match="onnx runs on the processor here, not on `cuda`"):
        vitrail.open(finished, engine="onnx", device="cuda")
    with pytest.raises(UsageError, match="no device `cuda:0`"):
        vitrail.open(finished, device="cuda")


def test_the_device_of_a_run_is_settled_and_kept(finished: Path) -> None:
    text = (finished / "recipe.yaml").read_text()
    assert re.search(r"^  device: cpu +# machine$", text, re.MULTILINE)
    with pytest.raises(RunError) as caught:
        train(small("schedule.epochs=1", "train.device=cuda"), out=finished, resume=True)
    assert caught.value.code == "V602"
    assert "train.device  cpu -> cuda" in caught.value.evidence


def test_which_of_equal_devices_decides_nothing() -> None:
    prints = [fingerprint(small(f"train.device={word}")) for word in ("cuda", "cuda:1", "cuda:3", "cpu")]
    assert prints[0] == prints[1] == prints[2] != prints[3]


def test_one_device_is_not_shared_by_the_ranks_of_a_machine(four_cards: list[int]) -> None:
    """Two ranks of a machine on `cuda:3` would wait for each other; one on each of two machines has it alone."""
    with pytest.raises(UsageError, match="2 ranks on this machine want one each"):
        settled_device(small("train.device=cuda:3"), World(rank=1, size=2, local=1, locals=2))
    assert settled_device(small("train.device=cuda:3"), World(rank=1, size=2)) == torch.device("cuda", 3)


def test_what_is_compiled_is_tried_out_where_it_will_run(
    four_cards: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose processor lacks a compiler may have a card that needs none."""
    tried: list[torch.device] = []
    monkeypatch.setattr("vitrail.training.compiling.try_out", tried.append)
    refuse_early(small("train.compile=true", "train.device=cuda:1"))
    assert tried == [torch.device("cuda", 1)]


def test_tf32_is_for_cuda_alone(four_cards: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match="1 problem") as caught:
        small("precision=tf32", "train.device=xpu")
    assert caught.value.evidence == ("override: precision tf32 is CUDA's, train.device is xpu",)
    assert settled_device(small("precision=tf32"), World(rank=1, size=2, local=1, locals=2)) == torch.device("cuda", 1)
    assert probed(small("precision=tf32"), Ranks()).train.device == "cuda"
    set_float32_products("fp32", "cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(RecipeError, match="the device is cpu"):
        settled_device(small("precision=tf32"))


def test_true_float32_is_true_on_every_device() -> None:
    try:
        set_float32_products("tf32", "cuda:0")
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    finally:
        set_float32_products("bf16", "cuda:0")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


def test_true_float32_when_a_network_is_opened_on_a_card(
    four_cards: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run evaluates it: torch itself lets convolutions on CUDA round their factors to 10 bits."""
    moved: list[torch.device] = []
    module = torch.nn.Linear(1, 1)
    monkeypatch.setattr(module, "to", moved.append)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    move(module, "cpu")
    assert torch.backends.cudnn.allow_tf32
    move(module, "cuda:1")
    assert moved == [torch.device("cpu"), torch.device("cuda", 1)]
    assert not torch.backends.cudnn.allow_tf32


class Generators:
    """A device module that has nothing but generators."""

    states: dict[int, torch.Tensor]

    def __init__(self) -> None:
        self.states = {index: torch.full((16,), index, dtype=torch.uint8) for index in range(4)}

    def get_rng_state(self, device: torch.device) -> torch.Tensor:
        return self.states[device.index].clone()

    def set_rng_state(self, state: torch.Tensor, device: torch.device) -> None:
        self.states[device.index] = state


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_a_devices_generator_comes_out_as_it_went_in(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Generators()
    asked: list[object] = []

    def module_of(word: object) -> Generators:
        asked.append(word)
        return fake

    monkeypatch.setattr(torch, "get_device_module", module_of)
    before = torch.get_rng_state()
    with generators_kept(torch.device(kind, 2)):
        fake.states[2] += 1
        torch.rand(3)
    assert int(fake.states[2][0]) == 2
    assert asked == [kind]
    assert torch.equal(torch.get_rng_state(), before)


@contextlib.contextmanager
def no_cast(*_: object) -> Iterator[None]:
    """`meta` has no autocast."""
    yield


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_on_a_device_holds_nothing_on_the_processor(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "casting", no_cast)
    module, teacher = (build(FAMILIES[family], device="meta").to(META) for _ in range(2))  # buffers too
    how = How(
        device=META,
        precision="fp32",
        loss=CrossEntropy(teacher=SoftTeacher(path="x"), smoothing=0.1),
        seed=1,
        accumulate=2,
        mix=mixed,
        class_weights=torch.ones(CLASSES, device=META),
        teacher=teacher.eval(),
    )
    kept = average.start(module)
    with OneDevice():
        loss = forward_backward(module.train(), batch(0), how)
        average.update(kept, module, 0.1)
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
    assert {loss.device, norm.device, *(g.device for g in gradients)} == {META}
    assert len(gradients) == len(list(module.parameters()))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_keeps_what_it_keeps_on_the_device(name: str) -> None:
    module = build(NETWORK, device="meta")
    optimizer = make(OPTIMIZERS[name], module)
    for parameter in module.parameters():
        parameter.grad = torch.empty_like(parameter)
    if name != "lamb":  # which asks for numbers
        with OneDevice():
            optimizer.step()
        kept = [state[word] for state in optimizer.state.values() for word in state if word != "step"]
        assert {value.device for value in kept} == {META}


def numbered(count: int, log: list[str]) -> Iterator[TrainBatch]:
    try:
        for number in range(count):
            yield batch(number)
    finally:
        log.append("closed")


def test_batches_are_brought_to_a_device_in_order_and_ahead() -> None:
    log: list[str] = []
    found = list(uploaded(numbered(5, log), 5, META))
    assert [one.step for one in found] == [0, 1, 2, 3, 4]
    assert all(one.images.device == one.labels.device == META for one in found)  # type: ignore[attr-defined]
    assert all(np.array_equal(one.indices, batch(one.step).indices) for one in found)
    assert log == ["closed"]
    early = uploaded(numbered(5, log), 5, META)
    next(early)
    early.close()  # type: ignore[attr-defined]
    assert log == ["closed", "closed"]
    batches = numbered(2, log)
    assert uploaded(batches, 2, torch.device("cpu")) is batches


def test_what_a_reader_says_passes_through() -> None:
    def broken() -> Iterator[TrainBatch]:
        yield batch(0)
        raise UsageError("V007", "the second batch", hint="")

    found = uploaded(broken(), 2, META)
    with pytest.raises(UsageError, match="the second batch"):
        list(found)


def test_the_probe_runs_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("vitrail.training.probe.fastest", lambda ways, question: asked.append(question) or min(ways))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert fastest_way(NETWORK, "auto", "auto", 1024, device=CUDA) == ("bf16", "explicit")
    assert asked[0].endswith(f"at batch 64, NVIDIA H200, torch {torch.__version__}")
