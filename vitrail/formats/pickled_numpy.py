"""NumPy's arrays, scalars and types inside pickles, built from their bytes by own rules."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vitrail.errors import WeightsError
from vitrail.formats.bounds import check_shape
from vitrail.formats.pickles import Builder
from vitrail.formats.stored import bools_are_bits

_CODES = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])


def word(value: object) -> str:
    """A short text that Python 2 may have pickled as bytes."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} stands where a text belongs")
    return value


def _dtype(arguments: tuple[object, ...]) -> np.dtype:
    code = word(arguments[0]) if arguments else ""
    if code.lstrip("<|=") not in _CODES:
        raise ValueError(f"the type `{code[:20]}` is no plain number type")
    return np.dtype(code.lstrip("<|=")).newbyteorder("<")


def _byte_order(dtype: object, state: object) -> np.dtype:
    assert isinstance(dtype, np.dtype)
    if not isinstance(state, tuple) or len(state) < 2 or word(state[1]) not in ("<", ">", "|", "="):
        raise ValueError("the state of a dtype is not understood")
    return dtype.newbyteorder(">" if word(state[1]) == ">" else "<")


class _Empty:
    """What stands for an array until its state follows."""


def _array(state: object) -> np.ndarray:
    match state:
        case (int(), tuple() as shape, np.dtype() as dtype, bool() | 0 | 1 as fortran, bytes() as raw):
            return _from_bytes(raw, dtype, shape, "F" if fortran else "C")
    raise ValueError("the state of an array is not understood")


def _from_buffer(arguments: tuple[object, ...]) -> np.ndarray:
    match arguments:
        case (bytes() as raw, np.dtype() as dtype, tuple() as shape, str() as order):
            return _from_bytes(raw, dtype, shape, order)
    raise ValueError("the arguments of an array are not understood")


def _from_bytes(raw: bytes, dtype: np.dtype, shape: tuple[object, ...], order: str) -> np.ndarray:
    try:
        sizes = check_shape(shape, len(raw), "the pickle")
    except WeightsError as error:
        raise ValueError(error.what) from error
    if math.prod(sizes) * dtype.itemsize != len(raw):
        raise ValueError(f"an array of shape {sizes} and type {dtype} has {len(raw)} bytes")
    if dtype.kind == "b" and not bools_are_bits(raw):
        raise ValueError("an array of bool holds bytes other than 0 and 1")
    flat = np.frombuffer(raw, dtype)
    return flat.reshape(sizes, order="F" if order == "F" else "C").astype(dtype.newbyteorder("="), copy=False)


def _scalar(arguments: tuple[object, ...]) -> object:
    match arguments:
        case (np.dtype() as dtype, bytes() as raw) if len(raw) == dtype.itemsize:
            value: object = np.frombuffer(raw, dtype)[0].item()
            return value
    raise ValueError("a scalar is not understood")


def _encode(arguments: tuple[object, ...]) -> bytes:
    match arguments:
        case (str() as text, "latin1" | "latin-1"):
            return text.encode("latin-1")
        case ():
            return b""
    raise ValueError("the arguments are not those of pickled bytes")


def builders(leaf: Callable[[np.ndarray], object]) -> dict[tuple[str, str], Builder | str]:
    """The table for `pickles.Rules`; leaf makes the value that stands for an array."""
    array = Builder(lambda _: _Empty(), lambda _, state: leaf(_array(state)))
    buffer = Builder(lambda arguments: leaf(_from_buffer(arguments)))
    table: dict[tuple[str, str], Builder | str] = {
        ("numpy", "ndarray"): "numpy.ndarray",
        ("numpy", "dtype"): Builder(_dtype, _byte_order),
        ("_codecs", "encode"): Builder(_encode),
        ("__builtin__", "bytes"): Builder(_encode),  # protocol 2 writes empty bytes as bytes()
        ("builtins", "bytes"): Builder(_encode),
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = array
        table[f"{core}.multiarray", "scalar"] = Builder(_scalar)
        table[f"{core}.numeric", "_frombuffer"] = buffer
    return table
