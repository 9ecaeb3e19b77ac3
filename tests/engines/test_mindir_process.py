"""The process that has MindSpore, with stand-ins for it: what is asked and answered, and each way in which it fails."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.bundle import tiny
from tests.engines.mindir_files import graph, program, python, with_mindspore
from vitrail.bundle.formats import Form, check_form
from vitrail.engines import mindir, table
from vitrail.engines.mindir import process
from vitrail.errors import BundleError, UsageError

IMAGES = np.arange(2 * 24, dtype=np.float32).reshape(2, 3, 2, 4)


@pytest.fixture(autouse=True)
def no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(process.VARIABLE, raising=False)


def test_a_network_is_written_and_answers(tmp_path: Path) -> None:
    written = program(graph(phase="export.mindir.1.2.0"))
    has = with_mindspore(tmp_path, written)
    done = mindir.write(tiny.graph("vit_lite"), python=has)
    made = done.files[mindir.FILE]
    assert done.facts["mindspore"] == "2.10.0" and b"export.mindir" not in made
    assert done.facts["gelu"] == ["erf"] and done.facts["operators"] == {"Add": 1, "Constant": 1} and done.opset is None
    runner = mindir.open(made, python=has, threads=1)
    for count in (1, 2):
        found = runner.logits(IMAGES[:count])
        expected = IMAGES[:count].reshape(count, -1).sum(1)[:, None] + np.arange(5, dtype=np.float32)
        assert found.dtype == np.float32 and found.flags.writeable
        np.testing.assert_array_equal(found, expected)


def test_the_environment_names_the_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(process.VARIABLE, with_mindspore(tmp_path, program()))
    assert mindir.open(program()).logits(IMAGES).shape == (2, 5)
    assert process.interpreter("given") == "given"
    assert process.interpreter("env/bin/python") == str(Path.cwd() / "env/bin/python")  # the child runs elsewhere


def test_without_mindspore_the_commands_are_named() -> None:
    with pytest.raises(UsageError) as caught:
        mindir.write(tiny.graph("vit_lite"))
    assert caught.value.code == "V003" and process.INSTALL in caught.value.hint
    assert f"export {process.VARIABLE}=" in caught.value.hint


def test_this_python_is_taken_where_it_has_mindspore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mindspore.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert process.interpreter() == sys.executable


def test_an_interpreter_that_is_none_or_has_no_mindspore(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        mindir.open(program(), python=tmp_path / "nowhere")
    assert caught.value.code == "V003" and "No such file" in caught.value.what
    with pytest.raises(UsageError) as caught:
        mindir.open(program(), python=with_mindspore(tmp_path, mindspore="raise ImportError('libgomp.so.1')"))
    assert caught.value.code == "V003" and "libgomp.so.1" in caught.value.what


def test_a_program_of_a_fixed_batch_answers_that_alone(tmp_path: Path) -> None:
    runner = mindir.open(program(graph(batch=2)), python=with_mindspore(tmp_path))
    assert runner.logits(IMAGES).shape == (2, 5)
    with pytest.raises(UsageError) as caught:
        runner.logits(IMAGES[:1])
    assert caught.value.code == "V007" and "(2, 3, 2, 4)" in caught.value.what and "(1, 3, 2, 4)" in caught.value.what
    assert runner.logits(IMAGES).shape == (2, 5)


def failing(run: object) -> BundleError:
    with pytest.raises(BundleError) as caught:
        run()  # type: ignore[operator]
    return caught.value


def test_what_mindspore_refuses_is_told_and_ends_the_process(tmp_path: Path) -> None:
    runner = mindir.open(program(), python=with_mindspore(tmp_path))
    error = failing(lambda: runner.logits(IMAGES * 0 - 1))
    assert error.code == "V505" and error.evidence == ("Reshape fails", "C++ stack") and "refuses" in error.what
    assert failing(lambda: mindir.write(tiny.graph("vit_lite"), python=with_mindspore(tmp_path))).code == "V508"


def test_a_process_that_dies(tmp_path: Path) -> None:
    runner = mindir.open(program(), python=with_mindspore(tmp_path))
    error = failing(lambda: runner.logits(IMAGES * 0 - 2))
    assert error.code == "V505" and "ended (exit code 3)" in error.what
    killed = python(tmp_path, "import os, sys; print('the last word', file=sys.stderr); sys.stderr.flush(); os.abort()")
    error = failing(lambda: mindir.write(tiny.graph("vit_lite"), python=killed))
    assert error.code == "V508" and "ended (signal 6)" in error.what and error.evidence == ("the last word",)


def test_a_process_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = mindir.open(program(), python=with_mindspore(tmp_path))
    monkeypatch.setattr(process, "START", 0.2)
    monkeypatch.setattr(process, "PICTURE", 0.1)
    began = time.monotonic()
    error = failing(lambda: runner.logits(IMAGES * 0 - 3))
    assert error.code == "V505" and "no answer within 0.4 s" in error.what
    deaf = python(tmp_path, "import time; time.sleep(60)")
    assert "no answer within 0.2 s" in failing(lambda: mindir.open(program(), python=deaf)).what
    assert time.monotonic() - began < 20
    many = np.zeros((4000, 3, 2, 4), np.float32)  # more than a pipe holds, so that the writing waits
    assert "no answer" in failing(lambda: _ask(deaf, tmp_path, many.tobytes())).what


def _ask(python: str, folder: Path, data: bytes) -> None:
    process.Child("serve", folder, python=python, threads=None, code="V505").ask(data, seconds=0.2)


@pytest.mark.parametrize(
    "said", ["b'hello, world'", "b'\\xff\\xff\\xff\\xffV'", "b'\\x05\\0\\0\\0Qabcde'"], ids=["text", "huge", "unknown"]
)
def test_a_process_that_makes_no_sense(said: str, tmp_path: Path) -> None:
    talks = python(tmp_path, f"import os, time; os.write(1, {said}); time.sleep(60)")
    error = failing(lambda: mindir.open(program(), python=talks))
    assert error.code == "V505" and "a senseless answer" in error.what


def test_logits_of_another_shape_are_refused(tmp_path: Path) -> None:
    runner = mindir.open(program(), python=with_mindspore(tmp_path))
    assert "another shape" in failing(lambda: runner.logits(IMAGES * 0 - 4)).what


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (program()[:-1], "what is not opened here"),
        (program(kinds=("Add", "Custom")), "`Custom` is not on the list"),
        (program(graph(batch=3)), "batch 3, None was asked for"),
    ],
    ids=["cut", "strange", "other batch"],
)
def test_what_is_written_is_read_before_it_is_believed(written: bytes, why: str, tmp_path: Path) -> None:
    error = failing(lambda: mindir.write(tiny.graph("vit_lite"), python=with_mindspore(tmp_path, written)))
    assert error.code == "V508" and why in error.what


def test_a_file_that_is_refused_starts_no_process(tmp_path: Path) -> None:
    marked = python(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert failing(lambda: mindir.open(program(kinds=("Add", "Custom")), python=marked)).code == "V505"
    assert not (tmp_path / "ran").exists()


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    runner = mindir.open(program(), python=with_mindspore(tmp_path))
    child = runner._child._process  # type: ignore[attr-defined]
    assert child.poll() is None
    del runner
    gc.collect()
    assert child.poll() is not None
    assert set(os.listdir("/proc/self/fd")) == before


def test_several_threads_get_their_own_answers(tmp_path: Path) -> None:
    runner = mindir.open(program(), python=with_mindspore(tmp_path))
    wrong: list[int] = []

    def ask(number: int) -> None:
        for count in (1, 2, 1):
            images = np.full((count, 3, 2, 4), number, np.float32)
            if not (runner.logits(images) == 24 * number + np.arange(5)).all():
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_the_format_is_for_images_in_float32_and_never_taken_unasked() -> None:
    assert check_form("mindir", Form(batch=3)).engine == "mindspore"
    for form in (Form(takes="pixels"), Form("bf16")):
        with pytest.raises(UsageError) as caught:
            check_form("mindir", form)
        assert caught.value.code == "V007"
    assert not table.installed("mindspore")  # so that `auto` starts no process where another engine is there
    table.need_engine("mindspore")  # nothing of it is needed in this environment
