"""What augmentation draws: the grammar of timm, its frequencies, and the same bytes whatever the batch."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.augment.augmix import Mixture, mixed
from vitrail.data.augment.crops import interpolations
from vitrail.data.augment.draws import Draws
from vitrail.data.augment.erase import erase, erased_boxes
from vitrail.data.augment.grammar import AugMix, AutoAugment, RandAugment, is_three_augment, parse
from vitrail.data.augment.levels import LEVELS
from vitrail.data.augment.pictures import augmented, augmented_batch, sampling_of
from vitrail.data.augment.plans import Scene, Step, auto_plans, jitter_plans, magnitude_of, rand_plans
from vitrail.data.augment.policies import OPERATION_SETS, POLICIES
from vitrail.data.configs import Augment, Crop, Erase, Jitter, NoCrop, PadCrop, RandomResizedCrop
from vitrail.pictures.operations import as_planes
from vitrail.pictures.operations.enhance import blend
from vitrail.pictures.policy import CIFAR10, IMAGENET, Policy

POLICY = Policy(size=(24, 20), mean=IMAGENET.mean, std=IMAGENET.std)
SCENE = Scene(32, 32, None)
MANY = Draws(7, 0, np.arange(20_000))


def test_the_grammar() -> None:
    usual = parse("rand-m9-mstd0.5-inc1")
    assert usual == RandAugment(OPERATION_SETS["increasing"], magnitude=9, spread=0.5)  # type: ignore[arg-type]
    assert parse("rand-inc1-mstd0.5-m9") == usual and parse("rand-m9-mstd0.5-inc0") != usual
    plain = parse("rand")
    assert isinstance(plain, RandAugment)
    assert (plain.magnitude, plain.count, plain.probability, plain.spread, plain.most) == (10, 2, 0.5, 0.0, 10)
    assert plain.operations == parse("rand-inc0").operations == OPERATION_SETS["plain"]  # type: ignore[union-attr]
    many = parse("rand-m12-n3-p0.7-mstd101-mmax15-tweights")
    assert isinstance(many, RandAugment) and many.spread == math.inf and many.most == 15 and many.count == 3
    assert many.weights is not None and many.probability == 0.7 and many.operations[0] == "Rotate"
    assert parse("augmix-m5-w4-d2-a0.5-b1-mstd1") == AugMix(
        parse("augmix").operations,
        5,
        4,
        2,
        0.5,
        True,
        1.0,  # type: ignore[union-attr]
    )
    assert parse("augmix").spread == math.inf
    assert parse("original-mstd0.5") == AutoAugment(POLICIES["original"], 0.5)
    assert [len(POLICIES[name]) for name in ("original", "originalr", "v0", "v0r", "3a")] == [25, 25, 25, 25, 3]
    assert is_three_augment("3a") and is_three_augment("rand-t3aw") and not is_three_augment("rand-m9-n3")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("ran-m9", "did you mean `rand`"), ("rand-x3", "known: m, n, p"), ("rand-mst0.5", "did you mean `mstd`"),
        ("rand-m9.5", "a whole number"), ("rand-tweight", "did you mean `weights`"), ("rand-m9-m9", "stands twice"),
        ("rand-t3a-t3aw", "stands twice"), ("rand-n0", "must lie in"), ("rand-p1.5", "must lie in"),
        ("rand-n4-t3a", ""), ("rand-n15-t3aw", "more operations"), ("augmix-d0", "must lie in"), ("", "known: rand"),
        ("rand-", "known: m"), ("rand-inc", "a whole number"), ("v0-m3", "known: mstd"), ("original-foo", "known"),
        ("rand-inc2", "must lie in"), ("rand-m-9", "a whole number"), ("tweights", "names no augmentation"),
    ],
)  # fmt: skip
def test_what_the_grammar_refuses(text: str, word: str) -> None:
    if not word:  # without weights operations are drawn with replacement: there may be more than kinds
        assert parse(text)
        return
    with pytest.raises(ValueError, match=word):
        parse(text)


@pytest.mark.parametrize("text", ["rand-m9-mstd0.5-inc1", "rand-m5-n3-p0.8", "rand-t3a-m7-mstd101"])
def test_rand_augment_has_the_stated_distribution(text: str) -> None:
    auto = parse(text)
    assert isinstance(auto, RandAugment)
    plans = rand_plans(auto, SCENE, MANY)
    counts = np.bincount([len(plan) for plan in plans], minlength=auto.count + 1) / len(plans)
    chance = auto.probability
    wanted = [math.comb(auto.count, k) * chance**k * (1 - chance) ** (auto.count - k) for k in range(auto.count + 1)]
    assert np.abs(counts - wanted).max() < 0.015
    steps = [step for plan in plans for step in plan]
    kinds = Counter(step.operation for step in steps)
    each = Counter(LEVELS[name].operation for name in auto.operations)
    assert kinds.keys() == each.keys()
    for operation, parts in each.items():
        assert abs(kinds[operation] / len(steps) - parts / len(auto.operations)) < 0.01, operation
    if "rotate" in kinds:
        angles = np.array([step.argument for step in steps if step.operation == "rotate"])
        assert abs((angles > 0).mean() - 0.5) < 0.05
        assert abs(np.abs(angles).mean() - 3 * auto.magnitude) < 0.4 * auto.spread + 1e-9
        sampled = Counter(step.sampling for step in steps if step.operation == "rotate")
        assert set(sampled) == {"bilinear", "bicubic"} and abs(sampled["bicubic"] / len(angles) - 0.5) < 0.05
    if "colour" in kinds and auto.magnitude == 9:
        factors = np.array([step.argument for step in steps if step.operation == "colour"])
        assert abs((factors > 1).mean() - 0.5) < 0.05 and factors.min() >= 0.1 and factors.max() <= 1.9
    if auto.spread == math.inf:
        blurs = np.array([step.argument for step in steps if step.operation == "gaussian_blur"])
        assert abs(blurs.mean() - (0.1 + 1.9 * 0.35)) < 0.02 and blurs.min() < 0.12 and blurs.max() > 1.4


def test_magnitudes_are_normal_and_cut() -> None:
    drawn = np.array([magnitude_of(9, 0.5, 10, draw) for draw in MANY.uniforms("auto", 1)[:, 0]])
    assert abs((drawn == 10).mean() - 0.02275) < 0.004  # two deviations and more
    below = drawn[drawn < 10]
    assert abs(np.quantile(drawn, [0.1587, 0.5, 0.8413]) - [8.5, 9.0, 9.5]).max() < 0.02 and below.min() > 6
    assert magnitude_of(9, 0.5, 10, 0.0) == pytest.approx(9 - 0.5 * 8.2, abs=0.1)
    assert magnitude_of(5, math.inf, 10, 0.25) == 1.25 and magnitude_of(12, 0.0, 10, 0.3) == 10


def test_weighted_operations_are_drawn_once_each() -> None:
    auto = parse("rand-n2-p1-tweights")
    assert isinstance(auto, RandAugment) and auto.weights is not None
    plans = rand_plans(auto, SCENE, MANY)
    names = [LEVELS[name].operation for name in auto.operations]
    parts = np.array(auto.weights) / sum(auto.weights)
    first = Counter(plan[0].operation for plan in plans)
    both = Counter((plan[0].operation, plan[1].operation) for plan in plans)
    assert all(one != other for one, other in both)
    for name, part in zip(names, parts, strict=True):
        assert abs(first[name] / len(plans) - part) < 0.012, name
    rotate, shear = parts[0], parts[1]
    assert abs(both["rotate", "shear_x"] / len(plans) - rotate * shear / (1 - rotate)) < 0.012


@pytest.mark.parametrize("name", ["original", "v0r", "3a"])
def test_auto_augment_draws_its_sub_policies(name: str) -> None:
    auto = parse(name)
    assert isinstance(auto, AutoAugment)
    plans = auto_plans(auto, SCENE, MANY)
    wanted: Counter[str] = Counter()
    for policy in auto.policies:
        for operation, probability, _ in policy:
            wanted[LEVELS[operation].operation] += probability / len(auto.policies)  # type: ignore[assignment]
    found = Counter(step.operation for plan in plans for step in plan)
    for operation, per_picture in wanted.items():
        assert abs(found[operation] / len(plans) - per_picture) < 0.015, operation
    if name == "3a":
        assert {len(plan) for plan in plans} == {1}
        radii = np.array([plan[0].argument for plan in plans if plan[0].operation == "gaussian_blur"])
        assert abs(radii.mean() - 1.05) < 0.03 and radii.min() >= 0.1 and radii.max() <= 2.0


def test_jitter_has_the_stated_distribution() -> None:
    plans = jitter_plans(Jitter(brightness=0.4, contrast=1.5, hue=0.1, probability=0.8), MANY)
    assert abs(sum(map(bool, plans)) / len(plans) - 0.8) < 0.015
    done = [plan for plan in plans if plan]
    assert all(sorted(step.operation for step in plan) == ["brightness", "contrast", "hue"] for plan in done)
    orders = Counter(tuple(step.operation for step in plan) for plan in done)
    assert len(orders) == 6 and max(orders.values()) / len(done) < 1 / 6 + 0.02
    for operation, low, high in (("brightness", 0.6, 1.4), ("contrast", 0.0, 2.5), ("hue", -0.1, 0.1)):
        values = np.array([step.argument for plan in done for step in plan if step.operation == operation])
        assert values.min() >= low and values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.02 * (high - low)


CROPS: tuple[Crop, ...] = (
    NoCrop(), PadCrop(padding=3), RandomResizedCrop(scale=(0.3, 1.0), interpolation="random"),
    RandomResizedCrop(interpolation="bilinear"),
)  # fmt: skip
AUTOS = (None, "rand-m9-n3-p0.9-mstd0.5-inc1", "original", "v0", "3a", "augmix-m5", "augmix-b1-w2", "rand-tweights")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CROPS), st.sampled_from(AUTOS), st.booleans(), st.sampled_from([1, 3]), st.integers(0, 1000))
def test_a_batch_gives_the_bytes_of_its_pictures(
    crop: Crop, auto: str | None, coloured: bool, channels: int, seed: int
) -> None:
    jitter = Jitter(brightness=0.4, saturation=0.4, hue=0.1) if auto in (None, "3a") and coloured else None
    augment = Augment(crop=crop, flip=0.5, vertical_flip=0.3, auto=auto, jitter=jitter)
    policy = Policy(size=(24, 20), mean=(0.5,) * channels, std=(0.5,) * channels)
    size = (31, 27) if isinstance(crop, RandomResizedCrop) else policy.size
    pixels = np.random.default_rng(seed).integers(0, 256, (5, *size, channels), np.uint8)
    indices = np.array([3, 900, 17, 4, 12345])
    batch = augmented_batch(pixels, augment, policy, Draws(seed, 2, indices))
    assert batch.shape == (5, 24, 20, channels) and batch.dtype == np.uint8
    for picture, index, wanted in zip(pixels, indices, batch, strict=True):
        alone = augmented(picture, augment, policy, Draws(seed, 2, np.array([index])))
        assert np.array_equal(alone, wanted)


def test_the_way_of_interpolating_follows_the_crop() -> None:
    assert sampling_of(Augment()) is None and sampling_of(Augment(crop=PadCrop())) is None
    assert sampling_of(Augment(crop=RandomResizedCrop(interpolation="random"))) is None
    assert sampling_of(Augment(crop=RandomResizedCrop(interpolation="bilinear"))) == "bilinear"
    drawn = Counter(interpolations(RandomResizedCrop(interpolation="random"), MANY))
    assert abs(drawn["bilinear"] / 20_000 - 0.5) < 0.015 and set(drawn) == {"bilinear", "bicubic"}
    auto = parse("rand-p1-m9")
    assert isinstance(auto, RandAugment)
    ways = {step.sampling for plan in rand_plans(auto, Scene(32, 32, "bilinear"), MANY) for step in plan}
    assert ways == {None, "bilinear"}


def test_the_fill_is_the_rounded_mean() -> None:
    assert POLICY.bars == (124, 116, 104)
    assert Policy(size=(8, 8), mean=CIFAR10.mean, std=CIFAR10.std).bars == (125, 123, 114)
    assert Policy(size=(8, 8), mean=(0.5,), std=(0.5,)).bars == (128,)


def test_augmix_is_the_papers_sum() -> None:
    """One picture by hand: chains summed in float32, cut, then blended; blended chains end near the same."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 3, 12, 12), np.uint8)
    chains = [[Step("invert", 0.0)], [Step("posterize", 2.0), Step("invert", 0.0)], []]
    mixture = Mixture(chains, np.array([0.5, 0.3, 0.2], np.float32), np.float32(0.4))
    ends = [255 - picture, 255 - (picture & 192), picture]
    total = sum(weight * end.astype(np.float32) for weight, end in zip(mixture.weights, ends, strict=True))
    wanted = blend(picture, np.asarray(total).astype(np.uint8), np.array([0.4], np.float32))
    assert np.array_equal(mixed(picture, [mixture], (0, 0, 0), blended=False), wanted)
    in_turn = mixed(picture, [mixture], (0, 0, 0), blended=True)
    assert np.abs(in_turn.astype(int) - wanted).max() <= 3


def test_recorded_boxes_of_timm_are_possible(shared: Path) -> None:
    vectors = np.load(shared / "reference" / "augment_vectors.npz", allow_pickle=False)
    for row in json.loads(str(vectors["meta"]))["random_erasing"]:
        if row["max_count"] > 1 or row["probability"] < 1:
            continue
        config = Erase(probability=1.0, mode=row["mode"])
        boxes = erased_boxes((32, 32), config, Draws(0, 0, np.arange(4000)))
        sides = {(box.height, box.width) for box in boxes}
        for top, left, bottom, right in row["changed_bounding_box_top_left_bottom_right"]:
            assert (bottom - top, right - left) in sides


def test_erasing_has_the_stated_distribution() -> None:
    config = Erase(probability=0.25, area=(0.02, 1 / 3), count=3)
    boxes = erased_boxes((64, 48), config, MANY)
    by_picture = Counter(box.row for box in boxes)
    assert abs(len(by_picture) / 20_000 - 0.25) < 0.01
    counts = Counter(by_picture.values())
    assert all(abs(counts[number] / len(by_picture) - 1 / 3) < 0.03 for number in (1, 2, 3))
    alone = [box for box in boxes if by_picture[box.row] == 1]
    area = np.array([box.height * box.width for box in alone]) / (64 * 48)
    aspect = np.log([box.height / box.width for box in alone])
    assert abs(area.mean() - (0.02 + 1 / 3) / 2) < 0.012 and area.max() < 1 / 3 + 0.02 and area.min() > 0.015
    # tall boxes of a large area do not fit, so that the log-aspect lies a little below 0 where the picture is tall
    assert abs(aspect.mean()) < 0.08 and abs(aspect).max() < np.log(1 / 0.3) + 0.15
    for box in boxes:
        assert box.top >= 0 and box.top + box.height <= 64 and box.left >= 0 and box.left + box.width <= 48


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_what_is_erased(mode: str) -> None:
    config = Erase(probability=0.6, mode=mode, count=2)  # type: ignore[arg-type]
    draws = Draws(3, 1, np.arange(400) * 7)
    images = np.full((400, 3, 20, 24), 9.0, np.float32)
    whole = erase(images.copy(), config, draws)
    for row in (0, 5, 399):
        alone = erase(images[row : row + 1].copy(), config, draws.of(np.array([row])))
        assert np.array_equal(alone[0], whole[row])
    changed = whole[whole != 9.0]
    assert 0.02 < (whole != 9.0).mean() < 0.3
    if mode == "const":
        assert (changed == 0).all()
        return
    assert abs(changed.mean()) < 0.12 and abs(changed.std() - 1) < 0.12
    outside = np.ones(images.shape, bool)
    for row, top, left, height, width in erased_boxes((20, 24), config, draws):
        outside[row, :, top : top + height, left : left + width] = False
        box = whole[row, :, top : top + height, left : left + width]
        if mode == "pixel" and height * width > 20:
            assert len(np.unique(box)) > 0.9 * box.size
    assert (whole[outside] == 9.0).all()


def test_planes_may_lie_apart() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), np.uint8)
    assert np.array_equal(as_planes(pixels)[:, 1], pixels[..., 1])
    assert as_planes(as_planes(pixels).transpose(0, 2, 3, 1)).base is not None
