"""A network with all that is needed to use it: pictures in, named classes out, and what it sees on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitrail.errors import UsageError, engine_fault, is_shortage, nearest
from vitrail.models import ATTENTION
from vitrail.models.configs import ModelConfig
from vitrail.models.layers import Attends
from vitrail.pictures.policy import Policy
from vitrail.pictures.predict import Failed, Picture, Prediction, predict

Batch = NDArray[np.float32] | Tensor


class Network(Protocol):
    """What the network of every family offers beside its forward pass."""

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)"""

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, D)"""


@dataclass(frozen=True)
class Classifier:
    """A torch network, its config, its policy and its class names.

    classes are in the order of the logits. provenance says where the weights come from, in plain values.
    All that it answers is computed in evaluation mode and in the weights' own precision; it comes as float32, or as
    float64 where the weights are. Pictures are normalised ones (B, C, H, W) of the config's size; UsageError V007 else.

    >>> from vitrail.models import build
    >>> from vitrail.models.catalog import variant
    >>> row = variant("vit_2_4_32")
    >>> classifier = Classifier(build(row.config), row.config, row.policy, tuple("0123456789"))
    >>> pictures = np.zeros((4, 3, 32, 32), np.float32)
    >>> classifier.token_map(pictures).shape, classifier.attention_maps(pictures, [-1])[-1].shape
    ((4, 128, 8, 8), (4, 2, 65, 65))
    """

    module: nn.Module
    config: ModelConfig
    policy: Policy
    classes: tuple[str, ...]
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.classes) == self.config.classes, f"{len(self.classes)} names, {self.config.classes} classes"

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        """Logits (B, K); of a network without head its features."""
        return self._run(self.module, batch)

    def predict(self, pictures: Iterable[Picture], *, top: int = 5, batch: int = 32) -> Iterator[Prediction | Failed]:
        """The `top` best classes of each picture, in order; a picture that cannot be read gives a `Failed`."""
        return predict(self, pictures, top=top, batch=batch)

    def features(self, images: Batch) -> NDArray[np.float32]:
        """What enters the head (B, D)."""
        return self._run(self._network.features, images)

    def tokens(self, images: Batch) -> NDArray[np.float32]:
        """Every token (B, N, D) after the last block and the norm that follows it: class tokens and such come first."""
        return self._run(self._network.tokens, images)

    def token_map(self, images: Batch) -> NDArray[np.float32]:
        """The tokens of the picture where they lie on it (B, D, rows, columns)."""
        rows, columns = self.config.grid
        tokens = self.tokens(images)[:, -rows * columns :]
        return tokens.transpose(0, 2, 1).reshape(len(tokens), -1, rows, columns)

    def intermediates(self, images: Batch, names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """What leaves parts of the network, for all tokens, by their paths: `blocks.3`, `blocks.3.mlp`, `patch_embed`.

        UsageError V007 for a path that is none, or of a part that is not called by itself.
        """
        if isinstance(names, str):
            raise UsageError("V007", f"names is the text `{names}`", hint="give a list of paths")
        wanted = list(dict.fromkeys(names))
        parts = dict(self.module.named_modules())
        seen: dict[str, NDArray[np.float32]] = {}

        def watch(name: str) -> Callable[[nn.Module, object, object], None]:
            def hook(_part: nn.Module, _inputs: object, output: object) -> None:
                if isinstance(output, Tensor):
                    seen.setdefault(name, _array(output))

            return hook

        for name in wanted:
            if not name or name not in parts:
                near = nearest(str(name), filter(None, parts))
                raise UsageError("V007", f"the network has no part `{name}`", hint=near)
        with ExitStack() as hooks:
            for name in wanted:
                hooks.enter_context(parts[name].register_forward_hook(watch(name)))
            self.tokens(images)
            if len(seen) < len(wanted):  # what follows the tokens: pooling and head
                self.logits(images)
        if silent := [name for name in wanted if name not in seen]:
            raise UsageError(
                "V007", f"nothing leaves `{silent[0]}`: it only holds other parts", hint="name one of the parts in it"
            )
        return {name: seen[name] for name in wanted}

    def attention_maps(self, images: Batch, blocks: Sequence[int] | None = None) -> dict[int, NDArray[np.float32]]:
        """What each token takes of each other one (B, heads, N, N), by block; a row sums to 1, -1 is the last block.

        Computed beside the network's own attention, so fused attention has them too. UsageError V007 for a block that
        does not exist.
        """
        layers = [part for part in self.module.modules() if hasattr(part, ATTENTION)]
        seen: dict[int, NDArray[np.float32]] = {}

        def watch(block: int) -> Callable[[nn.Module, tuple[object, ...], dict[str, object]], None]:
            def hook(layer: nn.Module, inputs: tuple[object, ...], named: dict[str, object]) -> None:
                seen[block] = _array(cast(Attends, layer).weights(*inputs, **named))

            return hook

        wanted = range(len(layers)) if blocks is None else blocks
        if missing := [b for b in wanted if not isinstance(b, int) or not -len(layers) <= b < len(layers)]:
            last = len(layers) - 1
            raise UsageError("V007", f"there is no block {missing[0]}", hint=f"blocks are 0 to {last}; -1 is the last")
        with ExitStack() as hooks:
            for block in wanted:
                hooks.enter_context(layers[block].register_forward_pre_hook(watch(block), with_kwargs=True))
            self.tokens(images)
        return {block: seen[block] for block in wanted}

    @property
    def _network(self) -> Network:
        return cast(Network, self.module)

    def _run(self, ask: Callable[[Tensor], Tensor], batch: Batch) -> NDArray[np.float32]:
        try:
            images = torch.as_tensor(batch)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError("V007", f"a batch is a {type(batch).__name__} that holds no numbers: {error}") from error
        wanted = (self.config.channels, *self.config.image_size)
        if images.shape[1:] != wanted:
            raise UsageError(
                "V007",
                f"a batch of the shape {tuple(images.shape)}, the network takes (B, {', '.join(map(str, wanted))})",
                hint="prepare pictures by the model's policy, or load the weights with that size and those channels",
            )
        weight = next(self.module.parameters())
        training = self.module.training
        self.module.eval()
        try:
            with torch.inference_mode():
                out = ask(images.to(weight.device, weight.dtype))
        except RuntimeError as error:
            if is_shortage(error):
                raise engine_fault("torch", len(images), error) from error
            raise
        finally:
            self.module.train(training)
        return _array(out)


def _array(values: Tensor) -> NDArray[np.float32]:
    kind = torch.float64 if values.dtype == torch.float64 else torch.float32
    out: NDArray[np.float32] = values.to("cpu", kind).numpy()
    return out
