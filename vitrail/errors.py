"""Every way vitrail says no: one tree of exceptions, one table of codes.

    VitrailError
    |-- Refused            exit 2    wrong use, bad input, damaged bytes
    |   |-- UsageError       V0..      the command line and the calls
    |   |-- RecipeError      V1..      recipes and overrides
    |   |-- WeightsError     V2..      weight files, variants, dialects
    |   |-- PictureError     V3..      one picture
    |   |-- DataError        V4..      a source of pictures
    |   |-- BundleError      V5..      bundles and engines
    |   `-- RunError         V6..      run folders and checkpoints
    |-- SystemFault        exit 4    V70. disk, memory, system
    |-- OutsideBound       exit 5    V80. a measured answer outside its bound
    |-- NumbersBroke       exit 6    V81. NaN or Inf
    `-- Stopped            exit 75   V90. stopped by a signal, resumable

An error names the place, the value and the way out:

>>> error = DataError("V401", "no pictures in `photos`", hint="give a folder with one folder per class")
>>> print(error)
error[V401]: no pictures in `photos`
<BLANKLINE>
hint: give a folder with one folder per class
>>> error.exit_code
2
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence

EXIT_DONE = 0
EXIT_BUG = 70


class VitrailError(Exception):
    """What went wrong, with its evidence and the way out.

    code: a row of `CODES`; what: one line naming the place and the value; evidence: lines with the numbers;
    hint: what to do now.
    """

    exit_code = EXIT_BUG

    def __init__(self, code: str, what: str, *, evidence: Sequence[str] = (), hint: str = "") -> None:
        assert CODES[code][0] is type(self), f"{code} belongs to {CODES[code][0].__name__}, not {type(self).__name__}"
        super().__init__(what)
        self.code = code
        self.what = printable(what)
        self.evidence = tuple(printable(line) for line in evidence)
        self.hint = printable(hint)

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.what}", *(f"  {line}" for line in self.evidence)]
        if self.hint:
            lines += ["", f"hint: {self.hint}"]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.code, self.what, self.evidence, self.hint))


class Refused(VitrailError):
    """Wrong use, bad input, damaged bytes: nothing was done."""

    exit_code = 2


class UsageError(Refused):
    """The command line or a call does not make sense."""


class RecipeError(Refused):
    """A recipe or an override does not hold."""


class WeightsError(Refused):
    """A weight file, a variant or a dialect does not fit."""


class PictureError(Refused):
    """One picture cannot be read by the stated rule."""


class DataError(Refused):
    """A source of pictures is not usable as it stands."""


class BundleError(Refused):
    """A bundle or an engine in it cannot be trusted or run."""


class RunError(Refused):
    """A run folder or a checkpoint cannot be used."""


class SystemFault(VitrailError):
    """Disk, memory or system failed; what was good before is still good."""

    exit_code = 4


class OutsideBound(VitrailError):
    """A measured answer lies outside its bound."""

    exit_code = 5


class NumbersBroke(VitrailError):
    """NaN or Inf appeared; nothing was updated with it."""

    exit_code = 6


class Stopped(VitrailError):
    """Stopped by a signal, with a checkpoint to resume from."""

    exit_code = 75


# code -> (class, what it means in one line). docs/errors.md is generated from this table; a test provokes each row.
CODES: dict[str, tuple[type[VitrailError], str]] = {
    "V001": (UsageError, "the command line does not parse"),
    "V002": (UsageError, "a MODEL names nothing that exists"),
    "V003": (UsageError, "an optional package is needed and absent"),
    "V004": (UsageError, "no picture matches what was asked for"),
    "V005": (UsageError, "the model has random weights where trained ones are needed"),
    "V006": (UsageError, "the output exists already"),
    "V007": (UsageError, "an argument of a call is out of its range"),
    "V101": (RecipeError, "the recipe holds keys or values that do not stand"),
    "V102": (RecipeError, "no recipe of that name or path"),
    "V103": (RecipeError, "the recipe is not readable YAML"),
    "V104": (RecipeError, "the recipe and the data do not fit each other"),
    "V201": (WeightsError, "the weight file is damaged or not of its format"),
    "V202": (WeightsError, "the weight file would run code or exceeds a limit"),
    "V203": (WeightsError, "no variant of that name"),
    "V204": (WeightsError, "tensors do not fit the model"),
    "V205": (WeightsError, "no dialect or variant explains the tensors"),
    "V206": (WeightsError, "the format of a weight file is not known"),
    "V207": (WeightsError, "a fetched file is not the published one"),
    "V301": (PictureError, "the file is no picture of an allowed format"),
    "V302": (PictureError, "the picture is truncated or damaged"),
    "V303": (PictureError, "the picture exceeds a limit"),
    "V304": (PictureError, "the picture cannot be opened"),
    "V305": (PictureError, "the pixels are of a kind the decoding rule refuses"),
    "V401": (DataError, "the source holds no pictures"),
    "V402": (DataError, "the layout of the source is not understood"),
    "V403": (DataError, "classes differ where they must be the same"),
    "V404": (DataError, "a data file has the wrong length, label or content"),
    "V405": (DataError, "class names collide"),
    "V406": (DataError, "pictures of the source cannot be read"),
    "V407": (DataError, "a class is too small to be split"),
    "V501": (BundleError, "the manifest is missing, damaged or of another version"),
    "V502": (BundleError, "a file of the bundle differs from its manifest"),
    "V503": (BundleError, "a path leads out of the bundle"),
    "V504": (BundleError, "the bundle holds no engine or weights that can run here"),
    "V505": (BundleError, "the engine cannot open the graph"),
    "V506": (BundleError, "the bundle is of other weights, or holds this engine already"),
    "V507": (BundleError, "the bundle holds no proof to verify against"),
    "V508": (BundleError, "the network cannot be written for an engine"),
    "V509": (BundleError, "the graph is a program that is not trusted"),
    "V601": (RunError, "the run folder exists already"),
    "V602": (RunError, "the run or the shards were made by another recipe or other data"),
    "V603": (RunError, "no good checkpoint is left"),
    "V604": (RunError, "the checkpoint, capture or job of predictions is damaged"),
    "V605": (RunError, "the checkpoint or capture is of another format version"),
    "V606": (RunError, "another process holds the run folder"),
    "V607": (RunError, "the file is no checkpoint, run or capture"),
    "V701": (SystemFault, "a file or folder cannot be written"),
    "V702": (SystemFault, "a file or folder cannot be read"),
    "V703": (SystemFault, "memory does not suffice"),
    "V704": (SystemFault, "a file cannot be fetched from the net"),
    "V705": (SystemFault, "a step or a save stood still"),
    "V706": (SystemFault, "a rank died, hangs, or cannot be reached"),
    "V801": (OutsideBound, "the proof of an export failed"),
    "V802": (OutsideBound, "the bundle no longer gives the proven answers"),
    "V803": (OutsideBound, "a damaged checkpoint was passed over and --strict was asked for"),
    "V804": (OutsideBound, "two compared models differ"),
    "V811": (NumbersBroke, "a loss, gradient, weight or logit is NaN or Inf"),
    "V901": (Stopped, "stopped by a signal after saving"),
}


def _rebuild(kind: type[VitrailError], code: str, what: str, evidence: Sequence[str], hint: str) -> VitrailError:
    return kind(code, what, evidence=evidence, hint=hint)


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun.

    >>> count(1, "picture"), count(1200, "class", "classes")
    ('1 picture', '1,200 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def printable(text: str) -> str:
    """`text` on one line with control characters and lone surrogates escaped: a file name forges no log line.

    >>> printable("a\\nb\\x1b[31m")
    'a\\\\nb\\\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean ...?` with the nearest known word, or the whole choice when it is short, or nothing.

    >>> nearest("schedul", ["schedule", "loss"])
    'did you mean `schedule`?'
    """
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known: {', '.join(names)}" if 0 < len(names) <= 12 else ""


def write_fault(error: OSError, path: object) -> SystemFault:
    """The refusal for a failed write, with the true cause and what was kept."""
    space = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return SystemFault(
        "V701",
        f"cannot write `{path}`: {error.strerror or error}",
        evidence=[f"errno {error.errno} ({errno.errorcode.get(error.errno or 0, '?')})"],
        hint="free some space, then run the same command again; nothing saved before was touched"
        if space
        else "check that the folder exists and may be written; nothing saved before was touched",
    )


# What torch says when an allocation fails; only on CUDA has it a class for that.
_WORDS = ("can't allocate memory", "cannot allocate memory", "out of memory", "not enough memory", "bad_alloc")


def is_shortage(error: BaseException) -> bool:
    """Whether an error of a step means that memory did not suffice.

    >>> is_shortage(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    True
    >>> is_shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def engine_fault(engine: str, pictures: int, error: Exception) -> SystemFault:
    """The refusal for an engine that gives no answer to pictures of the right shape: as a rule for lack of memory."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = " ".join(line for line in lines if line and not line.startswith("Exception from "))  # a place in its source
    return SystemFault(
        "V703",
        f"{engine} fails on {count(pictures, 'picture')} at a time",
        evidence=[printable(said[:200])],
        hint="free some memory, or give a smaller --batch",
    )


def read_fault(error: OSError, path: object) -> SystemFault:
    """The refusal for a failed read of a file that ought to be there."""
    name = errno.errorcode.get(error.errno or 0, "?")
    return SystemFault(
        "V702",
        f"cannot read `{path}`: {error.strerror or error}",
        evidence=[f"errno {error.errno} ({name})"],
        hint="check the path and its permissions",
    )
