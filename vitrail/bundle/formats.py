"""What graphs a bundle may hold: formats, what they can compute in, what they take. Without NumPy, for `--help`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from vitrail.errors import UsageError, nearest

Precision = Literal["fp32", "bf16", "fp16", "int8"]
Takes = Literal["images", "pixels"]
MAX_DROP = 0.5  # points of top-1 that an export in int8 may cost where nothing else is said
TAKES: tuple[Takes, ...] = get_args(Takes)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)  # in the order in which a bundle's graphs are preferred
INPUT, OUTPUT = "images", "logits"
TOP = ("probabilities", "classes")  # beside the logits, of the best classes: float32 (B, K) and int64 (B, K)
MAX_BATCH = 1 << 16  # of a fixed one, and of what is timed
MAX_THREADS = 1024
ABOUT = "vitrail.json"  # what a program of torch carries with it: classes, policy, form


class Format(NamedTuple):
    """What `export` writes: the engine that proves it, the file that is opened first, what it can compute in."""

    engine: str
    file: str
    precisions: tuple[Precision, ...]
    packages: tuple[str, ...]  # distributions that make it, for the manifest
    takes: tuple[Takes, ...] = TAKES


_ONNX = ("torch", "onnx", "onnxscript")
_FLOATS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
FORMATS: dict[str, Format] = {
    #                         engine          file            precisions                        packages
    "onnx":         Format("onnx",         "model.onnx",   ("fp32", "fp16", "int8"),         (*_ONNX, "onnxruntime")),
    "openvino":     Format("openvino",     "model.xml",    ("fp32", "bf16", "fp16", "int8"), (*_ONNX, "openvino")),
    "torchscript":  Format("torchscript",  "model.ts",     _FLOATS,                          ("torch",)),
    "torch-export": Format("torch-export", "model.pt2",    _FLOATS,                          ("torch",)),
    "aoti":         Format("aoti",         "model.pt2",    _FLOATS,                          ("torch",)),
    "mindir":       Format("mindspore",    "model.mindir", ("fp32",),                        _ONNX, ("images",)),
}  # fmt: skip
# In what a format can name the best classes itself: OpenVINO ranks in the shorter type, and so others than its logits.
TOP_IN: dict[str, tuple[Precision, ...]] = {
    "onnx": ("fp32", "fp16"), "openvino": ("fp32",), "torchscript": _FLOATS,
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How a graph is written: what it computes in, what it takes, and for how many pictures at once (None: any).

    top: of how many of the best classes it also gives probabilities and numbers, best first (None: logits alone).
    """

    precision: Precision = "fp32"
    takes: Takes = "images"
    batch: int | None = None
    top: int | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what it gives."""
        return (OUTPUT,) if self.top is None else (OUTPUT, *TOP)


def check_batch(batch: int) -> None:
    """UsageError V007 for what is no size of batch."""
    if batch < 1:
        raise UsageError("V007", f"batch is {batch}", hint="give how many pictures come at a time, 1 or more")


def check_form(format: str, form: Form) -> Format:
    """The row of a format; UsageError V007 where none is called so or it cannot be written in that form."""
    if format not in FORMATS:
        raise UsageError("V007", f"no export is called `{format}`", hint=nearest(format, FORMATS))
    row = FORMATS[format]
    if form.precision not in row.precisions:
        raise UsageError(
            "V007", f"{format} is not written in {form.precision}", hint=f"it can be: {', '.join(row.precisions)}"
        )
    if form.takes not in row.takes:
        raise UsageError("V007", f"{format} is not written for {form.takes}", hint=f"it takes {', '.join(row.takes)}")
    if form.batch is not None and not 1 <= form.batch <= MAX_BATCH:
        raise UsageError("V007", f"batch {form.batch} is not 1 to {MAX_BATCH:,}", hint="give another, or leave it free")
    if form.top is not None and form.precision not in TOP_IN.get(format, ()):
        able = "; ".join(f"{name} in {', '.join(precisions)}" for name, precisions in TOP_IN.items())
        raise UsageError("V007", f"{format} in {form.precision} gives logits alone", hint=f"--top is for {able}")
    return row
