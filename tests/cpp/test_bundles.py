"""C++ takes and refuses the same bundles as Python, by the same codes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cpp.build import ROOT
from tests.bundle import tiny
from tests.bundle.test_manifest import CHANGES, edited, sealed, whole
from tests.bundle.test_read import GRAPH
from tests.cpp.asking import ask
from vitrail.bundle import read
from vitrail.bundle.formats import Form
from vitrail.bundle.manifest import _KEYS, NAME, WEIGHTS, Manifest
from vitrail.bundle.values import canonical
from vitrail.engines import graphs, onnx
from vitrail.engines.facts import said
from vitrail.engines.opened import open_bundle
from vitrail.errors import VitrailError
from vitrail.pictures.predict import Prediction
from vitrail.proof.export import export


def verdict(call: Callable[[], object]) -> str:
    try:
        call()
    except VitrailError as error:
        return error.code
    return "ok"


def answers(built: Path, lines: list[str]) -> list[str]:
    return [answer.split()[0] for answer in ask(built / "vitrail-parts", lines)]


def same_of_manifests(built: Path, folder: Path, texts: Iterable[bytes]) -> list[str]:
    lines, wanted = [], []
    for number, text in enumerate(texts):
        path = folder / str(number)
        path.write_bytes(text)
        lines.append(f"manifest {path}")
        wanted.append(verdict(lambda text=text: Manifest.from_json(text)))
    found = answers(built, lines)
    wrong = [(line, want, got) for line, want, got in zip(lines, wanted, found, strict=True) if want != got]
    assert not wrong, f"{len(wrong)} of {len(lines)}: {wrong[:5]}"
    return wanted


def test_E01_a_good_manifest_and_its_digest(built: Path, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(whole())
    assert ask(built / "vitrail-parts", [f"manifest {tmp_path / 'm'}"]) == [f"ok {Manifest.from_json(whole()).digest}"]


def test_E01_every_changed_field(built: Path, tmp_path: Path) -> None:
    """Sealed anew by a careful forger: the change of each test of Python, and each key left out."""
    texts = [edited(change) for change in CHANGES.values()]
    for name in _KEYS:
        values = json.loads(whole())
        del values[name]
        texts.append(canonical(values) if name == "digest" else sealed(values))
    assert set(same_of_manifests(built, tmp_path, texts)) == {"V501"}


VALUES: tuple[Any, ...] = (
    None, True, 0, 1, -1, 5, 10**15, 10**30, -(10**30), 0.0, 0.5, 1.0, 1e300, 1e16, 1.5e-7, "", "x", "crop", "trained",
    "fp32", "0" * 64, "x" * 201, "a\nb", "naïve ☃ 𝄞", "\u200b", "\ud800", "\x7f", [], [1], [16, 20], [0.5, 0.5, 0.5],
    ["a", "b", "c", "d", "e"], {}, {"a": 1}, {"a": "b"}, {"weights": "MIT", "data": "MIT"},
)  # fmt: skip


def places(value: object, path: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    """Where each value of a manifest stands."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


def with_value(path: tuple[Any, ...], value: object) -> bytes:
    values = json.loads(whole())
    at = values
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return sealed(values)


def exempt(path: tuple[Any, ...], value: object) -> bool:
    """What Python alone knows: contradictions between the fields of an architecture."""
    return path[:1] == ("config",) and path[1:2] not in (("image_size",), ("channels",), ("classes",))


def test_E01_every_field_with_odd_values(built: Path, tmp_path: Path) -> None:
    everywhere = [path for path in places(json.loads(whole())) if path != ("digest",)]
    draw = random.Random(4)
    tried = [(path, value) for path in everywhere for value in VALUES if not exempt(path, value)]
    verdicts = same_of_manifests(built, tmp_path, [with_value(*one) for one in draw.sample(tried, 500)])
    assert 20 < verdicts.count("ok") < 250


def test_E01_config_fields_with_odd_values(built: Path, tmp_path: Path) -> None:
    """What C++ knows of them: kinds, ranges, names. Where it takes one that Python refuses, fields contradict."""
    paths = [("config", name) for name in json.loads(whole())["config"]]
    texts = {(path, number): with_value(path, value) for path in paths for number, value in enumerate(VALUES)}
    lines = []
    for number, text in enumerate(texts.values()):
        (tmp_path / str(number)).write_bytes(text)
        lines.append(f"manifest {tmp_path / str(number)}")
    pairs = list(zip(texts.values(), answers(built, lines), strict=True))
    assert all(verdict(lambda text=text: Manifest.from_json(text)) != "ok" for text, found in pairs if found != "ok")
    taken = [text for text, found in pairs if found == "ok"]
    apart = [text for text in taken if verdict(lambda text=text: Manifest.from_json(text)) != "ok"]
    assert len(apart) <= 12 and len(taken) >= 30, (len(apart), len(taken))


def test_E01_changed_bytes(built: Path, tmp_path: Path) -> None:
    draw, texts = random.Random(7), []
    for _ in range(300):
        text = bytearray(whole())
        text[draw.randrange(len(text))] ^= draw.randrange(1, 256)
        texts.append(bytes(text))
    texts += [whole()[: draw.randrange(len(whole()))] for _ in range(50)]
    texts += [b"", b"[]\n", b"null\n", b'{"a": NaN}\n', b"[" * 200_000, b"\xff\xfe{}", whole() + b"\n", b" " + whole()]
    assert set(same_of_manifests(built, tmp_path, texts)) == {"V501"}


@pytest.mark.prove
def test_E01_every_single_byte(built: Path, tmp_path: Path) -> None:
    texts = []
    for place in range(len(whole())):
        for change in (1, 0x20, 0x80):
            text = bytearray(whole())
            text[place] ^= change
            texts.append(bytes(text))
    assert set(same_of_manifests(built, tmp_path, texts)) == {"V501"}


def other_form(text: bytes) -> bytes:
    """As `text`, with the digest of what it is now: only its form is wrong."""
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(b' "digest"')]
    at = next(i for i, line in enumerate(lines) if line.startswith(b' "engines"'))
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    return b"".join([*lines[:at], f' "digest": "{digest}",\n'.encode(), *lines[at:]])


FORMS: tuple[tuple[bytes, bytes], ...] = (
    (b'"weights": "random"', b'"weights": "\\u0072andom"'),
    (b"0.4914", b"0.49140"),
    (b"0.4914", b"4.914e-1"),
    (b'"crop": 0.9', b'"crop":  0.9'),
    (b'"crop": 0.9', b'"crop": .9'),
    (b'"crop": 0.9', b'"crop": 0.9000000000000001'),
    (b'"depth": 2', b'"depth": 2.0'),
    (b'"depth": 2', b'"depth": 02'),
    (b'"depth": 2', b'"depth": -0'),
    (b'"family": "cct"', b'"family": "c\\/ct"'),
    (b'"family": "cct"', b'"family": "cct",\n "family": "cct"'),
)
# Texts of one more value in the provenance, under a key that comes first.
TEXTS: tuple[bytes, ...] = (
    b"1e16", b"1e+16", b"1e-05", b"1e-5", b"-0.0", b"-0", b"5e-324", b"1e-400", b"1.7976931348623157e+308", b"1e400",
    b"123456789012345.6", b"1234567890123456.7", b"0.0001", b"0.00001", b"1.0", b"1.50", b"100000000000000000000.0",
    b"9" * 4300, b"9" * 4301, b"9223372036854775808", b"-9223372036854775809", b"NaN", b"Infinity", b"true", b"nul",
    b'"\\u00e9"', b'"\\u00E9"', b'"\xc3\xa9"', b'"\\ud834\\udd1e"', b'"\\ud834"', b'"\\udd1e\\ud834"',
    b'"\\u007f"', b'"\x7f"',
    b'"\\u000a"', b'"\\n"', b'"\\b\\f\\r\\t\\"\\\\"', b'"\\/"', b'"\\u0000"', b'"\\u0041"',
    b'"\x01"', b'"', b'"\\"', b'"\\u12"',
    b"[]", b"[ ]", b"{}", b"{ }", b"[\n   []\n  ]", b"[\n   1,\n   2\n  ]", b"[1]", b'{\n   "b": 1,\n   "a": 2\n  }',
)  # fmt: skip


def test_E01_other_forms_of_the_same_values(built: Path, tmp_path: Path) -> None:
    assert all(old in whole() for old, _ in FORMS)
    texts = [other_form(whole().replace(old, new, 1)) for old, new in FORMS]
    start = b'"provenance": {'
    texts += [other_form(whole().replace(start, start + b'\n  "A": ' + text + b",", 1)) for text in TEXTS]
    verdicts = same_of_manifests(built, tmp_path, texts)
    assert verdicts.count("ok") >= 15 and verdicts.count("V501") >= 25


def test_E01_depth_and_newer_versions(built: Path, tmp_path: Path) -> None:
    def deep(levels: int) -> bytes:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return edited(lambda v: v["provenance"].update(deep=value))

    newer = [
        edited(lambda v, form=form: v.update(format=form, novelty=1)) for form in ("1.7", "1.0", "2.0", "0.9", "1.x")
    ]
    verdicts = same_of_manifests(built, tmp_path, [*map(deep, range(24, 40)), *newer])
    assert {"ok", "V501"} == set(verdicts)


# ---------------------------------------------------------------- files


NAMES = ("../x", "/etc/hostname", "a/../x", "./x", "a//x", "a\\x", "a\nx", "engines", "", "engines/onnx-fp32/", "C:x\0",
         "absent", "WEIGHTS.safetensors", "ſtraße", "manifest.json", "weights.safetensors/x", "x" * 513)  # fmt: skip


def same_of_bundles(built: Path, folders: list[Path]) -> list[str]:
    wanted = [verdict(lambda folder=folder: read.check(folder).close()) for folder in folders]
    found = answers(built, [f"bundle {folder}" for folder in folders])
    assert found == wanted, [row for row in zip(folders, wanted, found, strict=True) if row[1] != row[2]]
    return wanted


def test_E01_names_that_lead_out(built: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"secret")
    folders = []
    for number, name in enumerate(NAMES):
        folders.append(tiny.bundle(tmp_path / str(number)))
        entry = {"size": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}
        (folders[-1] / NAME).write_bytes(edited(lambda v, name=name, entry=entry: v["files"].__setitem__(name, entry)))
    assert set(same_of_bundles(built, folders)) == {"V501", "V502", "V503"}


def test_E01_links_and_other_kinds_of_files(built: Path, tmp_path: Path) -> None:
    outside = tiny.bundle(tmp_path / "outside")
    cases: dict[str, Callable[[Path], object]] = {
        "good": lambda b: None,
        "file": lambda b: (b / GRAPH).unlink() or (b / GRAPH).symlink_to(outside / GRAPH),
        "hard": lambda b: (b / GRAPH).unlink() or (b / GRAPH).hardlink_to(outside / GRAPH),
        "folder": lambda b: (b / "engines").rename(b / "old") and (b / "engines").symlink_to(b / "old"),
        "manifest": lambda b: (b / NAME).unlink() or (b / NAME).symlink_to(outside / NAME),
        "dangling": lambda b: (b / NAME).unlink() or (b / NAME).symlink_to(b / "nowhere"),
        "fifo": lambda b: (b / GRAPH).unlink() or os.mkfifo(b / GRAPH),
        "loop": lambda b: (b / GRAPH).unlink() or (b / GRAPH).symlink_to(b / GRAPH),
        "absent": lambda b: (b / GRAPH).unlink(),
        "cut": lambda b: (b / GRAPH).write_bytes(tiny.bundle_files()[GRAPH][:-1]),
        "longer": lambda b: (b / GRAPH).write_bytes(tiny.bundle_files()[GRAPH] + b"\0"),
        "flipped": lambda b: (b / GRAPH).write_bytes(tiny.bundle_files()[GRAPH][:-1] + b"\xff"),
        "a folder in its place": lambda b: (b / GRAPH).unlink() or (b / GRAPH).mkdir(),
        "no manifest": lambda b: (b / NAME).unlink(),
        "unlisted": lambda b: (b / "README").write_text("mine"),
    }
    folders = []
    for case, change in cases.items():
        folders.append(tiny.bundle(tmp_path / case))
        change(folders[-1])
    (tmp_path / "top").symlink_to(tmp_path / "good")
    verdicts = same_of_bundles(built, [*folders, tmp_path / "top", tmp_path / "nowhere"])
    assert {"ok", "V501", "V502", "V503"} == set(verdicts)


# ---------------------------------------------------------------- graphs


def forged(folder: Path, graph: bytes) -> Path:
    """A bundle whose manifest vouches for that graph."""
    tiny.bundle(folder)
    (folder / GRAPH).write_bytes(graph)
    entry = {"size": len(graph), "sha256": hashlib.sha256(graph).hexdigest()}
    (folder / NAME).write_bytes(edited(lambda v: v["files"].__setitem__(GRAPH, entry)))
    return folder


def look_at_graph(folder: Path) -> None:
    """As `open_bundle`, up to where an engine sees the graph."""
    with read.check(folder) as opened:
        manifest = opened.manifest
        entry = manifest.engines["onnx-fp32"]
        graph = graphs.Stored(entry, manifest.config, manifest.classes, opened.read)
        graphs.check_said(graph, said(onnx.check(opened.read(entry.file), graph.form)))


def same_of_graphs(built: Path, folder: Path, graphs: Iterable[bytes]) -> list[str]:
    folders = [forged(folder / str(number), graph) for number, graph in enumerate(graphs)]
    wanted = [verdict(lambda one=one: look_at_graph(one)) for one in folders]
    found = answers(built, [f"graph {one}" for one in folders])
    wrong = [(str(one), want, got) for one, want, got in zip(folders, wanted, found, strict=True) if want != got]
    assert not wrong, f"{len(wrong)} of {len(folders)}: {wrong[:5]}"
    return wanted


def test_C17_changed_graphs(built: Path, tmp_path: Path) -> None:
    """Bytes changed in the structure of the graph, which lies behind its weights, and everywhere."""
    graph, draw, graphs = tiny.bundle_files()[GRAPH], random.Random(3), []
    for number in range(60):
        text = bytearray(graph)
        low = 0 if number % 2 else max(0, len(text) - 3000)
        text[draw.randrange(low, len(text))] ^= 1 << draw.randrange(8)
        graphs.append(bytes(text))
    verdicts = same_of_graphs(built, tmp_path, [graph, *graphs])
    assert {"ok", "V505"} <= set(verdicts)


def test_C17_an_operator_without_an_output(built: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load_from_string(tiny.bundle_files()[GRAPH])
    constant = model.graph.initializer[0].name
    model.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", [constant, constant], []))
    assert same_of_graphs(built, tmp_path, [model.SerializeToString()]) == ["V505"]


@pytest.mark.prove
def test_C17_a_graph_of_another_kind_opens(built: Path, tmp_path: Path) -> None:
    folder = export(tiny.classifier("vit_lite"), tmp_path / "bundle", pictures=tiny.pictures()).folder
    assert answers(built, [f"open {folder}"]) == ["ok"]


@pytest.mark.prove
def test_C17_many_changed_graphs(built: Path, tmp_path: Path) -> None:
    graph, draw = tiny.bundle_files()[GRAPH], random.Random(9)
    for part in range(40):
        graphs = []
        for _ in range(50):
            text = bytearray(graph)
            for _ in range(draw.randrange(1, 4)):
                text[draw.randrange(len(text))] = draw.randrange(256)
            graphs.append(bytes(text))
        same_of_graphs(built, tmp_path / str(part), graphs)


# ---------------------------------------------------------------- while it is read


def test_C21_a_file_that_changes_while_it_is_read(built: Path, tmp_path: Path) -> None:
    """Cut, grown, replaced and put back all the time: the right bytes or a refusal, never a signal."""
    folder, stop = tiny.bundle(tmp_path), threading.Event()
    path, good = folder / WEIGHTS, tiny.bundle_files()[WEIGHTS]
    aside = tmp_path / "aside"

    def change() -> None:
        while not stop.is_set():
            os.truncate(path, len(good) // 2)
            path.write_bytes(good + b"more")
            aside.write_bytes(good)
            aside.replace(path)
            time.sleep(0.002)

    changing = threading.Thread(target=change)
    changing.start()
    found = answers(built, [f"bundle {folder}"] * 400)
    stop.set()
    changing.join()
    assert set(found) <= {"ok", "V502", "V503"} and len(set(found)) > 1


# ---------------------------------------------------------------- what is written by a script


def test_the_tables_are_those_that_python_writes() -> None:
    import runpy

    made = runpy.run_path(str(ROOT / "cpp" / "tables.py"))
    for name in ("families", "numerics", "openvino_kinds", "torchscript_operations"):
        assert (ROOT / "cpp" / "src" / f"{name}.inc").read_text() == made["FILES"][name]()
    text = (ROOT / "cpp" / "src" / "unicode_tables.inc").read_text()
    if unicodedata.unidata_version in text.splitlines()[0]:  # another Python knows more or fewer letters
        assert text == made["unicode_text"]()


def test_a_graph_that_takes_pixels_three_at_a_time(built: Path, tmp_path: Path) -> None:
    form = Form(takes="pixels", batch=3)
    folder = export(tiny.classifier(), tmp_path / "bundle", form=form, pictures=tiny.pictures()).folder
    paths = []
    for number, noise in enumerate(np.random.default_rng(0).integers(0, 256, (4, 30, 40, 3), dtype=np.uint8)):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(noise).save(paths[-1])
    command = [built / "vitrail-cpp", "classify", folder, *paths, "--json", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = open_bundle(folder, engine="openvino", threads=1).predict(paths)
    for found, answer in zip(json.loads(done.stdout), expected, strict=True):
        assert isinstance(answer, Prediction)
        assert tuple(one["class"] for one in found["classes"]) == answer.classes
        assert [one["probability"] for one in found["classes"]] == pytest.approx(answer.probabilities, rel=1e-12)
