"""The odd pictures of the world that lie beside the project: what each gives, in one line."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from tests.pictures.made.catalogue import digest
from vitrail.errors import PictureError
from vitrail.pictures.decode import decode
from vitrail.pictures.policy import IMAGENET, INTERPOLATIONS, MODES, Policy

GOLDEN = Path(__file__).parent / "golden_odd.json"
ARCHIVE = Path("data") / "photos" / "odd_images.tar"  # in the folder of reference data


def pictures(shared: Path) -> dict[str, bytes]:
    """Name -> bytes of each file of the archive."""
    with tarfile.open(shared / ARCHIVE) as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read() for name, file in sorted(files.items()) if file and "LICENSE" not in name}


def outcome(data: bytes) -> str:
    """The shape and hash of the pixels, and that of the tensors of 18 policies; or the code of the refusal."""
    try:
        pixels = decode(data)
    except PictureError as error:
        return error.code
    tensors = hashlib.sha256()
    for mode in MODES:
        for way in INTERPOLATIONS:
            policy = Policy(size=(57, 63), mode=mode, crop=0.9, interpolation=way, mean=IMAGENET.mean, std=IMAGENET.std)
            tensors.update(policy.normalise(policy.pixels(pixels)[None]).astype("<f4").tobytes())
    whole = hashlib.sha256(pixels.tobytes()).hexdigest()
    return f"{pixels.shape[0]}x{pixels.shape[1]} {whole} {digest(tensors.digest())}"
