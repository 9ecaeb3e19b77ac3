"""What a resume compares before it goes on: pictures, recipe, versions, the machine; and what of it may differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitrail.data.sources import Source
from vitrail.errors import RunError, UsageError, nearest
from vitrail.recipe import Recipe
from vitrail.recipe.schema import PARTS
from vitrail.recipe.settle import differences
from vitrail.recipe.write import deciding, fingerprint, to_plain

DATA = "data"  # the field of the pictures themselves


class Bits:
    """Keeps account of what decides a run's bits. told: every drift that was let pass since the run began, in words."""

    def __init__(self, fields: Sequence[str] = ()) -> None:
        self._fields = tuple(fields)
        self.told: tuple[str, ...] = ()

    def recorded(self, recipe: Recipe) -> dict[str, object]:
        """What a checkpoint says of the bits besides the fingerprints."""
        from vitrail.training.drift import environment

        values: dict[str, object] = {"settings": deciding(recipe), "environment": environment(recipe.train.device)}
        return {**values, "drift": list(self.told)} if self.told else values

    def refuse_other_recipe(self, before: Recipe, now: Recipe, folder: Path) -> None:
        """RunError V602 where the run here was made by another recipe, but for what may differ."""
        self._refuse_unknown_fields()
        if fingerprint(now) == fingerprint(before):
            return
        lines = differences(to_plain(before), to_plain(now))
        deciding_lines = differences(deciding(before), deciding(now))
        if all(self._passes(line.split("  ")[0]) for line in deciding_lines):
            return
        raise RunError(
            "V602",
            f"`{folder}` was made by another recipe",
            evidence=lines,
            hint="resume with the recipe it was started with, or give another --out",
        )

    def compare(
        self, identity: Mapping[str, Any], recipe: Recipe, source: Source, folder: Path, step: int
    ) -> list[str]:
        """What differs from a checkpoint and is let pass, in words. RunError V602 for what is not, all of it named."""
        self._refuse_unknown_fields()
        earlier = identity.get("drift")
        self.told = tuple(map(str, earlier)) if isinstance(earlier, list) else ()
        if identity["model"]["classes"] != list(source.classes):
            raise _other(folder, ["data: the classes differ, or their order"], "start a new run with another --out")
        lines = list(self._found(identity, recipe, source))
        refused = [line for line in lines if not self._passes(line.split("  ")[0])]
        if refused:
            flags = " ".join(f"--allow-drift {line.split('  ')[0]}" for line in refused)
            hint = f"put back what it was started with, start a new run, or go on to other bits by {flags}"
            raise _other(folder, refused, hint)
        self.told += tuple(f"from step {step} on: {line}" for line in lines)
        return [f"not the bits of an unbroken run any more: {line}" for line in lines]

    def _found(self, identity: Mapping[str, Any], recipe: Recipe, source: Source) -> Iterable[str]:
        from vitrail.training.drift import drifts, environment

        if identity["data"] != source.fingerprint:
            yield f"{DATA}  pictures {str(identity['data'])[:16]} -> {source.fingerprint[:16]}"
        if identity["recipe"] != fingerprint(recipe):
            settings = identity.get("settings")
            now = json.loads(json.dumps(deciding(recipe)))  # as a checkpoint gives it back
            named = differences(settings, now) if isinstance(settings, Mapping) else []
            yield from named or [f"recipe  {str(identity['recipe'])[:16]} -> {fingerprint(recipe)[:16]}"]
        then = identity.get("environment")
        if isinstance(then, Mapping):  # of a checkpoint that does not say, nothing is known
            yield from map(str, drifts(then, environment(recipe.train.device)))

    def _passes(self, field: str) -> bool:
        from vitrail.training.drift import Drift, allowed

        return allowed(Drift(field, "", ""), self._fields)

    def _refuse_unknown_fields(self) -> None:
        from vitrail.training.drift import OF_CUDA, environment

        known = [*environment("cpu"), *OF_CUDA, DATA, "recipe", "model", "policy", *PARTS]
        for field in self._fields:
            if field.split(".")[0] not in known:
                raise UsageError(
                    "V007",
                    f"`{field}` is nothing that a resume compares",
                    hint=nearest(field, known) or f"known: {', '.join(known)}",
                )


def _other(folder: Path, lines: Sequence[str], hint: str) -> RunError:
    return RunError("V602", f"`{folder}` was trained otherwise than it would go on here", evidence=lines, hint=hint)
