"""Differences held against their bounds: a line a case, the sum at the end."""

from __future__ import annotations

import resource
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Held:
    """What an oracle found so far."""

    title: str
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def within(self, case: str, *measured: tuple[str, float, float]) -> None:
        """The case holds where each (what, difference, bound) has a difference of at most its bound."""
        over = [f"{what} may differ by {bound:g}" for what, difference, bound in measured if not difference <= bound]
        said = ", ".join(f"{what} {difference:.2g}" for what, difference, _ in measured)
        self.true(f"{case}: {said}", not over, "; ".join(over))

    def true(self, name: str, holds: bool, otherwise: str = "") -> None:
        """The case holds; `otherwise` says what is wrong where it does not."""
        print(f"{self.title}  {name}" if holds else f"{self.title}  {name}  FAILED  {otherwise}", flush=True)
        if holds:
            self.passed += 1
        else:
            self.failed.append(name)

    @contextmanager
    def trying(self, case: str) -> Iterator[None]:
        """A case that raises has failed, and the next one is tried."""
        try:
            yield
        except Exception as error:
            self.true(case, False, "".join(traceback.format_exception(error)))

    def end(self) -> int:
        """The sum as a line; 1 when a case failed."""
        seconds, peak = time.monotonic() - self.began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        spent = f"{seconds:.0f} s, {time.process_time():.0f} s of the processor, {peak:.1f} GiB at most"
        print(f"{self.title}: {self.passed} passed, {len(self.failed)} failed, {spent}")
        return 1 if self.failed or not self.passed else 0
