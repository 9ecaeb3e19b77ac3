"""Allocations and calls to the disk that fail: a refusal with its code, and right answers again afterwards."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bundle import tiny
from vitrail.bundle.manifest import NAME


def asked(built: Path, lines: list[str]) -> list[str]:
    environment = {**os.environ, "LD_PRELOAD": str(built / "libvitrail_failing.so")}
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run([built / "vitrail-parts"], input=text, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, (done.returncode, done.stdout[-300:], done.stderr[-2000:])
    answers = done.stdout.splitlines()
    assert len(answers) == len(lines)
    return answers


def questions(folder: Path) -> list[str]:
    noise = np.random.default_rng(4).integers(0, 256, (40, 52, 4), dtype=np.uint8)
    paths = []
    for name, mode, how in (
        ("a.jpg", "RGB", {}), ("p.jpg", "RGB", {"progressive": True}), ("c.jpg", "CMYK", {}), ("a.png", "RGBA", {}),
        ("p.png", "P", {}), ("a.webp", "RGB", {}),  # lossless: libwebp 1.2.4 itself dies of some of its failures
    ):  # fmt: skip
        Image.fromarray(noise, "RGBA").convert(mode).save(folder / name, **how)
        paths.append(folder / name)
    bundle = tiny.bundle(folder / "bundle")
    policy = "crop bicubic 16 20 0.9 0.5,0.5,0.5 0.2,0.2,0.2"
    return [
        *(f"decode 3 {path}" for path in paths),
        *(f"prepare {policy} {path}" for path in paths[:1]),
        f"manifest {bundle / NAME}",
        f"bundle {bundle}",
        f"graph {bundle}",
    ]


def survived(built: Path, folder: Path, places: int) -> int:
    """How many failures there were; places: of each question, how many allocations are made to fail."""
    asks = questions(folder)
    right = dict(zip(asks, asked(built, asks), strict=True))
    assert all(not answer.startswith("V") for answer in right.values())
    draw, total = random.Random(1), 0
    for ask in asks:
        ends = asked(built, [f"fail {1 << power} once {ask}" for power in range(20)])
        beyond = 1 << next(power for power, answer in enumerate(ends) if answer.startswith("held"))
        numbers = range(beyond) if beyond <= places else sorted(draw.sample(range(beyond), places))
        lines = [line for n in numbers for how in ("once", "on") for line in (f"fail {n} {how} {ask}", ask)]
        answers = asked(built, lines)
        for line, answer in zip(lines, answers, strict=True):
            if line == ask:
                assert answer == right[ask]
            elif answer.startswith("failed"):
                total += 1
                # What a library asks for at its leisure may fail, and the answer be right all the same. libwebp does
                # not say why it stops.
                webp = ask.endswith(".webp") and answer.startswith("failed V302 ")
                assert webp or answer in ("failed V703 no memory", f"failed {right[ask]}"), line
            else:
                assert answer == f"held {right[ask]}"
    return total


def test_E04_allocations_that_fail(built: Path, tmp_path: Path) -> None:
    assert survived(built, tmp_path, 20) >= 300


@pytest.mark.prove
def test_E04_every_allocation_fails(built: Path, tmp_path: Path) -> None:
    assert survived(built, tmp_path, 1 << 20) > 2000


# What a disk may say, and 0: that there is nothing (more) in the file.
FAULTS = (errno.EIO, errno.EACCES, errno.EMFILE, errno.ENOENT, errno.EINTR, errno.ESTALE, 0)


def test_E05_every_call_to_the_disk_fails(built: Path, tmp_path: Path) -> None:
    """Each call of each question, with each fault, alone and with all that follow it."""
    asks = questions(tmp_path)
    right = dict(zip(asks, asked(built, asks), strict=True))
    total = 0
    for ask in asks:
        endless = asked(built, [f"break {n} once {errno.EIO} {ask}" for n in range(200)])
        calls = next(n for n, answer in enumerate(endless) if answer.startswith("held"))
        places = [(n, how, why) for n in range(calls) for how in ("once", "on") for why in FAULTS]
        places = [place for place in places if place[1:] != ("on", errno.EINTR)]  # which is asked again for ever
        lines = [line for n, how, why in places for line in (f"break {n} {how} {why} {ask}", ask)]
        answers = asked(built, lines)
        for line, answer in zip(lines, answers, strict=True):
            if line == ask:
                assert answer == right[ask]
                continue
            assert answer.startswith("failed ")
            total += 1
            # A call that was interrupted is made again, and one that found nothing more may have been the last.
            typed = answer.removeprefix("failed ")
            assert typed == right[ask] or typed[:4] in (
                "V301",
                "V302",
                "V304",
                "V305",
                "V501",
                "V502",
                "V503",
                "V702",
            ), line
            if f"once {errno.EIO} " in line or f"on {errno.EIO} " in line:
                assert typed != right[ask], line
    assert total >= 1000
