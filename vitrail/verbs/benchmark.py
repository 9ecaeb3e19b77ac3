"""`benchmark`: how fast models answer here, measured in turns; how soon, and with how much memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from vitrail.bundle.formats import MAX_BATCH, MAX_THREADS
from vitrail.bundle.write import tools
from vitrail.engines.levels import engine_of, meaning
from vitrail.engines.opened import Bundle
from vitrail.engines.trust import all_trusted
from vitrail.errors import SystemFault, UsageError
from vitrail.evaluation.speed import ROUNDS, WARM, Ratio, in_turns, ratio
from vitrail.machine import cores, cpu_name
from vitrail.verbs.first_answer import ready

LONGEST = 600.0  # seconds for the first answer of a fresh process


@dataclass(frozen=True)
class Timed:
    """One model on one engine at one batch size. level: how far the engine may rewrite, None for its own.

    first_s, peak_bytes: of a fresh process, from its start of vitrail to its first answer. faster: than the first model
    at this batch size, None for that one itself.
    """

    model: str
    engine: str
    batch: int
    p50_s: float
    p90_s: float
    p99_s: float
    mean_s: float
    first_s: float
    peak_bytes: int
    faster: Ratio | None
    level: int | None = None

    @property
    def images_per_s(self) -> float:
        """Pictures in a second, by the mean."""
        return self.batch / self.mean_s


@dataclass(frozen=True)
class BenchmarkResult:
    """What was timed, in the order of the batch sizes, and on what. levels: what each asked for meant, by engine."""

    rows: tuple[Timed, ...]
    rounds: int
    machine: dict[str, object]
    versions: dict[str, str]
    levels: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        rows = [{**asdict(row), "images_per_s": row.images_per_s} for row in self.rows]
        levels = {"levels": dict(self.levels)} if self.levels else {}
        return {"rows": rows, "rounds": self.rounds, **levels, "machine": self.machine, "versions": self.versions}


def benchmark(
    models: Sequence[str | Path],
    *,
    engines: Sequence[str] = ("auto",),
    batches: Sequence[int] = (1,),
    rounds: int = ROUNDS,
    threads: int | None = None,
    levels: Sequence[int | None] = (None,),
) -> BenchmarkResult:
    """Time every model on every engine at every batch size; in each round each has its turn, after ten warm-up rounds.

    threads: of the engines; None takes every core. levels: of `engines.levels`; None leaves an engine its own.
    UsageError V007 for numbers below 1, a model twice, or an engine without such a level.
    """
    if not all((models, engines, batches, levels)) or min(rounds, *batches, 1 if threads is None else threads) < 1:
        raise UsageError("V007", "a benchmark takes models, engines, and numbers from 1", hint="give at least one each")
    if max(batches) > MAX_BATCH or (threads or 1) > MAX_THREADS:
        raise UsageError(
            "V007",
            f"a batch of {max(batches):,} on {threads or cores():,} threads",
            hint=f"at most {MAX_BATCH:,} pictures and {MAX_THREADS:,} threads",
        )
    asked = [(str(model), engine, level) for model in models for engine in engines for level in levels]
    if len({*asked}) < len(asked) or len({*batches}) < len(batches):
        raise UsageError("V007", "a model, an engine, a level or a batch size stands twice", hint="name each once")
    rows: list[Timed] = []
    meant: dict[str, str] = {}
    for batch in batches:  # a call for each, so that every model is in memory once
        timed, levels_meant = _timed(asked, batch, threads=threads, rounds=rounds)
        rows += timed
        meant |= levels_meant
    machine: dict[str, object] = {"processor": cpu_name(), "cores": cores(), "threads": threads or cores()}
    return BenchmarkResult(tuple(rows), rounds, machine, tools(("numpy", "onnxruntime", "openvino", "torch")), meant)


def _timed(
    asked: Sequence[tuple[str, str, int | None]], batch: int, *, threads: int | None, rounds: int
) -> tuple[list[Timed], dict[str, str]]:
    """A row for each model, engine and level that is asked for, at one size of batch; and what the levels meant."""
    opened = [(*one, ready(*one[:2], threads, one[2], batch=batch)) for one in asked]
    times = in_turns([model for *_, model in opened], batch=batch, rounds=rounds, warm=WARM)
    rows = []
    for (name, engine, level, model), seconds in zip(opened, times, strict=True):
        if engine == "auto" or not isinstance(model, Bundle):
            engine = engine_of(model)
        named = engine if isinstance(model, Bundle) else "auto"
        first_s, peak = _first_answer(name, named, batch, threads, -1 if level is None else level)
        p50, p90, p99 = np.percentile(seconds, [50, 90, 99]).tolist()
        faster = None if seconds is times[0] else ratio(times[0], seconds)
        mean_s = float(np.mean(seconds))
        rows.append(Timed(name, engine, batch, p50, p90, p99, mean_s, first_s, peak, faster, level))
    engines = [(engine_of(model), level) for *_, level, model in opened]
    return rows, {f"{engine} {level}": meaning(engine, level) for engine, level in engines if level is not None}


def _first_answer(model: str, engine: str, batch: int, threads: int | None, level: int) -> tuple[float, int]:
    numbers = [str(number) for number in (batch, threads or 0, level, int(all_trusted()))]
    words = [sys.executable, "-m", "vitrail.verbs.first_answer", model, engine, *numbers]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (error.stderr or "").strip().splitlines()[-1:] if isinstance(error.stderr, str) else []
        raise SystemFault(
            "V703",
            f"a fresh process gave no answer of `{model}`",
            evidence=said,
            hint="free memory, or a smaller batch",
        ) from error
    found = json.loads(done.stdout.splitlines()[-1])
    return float(found["seconds"]), int(found["peak_bytes"])
