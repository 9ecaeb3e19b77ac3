"""What each operation does at which magnitude, as timm 1.0.31 has it: one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class At(NamedTuple):
    """Where an operation's argument is looked up: the level is the magnitude, 0 to 10, by ten.

    sign: -1 or 1; draw: uniform in 0 to 1; height, width: of the picture; shift: the greatest one, as a part of it.
    """

    level: float
    sign: float
    draw: float
    height: int
    width: int
    shift: float = 0.45


class Row(NamedTuple):
    """The operation of `pictures/operations`, and its argument; None where it takes none."""

    operation: str
    argument: Callable[[At], float] | None = None


def _enhance(at: At) -> float:
    return at.level * 1.8 + 0.1


def _enhance_more(at: At) -> float:
    return max(0.1, 1.0 + at.sign * (at.level * 0.9))


def _between(least: float, most: float, level: float) -> float:
    return max(least, min(most, least + (most - least) * level))


def _longest(at: At) -> float:
    return float(int(min(at.height, at.width) * 0.45))


LEVELS: dict[str, Row] = {
    # timm's name           operation       argument
    "AutoContrast":         Row("autocontrast"),
    "Equalize":             Row("equalize"),
    "Invert":               Row("invert"),
    "Rotate":               Row("rotate", lambda at: at.sign * (at.level * 30.0)),
    "Posterize":            Row("posterize", lambda at: int(at.level * 4)),
    "PosterizeIncreasing":  Row("posterize", lambda at: 4 - int(at.level * 4)),
    "PosterizeOriginal":    Row("posterize", lambda at: int(at.level * 4) + 4),
    "Solarize":             Row("solarize", lambda at: min(256, int(at.level * 256))),
    "SolarizeIncreasing":   Row("solarize", lambda at: 256 - min(256, int(at.level * 256))),
    "SolarizeAdd":          Row("solarize_add", lambda at: min(128, int(at.level * 110))),
    "Color":                Row("colour", _enhance),
    "ColorIncreasing":      Row("colour", _enhance_more),
    "Contrast":             Row("contrast", _enhance),
    "ContrastIncreasing":   Row("contrast", _enhance_more),
    "Brightness":           Row("brightness", _enhance),
    "BrightnessIncreasing": Row("brightness", _enhance_more),
    "Sharpness":            Row("sharpness", _enhance),
    "SharpnessIncreasing":  Row("sharpness", _enhance_more),
    "ShearX":               Row("shear_x", lambda at: at.sign * (at.level * 0.3)),
    "ShearY":               Row("shear_y", lambda at: at.sign * (at.level * 0.3)),
    "TranslateX":           Row("translate_x", lambda at: at.sign * (at.level * _longest(at))),
    "TranslateY":           Row("translate_y", lambda at: at.sign * (at.level * _longest(at))),
    "TranslateXRel":        Row("translate_x", lambda at: at.sign * (at.level * at.shift) * at.width),
    "TranslateYRel":        Row("translate_y", lambda at: at.sign * (at.level * at.shift) * at.height),
    "Desaturate":           Row("desaturate", lambda at: _between(0.5, 1.0, at.level)),
    "GaussianBlur":         Row("gaussian_blur", lambda at: _between(0.1, 2.0, at.level)),
    "GaussianBlurRand":     Row("gaussian_blur", lambda at: 0.1 + (2.0 * _between(0.0, 1.0, at.level) - 0.1) * at.draw),
}  # fmt: skip

TURNING = frozenset({"rotate", "shear_x", "shear_y", "translate_x", "translate_y"})  # they interpolate
