"""Our augmentation against timm's: operations, policies, whole runs, their frequencies, erasing, mixing.

python tests/oracles/timm_augment.py
"""

from __future__ import annotations

import random
import sys
import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
import torchvision_stub  # noqa: F401
from held import Held
from PIL import Image

from vitrail.data.augment.augmix import Mixture, mixed
from vitrail.data.augment.crops import random_boxes
from vitrail.data.augment.draws import Draws
from vitrail.data.augment.erase import erased_boxes
from vitrail.data.augment.grammar import AutoAugment, RandAugment, parse
from vitrail.data.augment.levels import LEVELS, At
from vitrail.data.augment.perform import operate
from vitrail.data.augment.plans import Scene, Step, rand_plans
from vitrail.data.augment.policies import AUGMIX_OPERATIONS, POLICIES
from vitrail.data.configs import Erase, RandomResizedCrop
from vitrail.pictures.operations import as_pixels, as_planes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import timm
    import timm.data.auto_augment as theirs
    from timm.data.random_erasing import RandomErasing
    from timm.data.transforms import RandomResizedCropAndInterpolation
    from torchvision.transforms import functional as torchvision

FILL = (124, 116, 104)
WAYS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
MAGNITUDES = [0, 0.7, 1.3, 2.5, 3.9, 5, 6.1, 7.4, 8.5, 9, 9.49, 10]
SHAPES = [(32, 32), (40, 48), (61, 33), (7, 5)]
RUNS = 20_000


def pictures() -> Iterator[np.ndarray]:
    """Noise, a photograph-like ramp with noise, little contrast."""
    made = np.random.Generator(np.random.PCG64(11))
    for height, width in SHAPES:
        ramp = (
            np.add.outer(np.arange(height), 2 * np.arange(width))[..., None] * (1, 2, 3) * 255 // (4 * (height + width))
        )
        yield made.integers(0, 256, (height, width, 3), np.uint8)
        yield np.clip(ramp + made.normal(0, 9, (height, width, 3)), 0, 255).astype(np.uint8)
        yield made.integers(90, 130, (height, width, 3), np.uint8)


def operations(held: Held) -> None:
    """Every operation at every magnitude, sign and way of interpolating: the argument and each byte."""
    signs = {1.0: 0.25, -1.0: 0.75}  # what `random` gives for each: timm negates above one half
    for name, row in LEVELS.items():
        differing = compared = 0
        for picture in pictures():
            height, width = picture.shape[:2]
            hparams = {"translate_const": int(min(height, width) * 0.45), "img_mean": FILL}
            for magnitude in MAGNITUDES:
                for sign, drawn in signs.items():
                    at = At(magnitude / 10, sign, drawn, height, width)
                    argument = 0.0 if row.argument is None else float(row.argument(at))
                    if row.operation == "posterize" and argument < 1:
                        continue  # ours keeps one bit; Pillow 13 refuses to keep none
                    for way, theirs_way in WAYS.items():
                        op = theirs.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=hparams)
                        op.kwargs["resample"] = theirs_way
                        real, random.random = random.random, lambda drawn=drawn: drawn
                        real_uniform, random.uniform = random.uniform, lambda a, b, drawn=drawn: a + (b - a) * drawn
                        try:
                            wanted = np.asarray(op(Image.fromarray(picture)))
                        finally:
                            random.random, random.uniform = real, real_uniform
                        got = operate(as_planes(picture[None]), row.operation, np.array([argument]), way, FILL)
                        compared += 1
                        differing += not np.array_equal(as_pixels(got)[0], wanted)
        held.true(f"{name}: {compared} pictures", differing == 0, f"{differing} differ")


def policies(held: Held) -> None:
    """The tables: sub-policies, sets of operations, weights."""
    for name, ours in POLICIES.items():
        rows = theirs.auto_augment_policy(name, {"img_mean": FILL, "translate_const": 10})
        same = [[(op.name, op.prob, op.magnitude) for op in row] for row in rows] == [list(row) for row in ours]
        held.true(f"policies of {name}", same, "another table")
    held.true("operations of augmix", tuple(theirs._AUGMIX_TRANSFORMS) == AUGMIX_OPERATIONS, "another list")
    for text in ("rand", "rand-inc0", "rand-m9-mstd0.5-inc1", "rand-m5-n3-p0.8-mmax12", "rand-mstd101", "rand-tweights",
                 "rand-t3a-m7", "rand-t3aw-n3"):  # fmt: skip
        made = theirs.rand_augment_transform(text, {"img_mean": FILL, "translate_const": 10})
        ours = parse(text)
        assert isinstance(ours, RandAugment)
        first = made.ops[0]
        weights = None if ours.weights is None else np.array(ours.weights) / sum(ours.weights)
        same = (
            tuple(op.name for op in made.ops) == ours.operations
            and (made.num_layers, first.prob, first.magnitude) == (ours.count, ours.probability, ours.magnitude)
            and (first.magnitude_std, first.magnitude_max or 10) == (ours.spread, ours.most)
            and (made.choice_weights is None) == (weights is None)
            and (weights is None or np.allclose(weights, made.choice_weights))
        )
        held.true(f"grammar of {text}", same, f"{made}")
    for text in ("original-mstd0.5", "v0"):
        first = theirs.auto_augment_transform(text, {"img_mean": FILL, "translate_const": 10}).policy[0][0]
        ours = parse(text)
        assert isinstance(ours, AutoAugment)
        held.true(f"grammar of {text}", first.magnitude_std == ours.spread, f"{first}")


def frequencies(held: Held) -> None:
    """How often each operation comes, with which sign and how far, in many draws of each side."""
    text = "rand-m9-mstd0.5-inc1"
    made = theirs.rand_augment_transform(text, {"img_mean": FILL, "translate_const": 14, "interpolation": 3})
    seen: list[tuple[str, float]] = []
    for op in made.ops:
        operation = LEVELS[op.name].operation
        op.aug_fn = lambda image, *args, _name=operation, **_: (seen.append((_name, args[0] if args else 0.0)), image)[
            1
        ]
    random.seed(1)
    np.random.seed(1)
    for _ in range(RUNS):
        made(None)
    ours = parse(text)
    assert isinstance(ours, RandAugment)
    plans = rand_plans(ours, Scene(1, 1, "bicubic"), Draws(5, 0, np.arange(RUNS)))
    mine = [(step.operation, step.argument) for plan in plans for step in plan]
    one, other = Counter(name for name, _ in seen), Counter(name for name, _ in mine)
    apart = sum((one[name] - other[name]) ** 2 / (one[name] + other[name]) for name in one)
    held.true(f"operations of {RUNS} pictures", one.keys() == other.keys() and apart < 40, f"chi-square {apart:.1f}")
    for name in one:
        first, second = (np.sort([value for kind, value in rows if kind == name]) for rows in (seen, mine))
        grid = np.union1d(first, second)
        gap = np.abs(
            np.searchsorted(first, grid, "right") / len(first) - np.searchsorted(second, grid, "right") / len(second)
        ).max()
        bound = 1.95 * np.sqrt(1 / len(first) + 1 / len(second))  # Kolmogorov-Smirnov at one in a thousand
        held.true(f"arguments of {name}", gap < bound, f"distributions {gap:.3f} apart, bound {bound:.3f}")


def noted(operation: str, seen: list[tuple[str, float]]):  # type: ignore[no-untyped-def]
    """An operation that only notes what it is called with."""

    def call(image: object, *args: float, **_: object) -> object:
        seen.append((operation, args[0] if args else 0.0))
        return image

    return call


def chains(held: Held) -> None:
    """AugMix: what timm drew, recorded, gives the same bytes here."""
    picture = next(pictures())
    hparams = {"img_mean": FILL, "translate_const": 14, "translate_pct": 0.3, "interpolation": WAYS["bicubic"]}
    for text in ("augmix", "augmix-m8-w4-d2", "augmix-m5-a0.5"):
        differing = 0
        for seed in range(40):
            made = theirs.augment_and_mix_transform(text, dict(hparams))
            steps: list[Step] = []
            depths: list[int] = []
            for op in made.ops:
                op.aug_fn = recorded(op.aug_fn, LEVELS[op.name].operation, op.name.endswith("Rel"), steps)
            real = np.random.choice
            np.random.choice = counted(real, depths)
            random.seed(seed)
            np.random.seed(seed)
            try:
                wanted = np.asarray(made(Image.fromarray(picture)))
            finally:
                np.random.choice = real
            np.random.seed(seed)
            weights = np.float32(np.random.dirichlet([made.alpha] * made.width))
            part = np.float32(np.random.beta(made.alpha, made.alpha))
            ends = np.cumsum(depths)
            plans = [steps[end - depth : end] for end, depth in zip(ends, depths, strict=True)]
            got = mixed(as_planes(picture[None]), [Mixture(plans, weights, part)], FILL, blended=False)
            differing += not np.array_equal(as_pixels(got)[0], wanted)
        held.true(f"{text}: 40 runs", differing == 0, f"{differing} differ")


def counted(choice, depths: list[int]):  # type: ignore[no-untyped-def]
    """NumPy's choice, noting how many are chosen."""

    def call(operations: object, depth: int, *, replace: bool) -> object:
        depths.append(depth)
        return choice(operations, depth, replace=replace)

    return call


def recorded(function, operation: str, relative: bool, steps: list[Step]):  # type: ignore[no-untyped-def]
    """timm's operation, noting what it is called with."""

    def call(image: Image.Image, *args: float, **kwargs: object) -> Image.Image:
        argument = float(args[0]) if args else 0.0
        if relative:
            argument *= image.size[0 if operation == "translate_x" else 1]
        if operation == "posterize" and argument < 1:
            args, argument = (1,), 1.0
        steps.append(Step(operation, argument, "bicubic"))
        return function(image, *args, **kwargs)

    return call


def jitter(held: Held) -> None:
    """torchvision's colour jitter, part by part."""
    parts = {
        "brightness": torchvision.adjust_brightness, "contrast": torchvision.adjust_contrast,
        "colour": torchvision.adjust_saturation, "hue": torchvision.adjust_hue,
    }  # fmt: skip
    for name, function in parts.items():
        differing = 0
        for picture in pictures():
            for value in np.linspace(-0.5, 0.5, 21) if name == "hue" else np.linspace(0, 2.5, 21):
                wanted = np.asarray(function(Image.fromarray(picture), float(value)))
                got = operate(as_planes(picture[None]), name, np.array([value]), None, FILL)
                differing += not np.array_equal(as_pixels(got)[0], wanted)
        held.true(f"jitter of {name}", differing == 0, f"{differing} pictures differ")


def boxes(held: Held) -> None:
    """Where crops lie and what is erased, by the distribution of their sides and places."""
    size = (48, 64)
    crop = RandomResizedCropAndInterpolation(32, scale=(0.2, 1.0), ratio=(0.75, 4 / 3))
    image = Image.new("RGB", size[::-1])
    random.seed(2)
    one = np.array([crop.get_params(image, crop.scale, crop.ratio) for _ in range(RUNS // 2)])
    other = random_boxes(
        size, RandomResizedCrop(scale=(0.2, 1.0), ratio=(0.75, 4 / 3)), Draws(2, 0, np.arange(RUNS // 2))
    )
    compare(held, "crop", one, other)
    eraser = RandomErasing(probability=1.0, mode="const", device="cpu")
    found = []
    for _ in range(RUNS // 4):
        rows, columns = np.nonzero((eraser(torch.ones(1, *size))[0] == 0).numpy())
        if len(rows):
            sides = (rows.max() + 1 - rows.min(), columns.max() + 1 - columns.min())
            found.append((rows.min(), columns.min(), *sides))
    erased = erased_boxes(size, Erase(probability=1.0), Draws(2, 0, np.arange(RUNS // 4)))
    compare(held, "erasing", np.array(found), np.array([box[1:] for box in erased if box.height and box.width]))


def compare(held: Held, what: str, one: np.ndarray, other: np.ndarray) -> None:
    """Each of top, left, height, width of two lots of boxes by their distribution."""
    for column, name in enumerate(("top", "left", "height", "width")):
        first, second = np.sort(one[:, column]), np.sort(other[:, column])
        grid = np.arange(65)
        gap = np.abs(
            np.searchsorted(first, grid, "right") / len(first) - np.searchsorted(second, grid, "right") / len(second)
        ).max()
        bound = 1.95 * np.sqrt(1 / len(first) + 1 / len(second))
        held.true(f"{what}: {name}", gap < bound, f"distributions {gap:.3f} apart, bound {bound:.3f}")


def main() -> int:
    """Everything; 1 where something differs."""
    held = Held(f"timm {timm.__version__}")
    for part in (operations, policies, frequencies, chains, jitter, boxes):
        part(held)
    return held.end()


if __name__ == "__main__":
    sys.exit(main())
