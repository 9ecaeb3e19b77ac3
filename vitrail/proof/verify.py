"""Proving a bundle again where it will be used: against the answers that its source once gave. Without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitrail.bundle.formats import PRECISIONS
from vitrail.bundle.manifest import WEIGHTS, Manifest
from vitrail.bundle.read import Opened, check
from vitrail.bundle.values import parse, refused
from vitrail.engines.opened import Bundle, bundle_classifier
from vitrail.engines.table import installed
from vitrail.errors import BundleError, OutsideBound, VitrailError
from vitrail.evaluation.answers import BATCHES, CheckPicture, Logits, answers, digest
from vitrail.formats import safetensors
from vitrail.proof.diagnose import Measured, explained
from vitrail.proof.encoded import encoded
from vitrail.proof.pictures import generated
from vitrail.proof.prove import AGAIN, CHANGED, gate_of
from vitrail.proof.top import wrong


@dataclass(frozen=True)
class Stored:
    """A proof as a bundle holds it: the gate, and the source's logits in float64 of generated, encoded and given
    pictures. encoded: of none in bundles of older versions.
    """

    gate: float
    generated: Logits
    encoded: Logits
    given: dict[bytes, Logits]
    changing: float | None  # share of the given pictures that may be called otherwise; None where the gate says it all


@dataclass(frozen=True)
class Verification:
    """What was measured on this machine, and every way in which it left the proof's gate.

    matched: pictures of the proof that were found again. correct: of `labelled` pictures that the proof does not know.
    """

    engine: str
    max_dlogit: float
    gate: float
    generated: int
    encoded: int
    matched: int
    unknown: int
    correct: int
    labelled: int
    failures: tuple[str, ...]

    def line(self) -> str:
        """The result in one line."""
        text = (
            f"verified on {self.engine}: max |dlogit| {self.max_dlogit:.1e}, gate {self.gate:.1e}, "
            f"over {self.generated} + {self.encoded} + {self.matched} pictures"
        )
        if not self.labelled:
            return text
        share = 100 * self.correct / self.labelled
        return f"{text}; top-1 {share:.1f} % ({self.correct} of {self.labelled} pictures that the proof does not know)"

    def raise_if_failed(self) -> None:
        """OutsideBound V802 with every failure, if there is one."""
        if self.failures:
            raise OutsideBound(
                "V802",
                f"the bundle no longer gives the proven answers: {self.failures[0]}",
                evidence=[*self.failures[1:], self.line()],
                hint="try another engine or version of it; do not deploy this one",
            )


def verify(bundle: Bundle, *, pictures: Sequence[CheckPicture] = ()) -> Verification:
    """Hold the bundle's answers against its stored proof, over the generated pictures and those of the given ones
    that the proof knows by their pixels; of the others with a label the accuracy is counted.

    BundleError V507 when the bundle holds no proof, V501 and V502 when it changed or is damaged. What a
    picture's `read` raises passes through.
    """
    with check(bundle.folder) as opened:
        if opened.manifest.digest != bundle.manifest.digest:
            raise BundleError("V502", f"`{bundle.folder}` changed since it was opened", hint="open it again")
        proof = _stored(opened, proof_name(bundle.manifest, bundle.graph))
    drawn, files = generated(bundle.policy.channels), encoded(bundle.policy.channels)[: len(proof.encoded)]
    inputs = [*map(CheckPicture.of, drawn), *map(CheckPicture.of, files)]
    targets = [*proof.generated, *proof.encoded]
    fresh: list[CheckPicture] = []
    for picture in pictures:  # read here and again below: to hold their pixels would fill the memory
        known = proof.given.get(digest(picture.read()))
        if known is None:
            fresh.append(picture)
        else:
            inputs.append(picture)
            targets.append(known)
    (found,) = answers([(bundle, BATCHES)], inputs).logits
    gaps = [np.abs(rows - np.stack(targets)) for rows in found]
    worst = max(float(np.nan_to_num(gap, nan=np.inf, posinf=np.inf).max()) for gap in gaps)
    failures: tuple[str, ...] = ()
    if not worst <= proof.gate:
        why = _why(bundle, inputs, np.stack(targets), found, proof.gate)
        failures = (*why, f"max |dlogit| {worst:.2e} exceeds the gate {proof.gate:.2e}")
    failures += _changed(proof, np.stack(targets), found)
    top = None if bundle.graph is None else bundle.manifest.engines[bundle.graph].top
    if top is not None:
        failures += wrong(bundle.runner, bundle.policy, takes=bundle.takes, top=top)
    correct, labelled = _accuracy(bundle, fresh)
    return Verification(
        engine=bundle.engine,
        max_dlogit=worst,
        gate=proof.gate,
        generated=len(proof.generated),
        encoded=len(proof.encoded),
        matched=len(inputs) - len(drawn) - len(files),
        unknown=len(fresh),
        correct=correct,
        labelled=labelled,
        failures=failures,
    )


def _why(
    bundle: Bundle, inputs: Sequence[CheckPicture], expected: Logits, found: Sequence[Logits], gate: float
) -> list[str]:
    """The single mistake that explains the answers, where the source is at hand: the bundle's weights, and torch."""
    if not installed("torch") or WEIGHTS not in bundle.manifest.files:
        return []
    try:
        source = bundle_classifier(bundle.folder)
    except VitrailError:
        return []  # weights that do not open explain nothing here; asked for themselves, they say why
    return explained(Measured(source, bundle, inputs, expected, found, gate), f"the bundle on {bundle.engine}")


def _changed(proof: Stored, targets: Logits, found: list[Logits]) -> tuple[str, ...]:
    """Where more of the proof's pictures are called otherwise than a graph in int8 may."""
    if proof.changing is None:
        return ()
    known = slice(len(proof.generated) + len(proof.encoded), None)
    wanted = targets[known].argmax(axis=1)
    changed = int(np.any([rows[known].argmax(axis=1) != wanted for rows in found], axis=0).sum())
    allowed = math.ceil(proof.changing * len(wanted))
    if changed <= allowed:
        return ()
    return (f"{changed} of {len(wanted)} decisions changed, at most {allowed} may in int8",)


def proof_name(manifest: Manifest, graph: str | None) -> str:
    """The graph whose proof holds: the one in use; for the weights one of the most exact, as all are of one source."""
    names = sorted(manifest.engines, key=lambda name: (PRECISIONS.index(manifest.engines[name].precision), name))
    if graph is None and not names:
        raise BundleError(
            "V507", "the bundle holds no proof: it has weights alone", hint="add an engine with `vitrail export`"
        )
    return graph or names[0]


def _accuracy(bundle: Bundle, pictures: Sequence[CheckPicture]) -> tuple[int, int]:
    labels = np.array([picture.label for picture in pictures if picture.label is not None], np.int64)
    ((rows,),) = answers([(bundle, BATCHES[-1:])], [p for p in pictures if p.label is not None]).logits
    return int((rows.argmax(axis=1) == labels).sum()) if len(labels) else 0, len(labels)


def _stored(opened: Opened, name: str) -> Stored:
    folder, classes = f"proof/{name}", len(opened.manifest.classes)
    if f"{folder}/report.json" not in opened.files:
        raise BundleError("V507", f"the bundle holds no proof of `{name}`", hint="export it again")
    report = parse(opened.read(f"{folder}/report.json"), "the report")
    file = opened.file(f"{folder}/source.safetensors")
    tensors, _ = safetensors.read(file.path(), sha256=file.entry.sha256)
    arrays = {key: tensor.array() for key, tensor in tensors.items()}
    known = arrays.get("generated.float64")
    files = arrays.get("encoded.float64", np.zeros((0, classes)))
    given = arrays.get("given.float64", np.zeros((0, classes)))
    digests = arrays.get("given.sha256", np.zeros((0, 32), np.uint8))
    shapes_hold = known is not None and known.shape == (64, classes) and given.shape == (len(digests), classes)
    shapes_hold &= files.shape in ((0, classes), (len(encoded(opened.manifest.policy.channels)), classes))
    if not shapes_hold or digests.shape[1:] != (32,) or digests.dtype != np.uint8:
        raise refused(f"the source's logits of `{name}` have other shapes than the proof needs")
    assert known is not None
    rows = {row.tobytes(): logits.astype(np.float64) for row, logits in zip(digests, given, strict=True)}
    precision = opened.manifest.engines[name].precision
    changing = _changing(report) if precision == "int8" and opened.manifest.weights == "trained" else None
    return Stored(_gate(report, precision), known.astype(np.float64), files.astype(np.float64), rows, changing)


def _changing(report: dict[str, Any]) -> float:
    """Share of the given pictures: as many times what changed at the export as the gate is of its distance."""
    changed, given = report.get("decisions_changed"), report.get("given")
    if type(changed) is not int or type(given) is not int or not 0 <= changed <= given:
        raise refused("the report does not say how many decisions changed")
    return AGAIN * changed / max(given, 1) + CHANGED


def _gate(report: dict[str, Any], precision: str) -> float:
    """The gate, if it follows from the error that is stored beside it by the rule of the engine's precision."""
    if report.get("precision") != precision:
        raise refused(f"the report is of {str(report.get('precision'))[:40]}, the engine of {precision}")
    numbers = [report.get(name) for name in ("gate", "source_error", "max_dlogit")]
    gate, error, measured = (n if isinstance(n, float) and math.isfinite(n) and n >= 0 else None for n in numbers)
    if gate is None or error is None or measured is None:
        raise refused("the report names no gate")
    if gate != gate_of(precision, error, measured):
        raise refused(f"the gate {gate:.2e} does not follow from the errors {error:.2e} and {measured:.2e}")
    return gate
