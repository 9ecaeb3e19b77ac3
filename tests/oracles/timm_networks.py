"""Our networks against timm's: the same weights give the same logits, and the same gradients, in float64.

Every name of the families vit and beit that both have. Networks of a width up to 768 stand as they are, wider ones are
cut to two blocks on both sides; so are those of many tokens for their gradients, of every parameter of two blocks.

python tests/oracles/timm_networks.py [NAME ...]
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace

import torch
import torchvision_stub  # noqa: F401
from held import Held
from networks import apart, apart_by_name, fill, gradients, numbers

from vitrail import weights
from vitrail.models.catalog import VARIANTS
from vitrail.models.configs import BEiTConfig, ViTConfig

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import timm

LOGITS = 1e-9
GRADIENTS = 1e-6  # beside the greatest value of each parameter's gradient
WIDEST_WHOLE = 768
MANY_TOKENS = 256
CUT = 2


def names() -> list[str]:
    """What our catalogue and timm have in common by name."""
    known = set(timm.list_models())
    return [name for name, row in VARIANTS.items() if isinstance(row.config, (ViTConfig, BEiTConfig)) and name in known]


def depths(config: ViTConfig | BEiTConfig) -> list[tuple[int, bool]]:
    """How many blocks are compared, and whether their gradients are."""
    if config.dim > WIDEST_WHOLE:
        return [(CUT, True)]
    return [(config.depth, False), (CUT, True)] if config.tokens > MANY_TOKENS else [(config.depth, True)]


def compare(held: Held, name: str, depth: int, *, backwards: bool) -> None:
    """Logits of one name, and gradients where wanted."""
    config = VARIANTS[name].config
    cut = {} if depth == config.depth else {"depth": depth}
    theirs = timm.create_model(name, pretrained=False, num_classes=1000, **cut).double().eval()
    fill(theirs)
    model = replace(config, **cut) if cut else name
    ours = weights.from_tensors(theirs.state_dict(), model, dialect="timm").module.eval()
    images = numbers((1, 3, *config.image_size))
    with torch.set_grad_enabled(backwards):
        logits, wanted = ours(images), theirs(images)
    assert float(wanted.detach().std()) > 0.1, "weights that say nothing"
    measured = [("logits", apart(logits, wanted), LOGITS)]
    if backwards:
        found, where = apart_by_name(gradients(ours, logits), gradients(theirs, wanted))
        measured.append((f"gradients ({where})", found, GRADIENTS))
    held.within(f"{name}, {depth} blocks", *measured)


def main(asked: list[str]) -> int:
    held = Held(f"timm {timm.__version__}")
    shared = names()
    held.true(f"{len(shared)} shared names", len(shared) > 30, "too few")
    for name in asked or shared:
        for depth, backwards in depths(VARIANTS[name].config):
            with held.trying(name):
                compare(held, name, depth, backwards=backwards)
    return held.end()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
