"""Children that are killed at random moments, and begun again until one ends by itself."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

Start = Callable[[], int]  # begins a child, or what it left; its process number


def forked(act: Callable[[], object]) -> int:
    """A child that does something and ends, with 70 where that raises; its process number."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        act()
        code = 0
    finally:
        os._exit(code)


def ends(child: int, within: float) -> bool:
    """Whether a child ends by itself, well, in so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, status
            return True
        time.sleep(0.001)
    return False


def seconds_of(start: Start) -> float:
    """How long a child takes that nothing kills."""
    began = time.monotonic()
    assert ends(start(), 600)
    return time.monotonic() - began


def killed(start: Start, draw: random.Random, longest: float) -> int:
    """How many children were killed, each in its first `longest` seconds, before one ended by itself."""
    kills = 0
    while not ends(child := start(), draw.uniform(0.0, longest)):
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert status == 0, status
            break
        kills += 1
    return kills
