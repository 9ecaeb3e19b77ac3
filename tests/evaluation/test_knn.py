"""k nearest neighbours against scikit-learn and against a plain search, in pieces and with equals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from tests.verbs.test_start import saved, source
from vitrail.cli.main import run as cli
from vitrail.data.batches import BadPicture, EvalBatch
from vitrail.errors import DataError, PictureError, UsageError
from vitrail.evaluation import knn
from vitrail.evaluation.intervals import wilson
from vitrail.evaluation.knn import TEMPERATURE, Bank, bank_of


def bank(features: np.ndarray, labels: np.ndarray, classes: int) -> Bank:
    batch = EvalBatch(np.arange(len(labels)), features.reshape(len(labels), -1, 1, 1), labels)
    return bank_of(lambda images: images[:, :, 0, 0], [batch], classes, k=1)


def by_hand(rows: np.ndarray, labels: np.ndarray, asked: np.ndarray, k: int, classes: int) -> np.ndarray:
    """One picture after the other, all sorted."""
    out = np.zeros((len(asked), classes))
    for row, one in enumerate(asked.astype(np.float64)):
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        cosines = [float(one @ other) for other in rows.astype(np.float64)]
        scaled = [c / max(n, 1e-12) / max(np.linalg.norm(one), 1e-12) for c, n in zip(cosines, lengths, strict=True)]
        order = sorted(range(len(rows)), key=lambda i: (-round(scaled[i], 12), i))[:k]
        for i in order:
            out[row, labels[i]] += math.exp(scaled[i] / TEMPERATURE)
    return out / out.sum(axis=1, keepdims=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 12), st.integers(1, 9), st.booleans())
def test_it_is_the_plain_search_in_pieces_of_any_size(seed: int, m: int, k: int, piece: int, equals: bool) -> None:
    random = np.random.default_rng(seed)
    shape = (m, 3)
    rows = random.integers(-1, 2, shape).astype(np.float32) if equals else random.standard_normal(shape, np.float32)
    asked = random.integers(-1, 2, (5, 3)).astype(np.float32) if equals else random.standard_normal((5, 3), np.float32)
    labels, k = random.integers(0, 4, m), min(k, m)
    before, knn.PIECE = knn.PIECE, piece
    try:
        shares = np.exp(bank(rows, labels, 4).votes(asked, k))
    finally:
        knn.PIECE = before
    assert np.allclose(shares, by_hand(rows, labels, asked, k, 4), rtol=1e-9, atol=2e-12)


def test_it_is_what_scikit_learn_finds() -> None:
    random = np.random.default_rng(0)
    rows, asked = (random.standard_normal((n, 16)).astype(np.float32) for n in (500, 200))
    labels = random.integers(0, 7, 500)
    rows += 0.4 * labels[:, None]
    theirs = KNeighborsClassifier(20, metric="cosine", weights=lambda d: np.exp((1 - d) / TEMPERATURE))
    theirs.fit(rows.astype(np.float64), labels)
    shares = np.exp(bank(rows, labels, 7).votes(asked, 20))
    assert np.allclose(shares, theirs.predict_proba(asked.astype(np.float64)), atol=1e-6)
    assert (shares.argmax(1) == theirs.predict(asked.astype(np.float64))).all()


def test_of_equals_the_lower_index_votes() -> None:
    same = np.ones((4, 8), np.float32)
    found = bank(same, np.array([2, 0, 1, 1]), 3)
    assert found.nearest(same[:1], 2)[1].tolist() == [[0, 1]]
    assert found.votes(same[:1], 1).argmax() == 2
    assert found.votes(same[:1], 2).argmax() == 0  # of equal votes the lower class


def test_a_bank_leaves_unread_pictures_out_and_holds_at_least_k() -> None:
    images = np.ones((3, 2, 1, 1), np.float32)
    bad = BadPicture(1, "x.jpg", PictureError("V301", "cut"))
    batch = EvalBatch(np.arange(3), images, np.array([0, 1, 1]), (bad,))

    def features(images: np.ndarray) -> np.ndarray:
        return images[:, :, 0, 0]

    assert bank_of(features, [batch], 2, k=2).labels.tolist() == [0, 1]
    with pytest.raises(UsageError, match="3 nearest of 2"):
        bank_of(features, [batch], 2, k=3)
    with pytest.raises(DataError, match="no picture of the bank"):
        bank_of(features, [EvalBatch(np.array([1]), images[:1], np.array([0]), (bad,))], 2, k=1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that are random, and do not say so: their features are worth something on digits all the same."""
    path = tmp_path_factory.mktemp("knn") / "model.safetensors"
    return saved(source("cct", classes=3), path)


def test_the_command_gives_every_measure_with_its_interval(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = []
    for batch in ("64", "50"):
        assert cli(["evaluate", str(weights), "--data", "digits", "--knn", "5", "--batch", batch, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    one, other = answers
    assert one["part"] == "held-out"
    assert one["knn"] == {"k": 5, "temperature": TEMPERATURE, "bank": 1442}
    assert one["pictures"] == 355 and len(one["classes"]) == 10
    assert one["top1"] > 0.7
    assert tuple(one["top1_interval"]) == wilson(one["correct"], 355)
    assert one["correct"] == other["correct"]


@pytest.mark.parametrize(
    "more", [["--part", "train"], ["--part", "all"], ["--engine", "onnx"], ["--knn", "2000"]], ids=" ".join
)
def test_what_makes_no_sense_is_refused(more: list[str], weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["evaluate", str(weights), "--data", "digits", "--knn", "5", *more]) == 2
    assert "V007" in capsys.readouterr().err
