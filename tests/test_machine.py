"""What is asked of the machine: memory that is kept, memory that is free."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from vitrail import machine
from vitrail.machine import free_memory

PROGRAM = """
import resource, sys
import numpy as np
from vitrail.machine import keep_pages
if sys.argv[1] == "keep":
    keep_pages()
for turn in range(6):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(48 << 20, np.uint8).fill(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str) -> int:
    out = subprocess.run([sys.executable, "-c", PROGRAM, word], capture_output=True, text=True, check=True, timeout=300)
    return int(out.stdout)


def test_kept_pages_are_not_asked_for_again() -> None:
    asked, kept = faults("ask"), faults("keep")
    assert kept < 50
    assert asked > 10 * max(kept, 1) or asked < 50  # a C library that keeps them anyway


def test_free_memory_is_that_of_the_kernel() -> None:
    free = free_memory(torch.device("cpu"))
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < free <= total


def test_a_container_bounds_the_free_memory(tmp_path: Path) -> None:
    (tmp_path / "limit").write_text("4096\n")
    (tmp_path / "unbound").write_text("max\n")
    (tmp_path / "table").write_text("MemTotal: 10 kB\nMemAvailable: 7 kB\n")
    assert machine._number(tmp_path / "limit") == 4096
    assert machine._number(tmp_path / "unbound") == machine._number(tmp_path / "absent") == 0
    assert machine._number(tmp_path / "table", "MemAvailable:") == 7


@pytest.mark.parametrize(("long", "calls"), [(0.0, machine.ROUNDS + 1), (1e9, machine.MOST + 1)])
def test_a_probe_measures_what_is_quick_more_often(
    long: float, calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "LONG", long)
    asked = {"one": 0, "other": 0}

    def ask(name: str) -> None:
        asked[name] += 1

    found = machine.fastest({name: partial(ask, name) for name in asked}, "which")
    assert asked == {"one": calls, "other": calls}
    assert machine.fastest({name: partial(ask, name) for name in asked}, "which") == found
    assert asked == {"one": calls, "other": calls}  # it is remembered
