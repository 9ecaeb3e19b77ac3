"""Builds `cpp/` for the tests, or says with which packages it would be built."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "g++ cmake make libjpeg-dev libpng-dev libwebp-dev libssl-dev"
INSTALL = f"apt-get install -y {PACKAGES}"
HEADERS = ("jpeglib.h", "png.h", "webp/demux.h", "openssl/evp.h")


def missing() -> list[str]:
    """What is not there of what the build needs: programs, headers, OpenVINO."""
    found = [program for program in ("g++", "cmake", "make") if shutil.which(program) is None]
    if not found:
        source = "#include <cstdio>\n" + "".join(f"#include <{header}>\n" for header in HEADERS)
        done = subprocess.run(["g++", "-x", "c++", "-fsyntax-only", "-"], input=source, capture_output=True, text=True)
        found = [header for header in HEADERS if f"{header}: No such file" in done.stderr]
    if openvino() is None:
        found.append("openvino (pip install openvino)")
    return found


def openvino() -> Path | None:
    """The folder of OpenVINO's CMake files in its wheel."""
    spec = importlib.util.find_spec("openvino")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "cmake"


def build(name: str = "cpp", *options: str) -> Path:
    """The folder with the built programs; what stands there already is only brought up to date."""
    folder = ROOT / "build" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes of the tests one builds
        configure = ["cmake", "-S", ROOT / "cpp", "-B", folder, f"-DOpenVINO_DIR={openvino()}", *options]
        for command in (configure, ["cmake", "--build", folder, "-j", str(os.cpu_count() or 1)]):
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return folder


def ask(program: Path, lines: list[str]) -> list[str]:
    """One answer for each line."""
    with tempfile.TemporaryFile("w+") as asked:
        asked.write("".join(f"{line}\n" for line in lines))
        asked.seek(0)
        done = subprocess.run([program], stdin=asked, capture_output=True, text=True, errors="surrogateescape")
    assert done.returncode == 0, done.stderr[-2000:]
    answers = done.stdout.splitlines()
    assert len(answers) == len(lines)
    return answers
