"""Stored tensors: exact in both directions for every type."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrail.errors import UsageError
from vitrail.formats.stored import DTYPES, Stored


@pytest.mark.parametrize("dtype", [word for word in DTYPES if word != "BF16"])
def test_array_and_back(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(DTYPES[dtype][1])
    stored = Stored.of(array)
    assert (stored.dtype, stored.shape, bytes(stored.data)) == (dtype, (2, 3), array.tobytes())
    assert np.array_equal(stored.array(), array)
    assert stored.array().dtype == array.dtype
    assert np.shares_memory(stored.array(), array), "contiguous arrays are not copied"
    assert not stored.array().flags.writeable


def test_every_bf16_equals_torch() -> None:
    bits = np.arange(65536, dtype="<u2")
    ours = Stored("BF16", (65536,), bits.tobytes()).array()
    theirs = torch.from_numpy(bits.view(np.int16).copy()).view(torch.bfloat16).float().numpy()
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))
    assert bytes(Stored.of(ours, "BF16").data) == bits.tobytes()


def test_bf16_only_if_exact() -> None:
    with pytest.raises(UsageError, match="not exact"):
        Stored.of(np.array([0.1], np.float32), "BF16")
    with pytest.raises(UsageError, match="not exact"):
        Stored.of(np.array([1.0]), "BF16")


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([1j]), np.array([None])], ids=["text", "complex", "object"]
)
def test_other_types_are_refused(array: np.ndarray) -> None:
    with pytest.raises(UsageError, match="cannot be stored"):
        Stored.of(array)


def test_another_type_than_asked_for_is_refused() -> None:
    with pytest.raises(UsageError, match="F64"):
        Stored.of(np.zeros(2, np.float32), "F64")


@pytest.mark.parametrize("array", [np.float32(3).reshape(()), np.zeros((0, 4)), np.arange(6.0).reshape(2, 3).T])
def test_scalar_empty_and_strided(array: np.ndarray) -> None:
    stored = Stored.of(array)
    assert stored.nbytes == array.nbytes
    assert np.array_equal(stored.array(), array)
    assert stored.array().shape == array.shape


def test_big_endian_is_turned() -> None:
    assert bytes(Stored.of(np.array([1], ">i4")).data) == b"\1\0\0\0"
