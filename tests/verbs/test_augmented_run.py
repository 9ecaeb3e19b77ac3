"""A run with every kind of augmentation and sampling at once: it trains, and threads change nothing."""

from __future__ import annotations

from pathlib import Path

from tests.verbs.small import hashes, small
from vitrail.verbs.train import train

EVERYTHING = (
    "augment={crop: {name: random_resized, scale: [0.5, 1.0], interpolation: random}, flip: 0.5, "
    "auto: rand-m9-mstd0.5-inc1, erase: {probability: 0.5, mode: pixel}}",
    "mix={mixup: 0.8, cutmix: 1.0, mode: elem}",
    "loss={name: cross_entropy, smoothing: 0.1, class_weights: balanced}",
    "data.sampling=balanced",
    "data.repeats=2",
    "schedule.epochs=1",
)


def test_every_augmentation_at_once_trains_to_the_same_bits(tmp_path: Path) -> None:
    for workers in (0, 3):
        train(small(*EVERYTHING, f"data.workers={workers}"), out=tmp_path / str(workers))
    assert hashes(tmp_path / "0") == hashes(tmp_path / "3")
    plain = small(*EVERYTHING[:3], "schedule.epochs=1")
    train(plain, out=tmp_path / "plain")
    assert hashes(tmp_path / "plain") != hashes(tmp_path / "0")
