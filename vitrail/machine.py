"""The machine we run on: its name, its threads, its devices, and the fastest of several ways, found by a short probe.

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
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.disk import make_folder, write_file
from vitrail.errors import RecipeError, SystemFault, UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

ROUNDS = 3
LONG, MOST = 1.0, 15  # seconds of a probe after which it needs no further round; rounds of what is quick
# Seconds in which the threads of the way before, which spin for a while after their work, come to rest: torch's and
# those of engines (ONNX Runtime's, for tens of milliseconds).
REST, LONG_REST = 0.02, 0.1
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
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cache_folder() -> Path:
    """Where what can be made again is kept: `$XDG_CACHE_HOME/vitrail`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "vitrail"


def device(word: str, local_rank: int = 0) -> torch.device:
    """The device that a word means, with its number, made the current one of its kind.

    `auto`: the accelerator where there is one, else the processor. A kind alone (`cuda`) is number `local_rank` of
    that kind. UsageError V007, with what is there, where the word means nothing or the device is absent.

    >>> device("cpu")
    device(type='cpu')
    """
    import torch

    from vitrail.training.configs import DEVICES

    kind, _, number = word.partition(":")
    if kind not in ("auto", *DEVICES) or (number and not number.isdecimal()) or (number and kind in ("auto", "cpu")):
        raise UsageError("V007", f"`{word}` is no device", hint=f"known: auto, {', '.join(DEVICES)}, and `cuda:3`")
    there, count = accelerator()
    if kind == "cpu" or (kind == "auto" and count == 0):
        return torch.device("cpu")
    index = int(number) if number else local_rank
    if kind not in ("auto", there) or index >= count:
        raise _absent(word if number or kind == "auto" else f"{kind}:{index}", there, count)
    found = torch.device(there, index)
    if count > 1:
        torch.accelerator.set_device_index(found)
    return found


def accelerator() -> tuple[str, int]:
    """The kind of accelerator that torch finds here (`cuda`, `mps`, `xpu`, `npu` of torch's plug-in), and how many."""
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return ("", 0) if found is None else (found.type, torch.accelerator.device_count())


def _absent(word: str, there: str, count: int) -> UsageError:
    numbered = f", {there}:0" + (f" to {there}:{count - 1}" if count > 1 else "") if count else ""
    plug_in = "install torch_npu, torch's plug-in for Ascend, or " if word.startswith("npu") and there != "npu" else ""
    return UsageError(
        "V007",
        f"there is no device `{word}`",
        evidence=[f"torch finds here: cpu{numbered}"],
        hint=f"{plug_in}give one of these, or leave it to `auto`",
    )


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def free_memory(device: torch.device) -> int:
    """Bytes of the device that are not in use, within the bounds of this process's container."""
    import torch

    if device.type in ("cuda", "xpu"):
        return int(torch.accelerator.get_memory_info(device)[0])
    bounds = [_number(Path("/proc/meminfo"), "MemAvailable:") * 1024]
    group = Path("/sys/fs/cgroup")
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        limit = _number(group / most)
        bounds.append(limit - _number(group / used) if limit else 0)
    return min((bound for bound in bounds if bound > 0), default=0)


def _number(path: Path, word: str = "") -> int:
    """The number after a word in one of the kernel's files; 0 where there is none."""
    try:
        words = path.read_text().split()
    except OSError:
        return 0
    place = words.index(word) + 1 if word in words else 0
    return int(words[place]) if words and words[place].isdecimal() else 0


def has_fast_bf16(device: torch.device | None = None) -> bool:
    """Whether bf16 products are worth a try: the device, by default the processor, multiplies them itself."""
    if device is None or device.type == "cpu":
        return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "avx_ne_convert"})
    import torch

    supported = getattr(torch.get_device_module(device), "is_bf16_supported", None)
    if supported is None:
        return False
    return bool(supported(including_emulation=False)) if device.type in ("cuda", "xpu") else bool(supported())


def keep_fp32_true() -> None:
    """Ask torch for true float32 products and convolutions on every device: none of them in a shorter type."""
    import torch

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False  # which torch itself allows


def set_float32_products(precision: str, device: str) -> None:
    """True float32 products; with precision `tf32` CUDA may round their factors to 10 bits, sums stay float32.

    RecipeError V104 for tf32 on another device.
    """
    import torch

    keep_fp32_true()
    if precision != "tf32":
        return
    if device.partition(":")[0] != "cuda":
        raise RecipeError("V104", f"precision tf32 is CUDA's, the device is {device}", hint="give precision=fp32")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True


def move(module: nn.Module, word: str) -> None:
    """Put a network where `device` says, to compute there in true float32."""
    found = device(word)
    if found.type != "cpu":
        keep_fp32_true()
    module.to(found)


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


def fastest(ways: Mapping[str, Callable[[], None]], question: str, *, spinning: bool = False) -> str:
    """The name of the fastest way, by the median of interleaved rounds, remembered under `question` and this machine.

    Each way is called once to warm up, quick ones are measured more often. ways of one entry are not measured.
    spinning: ways are engines, whose threads spin on for long: each has a longer rest before its turn, and is called
    twice in it, of which the second call counts.
    """
    if len(ways) == 1:
        return next(iter(ways))
    if (found := remembered(ways, question)) is not None:
        return found
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range((MOST // 3 if spinning else MOST) + 1):
        for name, way in ways.items():
            time.sleep(LONG_REST if spinning else REST)
            if spinning:
                way()
            start = time.perf_counter()
            way()
            if turn > 0:
                times[name].append(time.perf_counter() - start)
        if turn >= ROUNDS and sum(map(sum, times.values())) > LONG:
            break
    best = min(times, key=lambda name: statistics.median(times[name]))
    _remember({**_remembered(), _key(ways, question): best})
    return best


def remembered(ways: Collection[str], question: str) -> str | None:
    """Which of these ways `fastest` once found under `question` on this machine."""
    found = _remembered().get(_key(ways, question))
    return found if found in ways else None


def _key(ways: Collection[str], question: str) -> str:
    return hashlib.sha256(f"{cpu_name()}|{cores()}|{question}|{sorted(ways)}".encode()).hexdigest()[:24]


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
