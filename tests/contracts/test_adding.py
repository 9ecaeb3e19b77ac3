"""docs/adding/: each page's diff applies to the code as it is, and the command it ends with works then."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "adding").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_diff_applies_and_works(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    (diff,) = re.findall(r"```diff\n(.*?)```", text, re.DOTALL)
    (check,) = re.findall(r"^Check: `vitrail (.*)`$", text, re.MULTILINE)
    shutil.copytree(ROOT / "vitrail", tmp_path / "vitrail", ignore=shutil.ignore_patterns("__pycache__"))
    applied = subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=diff, text=True, capture_output=True)
    assert applied.returncode == 0, applied.stderr
    command = [sys.executable, "-m", "vitrail", *shlex.split(check)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout, done.stderr
