"""`.keras` files: their weights and nothing else, stored or deflated; and what a zip may hide."""

from __future__ import annotations

import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from vitrail.errors import VitrailError
from vitrail.formats import hdf5, keras_zip, zip_directory

WAYS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
WEIGHTS = "model.weights.h5"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    from tests.hostile.hdf5_files import good

    path = tmp_path_factory.mktemp("keras") / "w.h5"
    good(path)
    return path.read_bytes()


def zipped(path: Path, weights: bytes, method: int = zipfile.ZIP_STORED, names: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name in ("metadata.json", "config.json", *names):
            file.writestr(name, "{}")
        file.writestr(WEIGHTS, weights)
    return path


@pytest.mark.parametrize("method", WAYS)
def test_C06_the_weights_are_those_of_the_file_inside(method: int, shared: Path, tmp_path: Path) -> None:
    inside = shared / "reference/files/keras3_vit_tiny.weights.h5"
    path = zipped(tmp_path / "m.keras", inside.read_bytes(), method, ("assets/words.txt",))
    assert keras_zip.read(path) == hdf5.read(inside)


def test_C06_many_pieces_are_inflated_as_one(weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "m.keras", weights, zipfile.ZIP_DEFLATED)
    expected = keras_zip.read(path)
    monkeypatch.setattr(keras_zip, "_PIECE", 7)
    assert keras_zip.read(path) == expected


def changed(weights: bytes, folder: Path, change: Callable[[bytearray], object]) -> Path:
    """The deflated file with its bytes changed; the member of the weights is the last."""
    path = zipped(folder / "m.keras", weights, zipfile.ZIP_DEFLATED)
    body = bytearray(path.read_bytes())
    change(body)
    path.write_bytes(bytes(body))
    return path


def _both(body: bytearray, offset: int, value: int) -> None:
    """A number of the weights' entry, in the local header and in the directory."""
    local = body.index(WEIGHTS.encode()) - 30
    central = body.rindex(WEIGHTS.encode()) - 46
    struct.pack_into("<I", body, local + offset, value)
    struct.pack_into("<I", body, central + offset + 2, value)


def _data(body: bytearray) -> int:
    return body.index(WEIGHTS.encode()) + len(WEIGHTS)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("CRC", lambda body: _both(body, 14, 7)),
        ("size one less", lambda body: _both(body, 22, struct.unpack_from("<I", body, _data(body) - 24)[0] - 1)),
        ("size one more", lambda body: _both(body, 22, struct.unpack_from("<I", body, _data(body) - 24)[0] + 1)),
        ("size of 2 GiB", lambda body: _both(body, 22, 1 << 31)),
        ("first byte", lambda body: body.__setitem__(_data(body), body[_data(body)] ^ 6)),
        ("a byte within", lambda body: body.__setitem__(_data(body) + 99, body[_data(body) + 99] ^ 255)),
        ("local name", lambda body: body.__setitem__(_data(body) - 1, ord("6"))),
        ("cut", lambda body: body.__delitem__(slice(len(body) - 30, None))),
        ("bytes behind", lambda body: body.extend(b"more")),
        ("method 12", lambda body: (struct.pack_into("<H", body, _data(body) - len(WEIGHTS) - 22, 12),
                                    struct.pack_into("<H", body, body.rindex(WEIGHTS.encode()) - 36, 12))),
    ],
)  # fmt: skip
def test_C06_damage_of_the_zip_is_refused(
    name: str, change: Callable[[bytearray], object], weights: bytes, tmp_path: Path
) -> None:
    path = changed(weights, tmp_path, change)
    with pytest.raises(VitrailError) as caught:
        keras_zip.read(path)
    assert caught.value.code in ("V201", "V202")


def test_C07_a_bomb_is_told_by_its_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "m.keras", bytes(100 << 20), zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zlib, "decompressobj", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(VitrailError, match="unpacks") as caught:
        keras_zip.read(path)
    assert caught.value.code == "V202"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("other.h5",), "no place"),
        (("../x",), "no plain name"),
        (("/etc/passwd",), "no plain name"),
        (("assets/../../x",), "no plain name"),
        (("Config.json",), "but for case"),
        (("a/model.weights.h5",), "no place"),
        (("model.py",), "no place"),
    ],
)
def test_C08_members_without_a_place_are_named(
    names: tuple[str, ...], message: str, weights: bytes, tmp_path: Path
) -> None:
    with pytest.raises(VitrailError, match=message) as caught:
        keras_zip.read(zipped(tmp_path / "m.keras", weights, names=names))
    assert caught.value.code == "V202"


def test_C08_two_members_of_one_name_are_refused(weights: bytes, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zipped(tmp_path / "m.keras", weights, names=(WEIGHTS,))
    with pytest.raises(VitrailError, match="two members"):
        keras_zip.read(path)


def test_a_model_without_weights_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        file.writestr("config.json", "{}")
    with pytest.raises(VitrailError, match=r"no `model\.weights\.h5`"):
        keras_zip.read(tmp_path / "m.keras")


def test_C10_a_wrong_hash_stops_before_the_zip(weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_directory, "members", lambda file: pytest.fail("parsed"))
    with pytest.raises(VitrailError, match="SHA-256"):
        keras_zip.read(zipped(tmp_path / "m.keras", weights), sha256="0" * 64)


def test_C06_mutants_of_the_zip_are_refused_or_read(
    weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the zip alone: what is inside is handed on byte for byte, or refused."""
    monkeypatch.setattr(hdf5, "parse", lambda file: bytes(file.read(0, file.size)))
    draw = random.Random(3)
    for number in range(150):
        path = zipped(tmp_path / "m.keras", weights, WAYS[number % 2])
        body = bytearray(path.read_bytes())
        for _ in range(draw.randint(1, 3)):
            body[draw.randrange(len(body))] = draw.randrange(256)
        path.write_bytes(bytes(body))
        try:
            assert keras_zip.read(path) == weights  # type: ignore[comparison-overlap]
        except VitrailError as error:
            assert error.code in ("V201", "V202"), error
