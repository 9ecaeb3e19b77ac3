"""Measured equality of an exported model and its source, with a gate that an export must pass.

The gate: the export may differ from the source in float64 by four times what the source itself, in the export's
precision on torch, differs from it, plus 1e-6. In float32 no decision may change where the source's two best classes
are further apart than twice that; in shorter precisions one of 200 given pictures may, where the weights are trained.
In int8 the budget of `quantize` decides; the gate is for other machines: twice what was measured, plus 1e-6.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.formats import Precision
from vitrail.bundle.values import canonical
from vitrail.engines.facts import norm_eps, wanted
from vitrail.engines.graphs import decided, first_difference
from vitrail.engines.table import Said
from vitrail.errors import NumbersBroke, OutsideBound
from vitrail.evaluation.answers import BATCHES, CheckPicture, Logits, Run, answers
from vitrail.evaluation.intervals import wilson
from vitrail.formats import safetensors
from vitrail.formats.stored import Stored
from vitrail.pictures.policy import Policy
from vitrail.pictures.predict import Model
from vitrail.proof.diagnose import Measured, explained
from vitrail.proof.encoded import encoded
from vitrail.proof.pictures import generated
from vitrail.proof.quantize import Quantized

if TYPE_CHECKING:
    from vitrail.models.classifier import Classifier

FACTOR, FLOOR = 4.0, 1e-6
CHANGED = 0.005  # of the decisions on given pictures, in shorter precisions than float32
AGAIN = 2.0  # times what was measured here: what int8 may differ by on another processor, which sums otherwise
FORMAT = "1.0"


@dataclass(frozen=True)
class Top1:
    """How many labelled pictures each side gets right."""

    source: int
    candidate: int
    labelled: int

    def __str__(self) -> str:
        ours, theirs = (f"{100 * right / self.labelled:.1f} %" for right in (self.source, self.candidate))
        low, high = (f"{100 * bound:.1f}" for bound in wilson(self.candidate, self.labelled))
        sign = "=" if self.source == self.candidate else "/"
        return f"top-1 {ours} {sign} {theirs} (95 %: {low} to {high} %)"

    def to_json(self) -> dict[str, object]:
        """The counts, and where the share of each lies with 95 % confidence, in digits that every machine agrees on."""
        shares = {"source": self.source, "candidate": self.candidate}
        bounds = {name: [round(x, 6) for x in wilson(right, self.labelled)] for name, right in shares.items()}
        return {**shares, "labelled": self.labelled, "intervals": bounds}


@dataclass(frozen=True, eq=False)
class Proof:
    """What was measured, and every way in which it did not suffice.

    max_dlogit: largest |export - source in float64|. source_error: largest |source in the precision - in float64|.
    undecided: pictures whose two best classes are too close for a decision to be held against the export; in shorter
    precisions than float32 all generated ones.
    source32, source64: the source's logits (N, K): the generated pictures first, then the encoded ones, which are
    files, then the given ones. digests: of these. measured: of a proof that failed, what its cause is looked for in.
    quantized: what int8 costs, for a graph in int8.
    """

    precision: str
    max_dlogit: float
    source_error: float
    gate: float
    generated: int
    encoded: int
    given: int
    batches: tuple[int, ...]
    decisions_changed: int
    undecided: int
    top1: Top1 | None
    failures: tuple[str, ...]
    source32: Logits
    source64: Logits
    digests: tuple[bytes, ...]
    measured: Measured | None = None
    quantized: Quantized | None = None

    def line(self) -> str:
        """The proof in one line."""
        held = self.generated + self.encoded + self.given > self.undecided
        batches = ", ".join(map(str, self.batches))
        parts = [
            f"proof: max |dlogit| {self.max_dlogit:.1e} over {self.generated} + {self.encoded} + {self.given} pictures "
            f"at batch {batches}",
            f"{self.decisions_changed} decisions changed" if held else "no decision was held: it takes given pictures",
        ]
        if self.top1 is not None:
            parts.append(str(self.top1))
        return "; ".join(parts)

    def raise_if_failed(self) -> None:
        """OutsideBound V801 with every failure, if there is one, the mistake that explains them first."""
        if self.failures:
            why = explained(self.measured) if self.measured is not None else []
            first, *others = [*why, *self.failures]
            raise OutsideBound(
                "V801",
                f"the proof failed: {first}",
                evidence=[*others, self.line()],
                hint="nothing was written; the source is as it was",
            )

    def report(self) -> bytes:
        """The content of the bundle's report: all numbers, no speeds, no times."""
        top1 = None if self.top1 is None else self.top1.to_json()
        names = (
            "precision",
            "max_dlogit",
            "source_error",
            "gate",
            "generated",
            "encoded",
            "given",
            "decisions_changed",
            "undecided",
        )
        return canonical(
            {name: getattr(self, name) for name in names}
            | {"format": FORMAT, "batches": list(self.batches), "top1": top1, "line": self.line()}
            | ({} if self.quantized is None else {"int8": self.quantized.to_json()})
        )

    def logits_file(self) -> bytes:
        """The source's logits as safetensors: for the generated pictures, and for the given ones by their digests."""
        known, encoded, given = np.split(self.source64, [self.generated, self.generated + self.encoded])
        tensors = {
            "generated.float32": Stored.of(self.source32[: self.generated].astype(np.float32)),
            "generated.float64": Stored.of(known),
        }
        if self.encoded:
            tensors["encoded.float64"] = Stored.of(encoded)
        if self.given:
            rows = np.frombuffer(b"".join(self.digests), np.uint8).reshape(self.given, 32)
            tensors |= {"given.float64": Stored.of(given), "given.sha256": Stored.of(rows)}
        return safetensors.dumps(tensors)


def prove(
    source: Classifier,
    candidate: Model,
    *,
    pictures: Sequence[CheckPicture] = (),
    reference: Model | None = None,
    precision: Precision = "fp32",
    said: Said | None = None,
) -> Proof:
    """Run both the whole way, each with its own policy and classes, over the generated and the given pictures.

    reference: the source in float64, made here otherwise. precision: what the candidate computes in. said: what its
    graph says of itself, which is held against the source's config and against what the source really computes.
    What a picture's `read` raises passes through. NumbersBroke V811 when the source itself gives NaN or Inf.
    """
    drawn, files = generated(source.policy.channels), encoded(source.policy.channels)
    count, once = len(drawn) + len(files), BATCHES[-1:]
    inputs = [*map(CheckPicture.of, drawn), *map(CheckPicture.of, files), *pictures]
    runs: list[Run] = [(source, once), (reference or in_float64(source), once), (candidate, BATCHES)]
    twin = precision not in ("fp32", "int8")  # whether torch itself can compute so
    if twin:
        runs.append((in_precision(source, precision), once))
    measured = answers(runs, inputs)
    (source32,), (source64,), given = measured.logits[:3]
    shorter = measured.logits[3][0] if twin else source32
    if not (np.isfinite(source32).all() and np.isfinite(source64).all() and np.isfinite(shorter).all()):
        raise NumbersBroke(
            "V811", f"the source itself gives NaN or Inf on pictures of the proof, in fp32 or {precision}",
            hint="check its weights",
        )  # fmt: skip
    error = float(np.abs(shorter - source64).max())
    failures = _descriptions(source, candidate, said)
    found = [rows for rows in given if rows.shape == source64.shape]
    if len(found) != len(BATCHES):
        failures.append(f"logits: the export gives another number of classes than {source64.shape[1]}")
    gaps = [np.abs(rows - source64) for rows in found]
    worst = max((float(gap.max()) for gap in gaps if np.isfinite(gap).all()), default=float("inf"))
    gate = gate_of(precision, error, worst)
    if not all(bool((gap <= gate).all()) for gap in gaps):  # so that NaN fails, too
        failures.append(f"logits: {_first(gaps, gate, len(drawn), len(files))}; the gate is {gate:.2e}")
        worst = max([worst, *(float(np.nan_to_num(gap, nan=np.inf, posinf=np.inf).max()) for gap in gaps)])
    held = _margins(source64) > 2 * gate if precision == "fp32" else np.arange(len(source64)) >= count
    allowed = int(CHANGED * len(pictures)) if twin else 0
    changed = _changed(source, candidate, source64, found) & held
    if changed.sum() > allowed and (precision == "fp32" or (twin and _trained(source))):
        kind = "clear ones" if precision == "fp32" else "those on given pictures"
        failures.append(f"decisions: {int(changed.sum())} of {int(held.sum())} {kind} changed")
    return Proof(
        precision=precision,
        max_dlogit=worst,
        source_error=error,
        gate=gate,
        generated=len(drawn),
        encoded=len(files),
        given=len(pictures),
        batches=BATCHES,
        decisions_changed=int(changed.sum()),
        undecided=int((~held).sum()),
        top1=_top1(source, candidate, pictures, source32[count:], [rows[count:] for rows in found]),
        failures=tuple(failures),
        source32=source32,
        source64=source64,
        digests=measured.digests[count:],
        measured=Measured(source, candidate, inputs, source64, found, gate, _epsilons(said)) if failures else None,
    )


def gate_of(precision: str, source_error: float, measured: float) -> float:
    """How far a graph's logits may lie from the source's in float64, by the rule of its precision.

    measured: the largest distance where it was exported.
    """
    return AGAIN * measured + FLOOR if precision == "int8" else FACTOR * source_error + FLOOR


def in_float32(source: Classifier) -> Classifier:
    """The classifier where it computes in float32, else a copy that does: a gate would widen with a shorter type."""
    import torch

    if all(parameter.dtype == torch.float32 for parameter in source.module.parameters()):
        return source
    return replace(source, module=copy.deepcopy(source.module).float())


def in_precision(source: Classifier, precision: Precision) -> Classifier:
    """A copy of the classifier that computes in that precision."""
    from vitrail.engines.deployed import DTYPES

    return replace(source, module=copy.deepcopy(source.module).to(DTYPES[precision]))


def _trained(source: Classifier) -> bool:
    return source.provenance.get("weights") != "random"


def in_float64(source: Classifier) -> Classifier:
    """A copy of the classifier that computes in float64."""
    return replace(source, module=copy.deepcopy(source.module).double())


def _descriptions(source: Classifier, candidate: Model, graph: Said | None) -> list[str]:
    """Where the two say different things of themselves; numbers alone might hide it."""
    failures = []
    if candidate.classes != source.classes:
        failures.append(f"classes: {first_difference(source.classes, candidate.classes)}")
    failures += [f"policy: {line}" for line in _policy_differences(source.policy, candidate.policy)]
    if graph is None:
        return failures
    from vitrail.engines.torch import facts

    if graph.classes != source.classes:
        failures.append(f"classes in the graph: {first_difference(source.classes, graph.classes)}")
    image = (source.policy.channels, *source.policy.size)
    found, computed = graph.facts, dict(facts(source.module, image=image))
    said, real = ({**of, "norm_eps": norm_eps(of)} for of in (wanted(source.config), computed))
    failures += [
        f"{name}: config {said.get(name)}, source {real.get(name)}, graph {found.get(name)}"
        for name in decided(found)
        if not said.get(name) == real.get(name) == found.get(name)
    ]
    return failures


def _epsilons(said: Said | None) -> tuple[float, ...]:
    """Those of norms that the candidate's graph tells."""
    found = {} if said is None else said.facts
    lists = [found.get(name) for name in ("layernorm_eps", "groupnorm_eps", "norm_eps")]
    return tuple(eps for values in lists if isinstance(values, list) for eps in values)


def _policy_differences(ours: Policy, theirs: Policy) -> list[str]:
    a, b = ours.to_json(), theirs.to_json()
    return [f"{name} is {a[name]} in the source and {b[name]} in the export" for name in a if a[name] != b[name]]


def _first(gaps: list[Logits], gate: float, drawn: int, files: int) -> str:
    for batch, gap in zip(BATCHES, gaps, strict=False):
        bad = ~(gap <= gate)
        if bad.any():
            row = int(np.flatnonzero(bad.any(axis=1))[0])
            kinds = (("given", drawn + files), ("encoded", drawn), ("generated", 0))
            kind, place = next((kind, row - start) for kind, start in kinds if row >= start)
            total, size = int(bad.any(axis=1).sum()), float(gap[row].max())
            return f"{total} pictures differ at batch {batch}, first {kind} picture {place} by {size:.2e}"
    raise AssertionError("no gap is beyond the gate")


def _margins(logits: Logits) -> NDArray[np.float64]:
    """Distance of the two best classes, (N,)."""
    if logits.shape[1] < 2:
        return np.full(len(logits), np.inf)
    best = np.sort(logits, axis=1)
    return np.asarray(best[:, -1] - best[:, -2])


def _changed(source: Model, candidate: Model, source64: Logits, found: list[Logits]) -> NDArray[np.bool_]:
    """Pictures that are called by another name at any batch size, (N,)."""
    ours = np.array(source.classes)[source64.argmax(axis=1)]
    theirs = [np.array(candidate.classes)[rows.argmax(axis=1)] for rows in found]
    return np.any([names != ours for names in theirs], axis=0) if theirs else np.ones(len(ours), bool)


def _top1(
    source: Model, candidate: Model, pictures: Sequence[CheckPicture], ours: Logits, theirs: list[Logits]
) -> Top1 | None:
    rows = [i for i, picture in enumerate(pictures) if picture.label is not None]
    if not rows or not theirs:
        return None
    names = [source.classes[label] for picture in pictures if (label := picture.label) is not None]

    def right(model: Model, logits: Logits) -> int:
        return sum(model.classes[int(logits[row].argmax())] == name for row, name in zip(rows, names, strict=True))

    return Top1(right(source, ours), min(right(candidate, rows_) for rows_ in theirs), len(rows))
