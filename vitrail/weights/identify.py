"""Which dialect and network tensors are held to be: detected, or the model that was named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from vitrail.errors import UsageError
from vitrail.formats.stored import Tensors
from vitrail.models.catalog import Variant, variant
from vitrail.models.configs import FAMILIES, TRAINING_ONLY, ModelConfig, family_of
from vitrail.models.count import shapes
from vitrail.weights.detect import Detection, detect, numerics_of, translations, with_values
from vitrail.weights.dialects import TABLES, tables
from vitrail.weights.rules import Dialect
from vitrail.weights.saved import Saved
from vitrail.weights.shown import changed, shown
from vitrail.weights.stated import Stated
from vitrail.weights.translate import Translation, read
from vitrail.weights.user_dialect import own_file


def identify(model: str | ModelConfig | None, dialect: str | Path | None, tensors: Tensors, said: Stated) -> Detection:
    """What the tensors are held to be: as detected, or as the model that was named, with what the file states.

    WeightsError V203 no such variant, V205 nothing explains them; UsageError V007 for a model or config that is none.
    """
    tried = among(dialect)
    if model is None:
        return said.complete(detect(tensors, said.saved, among=tried, prefer=said.variants))
    row, config = _named_model(model)
    if problems := config.problems():
        raise UsageError("V007", "no network can be built from the config", evidence=problems)
    table, translation = _translated(tensors, config, tried, dialect)
    saved = said.saved
    theirs, why = numerics_of(config, table), f"computed as {table.name} does"
    if saved is not None and family_of(saved.config) == family_of(config):
        theirs, why = numerics_of(saved.config), "stated in the file"
    lines: list[str] = []
    if row:
        config, lines = with_values(config, theirs, why)
    config = _with_key_bias(config, translation.tensors)
    found = Detection(
        dialect=table,
        variant=row.name if row else None,
        config=config,
        evidence=(f"dialect {table}, {len(translation.tensors)} tensors", *lines, *translation.dropped),
        translation=translation,
        policy=saved.policy if saved else None,
        classes=saved.classes if saved else None,
        licences=saved.licences if saved else {},
        numerics={name: value for name, value in theirs.items() if value != getattr(config, name)},
    )
    return said.complete(_contradicted(found, saved) if row and saved else found)


def _named_model(model: object) -> tuple[Variant | None, ModelConfig]:
    if isinstance(model, str):
        row = variant(model)
        return row, row.config
    if not isinstance(model, tuple(FAMILIES.values())):
        raise UsageError(
            "V007", f"model {model!r:.80} is no variant's name and no config", hint="`vitrail show models` lists names"
        )
    return None, cast(ModelConfig, model)


def _contradicted(found: Detection, saved: Saved) -> Detection:
    """What the file says otherwise than the model that was named, a line each."""
    if family_of(saved.config) != family_of(found.config):
        return found
    free = {*TRAINING_ONLY, "classes", "image_size", "channels"}
    fields = [name for name in changed(saved.config, found.config) if name not in free]
    lines = [
        f"{name} {getattr(saved.config, name)} stated in the file, {getattr(found.config, name)} in the model named"
        for name in fields
    ]
    return replace(found, evidence=(*found.evidence, *lines))


def _with_key_bias(config: ModelConfig, native: Tensors) -> ModelConfig:
    """A bias of keys cannot change an answer: a network has it when its file does."""
    field = "key_bias"
    return replace(config, **{field: getattr(shown(config, native), field)}) if hasattr(config, field) else config


def among(dialect: str | Path | None) -> tuple[Dialect, ...]:
    """The tables of a name or of a file of the user's own; all of them for None. WeightsError V205 for no such name."""
    return TABLES if dialect is None else own_file(dialect) or tables(str(dialect))


def _translated(
    tensors: Tensors, config: ModelConfig, tried: Sequence[Dialect], name: str | Path | None
) -> tuple[Dialect, Translation]:
    """The dialect of the config's family that explains the tensors best: the fewest names left, the fewest misfits."""
    family = family_of(config)
    own = [dialect for dialect in tried if dialect.family == family]
    if not own:
        tables(str(name), family)  # raises with the dialects that the family has
    wanted = shapes(config)
    found = list(translations(tensors, own))

    def wrong(translated: tuple[Dialect, Translation]) -> tuple[int, int, int]:
        _, t = translated
        misfits = sum(name not in t.tensors or t.tensors[name].shape != shape for name, shape in wanted.items())
        return len(t.unexplained), len(t.problems), misfits

    return min(found, key=wrong) if found else (own[0], read(own[0], tensors))
