"""What is asked of the machine: memory that is kept."""

from __future__ import annotations

import subprocess
import sys

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
