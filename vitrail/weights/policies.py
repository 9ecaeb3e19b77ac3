"""Which policy goes with weights: the file's own, that of the variant, or of a variant that is the same network."""

from __future__ import annotations

from dataclasses import replace

from vitrail.models.catalog import VARIANTS, Variant
from vitrail.models.configs import TRAINING_ONLY, ModelConfig, config_to_json
from vitrail.pictures.policy import HALF, Policy
from vitrail.weights.detect import Detection


def structure(config: ModelConfig) -> dict[str, object]:
    """What makes the network, but for its number of classes: every field that acts outside training, and the family."""
    return {name: value for name, value in config_to_json(config).items() if name not in (*TRAINING_ONLY, "classes")}


def policy_of(found: Detection, config: ModelConfig, rows: int | None) -> tuple[Policy, list[str]]:
    """The file's own policy, else the variant's, else a plain one; what was assumed is said."""
    row = VARIANTS.get(found.variant or "")
    known = found.policy if found.policy is not None else row.policy if row else None
    if known is not None:
        return _with_channels(replace(known, size=config.image_size), config.channels)
    alike = _alike(config, rows)
    if alike and all(row.policy == alike[0].policy for row in alike):
        return alike[0].policy, [f"policy assumed, the file states none: that of {alike[0].name}, whose network it is"]
    count = config.channels
    policy = Policy(size=config.image_size, mean=HALF.mean[:1] * count, std=HALF.std[:1] * count)
    line = "policy assumed, the file states none: bicubic, whole picture, mean 0.5, std 0.5"
    return policy, [line + (f" (not those of {', '.join(row.name for row in alike)})" if alike else "")]


def _with_channels(policy: Policy, count: int) -> tuple[Policy, list[str]]:
    """The policy for another number of channels: each gets the average of the known means and of the deviations."""
    if policy.channels == count:
        return policy, []
    mean, std = (round(sum(values) / len(values), 6) for values in (policy.mean, policy.std))
    line = f"mean {mean:g} and std {std:g} for each of {count} channels: the averages of the {policy.channels} known"
    return replace(policy, mean=(mean,) * count, std=(std,) * count), [line]


def _alike(config: ModelConfig, rows: int | None) -> list[Variant]:
    """The variants with the config's network: those with as many classes as the file, if there are any."""
    found = [row for row in VARIANTS.values() if structure(row.config) == structure(config)]
    return [row for row in found if row.config.classes == rows] or found
