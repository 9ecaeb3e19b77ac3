"""One row a picture: its path, the likeliest classes with their probabilities, or what is wrong with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from vitrail.pictures.predict import Failed, Prediction
from vitrail.predictions.job import Format

Answer = Prediction | Failed


def columns(top: int) -> dict[str, type[str] | type[float]]:
    """The columns by name, and what they hold; of a row one half is empty.

    >>> list(columns(2))
    ['path', 'class_1', 'probability_1', 'class_2', 'probability_2', 'error', 'what']
    """
    best: dict[str, type[str] | type[float]] = {}
    for rank in range(1, top + 1):
        best |= {f"class_{rank}": str, f"probability_{rank}": float}
    return {"path": str, **best, "error": str, "what": str}


def row(answer: Answer, top: int) -> list[object]:
    """The values of a row, None where it has none."""
    path = _text(answer.name)
    if isinstance(answer, Failed):
        return [path, *([None] * (2 * top)), answer.error.code, answer.error.what]
    best: list[object] = []
    for name, probability in zip(answer.classes, answer.probabilities, strict=True):
        best += [_text(name), probability]
    return [path, *best, None, None]


def _text(name: str) -> str:
    """Bytes of a path that are no UTF-8 are written as `\\udcff`: both formats hold nothing but UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def to_bytes(answers: Sequence[Answer], top: int, form: Format) -> bytes:
    """The file with these rows: the same rows, the same bytes. UsageError V003 where Parquet needs pyarrow."""
    return _csv(answers, top) if form == "csv" else _parquet(answers, top)


def _csv(answers: Sequence[Answer], top: int) -> bytes:
    text = io.StringIO()
    # every text in quotes: a carriage return in a name would otherwise stand bare and end its row
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(columns(top))
    writer.writerows(row(answer, top) for answer in answers)
    return text.getvalue().encode()


def _parquet(answers: Sequence[Answer], top: int) -> bytes:
    from vitrail.formats.parquet import table_bytes

    names = columns(top)
    rows = [row(answer, top) for answer in answers]
    values = {name: (kind, [one[place] for one in rows]) for place, (name, kind) in enumerate(names.items())}
    return table_bytes(values)
