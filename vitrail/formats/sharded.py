"""Weights in several files: an index in JSON says which tensor lies in which file beside it.

    {"metadata": {"total_size": 12}, "weight_map": {"head.bias": "model-00001-of-00002.safetensors", ...}}

Every file beside it is opened by its plain name inside the one folder, so nothing that the index says leads elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vitrail.errors import WeightsError
from vitrail.formats import json, safetensors, state_dict
from vitrail.formats.beside import hold_beside, opened_folder
from vitrail.formats.bounds import HEADER_BYTES, TENSORS, check_names, damaged, hostile, shown
from vitrail.formats.held import Held, hold
from vitrail.formats.stored import Tensors

SHARDS = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,250}\.(?:safetensors|bin)")
_PLAIN = "name plain files that lie beside the index; do not use it if somebody else made it"


class _Index(NamedTuple):
    places: dict[str, str]  # tensor -> shard
    total: int | None  # bytes of all tensors, where the index says


def read(path: Path) -> tuple[Tensors, dict[str, str], list[str]]:
    """All tensors of the files of an index, in its order, their metadata and notes on what was passed over.

    WeightsError V201 where index and files disagree, V202 for what leads out of the folder or exceeds a limit, V206 for
    JSON that is no index; SystemFault V702 for a file that cannot be read.
    """
    with hold(path) as file:
        return parse(file)


def parse(file: Held) -> tuple[Tensors, dict[str, str], list[str]]:
    """As `read`, from an index that is already held."""
    index = _index(file)
    found: Tensors = {}
    metadata: dict[str, str] = {}
    notes: list[str] = []
    with opened_folder(file.path.absolute().parent) as folder:
        for shard in dict.fromkeys(index.places.values()):
            with hold_beside(file, folder, shard, missing=_missing(file)) as held:
                tensors, said, passed = _shard(held)
            _check_shard(tensors, index, shard, file)
            found.update(tensors)
            notes += [f"{shard}: {note}" for note in passed]
            notes += [
                f"{shard}: passed over its metadata `{shown(key)}`, which differs from that of the files before it"
                for key, value in said.items()
                if metadata.setdefault(key, value) != value
            ]
    _check_total(found, index, file)
    return {name: found[name] for name in index.places}, metadata, notes


def _index(file: Held) -> _Index:
    try:
        values = json.loads(file.read(0, min(file.size, HEADER_BYTES + 1)))
    except ValueError as error:
        raise damaged(file.path, f"is no strict JSON: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("weight_map"), dict):
        raise WeightsError(
            "V206",
            f"`{file.path}` is JSON without a `weight_map`, so no index of weights",
            hint="name the file with the tensors, or the folder",
        )
    unknown = sorted(set(values) - {"metadata", "weight_map"})
    if unknown:
        raise hostile(file.path, f"the index holds `{shown(unknown[0])}` besides metadata and weight_map")
    places = _places(values["weight_map"], file)
    return _Index(places, _total(values.get("metadata", {}), file))


def _places(weight_map: dict[object, object], file: Held) -> dict[str, str]:
    if not weight_map or len(weight_map) > TENSORS:
        raise hostile(file.path, f"an index of {len(weight_map)} tensors, allowed are 1 to {TENSORS}")
    places: dict[str, str] = {}
    for name, shard in weight_map.items():
        assert isinstance(name, str)
        if not isinstance(shard, str) or not _NAME.fullmatch(shard) or ".." in shard:
            raise hostile(file.path, f"`{shown(name)}` is said to lie in `{shown(shard)}`", hint=_PLAIN)
        places[name] = shard
    check_names(places, file.path)
    shards = set(places.values())
    if len(shards) > SHARDS or len({shard.rpartition(".")[2] for shard in shards}) > 1:
        raise hostile(file.path, f"{len(shards)} files of two kinds, or more than {SHARDS}")
    check_names(shards, file.path)
    return places


def _total(metadata: object, file: Held) -> int | None:
    if not isinstance(metadata, dict):
        raise damaged(file.path, "the metadata of the index is no object")
    total = metadata.get("total_size")
    if isinstance(total, float) and total.is_integer():  # transformers counted BOOL as eighths of a byte
        total = int(total)
    if total is not None and (type(total) is not int or total < 0):
        raise damaged(file.path, f"the total_size of the index is `{shown(total)}`")
    return total


def _shard(held: Held) -> tuple[Tensors, dict[str, str], list[str]]:
    if held.path.suffix == ".safetensors":
        return (*safetensors.parse(held), [])
    tensors, notes = state_dict.parse(held)
    return tensors, {}, notes


def _missing(index: Held) -> Callable[[OSError, Path], WeightsError]:
    return lambda _, path: damaged(index.path, f"the file `{shown(path.name)}` of the index is missing")


def _check_shard(tensors: Tensors, index: _Index, shard: str, file: Held) -> None:
    """The shard holds what the index says, no tensor more and none less."""
    told = {name for name, place in index.places.items() if place == shard}
    for names, what in (
        (sorted(told - set(tensors)), "lacks"),
        (sorted(set(tensors) - told), "holds, and the index does not place there,"),
    ):
        if names:
            raise damaged(file.path, f"`{shown(shard)}` {what} {len(names)} tensors, first `{shown(names[0])}`")


def _check_total(found: Tensors, index: _Index, file: Held) -> None:
    total = sum(tensor.nbytes for tensor in found.values())
    if index.total not in (None, total):
        raise damaged(file.path, f"the index says {index.total} bytes in all, the tensors have {total}")
