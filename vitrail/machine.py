"""The machine we run on: its name, its threads, and the fastest of several ways, found by a short measured probe.

What a probe found is kept in the user's cache, so that the same machine is asked once; the choice is written into the
resolved recipe, and a resume never probes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from vitrail.disk import make_folder, write_file
from vitrail.errors import SystemFault

ROUNDS = 3


def cpu_name() -> str:
    """The processor's own words for itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cpu_flags() -> frozenset[str]:
    """What the processor can do, in the kernel's words (`avx512_bf16`, `amx_bf16`)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = [line.split(":", 1)[1].split() for line in lines if line.startswith("flags")]
    return frozenset(flags[0]) if flags else frozenset()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def cache_folder() -> Path:
    """Where what can be made again is kept: `$XDG_CACHE_HOME/vitrail`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "vitrail"


def has_fast_bf16() -> bool:
    """Whether bf16 products are worth a try: the processor multiplies them itself."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "avx_ne_convert"})


def keep_fp32_true() -> None:
    """Ask torch for true float32 products: none of them in a shorter type."""
    import torch

    torch.set_float32_matmul_precision("highest")


@functools.cache
def keep_freed_memory() -> None:
    """Have the C library keep memory that is freed, for the next batch to take; nothing where it is not glibc.

    By default it gives arrays back to the system and asks for them again: augmenting a picture of 224 then takes 1.05
    ms in place of 0.63, most of it for pages to be zeroed. What is kept is at most what was in use at once.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(mmap_threshold, 32 << 20)  # the most there is
    mallopt(trim_threshold, 1 << 30)


def fastest(ways: Mapping[str, Callable[[], None]], question: str) -> str:
    """The name of the fastest way, by the median of interleaved rounds, remembered under `question` and this machine.

    Each way is called once to warm up. ways of one entry are not measured.
    """
    if len(ways) == 1:
        return next(iter(ways))
    key = hashlib.sha256(f"{cpu_name()}|{cores()}|{question}|{sorted(ways)}".encode()).hexdigest()[:24]
    known = _remembered()
    if known.get(key) in ways:
        return known[key]
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn > 0:
                times[name].append(time.perf_counter() - start)
    best = min(times, key=lambda name: statistics.median(times[name]))
    _remember({**known, key: best})
    return best


def _remembered() -> dict[str, str]:
    try:
        values = json.loads((cache_folder() / "probe.json").read_text())
    except (OSError, ValueError):
        return {}  # a cache that cannot be read is no cache: the probe is made again
    return {str(k): str(v) for k, v in values.items()} if isinstance(values, dict) else {}


def _remember(values: Mapping[str, str]) -> None:
    try:
        make_folder(cache_folder())
        write_file(cache_folder() / "probe.json", json.dumps(dict(values), sort_keys=True, indent=1).encode())
    except SystemFault:
        return  # a home that cannot be written to costs a second at the next start, no more
