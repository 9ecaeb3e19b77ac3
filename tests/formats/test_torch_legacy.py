"""Files of torch.save before torch 1.6 against torch itself."""

from __future__ import annotations

import argparse
import pathlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.formats.test_torch_zip import STRIDED, same
from tests.hostile.test_hostile_torch_legacy import legacy, storage
from tests.hostile.torch_files import FLOATS, document, tensor
from vitrail.disk import sha256_file
from vitrail.errors import WeightsError
from vitrail.formats import read_tensors, sniff, torch_legacy, torch_zip
from vitrail.formats.stored import Stored


def saved(tmp_path: Path, value: object, protocol: int = 2) -> Path:
    torch.save(value, tmp_path / "x.pth", _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    return tmp_path / "x.pth"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_C02_both_forms_give_the_same_values(protocol: int, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(4, 2)).sum().backward()
    optimizer.step()
    value = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, out=pathlib.PosixPath("/a/b"), amp=None),
        "best": np.float64(0.5),
        "size": torch.Size([1, 2]),
        "kind": torch.float16,
        "empty": (b"", {3}, frozenset([4]), OrderedDict(a=1)),
    }
    torch.save(value, tmp_path / "zip.pth", pickle_protocol=protocol)
    path = saved(tmp_path, value, protocol)
    assert sniff(path) == "torch_legacy"
    assert torch_legacy.read(path) == torch_zip.read(tmp_path / "zip.pth")
    assert read_tensors(path) == read_tensors(tmp_path / "zip.pth")


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool,
    ],
)  # fmt: skip
def test_C02_every_type(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    assert same(read_tensors(saved(tmp_path, {"w": tensor}))[0]["w"], tensor)


@pytest.mark.parametrize("name", STRIDED)
def test_C02_views_of_storages(name: str, tmp_path: Path) -> None:
    tree = torch_legacy.read(saved(tmp_path, [STRIDED[name], torch.arange(3.0), STRIDED[name]]))
    assert isinstance(tree, list)
    assert same(tree[0], STRIDED[name]) and same(tree[1], torch.arange(3.0)) and same(tree[2], STRIDED[name])


def test_many_storages_are_found_in_the_order_of_their_keys(tmp_path: Path) -> None:
    value = {f"w{i}": torch.full((i % 5,), float(i)) for i in range(200)}
    tensors, _, notes = read_tensors(saved(tmp_path, value))
    assert list(tensors) == list(value) and notes == []
    assert all(same(tensors[name], value[name]) for name in value)


def test_nested_under_two_keys(tmp_path: Path) -> None:
    state = torch.nn.Linear(2, 3).state_dict()
    tensors, _, notes = read_tensors(saved(tmp_path, {"model": {"module": state}, "epoch": 3}))
    assert list(tensors) == ["weight", "bias"]
    assert notes == ["weights taken from `model.module`", "passed over `epoch` (int)"]


@pytest.mark.parametrize("device", ["cpu", "cuda:0", "cuda:7", "mps"])
def test_tensors_of_any_device_are_plain_bytes(device: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(legacy(document(("w", tensor(storage(device=device))))))
    assert torch_legacy.read(path) == {"w": Stored("F32", (4,), FLOATS)}
    assert same(Stored("F32", (4,), FLOATS), torch.load(path, weights_only=True, map_location="cpu")["w"])


def test_C10_the_hash_comes_first(tmp_path: Path) -> None:
    path = saved(tmp_path, {"w": torch.zeros(2)})
    assert torch_legacy.read(path, sha256=sha256_file(path))
    path.write_bytes(b"\x80\x02cos\nsystem\n" + path.read_bytes())
    with pytest.raises(WeightsError, match="SHA-256 differs"):
        torch_legacy.read(path, sha256="0" * 64)


def test_big_endian_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(legacy(machine={"protocol_version": 1001, "little_endian": False}))
    with pytest.raises(WeightsError, match="not little-endian") as caught:
        torch_legacy.read(path)
    assert caught.value.code == "V201"


class _Net(torch.nn.Module):
    """A network with everything that a real one saves: weights, buffers, counters, shared and strided tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.norm = torch.nn.BatchNorm2d(4)
        self.head = torch.nn.Linear(4, 5, bias=False)
        self.tied = torch.nn.Linear(4, 5, bias=False)
        self.tied.weight = self.head.weight
        self.register_buffer("index", torch.arange(12).reshape(3, 4).t())
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("scale", torch.tensor(0.5, dtype=torch.float64))


def wrappings() -> dict[str, tuple[object, dict[str, torch.Tensor]]]:
    """What training scripts save: the value, and the state in it that is the model's."""
    net = _Net()
    state = dict(net.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), momentum=0.9)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    beside = {"optimizer": optimizer.state_dict(), "epoch": 9, "args": argparse.Namespace(lr=1e-3, opt=["a"])}
    return {
        "bare": (net.state_dict(), state),
        "plain dict": (state, state),
        "half": (half, half),
        "parameters": (dict(net.named_parameters()), dict(net.named_parameters())),
        "wrapped": (wrapped, wrapped),
        "timm": ({"state_dict": net.state_dict(), "arch": "vit", "version": 2, "metric": 81.2, **beside}, state),
        "timm with ema": ({"state_dict": net.state_dict(), "state_dict_ema": half, **beside}, state),
        "only ema": ({"state_dict_ema": half, "epoch": 3}, half),
        "deit": ({"model": net.state_dict(), "scaler": {"scale": 65536.0, "growth_factor": 2.0}, **beside}, state),
        "unilm beit": ({"model": net.state_dict(), "model_ema": half, **beside}, state),
        "unilm beit v2": ({"model": {"module": net.state_dict()}, **beside}, state),
        "dino": ({"student": wrapped, "teacher": half, "dino_loss": {"center": torch.zeros(1, 3)}, **beside}, wrapped),
        "lightning": ({"state_dict": wrapped, "callbacks": {}, "global_step": 3, "loops": [1]}, wrapped),
        "torchvision": ({"model_state_dict": net.state_dict(), "loss": torch.tensor(0.1)}, state),
        "three deep": ({"model": {"state_dict": {"module": net.state_dict()}}, "best": np.float32(0.5)}, state),
    }


CASES = [(name, legacy_form) for name in wrappings() for legacy_form in (False, True)]


def test_C02_the_list_of_wrappings_is_broad() -> None:
    assert len(CASES) >= 30


@pytest.mark.parametrize(("name", "legacy_form"), CASES)
def test_C02_what_training_scripts_save_equals_torch(name: str, legacy_form: bool, tmp_path: Path) -> None:
    value, state = wrappings()[name]
    torch.save(value, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy_form)
    tensors, _, notes = read_tensors(tmp_path / "x.pth")
    assert list(tensors) == list(state)
    assert all(same(tensors[key], tensor) for key, tensor in state.items())
    assert len(notes) == len(set(notes))
