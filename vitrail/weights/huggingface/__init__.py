"""Folders as Hugging Face's transformers reads them: `config.json`, `preprocessor_config.json` and the weights beside.

What transformers 4.57 and 5.23 compute was read from models/vit and models/beit there. The processors are in
`processors.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from vitrail.class_names.numbered import numbered, placeholders
from vitrail.disk import read_file
from vitrail.errors import WeightsError, nearest
from vitrail.formats import json
from vitrail.formats.bounds import shown
from vitrail.models.configs import BEiTConfig, Gelu, ModelConfig, ViTConfig
from vitrail.pictures.policy import Policy
from vitrail.weights.huggingface.processors import default_policy, read_policy, write_policy
from vitrail.weights.huggingface.timm_config import TimmConfig, read_timm
from vitrail.weights.saved import Saved

CONFIG = "config.json"
PROCESSOR = "preprocessor_config.json"
LIMIT = 16 << 20
GREATEST = 10**9  # of any number in a config

GELU: dict[str, Gelu] = {
    "gelu": "erf",
    "gelu_python": "erf",
    "gelu_new": "tanh",
    "gelu_fast": "tanh",
    "gelu_pytorch_tanh": "tanh",
    "gelu_python_tanh": "tanh",
    "quick_gelu": "quick",
}
ACTIVATIONS: dict[Gelu, str] = {"erf": "gelu", "tanh": "gelu_pytorch_tanh", "quick": "quick_gelu"}

CLASSIFIERS = {"vit": "ViTForImageClassification", "beit": "BeitForImageClassification"}
MASKED = "BeitForMaskedImageModeling"
BODIES = {"vit": ("ViTModel",), "beit": ("BeitModel", MASKED)}

# what changes the answer and no network of ours has: key -> the values that do no harm
HARMLESS: dict[str, tuple[object, ...]] = {
    "pruned_heads": ({},),
    "auto_map": ({},),
    "quantization_config": ({},),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (),
}


def config_of(folder: str | Path) -> Saved | None:
    """What a folder of transformers says of its model; None where no `config.json` of transformers lies.

    The policy is that of `preprocessor_config.json`, and where none lies the one that transformers makes by default.
    Labels that are `LABEL_0`, `LABEL_1`, ... say no names. The GELU named `gelu_fast` is `tanh` up to rounding.
    WeightsError V201 for JSON that does not hold, V205 for a network or a processor that we have not, by name.
    """
    values = _read(Path(folder) / CONFIG)
    if values is None or not ("model_type" in values or "architectures" in values):
        return None  # timm and others keep a config.json too
    reader = _Reader(values, Path(folder) / CONFIG)
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in CLASSIFIERS:
        reader.note("model_type", f"`{shown(kind)}`; {nearest(str(kind), CLASSIFIERS)}")
        raise reader.refusal()
    classes = _classes(reader, kind)
    config = _vit(reader, len(classes)) if kind == "vit" else _beit(reader, len(classes))
    if not reader.problems:
        reader.problems += config.problems() + (_square_only(config) if isinstance(config, BEiTConfig) else [])
    if reader.problems:
        raise reader.refusal()
    processor = _read(Path(folder) / PROCESSOR)
    policy = default_policy(config, kind) if processor is None else _policy(processor, config, kind, folder)
    return Saved(config=config, policy=policy, classes=classes, dialect="huggingface")


def timm_config_of(folder: str | Path) -> TimmConfig | None:
    """What timm's own `config.json` there says, None where there is none; WeightsError V201 as `config_of`."""
    values = _read(Path(folder) / CONFIG)
    return None if values is None else read_timm(values)


def states_policy(folder: str | Path) -> bool:
    """Whether the policy of `config_of` is written down there, and not the one by default."""
    return (Path(folder) / PROCESSOR).is_file()


def write_config(config: ModelConfig, policy: Policy, classes: Sequence[str]) -> dict[str, str]:
    """File name -> text of the two files from which transformers makes the same network and the same processor.

    For a policy that cuts out the centre, transformers rounds down where we round to even: in one picture of four its
    cut lies one pixel higher or further left. WeightsError V204 names every field that transformers does not have.
    """
    problems = _not_there(config)
    values, found = write_policy(policy, config)
    problems += found
    if problems:
        raise WeightsError(
            "V204",
            "transformers has no such network, so no folder for it can be written",
            evidence=problems,
            hint="write a file in another dialect: timm has every ViT and BEiT",
        )
    assert isinstance(config, ViTConfig | BEiTConfig)
    own = _vit_values(config) if isinstance(config, ViTConfig) else _beit_values(config)
    texts = {CONFIG: own | _common(config) | _labels(classes), PROCESSOR: values}
    return {name: json.dumps(text, indent=2).decode() + "\n" for name, text in texts.items()}


@dataclass
class _Reader:
    """Values of a `config.json` by key, each of its kind; what does not hold is noted."""

    values: Mapping[str, object]
    path: Path
    problems: list[str] = field(default_factory=list)

    def note(self, key: str, what: str) -> None:
        self.problems.append(f"{key}: {what}")

    def get(self, key: str, default: Any) -> Any:
        """The value of the default's kind; null and absent are the default."""
        value = self.values.get(key)
        if value is None:
            return default
        fits = type(value) is type(default) or (type(default) is float and type(value) is int)
        if not fits:
            self.note(key, f"{shown(repr(value))} is not of the kind of {default!r}")
        elif isinstance(value, int | float) and abs(value) > GREATEST:
            self.note(key, f"{shown(repr(value))} is out of all range")
        else:
            return value
        return default

    def pair(self, key: str, default: int) -> tuple[int, int]:
        """One number for both sides, or (height, width)."""
        value = self.values.get(key, default)
        sides = [side for side in (value if isinstance(value, list) else [value, value]) if isinstance(side, int)]
        if len(sides) != 2 or not all(0 < side <= GREATEST for side in sides):
            self.note(key, f"{shown(repr(value))} is no number above 0, or two")
            return default, default
        return sides[0], sides[1]

    def refusal(self) -> WeightsError:
        return WeightsError(
            "V205",
            f"`{self.path}` describes a network that we have not",
            evidence=self.problems,
            hint="name the model to open the weights by themselves: `--model`, in Python `load(path, model=...)`",
        )


def _read(path: Path) -> dict[str, object] | None:
    if not path.is_file():
        return None
    try:
        values = json.loads(read_file(path, limit=LIMIT))
        if not isinstance(values, dict):
            raise ValueError(f"a {type(values).__name__}, no object")
    except ValueError as error:
        raise WeightsError("V201", f"`{path}` does not hold: {error}", hint="fetch the folder again") from error
    return values


def _policy(values: dict[str, object], config: ModelConfig, kind: str, folder: str | Path) -> Policy:
    policy, problems = read_policy(values, config, kind)
    if policy is None or problems:
        raise WeightsError(
            "V205",
            f"`{Path(folder) / PROCESSOR}` describes a preparation of pictures that we have not",
            evidence=problems,
            hint="without that file the folder opens with the default of transformers",
        )
    return policy


def _classes(reader: _Reader, kind: str) -> tuple[str, ...]:
    """The labels by position; those of nobody's choosing are numbered, a network without a head has none."""
    named = reader.get("architectures", [])
    architecture = named[0] if named else CLASSIFIERS[kind]
    if architecture in BODIES[kind]:
        return ()
    if architecture != CLASSIFIERS[kind]:
        known = (CLASSIFIERS[kind], *BODIES[kind])
        reader.note("architectures", f"`{shown(architecture)}`; {nearest(str(architecture), known)}")
    labels = reader.get("id2label", {})
    count = len(labels) if reader.values.get("id2label") is not None else reader.get("num_labels", 2)
    if not labels:
        return numbered(min(count, 10_000_000))
    names = [labels.get(str(i)) for i in range(count)]
    if not all(isinstance(name, str) for name in names):
        reader.note("id2label", f"does not hold a name for each of 0 to {count - 1}")
        return numbered(count)
    return numbered(count) if names == [f"LABEL_{i}" for i in range(count)] else tuple(cast(list[str], names))


def _encoder(reader: _Reader, classes: int) -> dict[str, Any]:
    """What ViT and BEiT have in common."""
    for key, harmless in HARMLESS.items():
        if reader.values.get(key) is not None and reader.values[key] not in harmless:
            reader.note(key, f"{shown(repr(reader.values[key]))} changes the network")
    dim, heads = reader.get("hidden_size", 768), reader.get("num_attention_heads", 12)
    hidden = reader.get("intermediate_size", 3072)
    if min(dim, heads) < 1:
        reader.note("hidden_size", f"{dim} for {heads} heads")
        dim, heads = 768, 12
    head = reader.get("head_dim", dim // heads)
    if head * heads != dim:
        reader.note("head_dim", f"{head} times {heads} heads is not hidden_size {dim}")
    activation = reader.get("hidden_act", "gelu")
    if activation not in GELU:
        reader.note("hidden_act", f"`{shown(activation)}`; {nearest(activation, GELU)}")
    rows, columns = reader.pair("patch_size", 16)
    if rows != columns:
        reader.note("patch_size", f"{rows} x {columns} is not square")
    return {
        "image_size": reader.pair("image_size", 224),
        "channels": reader.get("num_channels", 3),
        "classes": classes,
        "patch": rows,
        "dim": dim,
        "depth": reader.get("num_hidden_layers", 12),
        "heads": heads,
        "mlp_ratio": hidden / dim,
        "gelu": GELU.get(activation, "erf"),
        "eps": float(reader.get("layer_norm_eps", 1e-12)),
        "dropout": float(reader.get("hidden_dropout_prob", 0.0)),
        "attention_dropout": float(reader.get("attention_probs_dropout_prob", 0.0)),
    }


def _vit(reader: _Reader, classes: int) -> ViTConfig:
    encoder = _encoder(reader, classes)
    pooler = 0
    if not classes and "ViTModel" in reader.get("architectures", []):
        pooler = reader.get("pooler_output_size", 0) or encoder["dim"]
        if reader.get("pooler_act", "tanh") != "tanh":
            reader.note("pooler_act", f"`{shown(reader.values['pooler_act'])}` is not tanh")
    return ViTConfig(qkv_bias=reader.get("qkv_bias", True), pre_logits=pooler, **encoder)


def _beit(reader: _Reader, classes: int) -> BEiTConfig:
    scale = float(reader.get("layer_scale_init_value", 0.1))
    masked = MASKED in reader.get("architectures", [])  # of pre-training: its norm stands over all tokens
    return BEiTConfig(
        absolute_positions=reader.get("use_absolute_position_embeddings", False),
        block_bias=reader.get("use_relative_position_bias", False),
        shared_bias=reader.get("use_shared_relative_position_bias", False),
        pooling="mean" if reader.get("use_mean_pooling", True) and not masked else "class",
        layer_scale=scale > 0,
        layer_scale_init=scale if scale > 0 else 0.1,
        drop_path=float(reader.get("drop_path_rate", 0.1)),
        **_encoder(reader, classes),
    )


# Fields of ViT that transformers has in one form only: field -> (that form, what is said of any other)
_VIT_ONLY: dict[str, tuple[object, str]] = {
    "stem": ("patches", "its hybrids are another network, on another ResNet"),
    "class_token": (True, "its classifier answers from the class token"),
    "distilled": (False, "two class tokens are its DeiT, whose names are others"),
    "register_tokens": (0, "registers are its DINOv2, whose names are others"),
    "class_position": (True, "its position table has a row for the class token"),
    "pre_norm": (False, "there is no norm before its first block"),
    "layer_scale": (False, "its blocks have no LayerScale"),
    "pooling": ("class", "its classifier answers from the class token"),
    "fc_norm": (False, "its norm stands before the pooling"),
}


def _not_there(config: ModelConfig) -> list[str]:
    """Every field in which no network of transformers' ViT and BEiT is like this one."""
    if isinstance(config, ViTConfig):
        found = [
            f"{name} {getattr(config, name)!r}: {why}"
            for name, (only, why) in _VIT_ONLY.items()
            if getattr(config, name) != only
        ]
        if config.pre_logits and config.classes:
            found.append(f"pre_logits {config.pre_logits}: its classifier has no layer before the head")
        return found
    if isinstance(config, BEiTConfig):
        found = [] if config.qkv_bias else ["qkv_bias False: its queries and values have a bias"]
        return found + _square_only(config)
    return ["family cct: transformers has no CCT"]


def _square_only(config: BEiTConfig) -> list[str]:
    """Tables of positions that transformers reads with rows and columns exchanged, or not at all."""
    if config.image_size[0] == config.image_size[1]:
        return []
    tables = {
        "use_absolute_position_embeddings": config.absolute_positions,
        "use_relative_position_bias": config.block_bias,
        "use_shared_relative_position_bias": config.shared_bias,
    }
    height, width = config.image_size
    return [
        f"{key} at {height} x {width}: only at square pictures it computes what BEiT does"
        for key, on in tables.items()
        if on
    ]


def _common(config: ViTConfig | BEiTConfig) -> dict[str, object]:
    height, width = config.image_size
    return {
        "image_size": height if height == width else [height, width],
        "patch_size": config.patch,
        "num_channels": config.channels,
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden,
        "hidden_act": ACTIVATIONS[config.gelu],
        "layer_norm_eps": config.eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "initializer_range": 0.02,
    }


def _vit_values(config: ViTConfig) -> dict[str, object]:
    body = {"pooler_output_size": config.pre_logits, "pooler_act": "tanh"} if config.pre_logits else {}
    return {
        "architectures": ["ViTModel" if config.pre_logits else CLASSIFIERS["vit"]],
        "model_type": "vit",
        "qkv_bias": config.qkv_bias,
        "encoder_stride": config.patch,
        **body,
    }


def _beit_values(config: BEiTConfig) -> dict[str, object]:
    return {
        "architectures": [CLASSIFIERS["beit"]],
        "model_type": "beit",
        "use_absolute_position_embeddings": config.absolute_positions,
        "use_relative_position_bias": config.block_bias,
        "use_shared_relative_position_bias": config.shared_bias,
        "use_mean_pooling": config.pooling == "mean",
        "use_mask_token": False,
        "layer_scale_init_value": (config.layer_scale_init or 0.1) if config.layer_scale else 0.0,
        "drop_path_rate": config.drop_path,
    }


def _labels(classes: Sequence[str]) -> dict[str, object]:
    names = [f"LABEL_{i}" for i in range(len(classes))] if placeholders(classes) else list(classes)
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }
