"""What every test may use: the reference data beside the project, where it lies, and quiet defaults."""

from __future__ import annotations

import ctypes
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from cpp.build import INSTALL, build, missing
from tests.cpp.asking import Fault, Shape
from vitrail import machine

if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    # Cores of its own: pools of threads that meet on a core spin, and took three times as long.
    cores, workers = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.sched_setaffinity(0, cores[int(worker.removeprefix("gw")) % len(cores) :: workers])

settings.register_profile("vitrail", deadline=None)  # no assertion on seconds: a busy machine is no fault
settings.load_profile("vitrail")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--record FILE`: where `make prove` keeps what became of each campaign."""
    parser.addoption("--record", type=Path, metavar="FILE", help="keep each test's outcome and seconds in this file")


def pytest_configure(config: pytest.Config) -> None:
    """The recorder stands beside the tests only when it is asked for."""
    if (path := config.getoption("--record")) is not None:
        from tests.recorded import Recorder

        config.pluginmanager.register(Recorder(path))


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference vectors and real pictures; tests that need it are skipped where it is absent."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("needs ../shared (reference vectors and pictures), which is absent here")
    return SHARED


@pytest.fixture(autouse=True, scope="session")
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests keep in vitrail's cache, and of what was made here, is not this user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True, scope="session")
def no_rest_between_turns() -> Iterator[None]:
    """Tests assert nothing on seconds, so no thread need come to rest before the next way is timed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "REST", 0.0)
        patch.setattr(machine, "LONG_REST", 0.0)
        yield


@pytest.fixture
def in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder, and vitrail's cache in it, in memory where that is a disk: for tests that make thousands of files."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        monkeypatch.setenv("XDG_CACHE_HOME", str(Path(folder) / "cache"))
        yield Path(folder)


@pytest.fixture(autouse=True)
def signals_as_in_a_terminal() -> Iterator[None]:
    """Shells start background jobs with SIGINT ignored, and what is ignored a run leaves alone: tests want it heard."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def built() -> Path:
    """The folder of the built programs; without compiler or headers the tests are skipped with the install line."""
    if lacking := missing():
        pytest.skip(f"C++ is not built: {', '.join(lacking)} missing; {INSTALL}")
    return build()


@pytest.fixture(scope="session")
def library(built: Path) -> Any:
    loaded = ctypes.CDLL(str(built / "libvitrail.so"))
    loaded.vitrail_class_name.restype = ctypes.c_char_p
    loaded.vitrail_class_count.restype = ctypes.c_size_t
    loaded.vitrail_input_shape.restype = Shape
    for name in ("vitrail_class_name", "vitrail_class_count", "vitrail_input_shape", "vitrail_close"):
        getattr(loaded, name).argtypes = [ctypes.c_void_p, *([ctypes.c_size_t] if name.endswith("name") else [])]
    pointer, size, floats = ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_float)
    loaded.vitrail_classify_file.argtypes = [pointer, ctypes.c_char_p, floats, size, ctypes.POINTER(Fault)]
    loaded.vitrail_classify_bytes.argtypes = [pointer, ctypes.c_char_p, size, floats, size, ctypes.POINTER(Fault)]
    loaded.vitrail_classify_pixels.argtypes = [pointer, pointer, Shape, floats, size, ctypes.POINTER(Fault)]
    loaded.vitrail_logits.argtypes = [pointer, pointer, size, floats, size, ctypes.POINTER(Fault)]
    return loaded
