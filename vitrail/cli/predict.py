"""`vitrail predict`"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import click

from vitrail.cli.options import AS_JSON, DEVICE, ENGINE, MODEL, TRUST, batch
from vitrail.cli.render import tell
from vitrail.errors import UsageError, count, printable

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
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Write shards of rows there instead.")
@click.option("--format", "form", type=click.Choice(["csv", "parquet"]), help="... in this form.  [default: csv]")
@click.option("--shard-rows", type=click.IntRange(1), help="... of so many rows each.  [default: 10000]")
@click.option("--workers", type=click.IntRange(0), help="... read ahead by so many threads.  [default: 2]")
@click.option("--ray", type=click.IntRange(1), metavar="N", help="... spread over N workers of Ray Data.")
def command(model: str, pictures: tuple[str, ...], **given: Any) -> int:
    """Name what is on pictures. A picture that cannot be read becomes a row that says so; the exit code is then 2.

    With --out, one source of any size (a folder, an archive, tar shards, Parquet) goes into shards of one row a
    picture. The same command again goes on where it was stopped; under torchrun each process makes its part.

    \b
    vitrail predict runs/photos/bundle PICTURE.jpg
    vitrail predict runs/photos/bundle DATA --out predictions --format parquet
    """
    if given["as_json"] and given["as_csv"]:
        raise UsageError("V001", "--json and --csv exclude each other", hint="give one of them")
    of_shards = {name: given.pop(name) for name in ("out", "form", "shard_rows", "workers", "ray")}
    if of_shards["out"] is not None:
        return _shards(model, pictures, of_shards, given)
    for name, value in of_shards.items():
        if value is not None:
            word = {"form": "format"}.get(name, name).replace("_", "-")
            raise UsageError("V001", f"--{word} is of shards, and --out is absent", hint="give --out DIR")
    return _printed(model, pictures, **given)


class _Out:
    """Where rows go."""

    def write(self, text: str) -> None:
        tell(text)


def _printed(model: str, pictures: tuple[str, ...], *, as_json: bool, as_csv: bool, **how: Any) -> int:
    from vitrail.pictures.predict import Failed
    from vitrail.verbs.predict import predict

    writer = csv.writer(_Out(), lineterminator="\n")
    if as_csv:
        writer.writerow(["picture", "rank", "class", "probability", "error"])
    failed = 0
    rows: list[dict[str, object]] = []
    for answer in predict(model, pictures, **how):
        if isinstance(answer, Failed):
            failed += 1
        if as_csv:
            _csv_rows(writer, answer)
        elif as_json:
            rows.append(_plain(answer))
        else:
            _bars(answer)
    if as_json:
        tell(json.dumps(rows, indent=1) + "\n")
    return 2 if failed else 0


def _shards(model: str, pictures: tuple[str, ...], of_shards: dict[str, Any], given: dict[str, Any]) -> int:
    from vitrail.cli.progress import Counter
    from vitrail.cli.render import result
    from vitrail.ranks import world
    from vitrail.verbs.asking import Asking
    from vitrail.verbs.predict_shards import predict_shards

    out, as_json, as_csv = of_shards.pop("out"), given.pop("as_json"), given.pop("as_csv")
    if as_csv:
        raise UsageError("V001", "--csv prints rows, and --out writes them", hint="give --format csv")
    if len(pictures) != 1:
        raise UsageError("V001", f"--out takes one source, {len(pictures)} are given", hint="name one folder or file")
    of_shards["format"] = of_shards.pop("form")
    how = Asking(**given, **{name: value for name, value in of_shards.items() if value is not None})
    if world().rank:  # of several ranks the first one speaks
        predict_shards(model, pictures[0], out, how)
        return 0
    with Counter("predict") as counter:
        done = predict_shards(model, pictures[0], out, how, progress=counter, note=counter.line)
    bad = f", {done.bad:,} of them bad" if done.bad else ""
    stood = ": finished before, nothing was done" if done.stood and not done.made else ""
    lines = [f"{count(done.job.pictures, 'row')}{bad} in {count(len(done.shards), 'shard')} in {done.folder}{stood}"]
    result(lines, done.to_json(), as_json=as_json)
    return 2 if done.bad and not done.stood else 0


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
        tell(f"{printable(str(plain['picture']))}\n  error[{plain['error']}]: {plain['what']}\n")
        return
    tell(f"{printable(str(plain['picture']))}\n")
    rows = list(plain["classes"])  # type: ignore[call-overload]
    width = max(len(row["class"]) for row in rows)
    for row in rows:
        filled = round(BAR * row["probability"])
        bar = "█" * filled + "░" * (BAR - filled)
        tell(f"  {row['class'].ljust(width)}  {bar}  {100 * row['probability']:6.2f} %\n")
