"""What is done to a picture before the network: size, mode, crop, interpolation, mean, std.

Geometry is that of timm's evaluation transform, on 8-bit pixels. Normalisation is a lookup table of 256 entries per
channel, so that every language and engine gives the same bits.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from vitrail.errors import nearest

if TYPE_CHECKING:  # a policy is plain values until it meets a picture: recipes are read without NumPy and Pillow
    import numpy as np
    from numpy.typing import NDArray

    from vitrail.pictures.decode import Picture, Pixels

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)

MAX_SIZE = 4096
MAX_CHANNELS = 64
_AT_ONCE = 1 << 14  # pixels normalised together, so that doubles stay in the cache

Mode = Literal["crop", "squash", "pad"]
MODES: tuple[Mode, ...] = get_args(Mode)


class Statistics(NamedTuple):
    """Mean and standard deviation per channel, of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


HALF = Statistics((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # x / 127.5 - 1: ViT (AugReg and original), BEiT v1
IMAGENET = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10 = Statistics((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100 = Statistics((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
FLOWERS102 = Statistics((0.4353, 0.3773, 0.2872), (0.2966, 0.2455, 0.2698))


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is done to a picture before the network. mean, std: one value per channel, of pixels in [0, 1].

    mode `crop`: the short side is resized to size / crop, then the centre is cut out.
    mode `squash`: both sides are resized to size / crop whatever their ratio, then the centre is cut out.
    mode `pad`: the long side is resized to size / crop, what is larger than size is cut to its centre, and what is
    smaller gets bars of the rounded mean. With crop 1 the whole picture is there.

    >>> import numpy as np
    >>> policy = Policy(size=(224, 224), crop=0.9, mean=HALF.mean, std=HALF.std)
    >>> policy.pixels(np.zeros((480, 640, 3), np.uint8)).shape
    (224, 224, 3)
    """

    size: tuple[int, int]  # (height, width)
    mode: Mode = "crop"
    crop: float = 1.0  # the part of the resized side that is kept; timm's crop_pct
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB; others are for arrays that have them."""
        return len(self.mean)

    def problems(self) -> list[str]:
        """Everything that no picture can be prepared with, one line each."""
        found = []
        if len(self.size) != 2 or not all(1 <= side <= MAX_SIZE for side in self.size):
            found.append(f"size {list(self.size)} is not height and width of 1 to {MAX_SIZE}")
        if self.mode not in MODES:
            found.append(f"mode `{self.mode}` is unknown; known: {', '.join(MODES)}")
        if not 0 < self.crop <= 1:
            found.append(f"crop {self.crop} is not above 0 and at most 1")
        elif any(math.floor(side / self.crop) > 2 * MAX_SIZE for side in self.size):
            found.append(f"crop {self.crop} resizes {list(self.size)} to more than {2 * MAX_SIZE} pixels")
        if self.interpolation not in INTERPOLATIONS:
            found.append(f"interpolation `{self.interpolation}` is unknown; known: {', '.join(INTERPOLATIONS)}")
        if len(self.mean) != len(self.std) or not 1 <= len(self.mean) <= MAX_CHANNELS:
            found.append(f"mean has {len(self.mean)} values and std {len(self.std)}; both need one for each channel")
        if not all(math.isfinite(value) for value in self.mean):
            found.append(f"mean {list(self.mean)} is not finite")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            found.append(f"std {list(self.std)} is not finite and above 0")
        return found

    def pixels(self, picture: Picture) -> Pixels:
        """Pixels (*size, channels), decoded where need be, resized and cropped; PictureError V301 to V305."""
        import numpy as np

        from vitrail.pictures.decode import load, name_of
        from vitrail.pictures.limits import MAX_PIXELS, beyond
        from vitrail.pictures.resize import resize

        stored = load(picture, channels=self.channels)
        height, width = self._resized(stored.shape[0], stored.shape[1])
        widest = max(height * width, stored.shape[0] * width)  # after the second pass, after the first
        if widest > MAX_PIXELS:
            raise beyond(
                name_of(picture),
                f"{stored.shape[1]} x {stored.shape[0]} pixels would be resized by way of {widest} pixels, "
                f"the limit is {MAX_PIXELS}",
            )
        (top, above), (left, before) = (_place(*sides) for sides in zip((height, width), self.size, strict=True))
        window = (top, left, min(self.size[0], height - top), min(self.size[1], width - left))
        kept = resize(stored, (height, width), self.interpolation, window=window)
        if kept.shape[:2] == self.size:
            return np.ascontiguousarray(kept)
        framed = np.empty((*self.size, self.channels), np.uint8)
        framed[:] = self.bars
        framed[above : above + kept.shape[0], before : before + kept.shape[1]] = kept
        return framed

    @property
    def bars(self) -> tuple[int, ...]:
        """What mode `pad` and turned pictures are filled with, a value a channel: the mean in 0..255, half to even."""
        return tuple(round(255 * min(max(value, 0.0), 1.0)) for value in self.mean)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Size before the crop; the roundings are timm's and torchvision's."""
        tall, wide = (math.floor(side / self.crop) for side in self.size)
        if self.mode == "squash":
            return tall, wide
        if self.mode == "crop" and tall == wide:
            if height <= width:
                return tall, int(tall * width / height)
            return int(wide * height / width), wide
        fit = max if self.mode == "pad" else min
        ratio = fit(height / tall, width / wide)
        return max(round(height / ratio), 1), max(round(width / ratio), 1)

    def table(self) -> NDArray[np.float32]:
        """Normalisation as a table (channels, 256): entry u of a channel is float32((u / 255 - mean) / std)."""
        import numpy as np

        steps = np.arange(256, dtype=np.float64) / 255
        mean, std = (np.array(values, np.float64)[:, None] for values in (self.mean, self.std))
        return ((steps - mean) / std).astype(np.float32)

    def normalise(self, pixels: Pixels) -> NDArray[np.float32]:
        """Network input (B, C, H, W) of pixels (B, H, W, C), by the table."""
        import numpy as np

        from vitrail.pictures import kernels

        count, height, width, channels = pixels.shape
        assert channels == self.channels, f"{channels} channels, the policy has {self.channels}"
        batch = np.empty((count, channels, height, width), np.float32)
        if (compiled := kernels.loaded()) is not None:
            planes = pixels.transpose(0, 3, 1, 2)  # which is how many pictures lie in memory
            if planes.flags.c_contiguous:
                compiled.look_up_planes(planes, self.table(), batch)
            else:
                compiled.look_up(np.ascontiguousarray(pixels), self.table(), batch)
            return batch
        step = max(1, _AT_ONCE // (height * width))
        for start in range(0, count, step):
            part = slice(start, start + step)
            for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
                values = pixels[part, :, :, channel] / 255.0  # in double: the table's numbers without a look-up
                values -= mean
                values /= std
                batch[part, channel] = values
        return batch

    def levels(self, images: NDArray[np.float32]) -> Pixels | None:
        """The pixels (B, H, W, C) that `normalise` made images (B, C, H, W) of; None for images that it never makes."""
        import numpy as np

        mean, std = (np.array(values, np.float64)[:, None, None] for values in (self.mean, self.std))
        values = np.rint(np.clip(np.nan_to_num((images * std + mean) * 255), 0, 255)).astype(np.uint8)
        pixels = np.ascontiguousarray(values.transpose(0, 2, 3, 1))
        return pixels if np.array_equal(self.normalise(pixels), images) else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for manifests and recipes; `from_json` reads them back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_json(values: object) -> Policy:
        """The policy that `to_json` wrote; ValueError names every key and value that does not stand."""
        if not isinstance(values, dict):
            raise ValueError(f"the policy is no mapping but {type(values).__name__}")
        found = _key_problems(values)
        if not found:
            plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            policy = Policy(**plain)
            found = policy.problems()
        if found:
            raise ValueError(f"policy: {'; '.join(found)}")
        return policy


def _place(resized: int, side: int) -> tuple[int, int]:
    """Of one axis: where the cut begins in what was resized, and where the picture begins in what is handed out."""
    return (round((resized - side) / 2), 0) if resized > side else (0, (side - resized) // 2)  # half to even, as timm


def _key_problems(values: dict[Any, Any]) -> list[str]:
    known = [field.name for field in fields(Policy)]
    found = [f"no key `{key}`; {nearest(str(key), known)}" for key in values if key not in known]
    for key in known:
        if key not in values:
            found.append(f"`{key}` is missing")
        elif not _is_of_kind(key, values[key]):
            found.append(f"`{key}` is {values[key]!r:.80}, it must be {_KINDS[key]}")
    return found


_KINDS = {
    "size": "a list of two whole numbers",
    "mode": "a text",
    "crop": "a number",
    "interpolation": "a text",
    "mean": "a list of numbers",
    "std": "a list of numbers",
}


def _is_of_kind(key: str, value: object) -> bool:
    kind = _KINDS[key]
    if kind == "a text":
        return isinstance(value, str)
    if kind == "a number":
        return _is_number(value)
    if not isinstance(value, (list, tuple)):
        return False
    if key == "size":
        return len(value) == 2 and all(isinstance(side, int) and not isinstance(side, bool) for side in value)
    return all(_is_number(part) for part in value)


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        float(value)
    except OverflowError:  # a whole number beyond all floats
        return False
    return True
