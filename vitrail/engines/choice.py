"""Which of a bundle's graphs runs, and on which engine."""

from __future__ import annotations

from typing import NamedTuple

from vitrail.bundle.formats import FORMATS, PRECISIONS
from vitrail.bundle.manifest import WEIGHTS, Manifest
from vitrail.bundle.read import Opened
from vitrail.engines.table import ENGINES, installed, runs
from vitrail.engines.trust import check, trusted
from vitrail.errors import BundleError, UsageError, nearest


class Way(NamedTuple):
    """An engine and the bundle's graph that it runs; None where it runs the weights."""

    engine: str
    graph: str | None


class Asked(NamedTuple):
    """What the word for an engine says: the engine or `auto`, a precision, a graph of the bundle by its name."""

    engine: str
    precision: str | None = None
    graph: str | None = None


def asked(word: str, manifest: Manifest) -> Asked:
    """What `onnx`, `openvino-bf16`, `auto-int8` or the name of a graph asks for; UsageError V007 for another word."""
    if word in manifest.engines:
        entry = manifest.engines[word]
        if entry.format not in FORMATS:
            raise BundleError("V504", f"`{word}` is of an unknown format, {entry.format}", hint="use a newer vitrail")
        return Asked(FORMATS[entry.format].engine, entry.precision, word)
    if word in ("auto", *ENGINES):
        return Asked(word)
    engine, _, precision = word.rpartition("-")
    if engine in ("auto", *ENGINES) and precision in PRECISIONS:
        return Asked(engine, precision)
    words = ("auto", *ENGINES, *manifest.engines)
    raise UsageError(
        "V007",
        f"no engine is called `{word}`",
        hint=nearest(word, words) or f"known: {', '.join(words)}, each with -fp32, -bf16, -fp16 or -int8",
    )


def choices(opened: Opened, wanted: Asked) -> list[Way]:
    """The ways to run a bundle on an engine; for `auto` those that compute the most exact of what the bundle holds.

    Of these, graphs go before the weights; programs are among them where they are trusted, machine code never, as it
    may be another processor's. BundleError V504 where there is no way, V509 where programs alone are left and none is
    trusted; UsageError V003 where nothing that the ways stand on is installed.
    """
    manifest = opened.manifest
    if wanted.engine != "auto":
        ways = _ways(manifest, wanted)
        if not ways:
            raise _none(opened, wanted)
        _refuse_untrusted(opened, ways[0])
        return ways[:1]
    ways = [way for name in ENGINES for way in _ways(manifest, wanted._replace(engine=name))[:1]]
    if not ways:
        raise _none(opened, wanted)
    best = min(_rank(manifest, way) for way in ways)
    exact = [way for way in ways if _rank(manifest, way) == best]
    ready = [way for way in exact if installed(way.engine) and not ENGINES[way.engine].native and _may_run(opened, way)]
    if not ready:
        _refuse_untrusted(opened, exact[0])
        return exact[:1]
    return [way for way in ready if way.graph is not None] or ready


def _refuse_untrusted(opened: Opened, way: Way) -> None:
    if way.graph is not None and ENGINES[way.engine].program:
        file = opened.manifest.engines[way.graph].file
        check(file, opened.file(file).entry.sha256)


def _ways(manifest: Manifest, wanted: Asked) -> list[Way]:
    """What an engine can run, the most exact first, then the format that is the engine's own."""
    engine, precision, graph = wanted
    if graph is not None:
        return [Way(engine, graph)]
    if engine == "torch":
        return [Way(engine, None)] if WEIGHTS in manifest.files and precision in (None, "fp32") else []
    formats = ENGINES[engine].formats
    fitting = [
        Way(engine, name)
        for name, entry in manifest.engines.items()
        if runs(engine, entry.format, entry.precision) and precision in (None, entry.precision)
    ]

    def order(way: Way) -> tuple[int, int, int, int, str]:
        assert way.graph is not None
        entry = manifest.engines[way.graph]
        return _rank(manifest, way), formats.index(entry.format), entry.batch or 0, entry.top or 0, way.graph

    return sorted(fitting, key=order)


def _rank(manifest: Manifest, way: Way) -> int:
    return 0 if way.graph is None else [*PRECISIONS].index(manifest.engines[way.graph].precision)  # type: ignore[arg-type]


def _may_run(opened: Opened, way: Way) -> bool:
    if way.graph is None or not ENGINES[way.engine].program:
        return True
    return trusted(opened.file(opened.manifest.engines[way.graph].file).entry.sha256)


def _none(opened: Opened, wanted: Asked) -> BundleError:
    held = ", ".join(sorted(opened.manifest.engines)) or ("weights only" if opened.manifest.files else "nothing")
    engine = "any engine" if wanted.engine == "auto" else f"`{wanted.engine}`"
    return BundleError(
        "V504",
        f"the bundle holds nothing that {engine} can run{f' in {wanted.precision}' if wanted.precision else ''}",
        evidence=[f"it holds: {held}"],
        hint="take another engine, or add this one with `vitrail export`",
    )
