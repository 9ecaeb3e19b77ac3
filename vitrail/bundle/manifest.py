"""What a bundle says about itself: `manifest.json`, read strictly, written in one canonical form.

Same content, same bytes: no times, hosts, users or paths.  `digest` is the SHA-256 of the file without its own line,
so a reader in any language cuts that line out and hashes the rest.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vitrail.bundle.formats import MAX_BATCH, PRECISIONS, TAKES
from vitrail.bundle.values import canonical, parse, plain, refused, take
from vitrail.disk import sha256_bytes
from vitrail.errors import UsageError, printable
from vitrail.formats.stored import Tensors
from vitrail.models import configs
from vitrail.models.configs import ModelConfig, config_to_json, family_of
from vitrail.pictures.policy import Policy

NAME = "manifest.json"
WEIGHTS = "weights.safetensors"
FORMAT = (1, 1)
MAX_BYTES = 16 << 20
MAX_FILES = 4096
MAX_FILE_BYTES = 64 << 30
MAX_CLASSES = 1 << 20
MAX_IMAGE = 4096
MAX_TEXT = 200
UNKNOWN = "unknown"

_HASH = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})")
_ENGINE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_DIGEST_LINE = re.compile(rb'^ "digest": "[0-9a-f]{64}",\n', re.MULTILINE)

_KEYS = (
    "format", "family", "variant", "config", "policy", "classes", "weights", "weights_sha256", "files", "engines",
    "provenance", "licences", "tools", "digest",
)  # fmt: skip


@dataclass(frozen=True)
class File:
    """Size in bytes and SHA-256 (lower-case hex) of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Licences:
    """Under what terms weights and data may be used: SPDX identifiers, plain words, or `unknown`."""

    weights: str = UNKNOWN
    data: str = UNKNOWN

    def with_told(self, told: Licences) -> Licences:
        """What was unknown as it is told now; UsageError V007 where something else stands already.

        >>> Licences("MIT").with_told(Licences(data="CC0-1.0"))
        Licences(weights='MIT', data='CC0-1.0')
        """
        mine, theirs = asdict(self), asdict(told)
        for part, text in theirs.items():
            if len(text) > MAX_TEXT or not text or not text.isprintable():
                raise UsageError("V007", f"the licence of the {part} is {text[:40]!r}", hint="give its SPDX identifier")
            if UNKNOWN not in (text, mine[part]) and text != mine[part]:
                raise UsageError(
                    "V007",
                    f"the licence of the {part} is stated already: {printable(mine[part])}, not {text}",
                    hint="leave it out, or make the bundle again from its source",
                )
        return Licences(**{part: mine[part] if theirs[part] == UNKNOWN else theirs[part] for part in mine})


@dataclass(frozen=True)
class Engine:
    """One graph in the bundle: the file that is opened first, what it computes in, the names of its ends, facts of it.

    opset: of ONNX. takes: `images` (B, C, H, W), float32 and normalised, or `pixels` (B, H, W, C) of 8 bits.
    batch: how many pictures at once, None for any number. top: of how many classes it gives the best, None: none.
    """

    file: str
    format: str
    precision: str
    opset: int | None
    input: str
    output: str
    facts: Mapping[str, object]
    tools: Mapping[str, str]
    takes: str = "images"
    batch: int | None = None
    top: int | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that is needed to use the files of a bundle, and to know that they are the right ones.

    classes are in the order of the logits. extra holds the fields of a newer minor version, which are kept.
    """

    config: ModelConfig
    policy: Policy
    classes: tuple[str, ...]
    weights: Literal["trained", "random"]
    weights_sha256: str
    variant: str | None = None
    files: Mapping[str, File] = field(default_factory=dict)
    engines: Mapping[str, Engine] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)
    licences: Licences = Licences()
    tools: Mapping[str, str] = field(default_factory=dict)
    format: str = f"{FORMAT[0]}.{FORMAT[1]}"
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The family's name of the config."""
        return family_of(self.config)

    @property
    def digest(self) -> str:
        """SHA-256 over everything else in the manifest: the name of this bundle's content."""
        return sha256_bytes(canonical(self._body()))

    def to_json(self) -> bytes:
        """The file's bytes; BundleError V501 when this content could not be read back."""
        body = self._body()
        _check(self)
        return canonical({**body, "digest": sha256_bytes(canonical(body))})

    def _body(self) -> dict[str, Any]:
        own = {name: plain(getattr(self, name)) for name in _KEYS if name not in ("config", "policy", "digest")}
        for entry in own["engines"].values():
            if entry["top"] is None:  # which most have not
                del entry["top"]
        config = config_to_json(self.config)
        family = config.pop("family")
        return {**plain(self.extra), **own, "family": family, "config": config, "policy": self.policy.to_json()}

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """The manifest that `data` holds; BundleError V501 for every byte that is not as it was written."""
        if len(data) > MAX_BYTES:
            raise refused(f"the manifest has {len(data)} bytes, the limit is {MAX_BYTES}")
        raw = parse(data, "the manifest")
        newer = _check_version(raw.get("format"))
        extra = {name: raw.pop(name) for name in list(raw) if newer and name not in _KEYS}
        take(raw, "the manifest", _KEYS)
        _check_digest(data, raw["digest"])
        manifest = cls(
            config=config_from_json(raw["family"], raw["config"]),
            policy=_policy(raw["policy"]),
            classes=_classes(raw["classes"]),
            weights=_choice(raw["weights"], ("trained", "random"), "weights"),
            weights_sha256=_text(raw["weights_sha256"], "weights_sha256"),
            variant=None if raw["variant"] is None else _text(raw["variant"], "variant"),
            files={name: _file(name, item) for name, item in _object(raw, "files").items()},
            engines={name: _engine(name, item) for name, item in _object(raw, "engines").items()},
            provenance=_object(raw, "provenance"),
            licences=_licences(raw["licences"]),
            tools=_texts(raw["tools"], "tools"),
            format=raw["format"],
            extra=extra,
        )
        _check(manifest)
        return manifest


def at_least_ours(format: str) -> str:
    """The format that a manifest gets when something is added to it: this vitrail's, or the newer minor one it has."""
    return max(format, f"{FORMAT[0]}.{FORMAT[1]}", key=lambda text: [int(part) for part in text.split(".")])


def weights_hash(tensors: Tensors) -> str:
    """SHA-256 over the native tensors in the order of their names: name, type, shape and bytes of each.

    >>> weights_hash({})[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        shape = "x".join(map(str, tensor.shape))
        digest.update(f"{name}\0{tensor.dtype}\0{shape}\0{tensor.nbytes}\0".encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def config_from_json(family: object, values: object) -> ModelConfig:
    """The config of a family from plain values; BundleError V501 naming what does not hold."""
    if not isinstance(values, dict) or "family" in values:
        raise refused("config is no object of a network's settings")
    try:
        return configs.config_from_json({"family": family, **values})
    except ValueError as error:
        raise refused(str(error), hint="use a newer vitrail, or make the bundle again") from error


def _check_version(text: object) -> bool:
    """True for a newer minor version, whose unknown fields are kept; V501 for another major one."""
    match = _VERSION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise refused(f"the manifest names no format version: {text!r}")
    major, minor = int(match[1]), int(match[2])
    ours = f"{FORMAT[0]}.{FORMAT[1]}"
    if major != FORMAT[0]:
        way = "use a newer vitrail" if major > FORMAT[0] else "make the bundle again with this vitrail"
        raise refused(f"the bundle is of format {text}, this vitrail reads {ours}", hint=way)
    return minor > FORMAT[1]


def _check_digest(data: bytes, digest: object) -> None:
    rest, count = _DIGEST_LINE.subn(b"", data)
    found = sha256_bytes(rest)
    if count != 1 or digest != found:
        raise refused(
            "the manifest differs from its own digest, so it was edited or damaged",
            evidence=[f"written {digest}", f"found   {found}"],
        )


def _policy(data: object) -> Policy:
    if not isinstance(data, dict):
        raise refused("policy is no object")
    try:
        return Policy.from_json(data)
    except ValueError as error:
        raise refused(f"the policy does not hold: {error}") from error


def _classes(data: object) -> tuple[str, ...]:
    if not isinstance(data, list) or not all(isinstance(name, str) and 1 <= len(name) <= 512 for name in data):
        raise refused("classes is no list of names of 1 to 512 characters")
    if not 1 <= len(data) <= MAX_CLASSES:
        raise refused(f"{len(data)} classes, allowed are 1 to {MAX_CLASSES}")
    return tuple(data)


def _choice(item: object, known: tuple[str, ...], where: str) -> Any:
    if item not in known:
        raise refused(f"{where} is {item!r}, known: {', '.join(known)}")
    return item


def _object(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(raw[name], dict):
        raise refused(f"{name} is no object")
    found: dict[str, Any] = raw[name]
    return found


def _text(item: object, where: str) -> str:
    if not isinstance(item, str) or not 1 <= len(item) <= MAX_TEXT or not item.isprintable():
        raise refused(f"{where} must be 1 to {MAX_TEXT} printable characters, it is {str(item)[:40]!r}")
    return item


def _texts(item: object, where: str) -> dict[str, str]:
    if not isinstance(item, dict):
        raise refused(f"{where} is no object")
    return {_text(name, where): _text(text, f"{where}.{name}") for name, text in item.items()}


def _file(name: str, data: object) -> File:
    item = take(data, f"files.{name}", ("size", "sha256"))
    if type(item["size"]) is not int or not isinstance(item["sha256"], str):
        raise refused(f"files.{name} holds no size and SHA-256")
    return File(item["size"], item["sha256"])


def _licences(data: object) -> Licences:
    item = take(data, "licences", ("weights", "data"))
    return Licences(*(_text(item[name], f"licences.{name}") for name in ("weights", "data")))


def _engine(name: str, data: object) -> Engine:
    where = f"engines.{name}"
    keys = ("file", "format", "precision", "opset", "input", "output", "facts", "tools", "takes", "batch", "top")
    item = take(data, where, keys, optional=("takes", "batch", "top"))  # format 1.0 had none of these
    for key, most in (("opset", 1000), ("batch", MAX_BATCH), ("top", MAX_CLASSES)):
        if item.get(key) is not None and (type(item[key]) is not int or not 1 <= item[key] <= most):
            raise refused(f"{where}.{key} is {item[key]!r}")
    return Engine(
        file=_text(item["file"], f"{where}.file"),
        format=_text(item["format"], f"{where}.format"),
        precision=_choice(item["precision"], PRECISIONS, f"{where}.precision"),
        opset=item["opset"],
        input=_text(item["input"], f"{where}.input"),
        output=_text(item["output"], f"{where}.output"),
        facts=_object(item, "facts"),
        tools=_texts(item["tools"], f"{where}.tools"),
        takes=_choice(item.get("takes", "images"), TAKES, f"{where}.takes"),
        batch=item.get("batch"),
        top=item.get("top"),
    )


def _check(manifest: Manifest) -> None:
    """What must hold between the fields, for reading and for writing alike."""
    config, policy = manifest.config, manifest.policy
    if len(manifest.classes) != config.classes:
        raise refused(f"{len(manifest.classes)} classes are named, the head has {config.classes}")
    if max(*config.image_size, *policy.size) > MAX_IMAGE or min(*config.image_size, *policy.size) < 1:
        raise refused(f"pictures of {policy.size} for a network of {config.image_size}: allowed are 1 to {MAX_IMAGE}")
    if tuple(policy.size) != tuple(config.image_size) or policy.channels != config.channels:
        raise refused(
            f"the policy makes {policy.channels} x {policy.size[0]} x {policy.size[1]}, "
            f"the network takes {config.channels} x {config.image_size[0]} x {config.image_size[1]}"
        )
    if not all(math.isfinite(m) and math.isfinite(s) and s > 0 for m, s in zip(policy.mean, policy.std, strict=True)):
        raise refused(f"mean {policy.mean} and std {policy.std} must be finite, std above 0")
    if not _HASH.fullmatch(manifest.weights_sha256):
        raise refused("weights_sha256 is no SHA-256 in lower-case hex")
    for where, text in (("licences.weights", manifest.licences.weights), ("licences.data", manifest.licences.data)):
        _text(text, where)
    _check_files(manifest)


def _check_files(manifest: Manifest) -> None:
    if len(manifest.files) > MAX_FILES:
        raise refused(f"{len(manifest.files)} files, the limit is {MAX_FILES}")
    seen: dict[str, str] = {}
    for name, entry in manifest.files.items():
        if not 0 <= entry.size <= MAX_FILE_BYTES or not _HASH.fullmatch(entry.sha256):
            raise refused(f"size or SHA-256 of `{name}` is none: {entry.size}, {entry.sha256[:80]}")
        if seen.setdefault(name.casefold(), name) != name or name == NAME or len(name) > 512:
            raise refused(f"`{name[:80]}` cannot be the name of a file of the bundle")
    for name, engine in manifest.engines.items():
        if not _ENGINE.fullmatch(name) or engine.file not in manifest.files:
            raise refused(f"the engine `{name[:80]}` has no file in the bundle")
        if engine.top is not None and engine.top > len(manifest.classes):
            raise refused(f"the engine `{name}` names {engine.top} of {len(manifest.classes)} classes")
        form = f"{engine.format}-{engine.precision}"
        if name != form and not name.startswith(f"{form}-"):  # or it could stand for another in `--engine`
            raise refused(f"the engine `{name[:80]}` is of {form[:80]}, and must be called so")
