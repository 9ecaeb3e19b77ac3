"""What `predict --out` asks: the model and the pictures, open, and the job that follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail import __version__
from vitrail.bundle.manifest import weights_hash
from vitrail.bundle.write import tools
from vitrail.data.sources.unlabelled import Pictures, open_pictures
from vitrail.errors import RunError, UsageError
from vitrail.formats import is_program
from vitrail.opening import kind_of
from vitrail.opening import open as open_model
from vitrail.predictions.job import MOST_ROWS, Format, Job, differences, pinned_engine
from vitrail.ranks import Ranks
from vitrail.verbs.refusals import refuse_headless, refuse_random

if TYPE_CHECKING:
    from vitrail.engines.program import Answering


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How pictures are asked about and their rows written.

    top: classes of a row. batch: pictures computed at a time. shard_rows: rows of a shard. workers: threads that
    decode. ray: workers of Ray Data, 0 for none. engine, device: as `vitrail.open` takes them.
    """

    top: int = 5
    batch: int = 32
    shard_rows: int = 10_000
    format: Format = "csv"
    workers: int = 2
    engine: str = "auto"
    device: str = "auto"
    ray: int = 0

    def __post_init__(self) -> None:
        for word, low, high in (
            ("top", 1, None),
            ("batch", 1, None),
            ("shard_rows", 1, MOST_ROWS),
            ("workers", 0, 256),
            ("ray", 0, 4096),
        ):
            value = getattr(self, word)
            if value < low or (high is not None and value > high):
                least = f"{low} or more" if high is None else f"{low} to {high:,}"
                raise UsageError("V007", f"{word} is {value}", hint=f"give {least}")
        if self.format not in ("csv", "parquet"):
            raise UsageError("V007", f"format is `{self.format}`", hint="known: csv, parquet")


PLAIN = Asking()


@dataclass(frozen=True)
class Asked:
    """The model and the pictures, open, and the job that follows from them."""

    model: Answering
    pictures: Pictures
    job: Job


def asked_of(model: str | Path, data: str | Path, out: Path, how: Asking, ranks: Ranks) -> Asked:
    """The job, with all that it needs open; the refusals of models, sources and absent packages.

    Engine `auto` is chosen once: what was begun in `out` goes on with its own, and all ranks take that of rank 0.
    """
    if how.format == "parquet":
        from vitrail.formats.parquet import need_parquet

        need_parquet()
    pictures = open_pictures(str(data))
    if how.engine == "auto" and (pinned := ranks.first(lambda: pinned_engine(out))) is not None:
        how = replace(how, engine=pinned)
    elif how.engine == "auto" and ranks.size > 1:
        how = replace(how, engine=ranks.first(lambda: _identity(_opened(model, how, ranks))[1]))
    opened = _opened(model, how, ranks)
    refuse_random(opened.provenance, "predict with")
    refuse_headless(opened.classes, "predict")
    digest, engine, graph, device = _identity(opened)
    job = Job(
        model=digest,
        engine=engine,
        graph=graph,
        device=device,
        policy=opened.policy.to_json(),
        source=pictures.fingerprint,
        pictures=pictures.count,
        top=min(how.top, len(opened.classes)),
        batch=how.batch,
        shard_rows=how.shard_rows,
        format=how.format,
        versions={"vitrail": __version__, **tools(("numpy", "pillow", "simplejpeg", _package(opened)))},
    )
    return Asked(opened, pictures, job)


def _opened(model: str | Path, how: Asking, ranks: Ranks) -> Answering:
    return open_model(model, engine=how.engine, device=_device(model, how, ranks), batch=how.batch)


def _device(model: str | Path, how: Asking, ranks: Ranks) -> str:
    """Of several ranks on a machine each takes the accelerator of its own number."""
    if ranks.size == 1 or ":" in how.device or how.device == "cpu":
        return how.device
    if how.device != "auto":
        return f"{how.device}:{ranks.world.local}"
    of_its_own = kind_of(model) in ("bundle", "run") or is_program(Path(model))
    if how.engine not in ("auto", "torch") or (how.engine == "auto" and of_its_own):
        return "auto"  # an engine of its own runs it
    from vitrail.machine import accelerator

    kind, number = accelerator()
    return f"{kind}:{ranks.world.local}" if number else "auto"


def _identity(model: Answering) -> tuple[str, str, str, str]:
    """The model's digest, the engine that runs it with its precision, of which graph, on which kind of device."""
    from vitrail.engines import Bundle
    from vitrail.engines.program import Program

    if isinstance(model, Program):
        return model.sha256, "torchscript", "", "cpu"
    runner = model.runner if isinstance(model, Bundle) else model
    module = getattr(runner, "module", None)  # of torch alone
    device = "cpu" if module is None else str(next(module.parameters()).device.type)
    if not isinstance(model, Bundle):
        from vitrail.weights.tensors import native_tensors

        return weights_hash(native_tensors(model.module)), "torch", "", device
    if model.graph is None:
        return model.manifest.digest, model.engine, "", device
    precision = model.manifest.engines[model.graph].precision
    return model.manifest.digest, f"{model.engine}-{precision}", model.graph, device


def _package(model: Answering) -> str:
    from vitrail.engines import ENGINES, Bundle

    return ENGINES[model.engine].package if isinstance(model, Bundle) else "torch"


def agree(ranks: Ranks, job: Job) -> None:
    """RunError V602 on all ranks where one would write other rows than rank 0."""
    jobs = ranks.gather(job)
    for rank, other in enumerate(jobs):
        if other != jobs[0]:
            raise RunError(
                "V602",
                f"rank {rank} would write other rows than rank 0",
                evidence=differences(jobs[0].plain(), other.plain(), who=f"on rank {rank}"),
                hint="every machine must reach the same model and the same pictures, and have the same engine",
            )
