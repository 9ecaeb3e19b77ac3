"""Readers used by eight threads at once, under the thread sanitizer: any report ends the program."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpp.build import INSTALL, build, missing
from tests.bundle import tiny
from vitrail.bundle.manifest import NAME

pytestmark = pytest.mark.prove


@pytest.fixture(scope="module")
def raced() -> Path:
    if lacking := missing():
        pytest.skip(f"C++ is not built: {', '.join(lacking)} missing; {INSTALL}")
    return build("thread")


def test_E02_eight_threads_race_for_nothing(raced: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (40, 52, 4), dtype=np.uint8)
    bundle = tiny.bundle(tmp_path / "bundle")
    lines = [f"manifest {bundle / NAME}", f"bundle {bundle}", f"graph {bundle}"]
    for name, mode in (("a.jpg", "RGB"), ("a.png", "RGBA"), ("p.png", "P"), ("a.webp", "RGB")):
        Image.fromarray(noise, "RGBA").convert(mode).save(tmp_path / name)
        lines.append(f"prepare crop bicubic 16 20 0.9 0.5,0.5,0.5 0.2,0.2,0.2 {tmp_path / name}")
    text = "".join(f"together 8 200 {line}\n" for line in lines)
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    done = subprocess.run([raced / "vitrail-parts"], input=text, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = done.stdout.splitlines()
    assert len(answers) == len(lines) and all(answer.startswith("alike ") for answer in answers), answers
