"""C++ gives Python's answers: through the C interface, through its programs, with the same exit codes."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cpp.build import ROOT
from tests.bundle import tiny
from tests.bundle.test_manifest import edited
from tests.cpp.asking import Fault, Options, Shape, by_eight_threads, of
from vitrail.bundle.manifest import NAME
from vitrail.class_names import class_names, wnids
from vitrail.cli.main import vitrail
from vitrail.engines.opened import Bundle, open_bundle
from vitrail.proof.export import export
from vitrail.verbs.evaluate import evaluate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that calls its weights trained."""
    folder = tiny.bundle(tmp_path_factory.mktemp("bundle"))
    (folder / NAME).write_bytes(edited(lambda v: v.update(weights="trained")))
    return folder


@pytest.fixture(scope="module")
def python(folder: Path) -> Bundle:
    return open_bundle(folder, engine="openvino", threads=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with 60 pictures of many sizes, two of them damaged."""
    root, draw = tmp_path_factory.mktemp("data"), np.random.default_rng(1)
    for number in range(60):
        name = tiny.CLASSES[number % 5]
        (root / name).mkdir(exist_ok=True)
        noise = draw.integers(0, 256, (*draw.integers(4, 90, 2), 3), dtype=np.uint8)
        form = ("png", "jpg", "webp")[number % 3]
        Image.fromarray(noise).save(root / name / f"{number:02d}.{form}")
    for name in ("00.png", "01.jpg"):
        (path,) = root.glob(f"*/{name}")
        path.write_bytes(path.read_bytes()[:-40])
    return root


def run(built: Path, *words: object, code: int = 0) -> tuple[str, str]:
    done = subprocess.run([built / "vitrail-cpp", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == code, (done.returncode, done.stdout[-500:], done.stderr[-500:])
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


# ---------------------------------------------------------------- the C interface


@pytest.fixture(scope="module")
def model(library: Any, folder: Path) -> Iterator[ctypes.c_void_p]:
    model, fault = ctypes.c_void_p(), Fault()
    options = Options(None, None, 1, 0)
    code = library.vitrail_open(str(folder).encode(), ctypes.byref(options), ctypes.byref(model), ctypes.byref(fault))
    assert (code, fault.text) == (0, b"")
    yield model
    library.vitrail_close(model)


def test_what_a_model_says_of_itself(library: Any, model: ctypes.c_void_p) -> None:
    names = [library.vitrail_class_name(model, place) for place in range(6)]
    assert names == [*(name.encode() for name in tiny.CLASSES), None]
    shape = library.vitrail_input_shape(model)
    assert (shape.channels, shape.height, shape.width) == (3, *tiny.SIZE)


def test_E07_the_logits_are_those_of_openvino_in_python(
    library: Any, model: ctypes.c_void_p, python: Bundle, data: Path
) -> None:
    for path in sorted(data.glob("*/*"))[5:30]:
        if path.name in ("00.png", "01.jpg"):
            continue
        pixels = python.policy.pixels(path)
        expected = python.logits(python.policy.normalise(pixels[None]))[0]
        found = of(library.vitrail_classify_file, 5, model, str(path).encode())
        assert np.array_equal(found, expected), path
        raw = path.read_bytes()
        assert np.array_equal(of(library.vitrail_classify_bytes, 5, model, raw, len(raw)), expected)
        from vitrail.pictures.decode import decode

        whole = decode(path)
        shape = Shape(3, *whole.shape[:2])
        assert np.array_equal(of(library.vitrail_classify_pixels, 5, model, whole.ctypes.data, shape), expected)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_E07_the_logits_of_batches(library: Any, model: ctypes.c_void_p, python: Bundle, batch: int) -> None:
    images = np.random.default_rng(batch).standard_normal((batch, 3, *tiny.SIZE)).astype(np.float32)
    found = of(library.vitrail_logits, 5 * batch, model, images.ctypes.data, batch)
    assert np.array_equal(found.reshape(batch, 5), python.logits(images))


def test_E06_what_is_refused_is_told_in_full(library: Any, model: ctypes.c_void_p, folder: Path, data: Path) -> None:
    fault, out, huge, none = Fault(), (ctypes.c_float * 5)(), Shape(3, 2**31 - 1, 2**31 - 1), ctypes.c_void_p()
    (cut,) = data.glob("*/00.png")
    cases = [
        (lambda: library.vitrail_classify_file(model, b"/nowhere", out, 5, ctypes.byref(fault)), b"V304"),
        (lambda: library.vitrail_classify_file(model, str(cut).encode(), out, 5, ctypes.byref(fault)), b"V302"),
        (lambda: library.vitrail_classify_file(model, None, out, 5, ctypes.byref(fault)), b"V007"),
        (lambda: library.vitrail_classify_bytes(model, b"cat", 3, out, 5, ctypes.byref(fault)), b"V301"),
        (lambda: library.vitrail_classify_bytes(model, b"", 0, out, 5, ctypes.byref(fault)), b"V301"),
        (lambda: library.vitrail_classify_bytes(model, b"cat", 3, out, 4, ctypes.byref(fault)), b"V007"),
        (lambda: library.vitrail_classify_pixels(model, out, Shape(2, 1, 1), out, 5, ctypes.byref(fault)), b"V305"),
        (lambda: library.vitrail_classify_pixels(model, out, Shape(3, 0, 1), out, 5, ctypes.byref(fault)), b"V305"),
        (lambda: library.vitrail_classify_pixels(model, out, huge, out, 5, ctypes.byref(fault)), b"V303"),
        (lambda: library.vitrail_logits(model, out, 0, out, 0, ctypes.byref(fault)), b"V007"),
        (lambda: library.vitrail_logits(model, out, 2**40, out, 5 * 2**40, ctypes.byref(fault)), b"V007"),
        (lambda: library.vitrail_open(b"/nowhere", None, ctypes.byref(none), ctypes.byref(fault)), b"V501"),
        (lambda: library.vitrail_open(None, None, ctypes.byref(none), ctypes.byref(fault)), b"V007"),
    ]  # fmt: skip
    for call, code in cases:
        assert call() == 2
        assert (fault.code, fault.exit_code) == (code, 2)
        assert fault.text.startswith(b"error[" + code + b"]: ") and b"\nhint: " in fault.text
    assert library.vitrail_classify_bytes(model, b"cat", 3, out, 5, None) == 2  # no error asked for
    library.vitrail_close(None)


def test_E06_eight_threads_on_one_model(library: Any, model: ctypes.c_void_p, python: Bundle) -> None:
    images = [np.random.default_rng(seed).standard_normal((1, 3, *tiny.SIZE)).astype(np.float32) for seed in range(8)]
    expected = [python.logits(image)[0] for image in images]

    def right(which: int) -> bool:
        answers = [of(library.vitrail_logits, 5, model, images[which].ctypes.data, 1) for _ in range(25)]
        return all(np.array_equal(answer, expected[which]) for answer in answers)

    assert all(by_eight_threads(right))


LONG = """
import ctypes, os, sys
library, folder, picture = ctypes.CDLL(sys.argv[1]), sys.argv[2].encode(), sys.argv[3].encode()
calls, openings = int(sys.argv[4]), int(sys.argv[5])
pointer, size = ctypes.c_void_p, ctypes.c_size_t
library.vitrail_open.argtypes = [ctypes.c_char_p, pointer, pointer, pointer]
library.vitrail_classify_file.argtypes = [pointer, ctypes.c_char_p, pointer, size, pointer]
library.vitrail_close.argtypes = [pointer]
def held():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir("/proc/self/fd"))
def opened():
    model = pointer()
    assert library.vitrail_open(folder, None, ctypes.byref(model), None) == 0
    return model
model, logits = opened(), (ctypes.c_float * 5)()
for call in range(calls):
    assert library.vitrail_classify_file(model, picture, logits, 5, None) == 0
    if call == calls // 10:
        print(*held())
print(*held())
library.vitrail_close(model)
for round in range(openings):
    library.vitrail_close(opened())
    if round == openings // 5:
        print(*held())
print(*held())
"""


def is_flat(built: Path, folder: Path, data: Path, *, calls: int, openings: int) -> None:
    (picture,) = data.glob("*/04.jpg")
    command = [sys.executable, "-c", LONG, built / "libvitrail.so", folder, picture, str(calls), str(openings)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, last, early, late = ([float(word) for word in line.split()] for line in done.stdout.splitlines())
    assert abs(last[0] - first[0]) < 2 and last[1] == first[1]
    assert abs(late[0] - early[0]) < 2 and late[1] == early[1]


def test_E10_a_long_run_is_flat(built: Path, folder: Path, data: Path) -> None:
    is_flat(built, folder, data, calls=5000, openings=60)


@pytest.mark.prove
def test_E10_a_million_answers_and_ten_thousand_openings(built: Path, folder: Path, data: Path) -> None:
    is_flat(built, folder, data, calls=1_000_000, openings=10_000)


C = """
#include <stdio.h>
#include <vitrail.h>
int main(int count, char **words) {
  vitrail_error error;
  vitrail_model *model = NULL;
  float logits[5];
  if (count != 3 || vitrail_open(words[1], NULL, &model, &error) != 0) return error.exit_code;
  int code = vitrail_classify_file(model, words[2], logits, vitrail_class_count(model), &error);
  if (code == 0) printf("%s\\n", vitrail_class_name(model, 0));
  if (code != 0) fputs(error.text, stderr);
  vitrail_close(model);
  return code;
}
"""
CPP = """
#include <cstdio>
#include <vitrail.hpp>
int main(int, char** words) {
  try {
    const vitrail_cpp::Model model(words[1]);
    std::printf("%s %zu\\n", model.classes()[0].c_str(), model.classify_file(words[2]).size());
  } catch (const vitrail_cpp::Failure& failure) {
    std::printf("%s\\n", failure.code().c_str());
    return failure.exit_code();
  }
}
"""


@pytest.mark.parametrize(("name", "source", "compiler"), [("m.c", C, "gcc -std=c99"), ("m.cpp", CPP, "g++ -std=c++17")])
def test_both_headers_compile_and_link(
    built: Path, folder: Path, data: Path, tmp_path: Path, name: str, source: str, compiler: str
) -> None:
    (tmp_path / name).write_text(source)
    flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{ROOT / 'cpp' / 'include'}"]
    link = [f"-L{built}", "-lvitrail", f"-Wl,-rpath,{built}", "-Wl,--allow-shlib-undefined"]
    program = tmp_path / "program"
    subprocess.run([*compiler.split(), *flags, tmp_path / name, "-o", program, *link], check=True)
    (good,) = data.glob("*/04.jpg")
    done = subprocess.run([program, folder, good], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "plane")
    assert subprocess.run([program, folder, "/nowhere"], capture_output=True).returncode == 2


# ---------------------------------------------------------------- the programs


def test_classify_prints_what_predict_prints(built: Path, folder: Path, data: Path) -> None:
    paths = [str(path) for path in sorted(data.glob("*/*"))[:12]] + ["/nowhere.jpg"]
    python = CliRunner().invoke(
        vitrail, ["predict", str(folder), *paths, "--engine", "openvino", "--top", "3"], standalone_mode=False
    )
    found, _ = run(built, "classify", folder, *paths, "--top", 3, code=2)
    told = re.compile(r"is truncated or damaged: .*|cannot open .*")  # the decoder's own words
    assert told.sub("", found) == told.sub("", python.stdout)
    rows = json.loads(run(built, "classify", folder, *paths, "--json", code=2)[0])
    assert [row["picture"] for row in rows] == paths
    assert rows[-1]["error"] == "V304"
    for row in rows:
        assert "error" in row or sum(one["probability"] for one in row["classes"]) == pytest.approx(1)


def test_evaluate_gives_exactly_pythons_top1_and_top5(built: Path, folder: Path, python: Bundle, data: Path) -> None:
    expected = evaluate(python, data, part="all").to_json()
    found = json.loads(run(built, "evaluate", folder, data, "--json")[0])
    assert {key: found[key] for key in ("pictures", "correct", "top1", "top5")} == {
        key: expected[key] for key in ("pictures", "correct", "top1", "top5")
    }
    assert 0 < found["correct"] < 58
    assert [bad["code"] for bad in found["bad"]] == ["V302", "V302"]
    text, told = run(built, "evaluate", folder, data)
    assert f"top1 is {100 * found['correct'] / 60!r}, top5 is {100 * 58 / 60!r}, step is 1" in text
    assert told.count("counted as wrong") == 2


def test_evaluate_knows_imagenets_synsets_by_their_words(built: Path, data: Path, tmp_path: Path) -> None:
    """Folders are called by WordNet ids, the model's classes by words; and the other way round."""
    ids, words = wnids("imagenet1k")[640:645], class_names("imagenet1k")[640:645]
    for name, classes, folders in (("words", words, ids), ("ids", ids, words)):
        source = replace(tiny.classifier(), classes=classes, provenance={"weights": "trained"})
        export(source, tmp_path / name)
        root = tmp_path / f"data-{name}"
        for old, new in zip(tiny.CLASSES, folders, strict=True):
            shutil.copytree(data / old, root / new)
        bundle = open_bundle(tmp_path / name, engine="openvino", threads=1)
        expected = evaluate(bundle, root, part="all").to_json()
        found = json.loads(run(built, "evaluate", tmp_path / name, root, "--json")[0])
        assert found["correct"] == expected["correct"] > 0
        (root / folders[0]).rename(root / "cat")
        assert "error[V403]" in run(built, "evaluate", tmp_path / name, root, code=2)[1]


def test_evaluate_of_a_flat_folder_with_its_list(built: Path, folder: Path, data: Path, tmp_path: Path) -> None:
    expected = json.loads(run(built, "evaluate", folder, data, "--json")[0])
    (tmp_path / "val").mkdir()
    lines = []
    for path in sorted(data.glob("*/*")):
        (tmp_path / "val" / path.name).write_bytes(path.read_bytes())
        label = tiny.CLASSES.index(path.parent.name)
        lines.append(f"{path.name if label % 2 else path.stem} {label if label > 2 else path.parent.name}\n")
    (tmp_path / "val_label.txt").write_text("".join(lines))
    for place in (tmp_path, tmp_path / "val"):
        found = json.loads(run(built, "evaluate", folder, place, "--json")[0])
        assert (found["pictures"], found["correct"]) == (60, expected["correct"])
    (tmp_path / "val_label.txt").write_text("".join(lines[1:]))
    assert "error[V404]" in run(built, "evaluate", folder, tmp_path, code=2)[1]


def test_benchmark_prints_the_line_of_the_speed_test(built: Path, folder: Path) -> None:
    text, _ = run(built, "benchmark", folder, "--rounds", 20, "--batch", 2, "--threads", 1)
    assert re.search(r"^FPS: \d+\.\d\d$", text, re.MULTILINE)
    assert "batch 2" in text and "over 20 calls after 10" in text
    found = json.loads(run(built, "benchmark", folder, "--rounds", 5, "--json")[0])
    assert 0 < found["p50_s"] <= found["p90_s"] <= found["p99_s"] and found["rounds"] == 5


def test_compare_ends_with_5_where_answers_differ(built: Path, folder: Path, data: Path, tmp_path: Path) -> None:
    (picture,) = data.glob("*/04.jpg")
    text, _ = run(built, "compare", folder, "--precision", "bf16", "--atol", 0.5, "--batch", 2, "--image-size", "16,20")
    assert re.search(r"^\[SUCCESS\] openvino bf16 inference result is the same as openvino f32!$", text, re.MULTILINE)
    assert re.search(r"^Max Difference:[\d.e-]+$", text, re.MULTILINE)
    assert re.search(r"^Acceptable Threshold:0.50\d+$", text, re.MULTILINE)
    assert text.count(" norm:") == 2
    other = tiny.bundle(tmp_path)
    assert json.loads(run(built, "compare", folder, other, "--picture", picture, "--json")[0])["max_difference"] == 0.0
    failed, _ = run(built, "compare", folder, "--precision", "bf16", "--atol", 1e-7, "--rtol", 0, code=5)
    assert "[Failure] openvino bf16 inference result is different from openvino f32!" in failed
    itself = ("--reference-engine", "openvino")
    assert "error[V007]" in run(built, "compare", folder, *itself, code=2)[1]
    assert "error[V007]" in run(built, "compare", folder, other, "--image-size", 224, code=2)[1]


def test_compare_asks_the_other_engine_where_nothing_else_differs(built: Path, folder: Path) -> None:
    for engine, other in (("openvino", "onnx"), ("onnx", "openvino")):
        text, _ = run(built, "compare", folder, "--engine", engine, "--batch", 7, "--atol", 1e-5)
        assert f"[SUCCESS] {engine} f32 inference result is the same as {other} f32!" in text


def test_E07_the_logits_are_those_of_onnx_runtime_in_python(library: Any, folder: Path) -> None:
    python, model, fault = open_bundle(folder, engine="onnx", threads=1), ctypes.c_void_p(), Fault()
    options = Options(b"onnx", None, 1)
    code = library.vitrail_open(str(folder).encode(), ctypes.byref(options), ctypes.byref(model), ctypes.byref(fault))
    assert code == 0, fault.text
    for batch in (1, 2, 7):
        images = np.random.default_rng(batch).standard_normal((batch, 3, *tiny.SIZE)).astype(np.float32)
        found = of(library.vitrail_logits, 5 * batch, model, images.ctypes.data, batch)
        assert np.array_equal(found.reshape(batch, 5), python.logits(images))
    library.vitrail_close(model)
    options = Options(b"onnx", b"bf16", 1)
    assert (
        library.vitrail_open(str(folder).encode(), ctypes.byref(options), ctypes.byref(model), ctypes.byref(fault)) == 2
    )
    assert fault.code == b"V007"


def test_offline_writes_the_files_of_the_packages(
    built: Path, folder: Path, python: Bundle, data: Path, tmp_path: Path
) -> None:
    records = tmp_path / "preprocess_Result" / "img_data"
    records.mkdir(parents=True)
    images = np.random.default_rng(2).standard_normal((3, 1, 3, *tiny.SIZE)).astype("<f4")
    for number, image in enumerate(images):
        (records / f"vit_base_cifar10_1_{number}.bin").write_bytes(image.tobytes())
    out = tmp_path / "out"
    text, _ = run(built, "offline", folder, records.parent, out, "--dataset", "cifar10", "--threads", 1)
    for number, image in enumerate(images):
        found = np.frombuffer((out / "result_Files" / f"vit_base_cifar10_1_{number}_0.bin").read_bytes(), "<f4")
        assert np.array_equal(found, python.logits(image)[0])
    (line,) = (out / "time_Result" / "test_perform_static.txt").read_text().splitlines()
    assert re.fullmatch(r"NN inference cost average time: [\d.e-]+ ms of infer_count 3", line)
    assert text.splitlines()[-1] == line.replace(" ms", "ms")
    assert "error[V006]" in run(built, "offline", folder, records, out, "--dataset", "cifar10", code=2)[1]
    for wrong, code, error in ((b"123", 2, "V404"), (np.full_like(images[0], np.nan).tobytes(), 6, "V811")):
        (records / "other.bin").write_bytes(wrong)
        said = run(built, "offline", folder, records, tmp_path / "none", "--dataset", "cifar10", code=code)[1]
        assert f"error[{error}]" in said
        assert not (tmp_path / "none" / "result_Files").exists()


def test_offline_of_class_folders(built: Path, folder: Path, python: Bundle, data: Path, tmp_path: Path) -> None:
    good = tmp_path / "val"
    for path in sorted(data.glob("*/*"))[2:8]:
        if path.name not in ("00.png", "01.jpg"):
            (good / path.parent.name).mkdir(parents=True, exist_ok=True)
            (good / path.parent.name / path.name).write_bytes(path.read_bytes())
    run(built, "offline", folder, good, tmp_path / "out", "--dataset", "imagenet2012", "--threads", 1)
    pictures = sorted(good.glob("*/*"))
    assert len(pictures) >= 4
    for path in pictures:
        found = np.frombuffer((tmp_path / "out" / "result_Files" / f"{path.stem}_0.bin").read_bytes(), "<f4")
        assert np.array_equal(found, python.logits(python.policy.normalise(python.policy.pixels(path)[None]))[0])


@pytest.mark.parametrize(
    "words",
    ["", "fly", "classify", "classify BUNDLE", "benchmark BUNDLE --rounds 0", "benchmark BUNDLE --rounds x",
     "evaluate BUNDLE", "compare BUNDLE --atol -1", "benchmark BUNDLE --colour red", "benchmark BUNDLE --batch",
     "offline BUNDLE a b",
     "benchmark BUNDLE --engine tpu", "benchmark BUNDLE --precision f8", "benchmark /nowhere",
     "benchmark BUNDLE --threads -1", "benchmark BUNDLE --batch 99999999999999999999"],
)  # fmt: skip
def test_wrong_use_is_refused_in_one_line(built: Path, folder: Path, words: str) -> None:
    _, told = run(built, *words.replace("BUNDLE", str(folder)).split(), code=2)
    assert words == "" or re.match(r"error\[V(001|007|501)\]: .+", told)


def test_help_and_version(built: Path) -> None:
    assert "vitrail-cpp classify BUNDLE" in run(built, "--help")[0]
    assert re.fullmatch(r"vitrail-cpp \d+\.\d+\.\d+\n", run(built, "--version")[0])


# ---------------------------------------------------------------- how it is built


@pytest.mark.parametrize("name", ["vitrail-cpp", "libvitrail.so"])
def test_E09_the_binaries_are_hardened(built: Path, name: str) -> None:
    def told(*options: str) -> str:
        return subprocess.run(
            ["readelf", "-W", *options, built / name], capture_output=True, text=True, check=True
        ).stdout

    assert re.search(r"Type:\s+DYN", told("-h"))  # position independent
    (stack,) = re.findall(r"GNU_STACK .*", told("-l"))
    assert "RWE" not in stack and "RW" in stack
    assert "GNU_RELRO" in told("-l")
    assert re.search(r"\(FLAGS\).*BIND_NOW", told("-d")) and re.search(r"\(FLAGS_1\).*NOW", told("-d"))
    symbols = told("--dyn-syms")
    assert "__stack_chk_fail" in symbols and re.search(r"__\w+_chk@", symbols)
    loaded = subprocess.run(["ldd", "-r", built / name], capture_output=True, text=True)
    assert "undefined symbol" not in loaded.stdout + loaded.stderr and "not found" not in loaded.stdout


def test_E06_nothing_but_the_interface_is_seen(built: Path) -> None:
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", "-C", built / "libvitrail.so"], capture_output=True, text=True
    )
    names = {line.split(maxsplit=2)[2] for line in symbols.stdout.splitlines()}
    declared = set(re.findall(r"\b(vitrail_\w+)\(", (ROOT / "cpp" / "include" / "vitrail.h").read_text()))
    assert declared <= names
    assert not [name for name in names - declared if "vitrail" in name]
