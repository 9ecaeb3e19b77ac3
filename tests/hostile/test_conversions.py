"""A conversion is all or nothing: one tensor of each world's file dropped, renamed, reshaped or turned is refused."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SHARED
from tests.models.battery import Reference
from tests.weights.worlds import WORLDS
from vitrail.errors import VitrailError
from vitrail.formats import hdf5, mindspore, npz, read_tensors, safetensors
from vitrail.formats.stored import Stored, Tensors
from vitrail.models.catalog import variant
from vitrail.models.configs import ModelConfig, family_of
from vitrail.verbs.convert import Wanted, convert
from vitrail.weights import from_tensors, load, torch_file
from vitrail.weights.detect import translations
from vitrail.weights.dialects import tables

Damage = Callable[[Tensors, str], Tensors | None]


def dropped(tensors: Tensors, name: str) -> Tensors:
    return {key: value for key, value in tensors.items() if key != name}


def other(name: str) -> str:
    """A name that no world has; `:0` stays at its end."""
    head, mark, tail = name.rpartition(":")
    return f"{head}_:{tail}" if mark else f"{name}_"


def renamed(tensors: Tensors, name: str) -> Tensors:
    return {other(name) if key == name else key: value for key, value in tensors.items()}


def reshaped(tensors: Tensors, name: str) -> Tensors:
    """One size more, with the same bytes."""
    tensor = tensors[name]
    return tensors | {name: Stored(tensor.dtype, (*tensor.shape, 1), tensor.data)}


def transposed(tensors: Tensors, name: str) -> Tensors | None:
    """None where no name or shape shows it: a square matrix, or nothing to turn."""
    turned = tensors[name].array().T
    return None if turned.shape == tensors[name].shape else tensors | {name: Stored.of(np.ascontiguousarray(turned))}


DAMAGES: tuple[Damage, ...] = (dropped, renamed, reshaped, transposed)

Write = Callable[[Path, Tensors], object]

# a case of the reference -> the file, and who writes it anew; None: that container is only read
CASES: dict[str, tuple[str, Write | None]] = {
    "google_vit_tiny": ("google_vit_tiny.npz", npz.write),
    "google_vit_tiny_linen_names": ("google_vit_tiny_linen_names.npz", npz.write),
    "google_hybrid_tiny_r11": ("google_hybrid_tiny_r11.npz", npz.write),
    "hf_vit_tiny": ("hf_vit_tiny", safetensors.write),
    "hf_beit_tiny_shared_mean": ("hf_beit_tiny_shared_mean", safetensors.write),
    "unilm_beit_tiny_relpos": ("unilm_beit_tiny_relpos.pth", torch_file.write),
    "unilm_beit_tiny_shared_abs": ("unilm_beit_tiny_shared_abs.pth", torch_file.write),
    "keras2_vit_tiny": ("keras2_vit_tiny.h5", hdf5.write),
    "keras3_vit_tiny": ("keras3_vit_tiny.weights.h5", hdf5.write),
    "mindspore_cct_tiny_learnable": ("mindspore_cct_tiny_learnable.ckpt", mindspore.write),
    "mindspore_vit_tiny": ("mindspore_vit_tiny.ckpt", mindspore.write),
    "mindspore_beit004_tiny_relpos": ("mindspore_beit004_tiny_relpos.ckpt", mindspore.write),
    "mindspore_beit_tiny_relpos": ("mindspore_beit_tiny_relpos.ckpt", mindspore.write),
    "tf001_vit_tiny_quickgelu": ("tf001_vit_tiny_quickgelu_tf1ckpt", None),
    "keras2_vit_tiny_tfckpt": ("keras2_vit_tiny_tfckpt", None),
}


@functools.cache
def case(name: str) -> tuple[Tensors, ModelConfig | str, str]:
    """What lies in the file, the network it is of, and its dialect."""
    reference = Reference(SHARED, name.removesuffix("_tfckpt"))
    meta = reference.meta
    model, dialect = WORLDS[name.split("_")[0]](name, meta["config"], meta["input_shape"])
    tensors, _, _ = read_tensors(SHARED / "reference" / "files" / CASES[name][0])
    return tensors, model, dialect


# No network takes anything of these: a function of the config alone, and what an optimizer kept beside each weight.
PASSED_OVER = re.compile(r"relative_position_index$|/Momentum$")
# Where the refusal names the place in other words: (case, tensor) -> the words.
OTHERWISE = {
    ("mindspore_beit_tiny_relpos", "blocks.0.attn.k_bias"): "blocks.1.attn.k_bias",
    ("mindspore_beit_tiny_relpos", "blocks.1.attn.k_bias"): "blocks.0.attn.k_bias",
}


def refusal(tensors: Tensors, model: ModelConfig | str, dialect: str) -> VitrailError | None:
    try:
        from_tensors(tensors, model, dialect=dialect)
    except VitrailError as error:
        return error
    return None


@functools.cache
def names(name: str, key: str) -> tuple[str, ...]:
    """What a refusal may call a tensor: its own name, the one that its world's form stands for, and ours made of it."""
    tensors, _, dialect = case(name)
    table, whole = next(translations(tensors, tables(dialect, family(name))))
    tensor = tensors[key]
    other = Stored(tensor.dtype, tensor.shape, bytes([tensor.data[0] ^ 1]) + bytes(tensor.data[1:]))
    _, changed = next(translations(tensors | {key: other}, [table]))
    ours = [our for our, value in whole.tensors.items() if value != changed.tensors[our]]
    renames = table.rename(list(tensors)) if table.rename else {}
    return (key, renames.get(key, key), *ours)


def family(name: str) -> str:
    model = case(name)[1]
    return family_of(variant(model).config if isinstance(model, str) else model)


def unnamed(error: VitrailError, name: str, key: str, damage: Damage) -> bool:
    words = (other(key),) if damage is renamed else (*names(name, key), OTHERWISE.get((name, key), key))
    return not any(word in line for line in (error.what, *error.evidence) for word in words)


def wrong(name: str, damage: Damage, keys: Iterable[str]) -> list[str]:
    """The tensors whose damage is not refused by name."""
    tensors, model, dialect = case(name)
    found = []
    for key in keys:
        if PASSED_OVER.search(key) or (damaged := damage(tensors, key)) is None:
            continue
        error = refusal(damaged, model, dialect)
        if error is None or error.code not in ("V204", "V205"):
            found.append(f"{key}: {error}")
        elif unnamed(error, name, key, damage):
            found.append(f"{key} is not named: {error}")
    return found


def some(name: str) -> list[str]:
    """Three tensors: the first that shows when it is turned, one in the middle, the last."""
    tensors, _, _ = case(name)
    keys = [key for key in tensors if not PASSED_OVER.search(key)]
    turning = [key for key in keys if transposed(tensors, key) is not None]
    return [turning[0], keys[len(keys) // 2], keys[-1]]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", CASES)
def test_C12_one_damaged_tensor_is_refused_by_name(name: str, damage: Damage, shared: Path) -> None:
    assert refusal(*case(name)) is None  # whole, it is taken
    assert not wrong(name, damage, some(name))


@pytest.mark.prove
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", CASES)
def test_C12_every_damaged_tensor_is_refused_by_name(name: str, damage: Damage, shared: Path) -> None:
    assert not wrong(name, damage, case(name)[0])


@pytest.mark.parametrize("name", [name for name, (_, write) in CASES.items() if write is not None])
def test_C12_a_damaged_file_is_converted_to_nothing(name: str, shared: Path, tmp_path: Path) -> None:
    tensors, model, dialect = case(name)
    file, write = CASES[name]
    assert write is not None
    key = some(name)[0]
    for damage in DAMAGES:
        folder = tmp_path / damage.__name__
        source = shared / "reference" / "files" / file
        path = folder / file
        if source.is_dir():
            shutil.copytree(source, path, copy_function=shutil.copyfile)
            path.chmod(0o755)
            path = path / "model.safetensors"
            path.unlink()
        else:
            folder.mkdir()
        damaged = damage(tensors, key)
        assert damaged is not None
        write(path, damaged)
        before = sorted(folder.rglob("*"))
        with pytest.raises(VitrailError) as caught:
            load(path, model, dialect=dialect)
        assert caught.value.code in ("V204", "V205")
        assert not unnamed(caught.value, name, key, damage), caught.value
        with pytest.raises(VitrailError) as refused:
            convert(path, folder / "out.safetensors", wanted=Wanted(dialect=dialect))
        assert refused.value.code in ("V204", "V205")
        assert sorted(folder.rglob("*")) == before, "something was written"


def test_C12_there_are_enough_cases() -> None:
    assert len(CASES) * len(DAMAGES) >= 40
