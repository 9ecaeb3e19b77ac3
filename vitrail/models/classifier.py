"""A network with all that is needed to use it: pictures in, named classes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitrail.models.configs import ModelConfig
from vitrail.pictures.policy import Policy
from vitrail.pictures.predict import Failed, Picture, Prediction, predict


@dataclass(frozen=True)
class Classifier:
    """A torch network, its config, its policy and its class names.

    classes are in the order of the logits. provenance says where the weights come from, in plain values.
    """

    module: nn.Module
    config: ModelConfig
    policy: Policy
    classes: tuple[str, ...]
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.classes) == self.config.classes, f"{len(self.classes)} names, {self.config.classes} classes"

    def logits(self, batch: NDArray[np.float32] | Tensor) -> NDArray[np.float32]:
        """Logits (B, K) of normalised pictures (B, C, H, W), in evaluation mode, in the weights' own precision."""
        images = torch.as_tensor(batch)
        weight = next(self.module.parameters())
        training = self.module.training
        self.module.eval()
        try:
            with torch.inference_mode():
                out: Tensor = self.module(images.to(weight.device, weight.dtype))
        finally:
            self.module.train(training)
        return out.to("cpu", torch.float64 if weight.dtype == torch.float64 else torch.float32).numpy()

    def predict(self, pictures: Iterable[Picture], *, top: int = 5, batch: int = 32) -> Iterator[Prediction | Failed]:
        """The `top` best classes of each picture, in order; a picture that cannot be read gives a `Failed`."""
        return predict(self, pictures, top=top, batch=batch)
