"""The same questions under the address and undefined-behaviour sanitizers: any report ends the program."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpp.build import INSTALL, build, missing
from tests.bundle import tiny
from tests.bundle.test_manifest import CHANGES, edited, whole
from tests.bundle.test_read import GRAPH
from tests.cpp.test_bundles import forged
from tests.cpp.test_pixels import asked, sized
from tests.hostile.campaign import mutated
from tests.pictures.hostile import HOSTILE, saved
from tests.pictures.made import catalogue
from tests.pictures.mutants import READERS

pytestmark = pytest.mark.prove
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}


@pytest.fixture(scope="module")
def sanitized() -> Path:
    if lacking := missing():
        pytest.skip(f"C++ is not built: {', '.join(lacking)} missing; {INSTALL}")
    return build("address")


def clean(sanitized: Path, lines: list[str]) -> None:
    environment = {**os.environ, **ENVIRONMENT}
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run([sanitized / "vitrail-parts"], input=text, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == len(lines)
    assert "runtime error" not in done.stderr and "ERROR: " not in done.stderr


def laid(folder: Path, files: Iterator[bytes]) -> list[Path]:
    paths = []
    for number, data in enumerate(files):
        paths.append(folder / str(number))
        paths[-1].write_bytes(data)
    return paths


def test_E02_pictures(sanitized: Path, tmp_path: Path) -> None:
    (tmp_path / "hostile").mkdir()
    paths = laid(tmp_path / "hostile", (make() for make, _ in HOSTILE.values()))
    for name, reader in READERS.items():
        (tmp_path / name).mkdir()
        draw, seeds = random.Random(f"sanitized {name}"), reader.seeds()
        paths += laid(tmp_path / name, (mutated(draw, seeds, reader.splices)[1] for _ in range(400)))
    clean(sanitized, [f"decode {channels} {path}" for path in paths for channels in (1, 3)])


def test_E02_policies(sanitized: Path, tmp_path: Path) -> None:
    from PIL import Image

    lines = []
    for number in range(120):
        (height, width), policy = sized(number)
        path = tmp_path / f"{number}.png"
        path.write_bytes(saved(Image.new("RGB", (width, height), (number, 7, 99)), "PNG"))
        lines.append(asked(policy, path))
    for number in range(0, catalogue.COUNT, 9):
        picture = catalogue.made(number)
        path = tmp_path / f"made{number}"
        path.write_bytes(picture.data())
        lines.append(asked(picture.policy, path))
    clean(sanitized, lines)


def test_E02_manifests_and_bundles(sanitized: Path, tmp_path: Path) -> None:
    draw = random.Random(11)
    texts = [edited(change) for change in CHANGES.values()]
    for _ in range(1500):
        text = bytearray(whole())
        for _ in range(draw.randrange(1, 4)):
            text[draw.randrange(len(text))] = draw.randrange(256)
        texts.append(bytes(text))
    (tmp_path / "m").mkdir()
    clean(sanitized, [f"manifest {path}" for path in laid(tmp_path / "m", iter(texts))])
    clean(sanitized, [f"bundle {tiny.bundle(tmp_path / 'b')}", f"bundle {tmp_path}"])


def test_E02_graphs(sanitized: Path, tmp_path: Path) -> None:
    graph, draw = tiny.bundle_files()[GRAPH], random.Random(12)
    folders = [tiny.bundle(tmp_path / "good")]
    for number in range(150):
        text = bytearray(graph)
        for _ in range(draw.randrange(1, 4)):
            text[draw.randrange(len(text))] = draw.randrange(256)
        folders.append(forged(tmp_path / str(number), bytes(text)))
    clean(sanitized, [f"graph {folder}" for folder in folders])  # OpenVINO itself does not load under sanitizers
