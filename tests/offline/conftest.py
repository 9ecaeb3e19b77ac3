"""Bundles, data and one finished flow, made once for all tests of the offline flow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.offline import made
from vitrail.cli import run


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("offline")


@pytest.fixture(scope="session")
def vit(place: Path) -> Path:
    return made.bundle("cifar", place / "bundles")


@pytest.fixture(scope="session")
def cct(place: Path) -> Path:
    return made.bundle("imagenet", place / "bundles")


@pytest.fixture(scope="session")
def cifar(place: Path) -> Path:
    return made.cifar(place / "cifar-10-verify-bin")[0]


@pytest.fixture(scope="session")
def synsets(place: Path) -> Path:
    return made.synsets(place / "imagenet")


@pytest.fixture(scope="session")
def done(place: Path, vit: Path, cifar: Path) -> Path:
    """A finished run over 50 records."""
    assert run(["offline", "run", str(vit), str(cifar), str(place / "done"), "--dataset", "Cifar10"]) == 0
    return place / "done"
