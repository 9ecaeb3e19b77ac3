"""A tensor as files hold it: a type word, a shape and little-endian bytes.  The common coin of all readers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vitrail.errors import UsageError

# safetensors word -> (bytes per element, NumPy type; BF16 has none and is kept as its 16 bits)
DTYPES: dict[str, tuple[int, str]] = {
    "F64": (8, "<f8"),
    "F32": (4, "<f4"),
    "F16": (2, "<f2"),
    "BF16": (2, "<u2"),
    "I64": (8, "<i8"),
    "I32": (4, "<i4"),
    "I16": (2, "<i2"),
    "I8": (1, "|i1"),
    "U64": (8, "<u8"),
    "U32": (4, "<u4"),
    "U16": (2, "<u2"),
    "U8": (1, "|u1"),
    "BOOL": (1, "|b1"),
}
_WORD_OF = {np.dtype(code): word for word, (_, code) in DTYPES.items() if word != "BF16"}


@dataclass(frozen=True)
class Stored:
    """One tensor: dtype is a key of `DTYPES`, data its little-endian bytes in C order.

    >>> Stored("BF16", (2,), bytes([0x80, 0x3F, 0x20, 0xC0])).array()
    array([ 1. , -2.5], dtype=float32)
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview

    def __post_init__(self) -> None:
        assert self.dtype in DTYPES, self.dtype
        assert len(self.data) == math.prod(self.shape) * DTYPES[self.dtype][0], (self.dtype, self.shape, len(self.data))

    def __reduce__(self) -> tuple[object, ...]:
        return Stored, (self.dtype, self.shape, bytes(self.data))  # between processes; a view has no bytes of its own

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor as it is stored."""
        return len(self.data)

    def array(self) -> np.ndarray:
        """The tensor as a read-only array over the same bytes; BF16 is widened (exactly) to float32."""
        flat = np.frombuffer(self.data, DTYPES[self.dtype][1])
        if self.dtype == "BF16":
            flat = (flat.astype("<u4") << 16).view("<f4")
            flat.flags.writeable = False
        return flat.reshape(self.shape)

    @classmethod
    def of(cls, array: np.ndarray, dtype: str | None = None) -> Stored:
        """The array as a stored tensor; a contiguous little-endian array is not copied, so do not write to it later.

        dtype: None for the array's own, or "BF16" for float32 values that it holds exactly.
        UsageError V007 when the type is not storable or a value would change.
        """
        if dtype == "BF16":
            return cls("BF16", array.shape, _bytes(_as_bf16(array)))
        word = _WORD_OF.get(array.dtype.newbyteorder("<"))
        if word is None or dtype not in (None, word):
            raise UsageError(
                "V007", f"an array of {array.dtype} cannot be stored as {dtype or 'a tensor'}", hint="convert it first"
            )
        return cls(word, array.shape, _bytes(array.astype(DTYPES[word][1], copy=False)))


Tensors = dict[str, Stored]


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data.toreadonly()


def _as_bf16(array: np.ndarray) -> np.ndarray:
    bits = array.astype("<f4", copy=False).view("<u4") if array.dtype == np.float32 else None
    if bits is None or bool(np.any(bits & 0xFFFF)):
        raise UsageError(
            "V007", f"an array of {array.dtype} is not exact in BF16", hint="round it to bfloat16 first, or store F32"
        )
    return (bits >> 16).astype("<u2")


def bools_are_bits(data: bytes | memoryview) -> bool:
    """True when every byte is 0 or 1: any other byte in a BOOL tensor is read differently by different libraries."""
    return not bool(np.any(np.frombuffer(data, np.uint8) > 1))
