"""Seeded mutants of every reader: refused by a code, or read as a valid file; the full counts are for `make prove`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.hostile.campaign import WAYS, Reader, Seed, mutated, put, run
from tests.hostile.mutants import READERS
from vitrail.errors import UsageError, WeightsError

QUICK = {"hdf5": 100, "keras_zip": 60, "tensorflow": 2000, "dialect": 1000, "index": 1000, "config": 1000,
         "processor": 1000, "tensorflow_data": 300}  # fmt: skip
USUAL = 3000  # of the others


def of(promise: str) -> list[str]:
    return [name for name, reader in READERS.items() if reader.promise == promise]


def attack(name: str, folder: Path) -> None:
    tally = run(READERS[name], QUICK.get(name, USUAL), 1, folder)
    assert not tally.findings, tally.findings
    assert tally.refused and (tally.equal or tally.other)


@pytest.mark.parametrize("name", of("C1"))
def test_C01_mutants_run_nothing(name: str, tmp_path: Path) -> None:
    attack(name, tmp_path)


@pytest.mark.parametrize("name", of("C2"))
def test_C02_mutants_are_refused_or_read(name: str, tmp_path: Path) -> None:
    attack(name, tmp_path)


@pytest.mark.parametrize("name", of("C3"))
def test_C03_mutants_are_refused_or_agree_with_the_reference(name: str, tmp_path: Path) -> None:
    attack(name, tmp_path)


@pytest.mark.parametrize("name", of("C4"))
def test_C04_mutants_are_refused_or_agree_with_numpy(name: str, tmp_path: Path) -> None:
    attack(name, tmp_path)


@pytest.mark.parametrize("name", of("C5"))
def test_C05_mutants_are_refused_or_hold_checked_bytes(name: str, tmp_path: Path) -> None:
    attack(name, tmp_path)


@pytest.mark.parametrize("name", of("C6"))
def test_C06_mutants_are_refused_or_read(name: str, tmp_path: Path) -> None:
    attack(name, tmp_path)


@pytest.mark.parametrize("name", of("C9"))
def test_C09_mutants_of_an_index_lead_nowhere(name: str, tmp_path: Path) -> None:
    attack(name, tmp_path)


@pytest.mark.prove
@pytest.mark.parametrize("name", READERS)
def test_C01_to_C09_mutants_at_length(name: str, tmp_path: Path) -> None:
    tally = run(READERS[name], READERS[name].full, 2, tmp_path)
    assert not tally.findings, tally.findings
    assert tally.mutants == READERS[name].full


# The engine itself: what it must find, it finds.


def _untyped(path: Path) -> None:
    raise KeyError(path.read_bytes())


def _another_code(path: Path) -> None:
    raise UsageError("V007", "x", hint="y")


def _no_way_out(path: Path) -> None:
    raise WeightsError("V201", "x")


def _opens_another(path: Path) -> None:
    Path("/dev/null").read_bytes()


def _takes_memory(path: Path) -> bytearray:
    return bytearray(b"x") * (100 << 20)


def _hangs(path: Path) -> None:
    while True:
        pass


def reader(read: object) -> Reader:
    return Reader("made", "C1", 1, lambda: [Seed(b"abcdefgh")], lambda folder, data: put(folder / "x", data), read)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (_untyped, "KeyError"),
        (_another_code, "V007"),
        (_no_way_out, "no message"),
        (_opens_another, "open /dev/null"),
        (_takes_memory, "took"),
        (_hangs, "not read after"),
    ],
)
def test_F1_the_engine_finds(read: object, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.hostile.campaign.SECONDS", 0.5)
    seeds = iter([None])  # the honest file is read without fault

    def but_first(path: Path) -> object:
        return next(seeds, path) and read(path)  # type: ignore[operator]

    tally = run(reader(but_first), 2, 1, tmp_path)
    assert len(tally.findings) >= 1 and words in tally.findings[0]
    assert (tmp_path / "findings" / "made-1-0").exists() or (tmp_path / "findings" / "made-1-1").exists()


def test_F1_the_same_seed_gives_the_same_mutants_and_every_way_changes_bytes() -> None:
    seeds = READERS["safetensors"].seeds()
    for number in range(50):
        first, again = (mutated(random.Random(f"1/{number}"), seeds, [b"abc"]) for _ in range(2))
        assert first == again
    for way in set(WAYS):
        changed = set()
        for number in range(20):
            body = bytearray(range(200))
            way(random.Random(number), body, b"splice")
            changed.add(bytes(body))
        assert len(changed) > 10, way
