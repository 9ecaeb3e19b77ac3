"""A recipe on the digits that trains in about a second, for whatever needs a whole run."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vitrail.recipe import Recipe
from vitrail.recipe.read import parse_recipe

NOISE = "dropout: 0.1, attention_dropout: 0.1, drop_path: 0.2"
MODELS = {
    "cct": "variant: cct_2_3x2_32, image_size: 16, conv_width: 8, dim: 16, depth: 1, attention_dropout: 0.1, "
    "drop_path: 0.1",
    "vit": f"variant: vit_tiny_patch16_224, image_size: 16, patch: 4, dim: 16, depth: 2, heads: 2, {NOISE}",
    "hybrid": f"variant: vit_small_r26_s32_224, image_size: 16, stages: [1], stem_width: 32, dim: 16, depth: 2, "
    f"heads: 2, {NOISE}",
    "beit": f"variant: beit_base_patch16_224, image_size: 16, patch: 4, dim: 16, depth: 2, heads: 2, "
    f"shared_bias: true, absolute_positions: true, {NOISE}",
}

RECIPE = """
model: {MODEL}
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


def small(*overrides: str, family: str = "cct") -> Recipe:
    """The recipe for a network of that family, with overrides."""
    text = RECIPE.replace("MODEL", MODELS[family])
    return parse_recipe(text, "small.yaml", overrides, name="small")


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of everything in a finished run that must not depend on how often it was stopped."""
    newest = max((run / "checkpoints").glob("step-????????"))
    files = [*sorted(newest.glob("*.safetensors")), *sorted(p for p in (run / "bundle").rglob("*") if p.is_file())]
    return {path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
