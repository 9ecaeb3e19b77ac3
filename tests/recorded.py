"""One run's outcomes of the long campaigns, kept beside the promises: `pytest -m prove --record results/prove.json`."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
from collections import Counter
from pathlib import Path

import pytest

from vitrail.disk import write_file
from vitrail.machine import cores, cpu_name


class Recorder:
    """Puts what became of each test into a file as soon as it ends, its cases together: how many passed, failed, were
    skipped, and their seconds. Rows of tests that were not run stay.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcome = "passed"
        self.outcomes: dict[str, Counter[str]] = {}
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Setup, call and teardown of a case count together, and so does what fails in any of them."""
        name = report.nodeid.partition("[")[0]
        self.seconds[name] = self.seconds.get(name, 0.0) + report.duration
        if report.outcome != "passed":
            self.outcome = report.outcome
        if report.when == "teardown":
            self.outcomes.setdefault(name, Counter())[self.outcome] += 1
            self.outcome = "passed"
            self._write(name)

    def _write(self, name: str) -> None:
        values = json.loads(self.path.read_text()) if self.path.exists() else {"tests": {}}
        values["tests"][name] = {
            **dict(sorted(self.outcomes[name].items())),
            "seconds": round(self.seconds[name], 1),
            "machine": f"{cpu_name()}, {cores()} cores",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }
        values["tests"] = dict(sorted(values["tests"].items()))
        values["versions"] = {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in ("vitrail", "torch", "numpy", "pillow")},
        }
        write_file(self.path, (json.dumps(values, indent=1) + "\n").encode())
