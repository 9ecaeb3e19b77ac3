"""The machine we run on: its name, its threads, and the fastest of several ways, found by a short measured probe.

What a probe found is kept in the user's cache, so that the same machine is asked once; the choice is written into the
resolved recipe, and a resume never probes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.disk import make_folder, write_file
from vitrail.errors import RecipeError, SystemFault

if TYPE_CHECKING:
    import torch

ROUNDS = 3
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


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


def set_float32_products(precision: str, device: str) -> None:
    """True float32 products, or with precision `tf32` products of 19 bits. RecipeError V104 where nothing has those."""
    import torch

    if precision != "tf32":
        keep_fp32_true()
    elif device.partition(":")[0] != "cuda":
        raise RecipeError("V104", f"precision tf32 is for NVIDIA cards, the device is {device}", hint="precision=fp32")
    else:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True  # convolutions ask by a switch of their own


def keep_pages() -> None:
    """Let what is freed stay with this process: glibc would give blocks of over 32 MiB back to the kernel each time.

    A training step frees and asks for the same blocks again and again, and the kernel clears each of their pages every
    time. Another C library has no such setting, and nothing is done.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


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


def memory_in_use(device: torch.device) -> int:
    """Bytes: of this process's pages in memory, or on an accelerator the most that tensors ever held of its memory."""
    if device.type != "cpu":
        import torch

        return torch.accelerator.max_memory_allocated(device)
    try:
        pages = Path("/proc/self/statm").read_bytes().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
