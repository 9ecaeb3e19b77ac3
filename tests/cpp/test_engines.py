"""C++ on graphs of every format: Python's logits to the bit, the same choice, the same refusals."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.bundle import tiny
from tests.cpp.asking import Refused, Shape, by_eight_threads, model, of
from vitrail.bundle.formats import Form
from vitrail.bundle.manifest import NAME, File, Manifest
from vitrail.engines import graphs, open_bundle, torchscript, trust
from vitrail.errors import VitrailError
from vitrail.pictures.predict import taken
from vitrail.proof.export import export, graph_name

FORMS = (Form(), Form(takes="pixels"), Form(batch=3), Form(top=2))
CASES = [
    *((name, form) for name in ("onnx", "openvino", "torchscript") for form in FORMS),
    ("onnx", Form("fp16")), ("openvino", Form("bf16")), ("torchscript", Form("bf16")),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a graph for each case."""
    folder = tmp_path_factory.mktemp("engines") / "bundle"
    for name, form in CASES:
        export(tiny.classifier("vit_lite"), folder, format=name, form=form, pictures=tiny.pictures())
    return folder


def verdicts(library: Any, folder: Path, engine: str) -> tuple[str, str]:
    """The codes by which Python and C++ refuse; `ok` where they do not."""
    found = []
    for opening in (lambda: open_bundle(folder, engine=engine), lambda: model(library, folder, engine).__enter__()):
        try:
            opening()
            found.append("ok")
        except VitrailError as error:
            found.append(error.code)
        except Refused as error:
            found.append(error.args[0])
    return found[0], found[1]


def run(built: Path, *words: object, code: int = 0) -> str:
    done = subprocess.run([built / "vitrail-cpp", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == code, (done.returncode, done.stdout[-500:], done.stderr[-500:])
    return done.stdout if code in (0, 5) else done.stderr


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """torch is one for Python and C++ in a process: as many threads afterwards as before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("name", "form"), CASES, ids=[graph_name(*case) for case in CASES])
def test_E07_every_format_gives_pythons_logits(library: Any, folder: Path, name: str, form: Form) -> None:
    engine = graph_name(name, form)
    torch.set_num_threads(1)
    python = open_bundle(folder, engine=engine, threads=None if name == "torchscript" else 1)
    with model(library, folder, engine) as opened:
        for picture in tiny.pictures():
            raw = picture.read()
            expected = python.logits(taken(python, python.policy.pixels(raw)[None]))[0]
            shape = Shape(raw.shape[2], *raw.shape[:2])
            assert np.array_equal(of(library.vitrail_classify_pixels, 5, opened, raw.ctypes.data, shape), expected)
        if form.takes == "images":
            images = np.random.default_rng(7).standard_normal((7, 3, *tiny.SIZE)).astype(np.float32)
            found = of(library.vitrail_logits, 35, opened, images.ctypes.data, 7)
            assert np.array_equal(found.reshape(7, 5), python.logits(images))


@pytest.mark.parametrize("engine", ["openvino-bf16", "openvino-fp32"])
@pytest.mark.parametrize("batch", [1, 7, 8, 64, 65])
@pytest.mark.parametrize("threads", [1, 2])
def test_E07_a_graph_is_compiled_for_the_same_sizes(
    library: Any, folder: Path, engine: str, batch: int, threads: int
) -> None:
    """In bf16 a graph compiled for another size rounds otherwise."""
    python = open_bundle(folder, engine=engine, threads=threads, batch=batch)
    with model(library, folder, engine, threads=threads, batch=batch) as opened:
        for count in (9, batch, 1, 2, 9):
            images = np.random.default_rng(count).standard_normal((count, 3, *tiny.SIZE)).astype(np.float32)
            found = of(library.vitrail_logits, 5 * count, opened, images.ctypes.data, count)
            assert np.array_equal(found.reshape(count, 5), python.logits(images)), count


def test_auto_takes_the_most_exact_data(built: Path, folder: Path) -> None:
    def engine(word: str) -> str:
        out = run(built, "benchmark", folder, "--engine", word, "--rounds", "1", "--warm", "0", "--json")
        return str(json.loads(out)["engine"])

    words = {
        "auto": "openvino",
        "auto-bf16": "openvino",
        "auto-fp16": "openvino",
        "torchscript-fp32-batch3": "torchscript",
    }
    assert {word: engine(word) for word in words} == words
    assert "error[V504]" in run(built, "benchmark", folder, "--engine", "auto-int8", code=2)
    assert "error[V007]" in run(built, "benchmark", folder, "--engine", "torchscrip", code=2)


def test_a_program_beside_its_reference(built: Path, folder: Path) -> None:
    """What the model zoo's C++ sample was for: it says whether they agree, and exits by it."""
    said = run(built, "compare", folder, "--engine", "torchscript", "--batch", "2")
    assert "[SUCCESS] torchscript f32 inference result is the same as onnx f32!" in said
    said = run(built, "compare", folder, "--engine", "torchscript-bf16", "--reference-engine", "torchscript", code=5)
    assert "[Failure] torchscript bf16 inference result is different from torchscript f32!" in said


def test_C18_a_program_made_elsewhere_is_run_only_when_trusted(
    built: Path, library: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    command = ("benchmark", folder, "--engine", "torchscript", "--rounds", "1")
    assert "error[V509]" in run(built, *command, code=2)
    assert verdicts(library, folder, "torchscript") == ("V509", "V509")
    assert "FPS" in run(built, *command, "--trust")
    with model(library, folder, "torchscript", trust=True):
        pass
    sha256 = Manifest.from_json((folder / NAME).read_bytes()).files["engines/torchscript-fp32/model.ts"].sha256
    assert trust.remember(sha256)
    assert "FPS" in run(built, *command)


# ---------------------------------------------------------------- refusals, with Python's code


def edit(folder: Path, place: Path, change: Callable[[Manifest], dict[str, Any]], **files: bytes) -> Path:
    """A copy of the bundle with other files, and a manifest that vouches for them."""
    for name, data in (tiny.contents(folder) | files).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    whole = Manifest.from_json((folder / NAME).read_bytes())
    listed = {name: File(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}
    for file in listed.values():
        trust.remember(file.sha256)
    whole = dataclasses.replace(whole, files={**whole.files, **listed})
    (place / NAME).write_bytes(dataclasses.replace(whole, **change(whole)).to_json())
    return place


def other_fact(graph: str, **facts: object) -> Callable[[Manifest], dict[str, Any]]:
    def change(whole: Manifest) -> dict[str, Any]:
        entry = whole.engines[graph]
        other = dataclasses.replace(entry, facts={**entry.facts, **facts})
        return {"engines": {**whole.engines, graph: other}}

    return change


@pytest.mark.parametrize("graph", ["openvino-fp32", "torchscript-fp32"])
@pytest.mark.parametrize("wrong", ["classes", "gelu", "eps"])
def test_C16_a_graph_is_held_against_the_manifest(
    library: Any, folder: Path, tmp_path: Path, graph: str, wrong: str
) -> None:
    eps = "norm_eps" if graph.startswith("openvino") else "layernorm_eps"
    change = {
        "classes": lambda whole: {"classes": whole.classes[::-1]},
        "gelu": other_fact(graph, gelu=["tanh"]),
        "eps": other_fact(graph, **{eps: [1e-6]}),
    }[wrong]
    assert verdicts(library, edit(folder, tmp_path, change), graph) == ("V502", "V502")


IR = "engines/openvino-fp32/model"


def nothing(_: Manifest) -> dict[str, Any]:
    return {}


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('type="Erf"', 'type="Sign"', "V505"),  # an operator that no network of ours has
        ('type="Erf"', 'type="Tanh"', "V502"),
        ('shape="?,3,16,20"', 'shape="?,3,16,24"', "V505"),
        ('shape="?,3,16,20"', 'shape="2,3,16,20"', "V505"),
        ('names="images"', 'names="pictures"', "V505"),
        ("<layers>", "<layer>", "V505"),
        ("&quot;plane", "&quot;train", "V502"),
    ],
)
def test_C17_a_changed_ir_is_refused(library: Any, folder: Path, tmp_path: Path, old: str, new: str, code: str) -> None:
    text = (folder / f"{IR}.xml").read_text()
    assert old in text
    python, cpp = verdicts(
        library, edit(folder, tmp_path, nothing, **{f"{IR}.xml": text.replace(old, new).encode()}), "openvino"
    )
    assert python == cpp == code


@pytest.mark.parametrize("file", [f"{IR}.xml", f"{IR}.bin", "engines/torchscript-fp32/model.ts"])
@pytest.mark.parametrize("damage", ["empty", "half", "reversed"])
def test_C11_damaged_graphs_are_refused(library: Any, folder: Path, tmp_path: Path, file: str, damage: str) -> None:
    whole = (folder / file).read_bytes()
    data = {"empty": b"", "half": whole[: len(whole) // 2], "reversed": bytes(reversed(whole))}[damage]
    graph = file.split("/")[1]
    python, cpp = verdicts(library, edit(folder, tmp_path, nothing, **{file: data}), graph)
    assert python == cpp
    assert cpp == "V505" or file.endswith(".bin")  # other weights of the same size are no damage that a graph shows


def test_C17_an_ir_is_xml_and_nothing_else(library: Any, folder: Path, tmp_path: Path) -> None:
    """OpenVINO takes ONNX in its place as well, and with it files outside the bundle."""
    onnx = (folder / "engines/onnx-fp32/model.onnx").read_bytes()
    assert verdicts(library, edit(folder, tmp_path, nothing, **{f"{IR}.xml": onnx}), "openvino-fp32") == (
        "V505",
        "V505",
    )


def test_C17_an_ir_without_classes(library: Any, folder: Path, tmp_path: Path) -> None:
    text = (folder / f"{IR}.xml").read_text()
    start, end = text.index("<framework>"), text.index("</framework>") + len("</framework>")
    forged = edit(folder, tmp_path, nothing, **{f"{IR}.xml": (text[:start] + text[end:]).encode()})
    assert verdicts(library, forged, "openvino-fp32") == ("V505", "V505")


@pytest.mark.parametrize("graph", ["onnx-fp32", "openvino-fp32", "torchscript-fp32"])
def test_C16_a_graph_of_another_epsilon_is_held_against_the_config(
    library: Any, folder: Path, tmp_path: Path, graph: str
) -> None:
    """Graph and manifest agree; the network that the config describes has another one."""
    source = tiny.classifier("vit_lite")
    other = copy.deepcopy(source.module)
    for part in other.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.eps = 1e-3
    forged = graphs.write(dataclasses.replace(source, module=other), graph.partition("-")[0], Form())
    files = {f"engines/{graph}/{file}": data for file, data in forged.files.items()}
    lying = edit(folder, tmp_path, other_fact(graph, **forged.facts), **files)
    assert verdicts(library, lying, graph) == ("V502", "V502")


class Elsewhere(torch.nn.Module):
    """The network, its answer changed by operations that are on the list."""

    def __init__(self, network: torch.nn.Module, change: str) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.network(x)
        return torch.cat([out, out], 1) if self.change == "wide" else out[:, 0]


@pytest.mark.parametrize("change", ["wide", "flat"])
def test_C17_a_program_with_other_logits_is_refused_when_it_is_opened(
    library: Any, folder: Path, tmp_path: Path, change: str
) -> None:
    source = tiny.classifier("vit_lite")
    forged = torchscript.write(
        dataclasses.replace(source, module=Elsewhere(source.module, change)), Form(), about=ABOUT
    )
    lying = edit(folder, tmp_path, nothing, **{"engines/torchscript-fp32/model.ts": forged.files["model.ts"]})
    assert verdicts(library, lying, "torchscript-fp32") == ("V505", "V505")


ABOUT = {"batch": None, "classes": list(tiny.CLASSES), "policy": {}, "takes": "images"}


def test_a_graph_is_never_held_against_itself(built: Path, folder: Path) -> None:
    """Said or not, float32 is float32."""
    for words in (("--precision", "f32"), ("--reference-precision", "f32"), ("--engine", "onnx", "--precision", "f32")):
        said = run(built, "compare", folder, *words)
        assert ("onnx" in said) and ("openvino" in said)
    assert "V007" in run(built, "compare", folder, "--engine", "onnx-fp16", "--precision", "f32", code=2)
    assert "V007" in run(built, "compare", folder, "--reference-engine", "openvino", code=2)
    said = run(built, "compare", folder, "--engine", "openvino-fp32", "--precision", "bf16", code=5)
    assert "openvino bf16" in said and "openvino f32" in said


def test_E06_eight_threads_with_batches_that_are_cut(library: Any, folder: Path) -> None:
    images = np.random.default_rng(2).standard_normal((5, 3, *tiny.SIZE)).astype(np.float32)
    with model(library, folder, "openvino", threads=2) as opened:
        expected = {
            count: of(library.vitrail_logits, 5 * count, opened, images.ctypes.data, count) for count in (1, 4, 5)
        }

        def right(which: int) -> bool:
            counts = [(1, 4, 5)[(which + turn) % 3] for turn in range(20)]
            answers = [(n, of(library.vitrail_logits, 5 * n, opened, images.ctypes.data, n)) for n in counts]
            return all(np.array_equal(found, expected[n]) for n, found in answers)

        assert all(by_eight_threads(right))


class Inverts(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(x)


def test_C18_an_operation_that_no_network_of_ours_has_is_refused(library: Any, folder: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(Inverts()), buffer)
    forged = edit(folder, tmp_path, nothing, **{"engines/torchscript-fp32/model.ts": buffer.getvalue()})
    assert verdicts(library, forged, "torchscript") == ("V505", "V505")


def test_C13_a_file_beside_the_graph_that_the_manifest_does_not_list(
    library: Any, folder: Path, tmp_path: Path
) -> None:
    def without(whole: Manifest) -> dict[str, Any]:
        return {"files": {name: file for name, file in whole.files.items() if name != f"{IR}.bin"}}

    assert verdicts(library, edit(folder, tmp_path, without), "openvino") == ("V502", "V502")


SIGNAL = """
import ctypes, os, signal, sys
library, models = ctypes.CDLL(sys.argv[1]), [ctypes.c_void_p(), ctypes.c_void_p()]
library.vitrail_close.argtypes = [ctypes.c_void_p]
for model in models:
    assert library.vitrail_open(sys.argv[2].encode(), None, ctypes.byref(model), None) == 0
for model in models:
    library.vitrail_close(model)
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_is_heard_after_models_that_were_closed_as_they_came(built: Path, folder: Path) -> None:
    """As in tests/engines/test_openvino_signals.py."""
    command = [sys.executable, "-c", SIGNAL, built / "libvitrail.so", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr[-3000:]


# ---------------------------------------------------------------- machine code


@pytest.mark.prove
def test_E07_machine_code_gives_pythons_logits(built: Path, library: Any, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    export(tiny.classifier(), folder, format="aoti", pictures=tiny.pictures())
    python = open_bundle(folder, engine="aoti")
    torch.set_num_threads(1)
    with model(library, folder, "aoti") as opened:
        for count in (1, 3):
            images = np.random.default_rng(count).standard_normal((count, 3, *tiny.SIZE)).astype(np.float32)
            found = of(library.vitrail_logits, 5 * count, opened, images.ctypes.data, count)
            assert np.array_equal(found.reshape(count, 5), python.logits(images))
    file = "engines/aoti-fp32/model.pt2"
    whole = (folder / file).read_bytes()
    forged = edit(folder, tmp_path / "forged", nothing, **{file: whole[: len(whole) // 2]})
    assert verdicts(library, forged, "aoti") == ("V505", "V505")
