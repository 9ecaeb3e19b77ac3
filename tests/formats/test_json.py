"""Strict JSON against the standard library, and its one canonical text."""

from __future__ import annotations

import json as standard
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.formats import json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_there_and_back(value: object) -> None:
    assert json.loads(json.dumps(value)) == value
    assert json.loads(json.dumps(value, indent=1)) == value
    assert json.loads(json.dumps(value, in_order=True)) == value
    assert json.dumps(json.loads(json.dumps(value))) == json.dumps(value)


@given(values)
def test_the_text_is_that_of_the_standard_library(value: object) -> None:
    compact = standard.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    assert json.dumps(value) == compact.encode()
    assert json.dumps(value, indent=1) == standard.dumps(value, sort_keys=True, indent=1).encode()
    assert json.dumps(value, indent=1, in_order=True) == standard.dumps(value, indent=1).encode()


WRONG: dict[str, tuple[bytes, str]] = {
    "key twice": (b'{"a": 1, "b": 2, "a": 1}', "`a` stands twice"),
    "key twice by escape": (b'{"a": 1, "\\u0061": 2}', "`a` stands twice"),
    "key twice, deep": (b'[{"x": {"a": 1, "a": 2}}]', "`a` stands twice"),
    "NaN": (b"[NaN]", "NaN is no number"),
    "Infinity": (b"[Infinity]", "Infinity is no number"),
    "-Infinity": (b"[-Infinity]", "-Infinity is no number"),
    "1e999": (b"[1e999]", "1e999 is beyond"),
    "-1e999": (b"[-1e999]", "beyond"),
    "5,000 digits": (b"[" + b"9" * 5000 + b"]", "digits"),
    "33 deep": (b"[" * 33 + b"1" + b"]" * 33, "nested deeper than 32"),
    "33 objects deep": (b'{"a":' * 33 + b"1" + b"}" * 33, "nested deeper than 32"),
    "100,000 deep": (b"[" * 100_000 + b"]" * 100_000, "nested deeper than 32"),
    "a million values": (b"[" + b"1," * 10**6 + b"1]", "more than 500000 values"),
    "17 MiB": (b" " * (17 << 20), "the limit is 16777216"),
    "empty": (b"", "Expecting value"),
    "cut": (b'{"a": [1, 2', "Expecting"),
    "two values": (b"1 2", "Extra data"),
    "comma at the end": (b"[1,]", "Expecting value"),
    "single quotes": (b"{'a': 1}", "quotes"),
    "comment": (b"[1] // x", "Extra data"),
    "byte order mark": (b"\xef\xbb\xbf{}", "BOM"),
    "UTF-16": ('{"a": 1}'.encode("utf-16-le"), "Expecting"),
    "not UTF-8": (b'["\xff"]', "utf-8"),
    "control character": (b'["a\nb"]', "control character"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_strict_is_refused(name: str) -> None:
    data, word = WRONG[name]
    with pytest.raises(ValueError, match=r"\w") as caught:
        json.loads(data)
    assert word in str(caught.value) and len(str(caught.value)) < 300


def test_the_bounds_themselves_are_allowed() -> None:
    assert json.loads(b"[" * 32 + b"1" + b"]" * 32)
    assert json.loads(b"[[1]]", depth=2) == [[1]]
    with pytest.raises(ValueError, match="deeper than 1"):
        json.loads(b"[[1]]", depth=1)
    assert json.loads(b"[1]", limit=3) == [1]
    with pytest.raises(ValueError, match="the limit is 2"):
        json.loads(b"[1]", limit=2)
    assert json.loads(memoryview(b'{"a": "\\u00e9\xc3\xa9"}')) == {"a": "éé"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"a": float("-inf")}]])
def test_numbers_that_json_does_not_have_are_not_written(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        json.dumps(value)


def test_our_own_files_are_read(shared: Path) -> None:
    for name in ("index.json", "schedule_vectors.json"):
        path = shared / "reference" / name
        assert json.loads(path.read_bytes(), limit=64 << 20) == standard.loads(path.read_text())
