"""What lies beside the tensors and says what they are: our own metadata, a config of the hub, a published name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.errors import WeightsError
from vitrail.models.configs import CCTConfig
from vitrail.weights.huggingface import config_of, states_policy, timm_config_of
from vitrail.weights.huggingface.timm_config import TimmConfig
from vitrail.weights.published import Published, class_names_of, names, of_hub, published, with_file_name
from vitrail.weights.saved import ADAPTER, Saved, from_metadata

if TYPE_CHECKING:
    from vitrail.weights.detect import Detection

ALIKE = ({"timm", "unilm"},)  # dialects that give one tensor the same name


@dataclass(frozen=True)
class Stated:
    """saved: a whole model but for its numbers. policy_assumed: its policy is only the usual one.

    rows: published weights that have this name. stem: the file's name without its suffix. timm: timm's own config.
    lines: what was passed over, or assumed.
    """

    saved: Saved | None = None
    policy_assumed: bool = False
    rows: tuple[Published, ...] = ()
    stem: str = ""
    timm: TimmConfig | None = None
    lines: tuple[str, ...] = ()

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants that are meant where several fit."""
        own = (self.timm.architecture,) if self.timm else ()
        return (*own, *(row.variant for row in self.rows))

    def complete(self, found: Detection) -> Detection:
        """The detection with the policy and the class names of timm's config, or of the published weights it is."""
        if found.variant is None or found.policy is not None:
            return found
        found = self._of_rows(found)
        if self.timm is None or self.timm.architecture != found.variant or self.timm.policy is None:
            return found
        known = len(self.timm.classes) == found.config.classes > 0
        return replace(
            found,
            policy=self.timm.policy,
            classes=self.timm.classes if known else found.classes,
            evidence=(*found.evidence, "policy from timm's config.json"),
        )

    def _of_rows(self, found: Detection) -> Detection:
        config, side = found.config, found.config.image_size[0]
        fitting = [row for row in self.rows if _same_names(row.dialect, found.dialect.name)]
        fitting = [row for row in fitting if row.variant == found.variant and row.count == config.classes]
        fitting = [row for row in fitting if row.policy.size[0] == side]
        if not fitting:
            return _as_its_variant(found) if self.stem == found.variant else found
        row = fitting[0]
        lines = [f"by its name the published {row.name}: policy ({row.protocol}) and class names from there"]
        if not isinstance(config, CCTConfig) and config.gelu != row.gelu_trained:
            lines.append(f"trained with GELU {row.gelu_trained}; {found.dialect.name} computes with {config.gelu}")
        if not row.head_valid and row.count:
            lines.append("the head of this file was never trained: its answers mean nothing before fine-tuning")
        return replace(
            found,
            policy=row.policy,
            classes=class_names_of(row) or None,
            guessed=True,
            licences={"weights": row.licence},
            evidence=(*found.evidence, *lines),
        )


def _same_names(one: str, other: str) -> bool:
    return one == other or any({one, other} <= worlds for worlds in ALIKE)


def _as_its_variant(found: Detection) -> Detection:
    """A published file renamed to its variant, as old guides ask for: ImageNet's names, if all that fit have them."""
    rows = [published(name) for name in names() if name.startswith(f"{found.variant}.")]
    fitting = [row for row in rows if row.count == found.config.classes and row.dialect == found.dialect.name]
    if {row.classes for row in fitting} != {"imagenet1k"}:
        return found
    line = "named as its variant: class names of imagenet1k, as its published weights have"
    return replace(found, classes=class_names_of(fitting[0]), guessed=True, evidence=(*found.evidence, line))


def stated(path: Path, metadata: Mapping[str, str], *, named: bool) -> Stated:
    """What a file, its folder or its name says. named: the model is named, so what does not hold is passed over.

    WeightsError V201 for metadata of ours that does not hold, V204, V205 for a config that is no network of ours.
    """
    folder = path if path.is_dir() else path.parent
    if ADAPTER in metadata:
        raise WeightsError(
            "V205",
            f"`{path}` holds adapters, which are no whole network",
            hint="merge them into the weights they were trained on: `vitrail convert ADAPTER DST --base MODEL`",
        )
    hub = _of_hub(path, folder)
    name = "/".join(folder.absolute().parts[-2:])
    rows = of_hub(name) if path.is_dir() else with_file_name(path.name)
    other = Stated(rows=rows, stem=path.name.split(".")[0], timm=timm_config_of(folder) if hub else None)
    try:
        saved = from_metadata(metadata)
        if saved is not None:
            return Stated(saved=saved)
        saved = config_of(folder) if hub else None
    except WeightsError as error:
        if not named:
            raise
        return replace(other, lines=(f"passed over, as the model is named: {error.what}",))
    if saved is None:
        return other
    if states_policy(folder):
        return Stated(saved=saved)
    line = "policy assumed, no preprocessor_config.json is there: the usual one of transformers"
    return Stated(saved=saved, policy_assumed=True, lines=(line,))


def _of_hub(path: Path, folder: Path) -> bool:
    """A folder, or the one weight file of a folder, with a config beside it."""
    return (folder / "config.json").is_file() and (path.is_dir() or path.name.startswith(("model", "pytorch_model")))
