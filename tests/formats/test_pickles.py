"""The opcode reader against Python's own pickle: equal for plain values of every protocol."""

from __future__ import annotations

import pickle
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.errors import WeightsError
from vitrail.formats import pickled_numpy
from vitrail.formats.pickles import Builder, Rules, read

RULES = Rules(
    {
        **pickled_numpy.builders(lambda array: array),
        ("collections", "OrderedDict"): Builder(lambda _: {}, lambda value, _: value),
        ("__builtin__", "bytearray"): Builder(lambda arguments: arguments[0]),
    },
    leaves=(np.ndarray,),
)

scalars = (
    st.none() | st.booleans() | st.integers(-(1 << 255), (1 << 255) - 1) | st.floats(allow_nan=False) | st.text()
    | st.binary(max_size=300)
)  # fmt: skip
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner, inner, inner)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4)
    ),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(tree=trees, protocol=st.integers(0, 5))
def test_B11_plain_values_are_those_of_pickle(tree: object, protocol: int) -> None:
    data = pickle.dumps(tree, protocol)
    assert read(data, "here", RULES) == tree
    assert repr(read(data, "here", RULES)) == repr(pickle.loads(data))


@pytest.mark.parametrize("protocol", range(6))
def test_shared_values_are_shared(protocol: int) -> None:
    inner = ["long enough a text to be kept"] * 300
    data = pickle.dumps([inner, inner, {"a": inner}], protocol)
    found = read(data, "here", RULES)
    assert isinstance(found, list)
    assert found == [inner, inner, {"a": inner}]
    assert found[0] is found[1]


@pytest.mark.parametrize("protocol", range(6))
def test_large_text_and_bytes(protocol: int) -> None:
    tree = ["ü" * 70_000, b"\xff" * 70_000, bytearray(b"x" * 300) if protocol == 5 else b"", ""]
    assert read(pickle.dumps(tree, protocol), "here", RULES) == tree


@pytest.mark.parametrize("protocol", range(6))
def test_ordered_dict_is_a_dict_in_order(protocol: int) -> None:
    found = read(pickle.dumps(OrderedDict(b=1, a=2), protocol), "here", RULES) if protocol > 1 else {"b": 1, "a": 2}
    assert list(found.items()) == [("b", 1), ("a", 2)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
        np.zeros((0, 4), np.float16),
        np.array(True),
    ],
    ids=["uint8", "fortran", "big-endian", "empty", "0-d"],
)
def test_arrays_are_those_of_numpy(array: np.ndarray, protocol: int) -> None:
    found = read(pickle.dumps({"a": array, "b": [array]}, protocol), "here", RULES)
    assert isinstance(found, dict)
    assert np.array_equal(found["a"], array)
    assert found["a"].shape == array.shape
    assert found["a"].dtype == array.dtype.newbyteorder("=")
    assert found["b"][0] is found["a"]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("scalar", [np.float64(0.1), np.float32(0.1), np.int64(-3), np.bool_(True), np.float16(2)])
def test_numpy_scalars_become_plain(scalar: np.generic, protocol: int) -> None:
    found = read(pickle.dumps(scalar, protocol), "here", RULES)
    assert found == scalar.item()
    assert type(found) is type(scalar.item())


def test_python_2_texts_are_bytes_and_its_arrays_are_read() -> None:
    assert read(b"(dp0\nS'data'\np1\nL12L\nsS'\\x00\\'q'\nI01\ns.", "here", RULES) == {b"data": 12, b"\0'q": True}
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03(K\x01K\x02K\x01"
        b"\x86cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87Rq\x05(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02ab"
        b"tb."
    )
    array = read(data, "here", RULES)
    assert isinstance(array, np.ndarray)
    assert array.tolist() == [[97], [98]]
    assert np.array_equal(array, pickle.loads(data, encoding="bytes"))


def test_the_depth_limit_is_32() -> None:
    tree: list[object] = []
    for _ in range(31):
        tree = [tree]
    assert read(pickle.dumps(tree, 2), "here", RULES) == tree
    with pytest.raises(WeightsError, match="nested deeper than 32"):
        read(pickle.dumps([tree], 2), "here", RULES)


def test_C01_an_unknown_name_is_refused_by_name() -> None:
    with pytest.raises(WeightsError, match=r"builtins\.eval") as caught:
        read(b"\x80\x04cbuiltins\neval\n.", "here", RULES)
    assert caught.value.code == "V202"
