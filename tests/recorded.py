"""One run's outcomes of the long campaigns, kept beside the promises: `pytest -m prove --record results/prove.json`."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
from pathlib import Path

import pytest

from vitrail.disk import write_file
from vitrail.machine import cores, cpu_name


class Recorder:
    """Puts what became of each test into a file as soon as it ends; rows of tests that were not run stay."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = {}
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Setup, call and teardown of a test count together, and so does what fails in any of them."""
        name = report.nodeid
        self.seconds[name] = self.seconds.get(name, 0.0) + report.duration
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[name] = report.outcome
        if report.when == "teardown":
            self._write(name)

    def _write(self, name: str) -> None:
        values = json.loads(self.path.read_text()) if self.path.exists() else {"tests": {}}
        values["tests"][name] = {
            "outcome": self.outcomes[name],
            "seconds": round(self.seconds[name], 1),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }
        values["tests"] = dict(sorted(values["tests"].items()))
        values["machine"] = {"processor": cpu_name(), "cores": cores()}
        values["versions"] = {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in ("vitrail", "torch", "numpy", "pillow")},
        }
        write_file(self.path, (json.dumps(values, indent=1) + "\n").encode())
