"""What torchrun's environment says about this process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from vitrail.errors import UsageError

LARGEST = 1 << 20  # ranks; more is a typing error


@dataclass(frozen=True)
class World:
    """Which of how many processes this is: of the run, and of those on this machine. attempt: torchrun's restarts."""

    rank: int = 0
    size: int = 1
    local: int = 0
    locals: int = 1
    attempt: int = 0
    meeting: tuple[str, int] = ("", 0)  # where the processes find each other: host and port


def world(environment: Mapping[str, str] = os.environ) -> World:
    """This process's place; alone where nothing or a world of one is said. UsageError V007 for what makes no sense.

    >>> world({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}).size
    2
    >>> world({}).size
    1
    """
    if "RANK" not in environment or environment.get("WORLD_SIZE", "1") == "1":
        return World()
    size = _number(environment, "WORLD_SIZE", LARGEST)
    rank = _number(environment, "RANK", size - 1)
    local = _number(environment, "LOCAL_RANK", LARGEST, "0")
    locals = _number(environment, "LOCAL_WORLD_SIZE", LARGEST, "1")
    attempt = _number(environment, "TORCHELASTIC_RESTART_COUNT", LARGEST, "0")
    host = environment.get("MASTER_ADDR", "")
    if not host:
        raise UsageError("V007", "RANK is set, but MASTER_ADDR is not", hint="start the processes with torchrun")
    return World(rank, size, local, locals, attempt, (host, _number(environment, "MASTER_PORT", 65535)))


def _number(environment: Mapping[str, str], name: str, most: int, default: str = "") -> int:
    text = environment.get(name, default)
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
    if not 0 <= value <= most:
        raise UsageError(
            "V007", f"{name} is `{text}` in the environment", hint="start the processes with torchrun, which sets it"
        )
    return value
