"""How tests ask the built programs."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


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
