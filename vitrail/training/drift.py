"""What beside recipe and pictures decides a run's bits: versions, the processor and how torch was told to compute.

Recorded in every checkpoint and compared at a resume: a sum in another order is another run.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitrail import __version__
from vitrail.machine import cpu_name

# Environment variables by which the processor's libraries choose their instructions, and so the order of sums.
_SETTINGS = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
OF_CUDA = ("gpu", "cudnn", "cudnn_deterministic", "tf32")  # fields that are recorded on CUDA alone


@dataclass(frozen=True)
class Drift:
    """A field that is not as it was. field: its name, or a dotted key of the recipe."""

    field: str
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.field}  {self.was} -> {self.now}"


def environment(device: str) -> dict[str, str]:
    """What decides the bits here, by field; all values are texts. device: as torch names it.

    Threads and the split of batches are keys of the recipe, and compared with it.
    """
    import numpy as np
    import PIL.features
    import torch

    kind = torch.device(device).type
    found = {
        "vitrail": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "libjpeg": str(PIL.features.version("jpg")),
        "machine": f"{platform.machine()} {cpu_name()}",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_settings": " ".join(f"{name}={os.environ[name]}" for name in _SETTINGS if name in os.environ) or "none",
        "matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": _word(torch.are_deterministic_algorithms_enabled()),
        "onednn": _word(bool(torch.backends.mkldnn.enabled)),
        "device": kind,
    }
    if kind == "cuda":
        cudnn = torch.backends.cudnn
        values = (
            f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}",
            str(cudnn.version()),  # type: ignore[no-untyped-call]
            _word(bool(cudnn.deterministic)),
            _word(bool(cudnn.allow_tf32)),
        )
        found |= dict(zip(OF_CUDA, values, strict=True))
    return found


def _word(switch: bool) -> str:
    return "on" if switch else "off"


def drifts(then: Mapping[str, str], now: Mapping[str, str]) -> list[Drift]:
    """The fields that differ, one that is recorded on one side alone among them.

    >>> [str(drift) for drift in drifts({"torch": "2.12.0", "device": "cpu"}, {"torch": "2.13.0", "device": "cpu"})]
    ['torch  2.12.0 -> 2.13.0']
    """
    both = dict.fromkeys([*then, *now])
    return [Drift(f, then.get(f, "?"), now.get(f, "?")) for f in both if then.get(f) != now.get(f)]


def allowed(drift: Drift, fields: Sequence[str]) -> bool:
    """Whether a field, or a part of the recipe that it belongs to, is among the named ones.

    >>> allowed(Drift("train.threads", "2", "4"), ["train"]), allowed(Drift("torch", "1", "2"), ["numpy"])
    (True, False)
    """
    return any(drift.field == field or drift.field.startswith(f"{field}.") for field in fields)
