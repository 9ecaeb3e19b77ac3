from __future__ import annotations

import hashlib

import numpy as np
import pytest

from vitrail.evaluation.answers import digest
from vitrail.proof.pictures import generated

FROZEN = {
    1: "ba8b2a3eb2b80f2936ad25b1044796ab0fa8b1eebfd9fa2fa2c89fa3a9f0008d",
    3: "5b07c23e10335623c6a9820fa0a488a0e6ae5a99deb42cab0ca18836ef8d9def",
}


@pytest.mark.parametrize("channels", [1, 3])
def test_the_64_pictures_never_change(channels: int) -> None:
    whole = hashlib.sha256(b"".join(digest(picture) for picture in generated(channels)))
    assert whole.hexdigest() == FROZEN[channels]


@pytest.mark.parametrize("channels", [1, 3])
def test_they_are_64_different_pictures_with_16_extreme_ones(channels: int) -> None:
    pictures = generated(channels)
    assert len(pictures) == len({digest(picture) for picture in pictures}) == 64
    assert {picture.dtype.name for picture in pictures} == {"uint8"}
    assert {picture.shape[2] for picture in pictures} == {channels}
    assert len({picture.shape for picture in pictures}) >= 8
    assert [int(p.min()) == int(p.max()) for p in pictures[:3]] == [True] * 3
    assert [int(p.sum()) for p in pictures[3:6]] == [255 * channels, (32 * 32 - 1) * 255 * channels, 255 * channels]
    noise = pictures[12]
    assert len(np.unique(noise)) > 240
    assert 100 < noise.mean() < 155


def test_colours_differ() -> None:
    assert all(not (picture[..., 0] == picture[..., 2]).all() for picture in generated(3)[16:])


def test_a_digest_knows_shape_and_content() -> None:
    flat = np.zeros((2, 3, 1), np.uint8)
    assert digest(flat) != digest(flat.reshape(3, 2, 1))
    assert digest(flat) == digest(np.zeros((2, 6, 1), np.uint8)[:, ::2])
