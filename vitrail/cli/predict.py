"""`vitrail predict`"""

from __future__ import annotations

import csv
import json
import sys

import click

from vitrail.cli.options import AS_JSON, DEVICE, ENGINE, MODEL, TRUST, batch
from vitrail.errors import UsageError, printable

BAR = 24  # characters of a full bar


@click.command("predict")
@MODEL
@click.argument("pictures", metavar="PICTURE|FOLDER|GLOB ...", nargs=-1, required=True)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes to name.")
@batch(32)
@ENGINE
@TRUST
@DEVICE
@AS_JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print one CSV row a picture and class.")
def command(
    model: str, pictures: tuple[str, ...], top: int, batch: int, engine: str, device: str, as_json: bool, as_csv: bool
) -> int:
    """Name what is on pictures. A picture that cannot be read becomes a row that says so; the exit code is then 2."""
    from vitrail.pictures.predict import Failed
    from vitrail.verbs.predict import predict

    if as_json and as_csv:
        raise UsageError("V001", "--json and --csv exclude each other", hint="give one of them")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if as_csv:
        writer.writerow(["picture", "rank", "class", "probability", "error"])
    failed = 0
    rows: list[dict[str, object]] = []
    for answer in predict(model, pictures, top=top, batch=batch, engine=engine, device=device):
        if isinstance(answer, Failed):
            failed += 1
        if as_csv:
            _csv_rows(writer, answer)
        elif as_json:
            rows.append(_plain(answer))
        else:
            _bars(answer)
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    return 2 if failed else 0


def _plain(answer: object) -> dict[str, object]:
    from vitrail.pictures.predict import Prediction

    if isinstance(answer, Prediction):
        best = [{"class": name, "probability": p} for name, p in zip(answer.classes, answer.probabilities, strict=True)]
        return {"picture": answer.name, "classes": best}
    return {"picture": answer.name, "error": answer.error.code, "what": answer.error.what}  # type: ignore[attr-defined]


def _csv_rows(writer: object, answer: object) -> None:
    plain = _plain(answer)
    plain["picture"] = printable(str(plain["picture"]))
    if "error" in plain:
        writer.writerow([plain["picture"], "", "", "", plain["error"]])  # type: ignore[attr-defined]
        return
    for rank, row in enumerate(plain["classes"], 1):  # type: ignore[arg-type, var-annotated]
        writer.writerow([plain["picture"], rank, row["class"], row["probability"], ""])  # type: ignore[attr-defined]


def _bars(answer: object) -> None:
    plain = _plain(answer)
    if "error" in plain:
        sys.stdout.write(f"{printable(str(plain['picture']))}\n  error[{plain['error']}]: {plain['what']}\n")
        return
    sys.stdout.write(f"{printable(str(plain['picture']))}\n")
    rows = list(plain["classes"])  # type: ignore[call-overload]
    width = max(len(row["class"]) for row in rows)
    for row in rows:
        filled = round(BAR * row["probability"])
        bar = "█" * filled + "░" * (BAR - filled)
        sys.stdout.write(f"  {row['class'].ljust(width)}  {bar}  {100 * row['probability']:6.2f} %\n")
