"""From a classifier to a weight file in any dialect and container."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from vitrail import disk
from vitrail.class_names.numbered import placeholders
from vitrail.errors import UsageError, WeightsError, nearest, printable
from vitrail.formats.stored import Tensors
from vitrail.models.catalog import VARIANTS
from vitrail.models.classifier import Classifier
from vitrail.models.configs import NUMERICS, TRAINING_ONLY, ModelConfig, ViTConfig, family_of
from vitrail.pictures.policy import Policy
from vitrail.weights.detect import numerics_of
from vitrail.weights.dialects import dialect_names, written
from vitrail.weights.reshapes import stack_heads
from vitrail.weights.rules import Dialect
from vitrail.weights.saved import Saved, to_metadata
from vitrail.weights.shown import changed, shown
from vitrail.weights.tensors import native_tensors
from vitrail.weights.translate import Translation, whole, write
from vitrail.weights.user_dialect import own_file

SAFETENSORS = ".safetensors"
TORCH = (".pth", ".pt", ".bin")

# suffix -> the dialect that such files are of, unless another is named
USUAL: dict[str, str] = {
    ".safetensors": "native",
    ".pth":         "native",
    ".pt":          "native",
    ".bin":         "native",
    ".npz":         "google",
    ".ckpt":        "mindspore",
    ".weights.h5":  "keras",
    ".h5":          "keras",
    "":             "huggingface",  # a folder
}  # fmt: skip


def suffix_of(path: Path, dialect: str | None = None) -> str:
    """What the name says of the container; WeightsError V206 when it says nothing that is written.

    With `huggingface` named, a name that ends like no container is a folder's.

    >>> suffix_of(Path("a.weights.h5")), suffix_of(Path("folder")), suffix_of(Path("vit-1.5"), "huggingface")
    ('.weights.h5', '', '')
    """
    suffix = ".weights.h5" if path.name.endswith(".weights.h5") else path.suffix
    if suffix not in USUAL and dialect == "huggingface":
        return ""
    if suffix not in USUAL:
        raise WeightsError(
            "V206",
            f"`{path}`: no container is written for `{suffix}`",
            hint=nearest(suffix, filter(None, USUAL)) or _KNOWN,
        )
    return suffix


_KNOWN = f"end the name in one of {', '.join(suffix for suffix in USUAL if suffix)}, or in none for a folder"


def save_as(classifier: Classifier, path: str | Path, dialect: str | None = None) -> tuple[str, ...]:
    """Write the weights under a dialect's names; a line for everything that the file will not say or do the same.

    The container follows from the suffix; a path without one becomes a folder that transformers opens. dialect: None
    for the usual one of the container, `native` for our own, `google:linen` for one generation of names, or a YAML
    file of your own rules. In `.safetensors` config, policy and classes stand beside the tensors.
    WeightsError V205 unknown dialect, or one that cannot hold this network; V206 another suffix; SystemFault V701 when
    the disk refuses. The same classifier gives the same bytes; a file that is there is replaced, whole or not at all.
    """
    if not isinstance(classifier, Classifier):
        raise UsageError(
            "V007", f"a {type(classifier).__name__} holds no torch network",
            hint="`vitrail convert` takes any MODEL; in Python `vitrail.opening.classifier(path)` opens one with torch",
        )  # fmt: skip
    target = Path(path)
    suffix = suffix_of(target, dialect)
    native = native_tensors(classifier.module)
    table, result = translated(classifier, native, dialect or USUAL[suffix], suffix)
    theirs = whole(table, result, "from our names")
    said = suffix == "" or (suffix == SAFETENSORS and (dialect or "native") == "native")  # with its config
    lines = [*result.dropped, *([] if said else _unsaid(classifier, table, native))]
    if suffix == "":
        if table.name != "huggingface":
            raise WeightsError("V206", f"`{target}` has no suffix, which makes a folder of Hugging Face", hint=_KNOWN)
        _write_folder(target, classifier, theirs)
    elif suffix == SAFETENSORS:
        from vitrail.formats import safetensors

        known = table.name in dialect_names()  # a dialect of the user's own is not known to who opens the file
        safetensors.write(target, theirs, to_metadata(_saved(classifier, table)) if known else {})
    else:
        _writer(suffix)(target, theirs)
    return tuple(lines)


def translated(classifier: Classifier, native: Tensors, dialect: str, suffix: str) -> tuple[Dialect, Translation]:
    """The table of the dialect that holds the network whole, the one the weights came in first, and what it gives."""
    family = family_of(classifier.config)
    choice = own_file(dialect) or written(str(dialect), family, suffix)
    came_in = (classifier.provenance.get("dialect"), classifier.provenance.get("form", ""))
    choice = tuple(sorted(choice, key=lambda table: (table.name, table.form) != came_in))
    results = ((table, _without_key_bias(table, native, classifier.config)) for table in choice)
    first = None
    for table, result in results:
        if result.whole:
            return table, result
        first = first or (table, result)
    assert first is not None
    return first


def _without_key_bias(table: Dialect, native: Tensors, config: ModelConfig) -> Translation:
    """A bias of keys, where the dialect has none, is left out: it adds the same to every weight before softmax."""
    names = [name for name in native if name.endswith(".attn.k_bias")]
    result = write(table, native, config)
    if not names or not set(names) <= set(result.unexplained):
        return result
    result = write(table, {name: tensor for name, tensor in native.items() if name not in names}, config)
    line = f"{len(names)} tensors dropped: a bias of keys cannot change an answer ({names[0]}, ...)"
    return Translation(result.tensors, result.unexplained, result.problems, (line,))


def _unsaid(classifier: Classifier, table: Dialect, native: Tensors) -> list[str]:
    """In what a file without a config will be opened, or computed by the dialect's own code, as another network."""
    config, variant = classifier.config, classifier.provenance.get("variant")
    world = numerics_of(config, table)
    lines = [
        f"{table.name} computes with {name} {theirs}, this network with {ours}: its answers will differ"
        for name, theirs in world.items()
        if (ours := getattr(config, name)) != theirs
    ]
    lines += _unnamed(classifier)
    hidden = {
        row.name: _hidden(config, row.config, native) for row in VARIANTS.values() if type(row.config) is type(config)
    }
    if [] in hidden.values():  # a variant that the file will be opened as
        return lines
    if isinstance(variant, str) and variant in hidden:
        return lines + hidden[variant]
    by_layout = any(rule.reshape is stack_heads for rule in table.rules)
    if not by_layout and not any("relative_position" in name for name in native):
        lines.append(f"no tensor shows heads {config.heads}, and no variant is so: open the file with its config")
    if isinstance(config, ViTConfig):
        lines += _hidden(config, replace(config, pooling="class" if config.class_token else "mean"), native)
    return lines


def _hidden(config: ModelConfig, base: ModelConfig, native: Tensors) -> list[str]:
    """What is lost when the tensors alone say in what the network is another than `base`."""
    opened = shown(base, native)
    return [
        f"no tensor shows {name} {getattr(config, name)}: the file will be opened with {getattr(opened, name)}, "
        "unless the config is given"
        for name in changed(opened, config)
        if name not in (*TRAINING_ONLY, *NUMERICS)
    ]


def _unnamed(classifier: Classifier) -> list[str]:
    """What the file has no place for besides: names of classes, and a policy of one's own."""
    names, policy = classifier.classes, classifier.policy
    row = VARIANTS.get(str(classifier.provenance.get("variant")))
    lines = []
    if not placeholders(names) and names:
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        lines.append(f"the file has no place for the names of {len(names)} classes: {some}")
    if row is None or not _alike(policy, row.policy):
        lines.append(
            f"the file has no place for the policy: {policy.mode}, crop {policy.crop:g}, {policy.interpolation}, "
            f"mean {', '.join(f'{v:g}' for v in policy.mean)}, std {', '.join(f'{v:g}' for v in policy.std)}"
        )
    if licences := _licences(classifier):
        said = ", ".join(f"{part} {printable(text)}" for part, text in licences.items())
        lines.append(f"the file has no place for licences: {said}")
    return lines


def _alike(one: Policy, other: Policy) -> bool:
    """Whether they prepare pictures alike, whatever the size: crops that resize to the same sides are one crop."""
    sides = [[math.floor(side / policy.crop) for side in one.size] for policy in (one, other)]
    return sides[0] == sides[1] and replace(one, size=other.size, crop=other.crop) == other


def _saved(classifier: Classifier, table: Dialect) -> Saved:
    variant = classifier.provenance.get("variant")
    return Saved(
        config=classifier.config,
        policy=classifier.policy,
        classes=classifier.classes,
        dialect=table.name,
        variant=variant if isinstance(variant, str) else None,
        licences=_licences(classifier),
    )


def _licences(classifier: Classifier) -> dict[str, str]:
    """Those that are known."""
    stated = classifier.provenance.get("licences", {})
    assert isinstance(stated, Mapping)
    return {part: text for part, text in stated.items() if text != "unknown"}


def _write_folder(target: Path, classifier: Classifier, theirs: Tensors) -> None:
    from vitrail.formats import safetensors
    from vitrail.weights.huggingface import write_config

    texts = write_config(classifier.config, classifier.policy, classifier.classes)
    with disk.new_folder(target) as folder:
        for name, text in texts.items():
            disk.write_file(folder / name, text.encode())
        safetensors.write(folder / "model.safetensors", theirs, {"format": "pt"})


def _writer(suffix: str) -> Callable[[Path, Tensors], None]:
    """Each container's writer, imported where it is used."""
    if suffix in TORCH:
        from vitrail.weights import torch_file

        return torch_file.write
    if suffix == ".npz":
        from vitrail.formats import npz

        return npz.write
    if suffix == ".ckpt":
        from vitrail.formats import mindspore

        return mindspore.write
    from vitrail.formats import hdf5

    return hdf5.write
