"""C++ makes the same pixels as Python, to the last bit, and refuses the same files."""

from __future__ import annotations

import hashlib
import random
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.cpp.asking import ask
from tests.hostile.campaign import mutated
from tests.pictures import odd
from tests.pictures.hostile import HOSTILE, PROGRESSIVE
from tests.pictures.made import catalogue
from tests.pictures.mutants import READERS
from vitrail.errors import PictureError
from vitrail.pictures.decode import decode
from vitrail.pictures.policy import HALF, IMAGENET, INTERPOLATIONS, MODES, Interpolation, Policy

QUICK = range(2, catalogue.COUNT, 11)


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def asked(policy: Policy, path: Path) -> str:
    mean, std = (",".join(value.hex() for value in values) for values in (policy.mean, policy.std))
    height, width = policy.size
    return f"prepare {policy.mode} {policy.interpolation} {height} {width} {policy.crop.hex()} {mean} {std} {path}"


def expected(policy: Policy, path: Path) -> str:
    try:
        pixels = policy.pixels(path)
    except PictureError as error:
        return error.code
    return f"{digest(pixels)} {digest(policy.normalise(pixels[None]))}"


def decoded(path: Path, channels: int = 3) -> str:
    try:
        pixels = decode(path, channels=channels)
    except PictureError as error:
        return error.code
    return f"{pixels.shape[0]} {pixels.shape[1]} {digest(pixels)}"


def compare(built: Path, lines: list[str], wanted: list[str], *, verdicts: bool = False) -> None:
    """Refusals by their code alone: the words may differ. verdicts: of what is accepted only the size is compared."""
    found = [answer.split()[0] if answer.startswith("V") else answer for answer in ask(built / "vitrail-parts", lines)]
    if verdicts:
        found, wanted = ([" ".join(answer.split()[:2]) for answer in answers] for answers in (found, wanted))
    wrong = [(line, want, got) for line, want, got in zip(lines, wanted, found, strict=True) if want != got]
    assert not wrong, f"{len(wrong)} of {len(lines)}: {wrong[:5]}"


def by_cpp(wanted: str, data: bytes) -> str:
    """BMP and GIF are the stated exceptions."""
    return "V305" if data.startswith((b"BM", b"GIF8")) else wanted


def made(built: Path, folder: Path, numbers: range) -> None:
    lines, wanted = [], []
    for number in numbers:
        picture = catalogue.made(number)
        path = folder / f"{number}"
        path.write_bytes(picture.data())
        lines.append(asked(picture.policy, path))
        wanted.append(by_cpp(expected(picture.policy, path), path.read_bytes()))
    assert sum(not want.startswith("V") for want in wanted) > len(wanted) * 0.6
    compare(built, lines, wanted)


def test_E07_made_pictures(built: Path, tmp_path: Path) -> None:
    made(built, tmp_path, QUICK)


@pytest.mark.prove
def test_E07_all_made_pictures(built: Path, tmp_path: Path) -> None:
    made(built, tmp_path, range(catalogue.COUNT))


def test_E07_the_odd_pictures_of_the_world(built: Path, tmp_path: Path, shared: Path) -> None:
    lines, wanted = [], []
    for name, data in odd.pictures(shared).items():
        path = tmp_path / Path(name).name
        path.write_bytes(data)
        for channels in (1, 3):
            lines.append(f"decode {channels} {path}")
            wanted.append(by_cpp(decoded(path, channels), data))
    assert len(lines) > 150
    compare(built, lines, wanted)


def photos(shared: Path, folder: Path, count: int) -> list[Path]:
    """So many photographs of the archives, spread over them."""
    paths = []
    for name, share in (("imagenet_samples90", 0.09), ("clothing10", 0.31), ("tinyimagenet20", 0.6)):
        with tarfile.open(shared / "data" / "photos" / f"{name}.tar") as archive:
            members = [one for one in archive if one.isfile() and one.name.lower().endswith((".jpg", ".jpeg"))]
            for member in members[:: max(1, int(len(members) / (count * share)))]:
                file = archive.extractfile(member)
                assert file is not None
                path = folder / f"{name}-{len(paths)}.jpg"
                path.write_bytes(file.read())
                paths.append(path)
    return paths


def of_photos(built: Path, shared: Path, folder: Path, count: int) -> None:
    paths = photos(shared, folder, count)
    assert len(paths) >= count * 0.9
    policies = [
        Policy(size=(224, 224), mode=mode, crop=crop, interpolation=way, mean=IMAGENET.mean, std=IMAGENET.std)
        for mode in MODES
        for way in INTERPOLATIONS
        for crop in (0.875, 1.0)
    ]
    chosen = [policies[number % len(policies)] for number in range(len(paths))]
    lines = [asked(policy, path) for policy, path in zip(chosen, paths, strict=True)]
    wanted = [expected(policy, path) for policy, path in zip(chosen, paths, strict=True)]
    assert not any(want.startswith("V") for want in wanted)
    compare(built, lines, wanted)


def test_E07_photographs(built: Path, shared: Path, tmp_path: Path) -> None:
    of_photos(built, shared, tmp_path, 60)


@pytest.mark.prove
def test_E07_a_thousand_photographs(built: Path, shared: Path, tmp_path: Path) -> None:
    of_photos(built, shared, tmp_path, 1000)


def sized(number: int) -> tuple[tuple[int, int], Policy]:
    """A picture's size and a policy, of all sizes up to 4096, modes, crops and interpolations."""
    draw = np.random.default_rng(number)
    top = int(draw.choice([4, 40, 400, 4096]))
    height, width = (int(side) for side in draw.integers(1, top + 1, 2))
    if height * width > 400_000:
        height = max(1, 400_000 // width)
    size = tuple(int(side) for side in draw.integers(1, int(draw.choice([4, 64, 300])) + 1, 2))
    statistics = tuple(float(value) for value in draw.uniform(0.1, 0.9, 3))
    policy = Policy(
        size=(size[0], size[0] if draw.integers(2) else size[1]),
        mode=MODES[number % 3],
        crop=float(draw.choice([1.0, 0.875, 0.9, 0.95, 0.3])),
        interpolation=INTERPOLATIONS[number // 3 % 6],
        mean=statistics[: 1 if number % 7 == 0 else 3],
        std=statistics[: 1 if number % 7 == 0 else 3],
    )
    return (height, width), policy


def of_sizes(built: Path, folder: Path, count: int) -> None:
    from PIL import Image

    lines, wanted = [], []
    for number in range(count):
        (height, width), policy = sized(number)
        path = folder / f"{number}.png"
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, compress_level=0)
        lines.append(asked(policy, path))
        wanted.append(expected(policy, path))
        if len(lines) == 100 or number == count - 1:  # the files are large: some at a time
            compare(built, lines, wanted)
            lines, wanted = [], []


@pytest.mark.parametrize("way", INTERPOLATIONS)
def test_E07_the_weights_of_each_filter(built: Path, tmp_path: Path, way: Interpolation) -> None:
    """One wide picture a filter, scaled by odd ratios: thousands of weights, the last bit of each of them."""
    from PIL import Image

    path = tmp_path / "noise.png"
    noise = np.random.default_rng(5).integers(0, 2, (300, 1800, 3), dtype=np.uint8) * 255
    Image.fromarray(noise).save(path, compress_level=0)
    sizes = ((299, 1777), (41, 613), (331, 1999), (7, 97))
    policies = [Policy(size=size, mode="squash", interpolation=way, mean=HALF.mean, std=HALF.std) for size in sizes]
    compare(built, [asked(one, path) for one in policies], [expected(one, path) for one in policies])


def test_E07_sizes_from_1_to_4096(built: Path, tmp_path: Path) -> None:
    of_sizes(built, tmp_path, 90)


@pytest.mark.prove
def test_E07_many_sizes_from_1_to_4096(built: Path, tmp_path: Path) -> None:
    of_sizes(built, tmp_path, 1000)


def of_files(built: Path, folder: Path, files: Iterable[bytes], *, verdicts: bool = False) -> None:
    lines, wanted = [], []
    for number, data in enumerate(files):
        path = folder / str(number)
        path.write_bytes(data)
        lines.append(f"decode 3 {path}")
        wanted.append(by_cpp(decoded(path), data))
    compare(built, lines, wanted, verdicts=verdicts)


def test_E01_hostile_pictures_have_the_same_verdict(built: Path, tmp_path: Path) -> None:
    large = ("frames", "9 png with 100,000 texts", "20 MB")  # seconds of encoding; `make prove` has them
    of_files(
        built, tmp_path, [make() for name, (make, _) in HOSTILE.items() if not any(word in name for word in large)]
    )


def test_E01_pictures_that_end_within_their_first_bytes(built: Path, tmp_path: Path) -> None:
    seeds = [seed.file(seed.body) for reader in READERS.values() for seed in reader.seeds()]
    starts = {data[:length] for data in seeds for length in range(64) if data[:2] not in (b"BM", b"GI")}
    of_files(built, tmp_path, sorted(starts | {b"RIFFE\0"}))


@pytest.mark.prove
def test_E01_all_hostile_pictures_have_the_same_verdict(built: Path, tmp_path: Path) -> None:
    of_files(built, tmp_path, [make() for make, _ in HOSTILE.values()])


def of_mutants(built: Path, folder: Path, count: int) -> None:
    """Files changed at random: the same verdict, and the same pixels of what is accepted all the same.

    But for progressive JPEG: where a component has its first scan alone, libjpeg guesses what is missing, and the
    versions of libjpeg-turbo guess differently.
    """
    for name, reader in READERS.items():
        if name not in ("gif", "bmp"):
            draw, seeds = random.Random(name), reader.seeds()
            files = [mutated(draw, seeds, reader.splices)[1] for _ in range(count)]
            of_files(built, folder, files, verdicts=name == "jpeg progressive")


def test_E07_a_progressive_jpeg_that_ends_after_any_scan_but_the_first(built: Path, tmp_path: Path) -> None:
    scans = [match.start() for match in re.finditer(b"\xff\xda", PROGRESSIVE)]
    assert len(scans) == 10
    of_files(built, tmp_path, [PROGRESSIVE[:at] + b"\xff\xd9" for at in scans[2:]])
    of_files(built, tmp_path, [PROGRESSIVE[: scans[1]] + b"\xff\xd9"], verdicts=True)


def test_E01_mutants_have_the_same_verdict(built: Path, tmp_path: Path) -> None:
    of_mutants(built, tmp_path, 120)


@pytest.mark.prove
def test_E01_many_mutants_have_the_same_verdict(built: Path, tmp_path: Path) -> None:
    of_mutants(built, tmp_path, 2000)
