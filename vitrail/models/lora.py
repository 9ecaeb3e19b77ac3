"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): h = W x + (alpha / r) B A x, of which W stays as it was.

Letters: r rank, A (r, inputs), B (outputs, r). A starts random and B as zeros, so that a network with fresh adapters
answers as it did before. The weights keep their names; beside `X.weight` stand `X.lora_a` and `X.lora_b`.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# what a recipe calls the layers of a block -> their names in the three families
TARGETS: dict[str, tuple[str, ...]] = {
    "qkv": ("qkv",),
    "proj": ("proj",),
    "mlp": ("fc1", "fc2", "linear1", "linear2"),
}
OWN = ("lora_a", "lora_b")


class Rows(nn.Linear):
    """A linear layer that can be asked for some of its rows, and given a bias from elsewhere; always by a call, so that
    hooks see it.  (..., inputs) -> (..., rows)
    """

    def forward(self, x: Tensor, bias: Tensor | None = None, rows: slice | None = None) -> Tensor:
        return F.linear(x, self.weight if rows is None else self.weight[rows], self.bias if bias is None else bias)


class LoRA(Rows):
    """A linear layer with a change of low rank beside it.  (..., inputs) -> (..., rows)"""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.lora_a = nn.Parameter(layer.weight.new_empty(rank, layer.in_features))
        self.lora_b = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x: Tensor, bias: Tensor | None = None, rows: slice | None = None) -> Tensor:
        change = F.linear(F.linear(x, self.lora_a), self.lora_b if rows is None else self.lora_b[rows])
        return super().forward(x, bias, rows) + change * self.scale  # W x + (alpha / r) B A x

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain layer with the weight W + (alpha / r) B A, summed in float64.

        On the processor, wherever the layer lies: not every device has float64, and all are to give the same bits.
        """
        layer = Rows(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        w, a, b = (part.cpu().double() for part in (self.weight, self.lora_a, self.lora_b))
        layer.weight = nn.Parameter((w + b @ a * self.scale).to(self.weight.dtype).to(self.weight.device))
        layer.bias = self.bias
        return layer

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={len(self.lora_a)}, scale={self.scale:g}"


def attach(
    module: nn.Module, *, rank: int, alpha: float, targets: Collection[str], generator: torch.Generator | None = None
) -> None:
    """Put adapters beside the linear layers of every block that `targets` (keys of `TARGETS`) name.

    generator: what A is drawn from, normal numbers that keep the spread of what enters; None leaves it open.
    """
    wanted = {name for target in targets for name in TARGETS[target]}
    for parent, name, layer in list(_linear_layers(module)):
        if name in wanted:
            adapter = LoRA(layer, rank, alpha)
            if generator is not None:
                nn.init.normal_(adapter.lora_a, std=layer.in_features**-0.5, generator=generator)
            setattr(parent, name, adapter)


def _linear_layers(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """The linear layers within blocks, by what holds them, in the order of the network."""
    for path, parent in module.named_modules():
        if "blocks" in path.split("."):
            for name, layer in parent.named_children():
                if isinstance(layer, nn.Linear):
                    yield parent, name, layer


def merged(module: nn.Module) -> nn.Module:
    """A copy of a network with each adapter summed into its layer: the plain network of the same config."""
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, LoRA):
                setattr(parent, name, layer.merged())
    return module
