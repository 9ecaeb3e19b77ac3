"""A recipe on the digits that trains in about a second, for whatever needs a whole run."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vitrail.recipe import Recipe
from vitrail.recipe.read import parse_recipe

RECIPE = """
model: {variant: cct_2_3x2_32, image_size: 16, conv_width: 8, dim: 16, depth: 1, attention_dropout: 0.1, drop_path: 0.1}
data: {source: digits, batch: 64, workers: 1}
augment: {crop: {name: pad, padding: 2}}
mix: {mixup: 0.4, cutmix: 0.5}
loss: {name: cross_entropy, smoothing: 0.1}
schedule: {name: cosine, epochs: 4, lr: 3.0e-3, warmup_epochs: 0.5}
precision: fp32
average: {name: ema, decay: 0.95}
train: {clip: 1.0, attention: explicit, threads: 1}
checkpoint: {every: 1, keep: 2}
"""


def small(*overrides: str) -> Recipe:
    """The recipe with overrides."""
    return parse_recipe(RECIPE, "small.yaml", overrides, name="small")


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of everything in a finished run that must not depend on how often it was stopped."""
    newest = max((run / "checkpoints").glob("step-????????"))
    files = [*sorted(newest.glob("*.safetensors")), *sorted(p for p in (run / "bundle").rglob("*") if p.is_file())]
    return {path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
