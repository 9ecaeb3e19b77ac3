"""A source with forty faults of ten kinds, and the same source without them."""

from __future__ import annotations

import io
import os
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

Planted = tuple[str, str]  # (kind of the finding, what must stand in one of its cases: a title or a note)
EACH = 4


def made_pictures(root: Path, *, classes: int = 8, each: int = 14, held_out: int = 4, side: int = 48) -> Path:
    """`train` and `val` of smooth random pictures, no two alike."""
    rng = np.random.default_rng(7)
    for label in range(classes):
        for part, count in (("train", each), ("val", held_out)):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
                coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{index}.JPEG", quality=90)
    return root


def plant(root: Path) -> list[Planted]:
    """Damage a source of `train` and `val` with JPEG files, at least 8 classes of 14 and 4; says what was done."""
    work = _Garden(root)
    planted: list[Planted] = []
    for one in (
        work.cut, work.other_bytes, work.doubled, work.leaked, work.nearly_leaked, work.contradicting, work.blank,
        work.long, work.twin_names, work.tiny_class,
    ):  # fmt: skip
        planted += [one(number) for number in range(EACH)]
    return planted


class _Garden:
    """Takes another picture of the source for each fault."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.classes = sorted(entry.name for entry in (root / "train").iterdir())
        self._next = {(part, name): 0 for part in ("train", "val") for name in self.classes}
        self._files = {key: sorted((root / key[0] / key[1]).iterdir()) for key in self._next}
        self._turn = 0

    def take(self, part: str = "train") -> Path:
        """A picture that no other fault has."""
        name = self.classes[self._turn % len(self.classes)]
        self._turn += 1
        path = self._files[part, name][self._next[part, name]]
        self._next[part, name] += 1
        return path

    def title(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def cut(self, number: int) -> Planted:
        path = self.take()
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * (number + 2) // 7])
        return "broken", self.title(path)

    def other_bytes(self, number: int) -> Planted:
        path = self.take()
        path.write_bytes([b"", b"<html>404 Not Found</html>", b"%PDF-1.4 ...", b"\x89PNG\r\n\x1a\nno more"][number])
        return "broken", self.title(path)

    def doubled(self, number: int) -> Planted:
        path = self.take()
        copy = path.with_name(f"copy-{number}.JPEG")
        copy.write_bytes(path.read_bytes())
        return "duplicate", self.title(copy)

    def leaked(self, number: int) -> Planted:
        path = self.take()
        copy = self.root / "val" / path.parent.name / f"leak-{number}.JPEG"
        copy.write_bytes(path.read_bytes())
        return "leak", self.title(copy)

    def nearly_leaked(self, number: int) -> Planted:
        path = self.take()
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        width, height = image.size
        changed = [
            lambda: image,
            lambda: image.resize((2 * width, 2 * height), Image.Resampling.BICUBIC),
            lambda: image.resize((round(0.8 * width), round(0.8 * height)), Image.Resampling.BICUBIC),
            lambda: image.crop((1, 1, width, height)),
        ][number]()
        copy = self.root / "val" / path.parent.name / f"near-{number}.JPEG"
        changed.save(copy, quality=60)
        return "near leak", self.title(copy)

    def contradicting(self, number: int) -> Planted:
        path = self.take()
        other = self.classes[(self.classes.index(path.parent.name) + 1) % len(self.classes)]
        copy = self.root / "train" / other / f"other-{number}.JPEG"
        copy.write_bytes(path.read_bytes())
        return "conflict", self.title(copy)

    def blank(self, number: int) -> Planted:
        path = self.take()
        with Image.open(path) as opened:
            size = opened.size
        Image.new("RGB", size, [(0, 0, 0), (255, 255, 255), (128, 128, 128), (200, 30, 30)][number]).save(path)
        return "blank", self.title(path)

    def long(self, number: int) -> Planted:
        path, below = self.take(), self.take()
        with Image.open(path) as first, Image.open(below) as second:
            width, height = first.size
            tall = Image.new("RGB", (width, 3 * height))
            tall.paste(first, (0, 0))
            tall.paste(second.resize((width, 2 * height)).rotate(180), (0, height))
        if number % 2:
            tall = tall.transpose(Image.Transpose.ROTATE_90)
        tall.save(path, quality=90)
        return "cut", self.title(path)

    def twin_names(self, number: int) -> Planted:
        part = self.take().parent
        files = [path for path in self._files["train", part.name] if path.exists()][-2:]
        self._files["train", part.name] = self._files["train", part.name][:-2]
        word = f"caf\N{LATIN SMALL LETTER E WITH ACUTE} {number}"
        names = [
            (f"{word}.JPEG", f"{word.upper()}.JPEG"),
            (f"{word}.JPEG", unicodedata.normalize("NFD", f"{word}.JPEG")),
            (f"{word}.JPEG", f"{word} .JPEG".replace(" .", "  .").replace("  .", "\N{ZERO WIDTH SPACE}.")),
            (f"{word}.JPEG", f"{word.replace(' ', '  ')}.JPEG"),
        ][number]
        for path, name in zip(files, names, strict=True):
            os.rename(path, path.with_name(name))
        return "file names", self.title(files[0].with_name(names[0]))

    def tiny_class(self, number: int) -> Planted:
        name = f"tiny{number}"
        for part, count in (("train", 3), ("val", 1)):
            (self.root / part / name).mkdir()
            for _ in range(count):
                path = self.take(part)
                os.rename(path, self.root / part / name / f"{path.parent.name}-{path.name}")
        return "tiny class", f"{name}: 3 pictures"


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    """The bytes of a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
