"""The image processors of Hugging Face's transformers, as policies and back.

Read from transformers 5.23 image_processing_backends.py and the processors' own files; 4.57 computes the same from
what is stated, its defaults differ in the two keys of `UNSTEADY`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vitrail.errors import nearest
from vitrail.formats.bounds import shown
from vitrail.models.configs import BEiTConfig, ModelConfig
from vitrail.pictures.policy import HALF, Interpolation, Mode, Policy, Statistics

_CLIP = Statistics((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

MAX_SIDE = 1 << 16

# Pillow's numbers
RESAMPLE: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
WRITABLE: dict[Interpolation, int] = {"bilinear": 2, "bicubic": 3}  # what every backend of transformers computes alike


@dataclass(frozen=True)
class Defaults:
    """What a class of processors does where its file says nothing. square: a size that is one number is both sides."""

    size: int | None
    resample: int
    crop: int | None = None  # the side that is cut out; none for no cut
    square: bool = True
    statistics: Statistics = HALF


PROCESSORS: dict[str, Defaults] = {
    "ViT": Defaults(224, 2),
    "Beit": Defaults(None, 3, None),
    "DeiT": Defaults(256, 3, 224),
    "Bit": Defaults(224, 3, 224, square=False, statistics=_CLIP),
    "CLIP": Defaults(224, 3, 224, square=False, statistics=_CLIP),
}
_SUFFIXES = ("ImageProcessorFast", "ImageProcessorPil", "ImageProcessor", "FeatureExtractor")
UNSTEADY = {"Beit": ("size", "do_center_crop")}  # 256, cut to 224, in 4.x; 224, not cut, in 5.x

# keys that change no pixel of a classified picture
HARMLESS = frozenset({
    "image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb", "data_format",
    "input_data_format", "return_tensors", "device", "disable_grouping", "do_reduce_labels", "reduce_labels",
    "default_to_square", "_valid_processor_keys",
})  # fmt: skip
READ = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std",
)  # fmt: skip


def default_policy(config: ModelConfig, kind: str) -> Policy:
    """What transformers does where no file says it, at the size of the network."""
    row = PROCESSORS["ViT" if kind == "vit" else "Beit"]
    count = config.channels
    return Policy(
        size=config.image_size, mode="squash", interpolation=RESAMPLE[row.resample],
        mean=HALF.mean[:1] * count, std=HALF.std[:1] * count,
    )  # fmt: skip


def read_policy(values: Mapping[str, object], config: ModelConfig, kind: str) -> tuple[Policy | None, list[str]]:
    """The policy of a `preprocessor_config.json`, and everything that no policy can say, one line each."""
    reader = _Reader(values, _kind(values, kind))
    if reader.name not in PROCESSORS:
        return None, [f"image_processor_type: `{shown(reader.name)}`; {nearest(reader.name, PROCESSORS)}".rstrip("; ")]
    reader.unknown_keys()
    if not reader.flag("do_resize", default=True):
        reader.note("do_resize", "False: a policy always resizes")
    interpolation = reader.interpolation()
    geometry = reader.geometry()
    mean, std = reader.statistics(config.channels)
    if geometry is None or reader.problems:
        return None, reader.problems
    size, mode, crop = geometry
    if size != config.image_size:
        reader.note("size", f"pictures of {size[0]} x {size[1]} for a network of {_by(config.image_size)}")
    policy = Policy(size=size, mode=mode, crop=crop, interpolation=interpolation, mean=mean, std=std)
    return policy, reader.problems + policy.problems()


def write_policy(policy: Policy, config: ModelConfig) -> tuple[dict[str, object], list[str]]:
    """The `preprocessor_config.json` of a policy, and everything that no processor can do, one line each."""
    found = []
    height, width = policy.size
    before = [math.floor(side / policy.crop) for side in policy.size]
    cut = before != [height, width] or policy.mode == "crop"
    if policy.size != config.image_size:
        found.append(f"policy size {_by(policy.size)}: the network is of {_by(config.image_size)}")
    if policy.mode == "pad":
        found.append("policy mode pad: no processor resizes to the long side and fills up with the mean")
    if policy.interpolation not in WRITABLE:
        found.append(f"policy interpolation {policy.interpolation}: its backends compute it each in its own way")
    if policy.mode == "crop" and height != width:
        found.append(f"policy mode crop at {_by(policy.size)}: it cuts no such part of a picture's short side")
    if _beside(policy.size, before):
        found.append(f"policy crop {policy.crop}: of {_by(before)} it cuts out {_by(policy.size)} one pixel beside")
    if policy.mode == "crop":
        name, size = "Bit", {"shortest_edge": before[0]}
    else:
        name, size = ("Beit" if cut or isinstance(config, BEiTConfig) else "ViT"), _sides(before)
    values: dict[str, object] = {
        "image_processor_type": f"{name}ImageProcessor",
        "do_convert_rgb": policy.channels == 3,
        "do_resize": True,
        "size": size,
        "resample": WRITABLE.get(policy.interpolation, 2),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(policy.mean),
        "image_std": list(policy.std),
    }
    if name != "ViT":
        values |= {"do_center_crop": cut, "crop_size": _sides(policy.size)}
    return values, found


def _sides(size: Sequence[int]) -> dict[str, int]:
    return {"height": size[0], "width": size[1]}


def _by(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"


def _kind(values: Mapping[str, object], kind: str) -> str:
    """The class of processors: as the file says, else that of the network."""
    stated = values.get("image_processor_type") or values.get("feature_extractor_type")
    if stated is None:
        return "ViT" if kind == "vit" else "Beit"
    name = str(stated)
    return next((name.removesuffix(end) for end in _SUFFIXES if name.endswith(end)), name)


@dataclass
class _Reader:
    values: Mapping[str, object]
    name: str
    problems: list[str] = field(default_factory=list)

    @property
    def defaults(self) -> Defaults:
        return PROCESSORS[self.name]

    def note(self, key: str, what: str) -> None:
        self.problems.append(f"{key}: {what}")

    def unknown_keys(self) -> None:
        for key, value in self.values.items():
            if key not in HARMLESS and key not in READ and value not in (None, False):
                self.note(key, f"{shown(repr(value))}: it is not known what it does")
        for key in UNSTEADY.get(self.name, ()):
            if self.values.get(key) is None:
                self.note(key, "is missing, and its default differs between versions of transformers")

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            self.note(key, f"{shown(repr(value))} is not true or false")
        return value if isinstance(value, bool) else default

    def interpolation(self) -> Interpolation:
        value = self.values.get("resample")
        if value is None:
            value = self.defaults.resample
        if type(value) is int and value in RESAMPLE:
            return RESAMPLE[value]
        self.note("resample", f"{shown(repr(value))} is none of Pillow's 0 to 5")
        return "bilinear"

    def sides(self, key: str, default: int | None) -> tuple[int, int] | int | None:
        """(height, width), or one number: that of the short side; None when it does not hold."""
        value = self.values.get(key)
        if value is None:
            value = default
        found: list[object] = []
        if isinstance(value, dict):
            if sorted(value) == ["height", "width"]:
                found = [value["height"], value["width"]]
            elif list(value) == ["shortest_edge"] and key == "size":
                found = [value["shortest_edge"]]
        elif isinstance(value, list):
            found = value if len(value) == 2 else []
        else:
            found = [value, value] if self.defaults.square or key == "crop_size" else [value]
        sides = [side for side in found if isinstance(side, int) and 0 < side <= MAX_SIDE]
        if not found or len(sides) < len(found):
            self.note(key, f"{shown(repr(value))} is no size by height and width, or by the shortest edge")
            return None
        return sides[0] if len(sides) == 1 else (sides[0], sides[1])

    def geometry(self) -> tuple[tuple[int, int], Mode, float] | None:
        """(height, width) of what enters the network, how it is resized, and the part that is cut out."""
        size = self.sides("size", self.defaults.size)
        if size is None:
            return None
        if not self.flag("do_center_crop", default=self.defaults.crop is not None):
            if isinstance(size, int):
                self.note("size", f"the shortest edge alone, {size}, without do_center_crop: pictures of many sizes")
                return None
            return size, "squash", 1.0
        cut = self.sides("crop_size", self.defaults.crop)
        if cut is None or isinstance(cut, int):
            return None
        mode: Mode = "crop" if isinstance(size, int) else "squash"
        whole = (size, size) if isinstance(size, int) else size
        part = _part(cut, whole)
        if part is None or (mode == "crop" and cut[0] != cut[1]):
            self.note("crop_size", f"{_by(cut)} of {_by(whole)} is no one part of both sides")
            return None
        if _beside(cut, whole):
            self.note("crop_size", f"{_by(cut)} is cut out of {_by(whole)} one pixel beside our centre")
        return cut, mode, part

    def statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of pixels in [0, 1]."""
        factor = self.values.get("rescale_factor")
        scale = 1.0 if factor is None else 255 * _number(factor)
        if not scale > 0:
            self.note("rescale_factor", f"{shown(repr(factor))} is no number above 0")
            scale = 1.0
        scale = 1.0 if math.isclose(scale, 1.0, rel_tol=1e-6) else scale
        if not self.flag("do_rescale", default=True):
            scale = 255.0
        mean, std = (0.0,) * channels, (1.0,) * channels
        if self.flag("do_normalize", default=True):
            mean = self.numbers("image_mean", self.defaults.statistics.mean, channels)
            std = self.numbers("image_std", self.defaults.statistics.std, channels)
        return tuple(value / scale for value in mean), tuple(value / scale for value in std)

    def numbers(self, key: str, default: tuple[float, ...], channels: int) -> tuple[float, ...]:
        value = self.values.get(key)
        value = list(default) if value is None else value
        numbers = [_number(one) for one in (value if isinstance(value, list) else [value] * channels)]
        if any(map(math.isnan, numbers)):
            self.note(key, f"{shown(repr(value))} is no list of numbers")
        elif len(numbers) != channels:
            self.note(key, f"{len(numbers)} values for {channels} channels")
        else:
            return tuple(numbers)
        return default


def _number(value: object) -> float:
    """A number of reasonable size, NaN for anything else."""
    plain = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e9
    return float(value) if plain else math.nan  # type: ignore[arg-type]  # a number, as just seen


def _beside(cut: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether the halves round apart: down there, to even here."""
    return any((b - a) % 4 == 3 for a, b in zip(cut, whole, strict=True))


def _part(cut: tuple[int, int], whole: tuple[int, int]) -> float | None:
    """The part of both sides that is kept, such that a policy resizes to just these; None when there is none."""
    part = min(c / w for c, w in zip(cut, whole, strict=True))
    for candidate in (part, math.nextafter(part, 0), math.nextafter(math.nextafter(part, 0), 0)):
        if 0 < candidate <= 1 and all(math.floor(c / candidate) == w for c, w in zip(cut, whole, strict=True)):
            return candidate
    return None
