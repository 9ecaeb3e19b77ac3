"""Builds C++ with the OpenVINO of this Python, or says what is missing.

python cpp/build.py                  into build/cpp; exit code 2 where compiler or headers are missing
python cpp/build.py --if-possible    the same, but what is missing is said in one line and is no failure
python cpp/build.py --sanitized      into build/cpp-address, with address and undefined-behaviour sanitizers
python cpp/build.py --lint           clang-tidy over all of it, after a build

`thread` (its sanitizer) and `fuzz` (clang's fuzzers, with the sanitizers of `address`) are built by tests.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("g++", "cmake", "make")
HEADERS = ("jpeglib.h", "png.h", "webp/demux.h", "openssl/evp.h")
INSTALL = "apt-get install -y g++ cmake make libjpeg-dev libpng-dev libwebp-dev libssl-dev"


def missing() -> list[str]:
    """What the build needs and is not there: programs, headers, OpenVINO."""
    found = [program for program in PROGRAMS if shutil.which(program) is None]
    if "g++" not in found:
        for header in HEADERS:
            source = f"#include <cstdio>\n#include <{header}>\n"
            done = subprocess.run(
                ["g++", "-x", "c++", "-fsyntax-only", "-"], input=source, capture_output=True, text=True
            )
            found += [header] if done.returncode else []
    return found if openvino() is not None else [*found, "openvino (pip install openvino)"]


def openvino() -> Path | None:
    """The folder of OpenVINO's CMake files in its wheel."""
    spec = importlib.util.find_spec("openvino")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "cmake"


def onnxruntime() -> str:
    """The library in the wheel of ONNX Runtime; empty where there is none."""
    spec = importlib.util.find_spec("onnxruntime")
    found = (
        [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob("capi/libonnxruntime.so.*"))
    )
    return str(found[0]) if found else ""


def torch() -> str:
    """The folder of torch, where its headers and libraries are; empty where there is none."""
    spec = importlib.util.find_spec("torch")
    return "" if spec is None or spec.origin is None else str(Path(spec.origin).parent)


def found(program: str) -> str:
    """Where a program of LLVM is, under its own name or with a version; empty where it is not."""
    names = (program, *(f"{program}-{version}" for version in range(22, 13, -1)))
    return next(filter(None, map(shutil.which, names)), "")


def lint() -> str:
    """What clang-tidy says of the sources: nothing where all is well. RuntimeError without clang-tidy."""
    if not (tidy := found("clang-tidy")):
        raise RuntimeError("clang-tidy is missing; apt-get install -y clang-tidy")
    sources = sorted(str(path) for folder in ("src", "apps") for path in (ROOT / "cpp" / folder).glob("*.cpp"))
    command = [tidy, "-p", str(build()), "--quiet", "--extra-arg=-Wno-unknown-warning-option"]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        done = list(threads.map(lambda path: subprocess.run([*command, path], capture_output=True, text=True), sources))
    if broken := [run.stderr for run in done if run.returncode and not run.stdout]:
        raise RuntimeError(broken[0][-2000:])
    return "".join(run.stdout for run in done)


def build(kind: str = "") -> Path:
    """The folder with the built programs; what stands there is only brought up to date. RuntimeError: what failed.

    kind: `address`, `thread` or `fuzz`, where it is built with sanitizers.
    """
    folder = ROOT / "build" / "-".join(["cpp", *filter(None, [kind])])
    folder.mkdir(parents=True, exist_ok=True)
    options = [f"-DOpenVINO_DIR={openvino()}", f"-DVITRAIL_ONNXRUNTIME={onnxruntime()}"]
    options.append(f"-DVITRAIL_TORCH={'' if kind else torch()}")  # which does not load under sanitizers
    options += [f"-DVITRAIL_SANITIZE={kind}", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"]
    if kind == "fuzz":
        options.append(f"-DCMAKE_CXX_COMPILER={found('clang++')}")
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one builds
        for command in (
            ["cmake", "-S", str(ROOT / "cpp"), "-B", str(folder), *options],
            ["cmake", "--build", str(folder), "-j", str(os.cpu_count() or 1)],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-8000:]}")
    return folder


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--if-possible", action="store_true")
    parser.add_argument("--sanitized", action="store_true")
    parser.add_argument("--lint", action="store_true")
    given = parser.parse_args()
    if lacking := missing():
        print(f"C++ is not built: {', '.join(lacking)} missing; {INSTALL}")
        return 0 if given.if_possible else 2
    try:
        if given.lint:
            print(said := lint(), end="")
            return int(bool(said))
        folder = build("address" if given.sanitized else "")
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"C++ is built: {folder.relative_to(ROOT)}/vitrail-cpp, libvitrail.so beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
