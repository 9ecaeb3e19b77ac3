"""A bundle that answers in no time, pictures of which some are hostile, and what is compared of their shards."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from tests.verbs.small import small
from vitrail.data.configs import Data
from vitrail.data.sources import open_source
from vitrail.verbs.train import train

BAD = {  # name -> the code of its row
    "0007 no picture.jpg": "V301",
    "0020, cut\nin two.png": "V302",
    "0033.webp": "V304",
    "0041 a link to nothing.png": "V304",
    "0060 \udcff no utf-8.png": "V302",
}


def bundle(place: Path) -> Path:
    """A bundle of a small network trained on the digits; torch runs it."""
    train(small("schedule.epochs=1"), out=place / "run")
    return place / "run" / "bundle"


def pictures(place: Path, count: int = 60) -> Path:
    """A folder of digits, without classes: some below another folder, some hostile, and a file that is no picture."""
    source = open_source(Data(root="digits"))
    (place / "more").mkdir(parents=True)
    for index in range(count):
        path = place / ("more" if index % 5 == 0 else "") / f"{index:04d}.png"
        Image.fromarray(source.read(index)[..., 0]).resize((20, 18 + index % 5)).save(path)
    whole = (place / "0001.png").read_bytes()
    names = list(BAD)
    (place / names[0]).write_bytes(b"<svg onload=alert(1)>")
    (place / names[1]).write_bytes(whole[:60])
    os.mkfifo(place / names[2])
    (place / names[3]).symlink_to("nowhere.png")
    (place / os.fsencode(names[4]).decode("utf-8", "surrogateescape")).write_bytes(whole[:-30])
    (place / "notes.txt").write_text("passed over")
    return place


def contents(folder: Path) -> dict[str, bytes]:
    """Everything in a finished folder but the lock; nothing aside is left."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    assert not [name for name in found if name.startswith(".")]
    return found
