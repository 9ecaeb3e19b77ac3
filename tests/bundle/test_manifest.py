from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bundle import tiny
from vitrail.bundle.manifest import _KEYS, NAME, Licences, Manifest, weights_hash
from vitrail.bundle.values import canonical
from vitrail.errors import BundleError
from vitrail.formats.stored import Stored


def whole() -> bytes:
    return tiny.bundle_files()[NAME]


def sealed(values: dict[str, Any]) -> bytes:
    """The manifest that a careful forger writes: canonical, with the right digest."""
    body = {name: value for name, value in values.items() if name != "digest"}
    return canonical({**body, "digest": hashlib.sha256(canonical(body)).hexdigest()})


def edited(change: Any) -> bytes:
    values = json.loads(whole())
    change(values)
    return sealed(values)


def refused(data: bytes) -> BundleError:
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(data)
    assert caught.value.code == "V501"
    return caught.value


def test_C13_a_manifest_is_read_back_as_it_was_written() -> None:
    manifest = Manifest.from_json(whole())
    assert manifest.to_json() == whole()
    source = tiny.classifier()
    assert (manifest.config, manifest.policy, manifest.classes) == (source.config, source.policy, source.classes)
    assert (manifest.family, manifest.variant, manifest.weights) == ("cct", "cct", "random")
    assert manifest.licences == Licences("unknown", "unknown")


def test_C13_the_digest_is_the_hash_of_the_file_without_its_line() -> None:
    rest = re.sub(rb'(?m)^ "digest": "[0-9a-f]{64}",\n', b"", whole())
    assert hashlib.sha256(rest).hexdigest() == Manifest.from_json(whole()).digest


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_C13_one_changed_byte_is_refused(data: st.DataObject) -> None:
    text = bytearray(whole())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] ^= data.draw(st.integers(1, 255))
    refused(bytes(text))


@pytest.mark.prove
def test_C13_every_single_byte() -> None:
    text = bytearray(whole())
    for place in range(len(text)):
        for change in (1, 0x20, 0x80):
            text[place] ^= change
            refused(bytes(text))
            text[place] ^= change


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_C13_a_cut_manifest_is_refused(length: int) -> None:
    if length < len(whole()):
        refused(whole()[:length])


def test_C13_a_changed_mean_is_refused_with_both_hashes() -> None:
    error = refused(whole().replace(b"0.4914", b"0.4915"))
    assert "digest" in error.what
    assert len(error.evidence) == 2


@pytest.mark.parametrize("name", _KEYS)
def test_C13_every_field_is_needed(name: str) -> None:
    values = json.loads(whole())
    del values[name]
    refused(canonical(values) if name == "digest" else sealed(values))


CHANGES: dict[str, Any] = {
    "classes fewer than the head": lambda v: v["classes"].pop(),
    "classes no text": lambda v: v["classes"].__setitem__(0, 7),
    "std zero": lambda v: v["policy"]["std"].__setitem__(0, 0.0),
    "std beyond all floats": lambda v: v["policy"]["std"].__setitem__(0, 10**400),
    "size zero": lambda v: v["policy"]["size"].__setitem__(0, 0),
    "size huge": lambda v: v["policy"]["size"].__setitem__(0, 1 << 31),
    "policy of another size": lambda v: v["policy"]["size"].__setitem__(0, 17),
    "config with a word for a number": lambda v: v["config"].__setitem__("depth", "2"),
    "config with true for a number": lambda v: v["config"].__setitem__("depth", True),
    "config unknown key": lambda v: v["config"].__setitem__("activation", "tanh"),
    "config without a key": lambda v: v["config"].pop("depth"),
    "family unknown": lambda v: v.__setitem__("family", "resnet"),
    "hash in upper case": lambda v: v.__setitem__("weights_sha256", v["weights_sha256"].upper()),
    "file size negative": lambda v: v["files"]["weights.safetensors"].__setitem__("size", -1),
    "file size true": lambda v: v["files"]["weights.safetensors"].__setitem__("size", True),
    "file hash short": lambda v: v["files"]["weights.safetensors"].__setitem__("sha256", "ab"),
    "file with a second hash": lambda v: v["files"]["weights.safetensors"].__setitem__("md5", "ab"),
    "manifest lists itself": lambda v: v["files"].__setitem__(NAME, {"size": 1, "sha256": "0" * 64}),
    "engine without its file": lambda v: v["engines"]["onnx-fp32"].__setitem__("file", "engines/other.onnx"),
    "engine precision": lambda v: v["engines"]["onnx-fp32"].__setitem__("precision", "fp7"),
    "engine opset": lambda v: v["engines"]["onnx-fp32"].__setitem__("opset", 1e9),
    "engine top": lambda v: v["engines"]["onnx-fp32"].__setitem__("top", 0),
    "engine top a text": lambda v: v["engines"]["onnx-fp32"].__setitem__("top", "5"),
    "weights word": lambda v: v.__setitem__("weights", "good"),
    "licence empty": lambda v: v["licences"].__setitem__("weights", ""),
    "licence too long": lambda v: v["licences"].__setitem__("data", "x" * 201),
    "licence with an escape": lambda v: v["licences"].__setitem__("data", "MIT\x1b[31m"),
    "unknown field of our own version": lambda v: v.__setitem__("colour", 1),
    "no version": lambda v: v.__setitem__("format", "new"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_C13_a_sealed_manifest_with_a_wrong_field_is_refused(name: str) -> None:
    refused(edited(CHANGES[name]))


def test_C13_a_newer_minor_version_keeps_its_fields() -> None:
    data = edited(lambda v: v.update(format="1.7", novelty={"a": [1, 2]}))
    manifest = Manifest.from_json(data)
    assert manifest.extra == {"novelty": {"a": [1, 2]}}
    assert manifest.to_json() == data


def test_C13_a_newer_major_version_is_refused_naming_both() -> None:
    error = refused(edited(lambda v: v.update(format="2.0")))
    assert "2.0" in error.what
    assert "1.1" in error.what


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]\n",
        b"null\n",
        b'{"a": NaN}\n',
        b'{"a": 1e999}\n',
        b"[" * 200_000,
        b"\xff\xfe{}",
        b'{\n "a": 1,\n "a": 1\n}\n',
        b"x" * ((16 << 20) + 1),
    ],
    ids=["empty", "list", "null", "nan", "infinity", "nested", "utf16", "twice", "large"],
)
def test_C13_other_bytes_are_refused(data: bytes) -> None:
    refused(data)


def test_C13_nesting_is_bounded() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    assert "nested" in refused(edited(lambda v: v["provenance"].update(deep=deep))).what


def test_what_cannot_be_read_back_is_not_written() -> None:
    manifest = Manifest.from_json(whole())
    with pytest.raises(BundleError):
        dataclasses.replace(manifest, classes=("one",)).to_json()


def test_weights_hash_sees_name_type_shape_and_bytes() -> None:
    value = np.arange(6, dtype=np.float32)
    tensors = [
        {"a": Stored.of(value)},
        {"b": Stored.of(value)},
        {"a": Stored.of(value.reshape(2, 3))},
        {"a": Stored.of(value.view(np.int32))},
        {"a": Stored.of(value + 1)},
        {},
    ]
    assert len({weights_hash(item) for item in tensors}) == len(tensors)
    two = {"x": Stored.of(value), "a": Stored.of(value)}
    assert weights_hash(two) == weights_hash(dict(reversed(two.items())))
