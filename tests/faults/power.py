"""States in which a power loss may leave a disk, made from the recorded calls of a save (ALICE, OSDI 2014).

A file's bytes are sure once it was flushed after its last write; before, it may be empty, torn, filled with zeros or
whole. A name that was made, moved or removed is sure once the folder that holds it was flushed; before, each of them
may be lost, whatever came after it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.faults import Call

TORN = (512, 4096)
Names = dict[int, dict[str, int]]  # folder -> name -> what it holds; both by number


@dataclass(frozen=True)
class Change:
    """One change of names: what moved from where to where; None for nowhere. at: the number of its call."""

    at: int
    node: int
    old: tuple[int, str] | None
    new: tuple[int, str] | None
    folder: bool  # whether what moved is one


@dataclass
class Disk:
    """What a save did, by numbers that stay when names change. 0 is the root; bytes: of every file, in the end."""

    names: Names
    bytes: dict[int, bytes]
    calls: int
    changes: list[Change] = field(default_factory=list)
    writes: dict[int, list[int]] = field(default_factory=dict)  # file -> the calls that wrote it
    flushes: dict[int, list[int]] = field(default_factory=dict)  # file or folder -> the calls that flushed it

    def left(self, at: int, choice: random.Random, *, lost: float) -> dict[str, bytes]:
        """Every file by its path when the power goes before call `at`. lost: how likely what is not sure is lost."""
        names: Names = {folder: dict(held) for folder, held in self.names.items()}
        for change in self.changes:
            if change.at < at and (self._sure(change, at) or choice.random() >= lost):
                _apply(names, change)
        return {path: self._bytes(node, at, choice, lost) for path, node in _files(names, 0, "")}

    def _sure(self, change: Change, at: int) -> bool:
        places = [place for place in (change.old, change.new) if place is not None]
        return all(any(change.at < flush < at for flush in self.flushes.get(folder, ())) for folder, _ in places)

    def _bytes(self, node: int, at: int, choice: random.Random, lost: float) -> bytes:
        data = self.bytes[node]
        if node not in self.writes:
            return data
        written = [call for call in self.writes[node] if call < at]
        if any(max(written, default=at) < flush < at for flush in self.flushes.get(node, ())):
            return data
        if not written:
            return b""
        if choice.random() >= lost:
            return data
        part = data[: choice.randrange(len(data) // (size := choice.choice(TORN)) + 1) * size]
        return choice.choice((part, part + bytes(len(data) - len(part))))


def _apply(names: Names, change: Change) -> None:
    """One change, unless what it moves is not there: it was lost before."""
    if change.old is not None and names.get(change.old[0], {}).get(change.old[1]) != change.node:
        return
    if change.new is None and names.get(change.node):
        return  # a folder that is not empty stays
    if change.old is not None:
        del names[change.old[0]][change.old[1]]
    if change.new is not None:
        if change.folder:
            names.setdefault(change.node, {})
        names.setdefault(change.new[0], {})[change.new[1]] = change.node


def _files(names: Names, folder: int, lead: str) -> list[tuple[str, int]]:
    found = []
    for name, node in names.get(folder, {}).items():
        path = f"{lead}/{name}" if lead else name
        found += _files(names, node, path) if node in names else [(path, node)]
    return found


def recorded(before: Path, after: Path, trace: Sequence[Call]) -> Disk:
    """What a save did. before, after: the folder of the trial before the first call and after the last."""
    names: Names = {0: {}}
    content: dict[int, bytes] = {}
    for path in sorted(before.rglob("*")):
        node = len(names) + len(content)
        parent = _node(names, str(path.parent.relative_to(before)))
        names[parent][path.name] = node
        if path.is_dir():
            names[node] = {}
        else:
            content[node] = path.read_bytes()
    disk = Disk({folder: dict(held) for folder, held in names.items()}, content, len(trace))
    new = len(names) + len(content)
    for at, call in enumerate(trace):
        parent, _, name = call.path.strip("/").rpartition("/")
        place = (_node(names, parent), name)
        change = None
        if call.name == "mkdir" or (call.name == "open" and name not in names[place[0]]):
            change = Change(at, new, None, place, call.name == "mkdir")
            if call.name == "mkdir":
                names[new] = {}
            else:
                disk.writes[new] = []
            new += 1
        elif call.name in ("unlink", "rmdir"):
            change = Change(at, names[place[0]][name], place, None, call.name == "rmdir")
        elif call.name == "rename":
            folder, _, other = call.other.strip("/").rpartition("/")
            node = names[place[0]][name]
            change = Change(at, node, place, (_node(names, folder), other), node in names)
        elif call.name in ("write", "fsync"):
            calls = disk.writes if call.name == "write" else disk.flushes
            calls.setdefault(_node(names, call.path.strip("/")), []).append(at)
        if change is not None:
            disk.changes.append(change)
            _apply(names, change)
    for path, node in _files(names, 0, ""):
        disk.bytes.setdefault(node, (after / path).read_bytes())
    assert set(disk.writes) <= set(disk.bytes), "a file that was written is gone in the end: its bytes are not known"
    return disk


def _node(names: Names, path: str) -> int:
    node = 0
    for name in path.split("/") if path not in ("", ".") else ():
        node = names[node][name]
    return node
