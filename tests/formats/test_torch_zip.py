"""Files of torch.save against torch itself."""

from __future__ import annotations

import argparse
import pathlib
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.hostile.torch_files import FLOATS, document, packed, storage, tensor
from vitrail.errors import WeightsError
from vitrail.formats import read_tensors, torch_zip
from vitrail.formats.state_dict import state_dict
from vitrail.formats.stored import Stored


def same(ours: Stored, theirs: torch.Tensor) -> bool:
    bits = theirs.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if theirs.numel() else b""
    return tuple(theirs.shape) == ours.shape and bytes(ours.data) == bits


def saved(tmp_path: Path, value: object) -> Path:
    torch.save(value, tmp_path / "x.pth")
    return tmp_path / "x.pth"


def test_C02_real_files_equal_torch(shared: Path) -> None:
    files = sorted((shared / "reference" / "files").glob("*.pth"))
    assert len(files) >= 7
    for path in files:
        theirs = torch.load(path, weights_only=True)
        theirs = theirs.get("model", theirs)
        tensors, notes = state_dict(torch_zip.read(path))
        assert list(tensors) == list(theirs)
        assert all(same(tensors[name], theirs[name]) for name in theirs)
        assert notes in ([], ["weights taken from `model`"])


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint64, torch.uint32, torch.uint16, torch.uint8, torch.bool,
    ],
)  # fmt: skip
def test_C02_every_type(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    tree = torch_zip.read(saved(tmp_path, {"w": tensor, "kind": dtype}))
    assert isinstance(tree, dict)
    assert same(tree["w"], tensor)
    assert tree["kind"] == str(dtype)


STRIDED = {
    "transposed": torch.arange(6.0).reshape(2, 3).t(),
    "sliced": torch.arange(20.0)[3:15:4],
    "rows": torch.arange(20.0).reshape(4, 5)[1:3, 2:4],
    "expanded": torch.arange(3.0).expand(4, 3),
    "channels last": torch.arange(48.0).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last),
    "scalar": torch.tensor(3.0),
    "empty": torch.zeros(0, 3),
    "one of one": torch.arange(4.0).reshape(1, 4)[:, 1:2],
    "parameter": torch.nn.Parameter(torch.arange(2.0)),
    "bool view": torch.tensor([True, False, True])[::2],
}


@pytest.mark.parametrize("name", STRIDED)
def test_C02_views_of_storages(name: str, tmp_path: Path) -> None:
    tree = torch_zip.read(saved(tmp_path, [STRIDED[name], STRIDED[name]]))
    assert isinstance(tree, list)
    assert same(tree[0], STRIDED[name])
    assert same(tree[1], STRIDED[name])


def test_C02_what_training_scripts_save_beside_weights(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(4, 2)).sum().backward()
    optimizer.step()
    tree = torch_zip.read(
        saved(
            tmp_path,
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "args": argparse.Namespace(lr=0.1, sizes=[1, 2], out=pathlib.PosixPath("/a/b"), amp=None),
                "best": np.float64(0.5),
                "rng": np.random.RandomState(0).get_state(),
                "size": torch.Size([1, 2]),
                "device": torch.device("cuda:1"),
                "counts": Counter("aab"),
                "seen": defaultdict(list, {"a": [1]}),
                "bytes": b"\xff\0",
                "empty": (b"", {3}, OrderedDict(a=1)),
            },
        )
    )
    assert isinstance(tree, dict)
    assert tree["args"] == {"lr": 0.1, "sizes": [1, 2], "out": "/a/b", "amp": None}
    assert (tree["best"], tree["size"], tree["device"]) == (0.5, (1, 2), "cuda:1")
    assert (tree["counts"], tree["seen"], tree["bytes"]) == ({"a": 2, "b": 1}, {"a": [1]}, b"\xff\0")
    assert tree["empty"] == (b"", [3], {"a": 1})
    assert np.array_equal(tree["rng"][1].array(), np.random.RandomState(0).get_state()[1])
    assert same(tree["optimizer"]["state"][0]["exp_avg"], optimizer.state[model[0].weight]["exp_avg"])
    tensors, notes = state_dict(tree)
    assert list(tensors) == list(model.state_dict())
    assert notes[0] == "weights taken from `model`"
    assert "passed over `optimizer` (12 tensors)" in notes
    assert len(notes) == len(tree)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_other_pickle_protocols(protocol: int, tmp_path: Path) -> None:
    value = {"w": torch.arange(3.0), "args": argparse.Namespace(a=pathlib.PurePosixPath("x/y")), "n": np.arange(2)}
    torch.save(value, tmp_path / "x.pth", pickle_protocol=protocol)
    tree = torch_zip.read(tmp_path / "x.pth")
    assert isinstance(tree, dict)
    assert same(tree["w"], value["w"])  # type: ignore[arg-type]
    assert tree["args"] == {"a": "x/y"}
    assert tree["n"].array().tolist() == [0, 1]


def w(value: int) -> Stored:
    return Stored("U8", (1,), bytes([value]))


@pytest.mark.parametrize(
    ("tree", "value", "notes"),
    [
        ({"w": w(1)}, 1, []),
        ({"w": w(1), "epoch": 3}, 1, ["passed over `epoch` (int)"]),
        ({"state_dict": {"w": w(2)}}, 2, ["weights taken from `state_dict`"]),
        (
            {"model_ema": {"w": w(9)}, "model": {"w": w(2)}},
            2,
            ["weights taken from `model`", "passed over `model_ema` (1 tensors)"],
        ),
        ({"model_ema": {"w": w(9)}, "lr": 0.1}, 9, ["weights taken from `model_ema`", "passed over `lr` (float)"]),
        ({"model": {"w": w(2)}, "w": w(1)}, 2, ["weights taken from `model`", "passed over `w` (1 tensors)"]),
        ({"model": "vit", "w": w(1)}, 1, ["passed over `model` (str)"]),
        (
            {"module": {"w": w(3), "deep": {"v": w(1)}}},
            3,
            ["weights taken from `module`", "passed over `module.deep` (1 tensors)"],
        ),
        (
            {"epoch": 9, "model": {"module": {"w": w(4)}, "epoch": 3}, "optimizer": {"w": [w(1), w(2)]}},
            4,
            [
                "weights taken from `model.module`",
                "passed over `epoch` (int)",
                "passed over `optimizer` (2 tensors)",
                "passed over `model.epoch` (int)",
            ],
        ),
        ({"state_dict": {"model": {"module": {"w": w(5)}}}}, 5, ["weights taken from `state_dict.model.module`"]),
        (
            {"model_ema": {"w": w(9)}, "model": {"module": {"w": w(2)}}},
            2,
            ["weights taken from `model.module`", "passed over `model_ema` (1 tensors)"],
        ),
        (
            {"state_dict_ema": {"w": w(8)}, "model": "vit"},
            8,
            ["weights taken from `state_dict_ema`", "passed over `model` (str)"],
        ),
    ],
)
def test_state_dict_says_where_and_what_not(tree: object, value: int, notes: list[str]) -> None:
    tensors, found = state_dict(tree)
    assert tensors == {"w": w(value)}
    assert found == notes


@pytest.mark.parametrize(
    "tree",
    [
        {}, [w(1)], 3, {1: w(1)}, {"optimizer": {"w": 1}}, {"optimizer": {"state": {"w": w(1)}}}, {"model": {}},
        {"model": {"model": {"model": {"model": {"w": w(1)}}}}},
    ],
)  # fmt: skip
def test_state_dict_refuses_what_holds_none(tree: object) -> None:
    with pytest.raises(WeightsError) as caught:
        state_dict(tree, "x.pth")
    assert caught.value.code == "V201"
    assert "x.pth" in caught.value.what


@pytest.mark.parametrize("device", ["cuda:0", "cuda", "mps", "mps:0", "xpu:1", "privateuseone:0"])
def test_tensors_of_any_device_are_plain_bytes(device: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(packed(document(("w", tensor(storage(device=device))))))
    assert state_dict(torch_zip.read(path))[0] == {"w": Stored("F32", (4,), FLOATS)}
    theirs = torch.load(path, weights_only=True, map_location="cpu")
    assert same(Stored("F32", (4,), FLOATS), theirs["w"])


def test_the_order_is_that_of_the_file(tmp_path: Path) -> None:
    names = ["z", "a", "m.b", "m.a"]
    tree = torch_zip.read(saved(tmp_path, {name: torch.zeros(1) for name in names}))
    assert list(state_dict(tree)[0]) == names


def test_prefixes_are_left_to_the_dialects(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3))
    wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
    tensors, notes = state_dict(torch_zip.read(saved(tmp_path, {"state_dict": wrapped})))
    assert list(tensors) == ["module.0.weight", "module.0.bias"]
    assert notes == ["weights taken from `state_dict`"]


def test_C08_names_that_differ_by_case(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="but for case"):
        state_dict(torch_zip.read(saved(tmp_path, {"w": torch.zeros(1), "W": torch.zeros(1)})))


def test_a_scripted_module_is_no_file_of_torch_save_and_its_weights_are_read(tmp_path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
        torch.jit.save(module, str(tmp_path / "x.pt"))
    with pytest.raises(WeightsError, match="does not belong") as caught:
        torch_zip.read(tmp_path / "x.pt")
    assert caught.value.code == "V202"
    tensors, _, _ = read_tensors(tmp_path / "x.pt")
    np.testing.assert_array_equal(tensors["weight"].array(), module.weight.detach().numpy())


def test_a_pickled_module_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.linear\.Linear"):
        torch_zip.read(saved(tmp_path, torch.nn.Linear(2, 2)))
