"""What lies beside the tensors and says what they are: our own metadata, a Hugging Face config, a published name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.errors import WeightsError
from vitrail.models.configs import CCTConfig
from vitrail.weights.published import by_file_name, class_names_of, names, published, with_file_name
from vitrail.weights.saved import Saved, from_metadata

if TYPE_CHECKING:
    from vitrail.weights.detect import Detection


@dataclass(frozen=True)
class Stated:
    """saved: a whole model but for its numbers. file_name: what the table of published files may know.

    lines: what was passed over.
    """

    saved: Saved | None = None
    file_name: str = ""
    lines: tuple[str, ...] = ()

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants that are published under that file name: they are meant where several fit."""
        return tuple(row.variant for row in with_file_name(self.file_name)) if self.file_name else ()

    def complete(self, found: Detection) -> Detection:
        """The detection with the policy and the class names of the published file, if it is one."""
        config = found.config
        row = by_file_name(self.file_name, classes=config.classes, image_size=config.image_size[0])
        if row is None and found.variant is not None and self.file_name.split(".")[0] == found.variant:
            return _as_its_variant(found)
        if row is None or found.policy is not None or found.variant is None or row.variant != found.variant:
            return found
        lines = [f"by its name the published {row.name}: policy ({row.protocol}) and class names from there"]
        if not isinstance(config, CCTConfig) and config.gelu != row.gelu_trained:
            lines.append(f"trained with GELU {row.gelu_trained}; computed with {config.gelu}, as {row.dialect} does")
        if not row.head_valid:
            lines.append("the head of this file was never trained: its answers mean nothing before fine-tuning")
        return replace(
            found, policy=row.policy, classes=class_names_of(row) or None, evidence=(*found.evidence, *lines)
        )


def _as_its_variant(found: Detection) -> Detection:
    """A published file renamed to its variant, as old guides ask for: its class names, if all that fit agree."""
    rows = [published(name) for name in names() if name.startswith(f"{found.variant}.")]
    fitting = [row for row in rows if row.count == found.config.classes and row.dialect == found.dialect.name]
    if len({row.classes for row in fitting}) != 1:
        return found
    line = f"named as its variant: class names of {fitting[0].classes}, as its published weights have"
    return replace(found, classes=class_names_of(fitting[0]) or None, evidence=(*found.evidence, line))


def stated(path: Path, metadata: Mapping[str, str], *, named: bool) -> Stated:
    """What a file, its folder or its name says. named: the model is named, so what does not hold is passed over.

    WeightsError V201 for metadata of ours that does not hold, V204, V205 for a config that is no network of ours.
    """
    try:
        saved = from_metadata(metadata)
        if saved is None and _of_hub(path):
            from vitrail.weights.huggingface import config_of

            saved = config_of(path if path.is_dir() else path.parent)
    except WeightsError as error:
        if not named:
            raise
        return Stated(lines=(f"passed over, as the model is named: {error.what}",))
    return Stated(saved=saved, file_name="" if path.is_dir() else path.name)


def _of_hub(path: Path) -> bool:
    """A folder, or the one weight file of a folder, with a config beside it."""
    folder = path if path.is_dir() else path.parent
    return (folder / "config.json").is_file() and (path.is_dir() or path.name.startswith(("model", "pytorch_model")))
