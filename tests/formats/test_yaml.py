"""Strict YAML: equal to the safe loader where that holds no surprise, refused with the line where it does."""

from __future__ import annotations

import math

import pytest
import yaml as library
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.errors import RecipeError
from vitrail.formats import yaml

RECIPE = """\
# a recipe
model:    {variant: cct_14_7x2_224, classes: 1000}
schedule:
  name: cosine
  lr: 5.0e-4
  betas: [0.9, 0.999]
data:
  root: "/data/image net"
  steps:
    - 3
    - {a: null}
train: {compile: true, clip: ~, seed: 0x1F}
"""


def test_values_are_those_of_the_safe_loader() -> None:
    node = yaml.read(RECIPE, "r.yaml")
    assert yaml.plain(node) == library.safe_load(RECIPE)


def test_lines_are_those_of_the_keys() -> None:
    value = yaml.read(RECIPE, "r.yaml").value
    assert isinstance(value, dict)
    assert {key: node.line for key, node in value.items()} == {"model": 2, "schedule": 3, "data": 7, "train": 12}
    inner = value["data"].value
    assert isinstance(inner, dict)
    steps = inner["steps"].value
    assert isinstance(steps, list)
    assert (inner["root"].line, inner["steps"].line, [node.line for node in steps]) == (8, 9, [10, 11])


texts = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8)
plain_values = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | texts
trees = st.recursive(
    plain_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(tree=trees, flow=st.booleans())
def test_what_the_library_writes_is_read(tree: object, flow: bool) -> None:
    text = library.safe_dump(tree, default_flow_style=flow, allow_unicode=True)
    try:
        found = yaml.plain(yaml.read(text, "r.yaml"))
    except RecipeError as error:
        pytest.fail(f"{text!r}: {error}")
    assert found == tree


@settings(max_examples=400, deadline=None)
@given(text=st.text(st.sampled_from("ab1:-[]{}&*!|>%@#?'\",. \n\t\\0eE~<x_u\x85\ud800"), max_size=20))
def test_any_text_is_refused_or_what_the_library_reads(text: str) -> None:
    try:
        found = yaml.plain(yaml.read(text, "r.yaml"))
    except RecipeError:
        return
    if found not in ("=", "<<"):  # texts to us, riddles to the library
        assert repr(found) == repr(library.safe_load(text))


REFUSED = {
    "a: yes": "`yes` is an unclear truth value",
    "a: [On]": "`On` is an unclear truth value",
    "no: 1": "`no` is an unclear truth value",
    "a: 1\nb: 2\na: 3": "r.yaml:3`: the key `a` stands twice, first in line 1",
    "a: &x 1": "anchors",
    "a: &x {b: 1}": "anchors",
    "a: 1\nb: *a": "r.yaml:2`: anchors",
    "a: !!str 1": "tag",
    "a: !!python/object/apply:os.system [touch canary]": "tag",
    "a: !mine 1": "tag",
    "<<: {a: 1}": "merge",
    "a: 1\n--- \nb: 2": "r.yaml:2`: a second document",
    "5: 1": "the key `5` is no text",
    "~: 1": "is no text",
    "true: 1": "the key `true` is no text",
    "[a]: 1": "a key is a list",
    "? {a: 1}\n: 2": "a key is a list",
    "a: 010": "base 8",
    "a: 1:30": "base 60",
    "a: 1:30.5": "base 60",
    "a: 2020-01-01": "date",
    "a: [1": "r.yaml:1",
    "a: 'b": "r.yaml:1",
    "a: b: c": "mapping values are not allowed",
    "a:\n\t- b": "r.yaml:2",
    "a: @b": "cannot start any token",
    "a: \0": "special characters",
    'a: "\\ud800"': "lone surrogate",
    'a: "\\UFFFFFFFF"': "r.yaml",
    "a: 0x_": "is no number",
    "a: " + "1" * 100: "too long for a number",
    "[" * 40 + "]" * 40: "nested deeper than 32",
    "[" * 100_000: "nested deeper than 32",
    "- " * 50_000: "nested deeper than 32",
    "a: " + "x" * (1 << 20): "larger than 1048576 bytes",
    "%YAML 2.0\n---\na: 1": "incompatible",
}


@pytest.mark.parametrize("text", REFUSED, ids=[text[:20] for text in REFUSED])
def test_V103_refused_with_place_and_way_out(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        yaml.read(text, "r.yaml")
    assert caught.value.code == "V103"
    assert REFUSED[text] in caught.value.what
    assert "r.yaml" in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "# only a comment", "---"])
def test_an_empty_document_is_nothing(text: str) -> None:
    assert yaml.plain(yaml.read(text, "r.yaml")) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("5.0e-4", 5e-4), ("true", True), ("null", None), ("cosine", "cosine"), ('"yes"', "yes"),
        ("[1, [2, x]]", [1, [2, "x"]]), ("{a: 1, b: [c]}", {"a": 1, "b": ["c"]}), ("/data/x y", "/data/x y"),
        ("x#y", "x#y"), (".inf", math.inf), ("5e-4", "5e-4"), ("https://a/b", "https://a/b"), ('""', ""),
    ],
)  # fmt: skip
def test_scalar_of_an_override(text: str, value: object) -> None:
    assert yaml.scalar(text) == value


@pytest.mark.parametrize(
    "text", ["", " ", "a: b", "- x", "x #y", "yes", "a\nb", "@x", "[1", "[1] 2", "1\n", "*a", "!!int 1", "# x", "010"]
)
def test_V103_scalar_refuses(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        yaml.scalar(text)
    assert caught.value.code == "V103"
    assert "override" in caught.value.what


@pytest.mark.parametrize(
    "text", ["5e-4", "1e-8", "1E5", "1.e5", "-2e-3", "+1e3", "1.5e3", ".5e3", "0e0", "12e+3", "-.5", "08"]
)
def test_text_that_looks_like_a_number(text: str) -> None:
    assert yaml.scalar(text) == text, "YAML 1.1 reads it as text"
    written = yaml.looks_like_number(text)
    assert written is not None
    assert yaml.scalar(written) == float(text)


@settings(max_examples=300, deadline=None)
@given(text=st.text("0123456789.eE+-", max_size=8))
def test_every_number_of_python_is_read_or_told(text: str) -> None:
    try:
        number = float(text)
    except ValueError:
        assert yaml.looks_like_number(text) is None
        return
    told = yaml.looks_like_number(text)
    if told is not None:
        assert yaml.scalar(told) == number
        return
    try:
        value = yaml.scalar(text)
    except RecipeError:
        return
    assert value == number
