"""A tar shard in the WebDataset convention: files of one key beside each other are one sample, `KEY.jpg`, `KEY.cls`.

The key ends at the first dot of the file's name. Convention: github.com/webdataset/webdataset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vitrail.formats import tar
from vitrail.formats.bounds import damaged, hostile, shown
from vitrail.formats.ranges import Ranges, Read

LABEL_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture's place in the shard, and the bytes of the label beside it with their ending."""

    name: str
    start: int
    size: int
    label: bytes
    label_ending: str


def samples(file: Ranges, pictures: tuple[str, ...], labels: tuple[str, ...]) -> Iterator[Sample]:
    """The samples of a shard in its order. pictures, labels: their endings; of labels the first that is there.

    Samples without picture and label are passed over. WeightsError V201 for a sample that has one of them alone, V202
    for one that comes twice and for what is no file.
    """
    seen: set[str] = set()
    with file.opened() as read:
        for key, parts in _groups(file, read):
            if key in seen:
                raise hostile(file.path, f"the sample `{shown(key)}` comes twice, or in pieces")
            seen.add(key)
            mine = [ending for ending in parts if ending in pictures]
            label = next((ending for ending in labels if ending in parts), None)
            if not mine and label is None:
                continue
            if len(mine) != 1 or label is None:
                has = ", ".join(sorted(parts))
                raise damaged(file.path, f"the sample `{shown(key)}` is no picture with a label: it has {has}")
            picture = parts[mine[0]]
            yield Sample(key + mine[0], picture.start, picture.size, _bytes(parts[label], read, file), label)


def has_samples(file: Ranges, pictures: tuple[str, ...], labels: tuple[str, ...], *, look: int = 64) -> bool:
    """Whether the first members of a tar are pictures with a label each."""
    endings: dict[str, set[str]] = {}
    with file.opened() as read:
        for count, member in enumerate(tar.members(read, file.path)):
            key, ending = _key(member.name)
            endings.setdefault(key, set()).add(ending)
            if count >= look:
                break
    found = [mine for mine in endings.values() if mine & set(pictures)]
    return bool(found) and 2 * sum(bool(mine & set(labels)) for mine in found) > len(found)


def _groups(file: Ranges, read: Read) -> Iterator[tuple[str, Mapping[str, tar.Member]]]:
    key, parts = "", dict[str, tar.Member]()
    for member in tar.members(read, file.path):
        if member.kind == "folder":
            continue
        if member.kind != "file" or member.start + member.size > file.size:
            raise hostile(file.path, f"the member `{shown(member.name)}` is no file, or is cut off")
        mine, ending = _key(member.name)
        if not mine or mine.endswith("/"):
            continue  # a hidden file
        if mine != key and parts:
            yield key, parts
            parts = {}
        key = mine
        if ending in parts:
            raise hostile(file.path, f"two members are named `{shown(member.name)}`")
        parts[ending] = member
    if parts:
        yield key, parts


def _key(name: str) -> tuple[str, str]:
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, dot, ending = file.partition(".")
    return f"{folder}{slash}{stem}", f"{dot}{ending}".lower()


def _bytes(member: tar.Member, read: Read, file: Ranges) -> bytes:
    if member.size > LABEL_BYTES:
        raise hostile(file.path, f"the label `{shown(member.name)}` has {member.size} bytes")
    return read(member.start, member.size)
