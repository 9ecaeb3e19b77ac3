"""Models of the hub (huggingface.co): a folder with their configs and weights."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from vitrail import disk
from vitrail.errors import SystemFault, UsageError, WeightsError
from vitrail.locks import locked
from vitrail.remote.cache import SMALL, Progress, Wanted, bring, cache_folder, check, is_pulled, pull, read_json
from vitrail.remote.web import Absent, How, refused

HUB = "https://huggingface.co"
MARK = "hf:"  # before OWNER/NAME, where an address may stand
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PICTURES = "preprocessor_config.json"
WHOLE = ".whole.json"  # names the files of a folder in which nothing is missing


def is_hub(address: str) -> bool:
    """Whether an address is `hf:OWNER/NAME`, a model of the hub."""
    return address.startswith(MARK)


def pull_weights(
    address: str,
    *,
    size: int | None = None,
    sha256: str | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    how: How | None = None,
) -> Path:
    """The weights of an https URL, a file, or of `hf:OWNER/NAME`, a folder, in the cache; as `pull` or `pull_hub`."""
    if is_hub(address):
        return pull_hub(address.removeprefix(MARK), cache=cache, progress=progress, how=how)
    return pull(address, size=size, sha256=sha256, cache=cache, progress=progress, how=how)


def are_pulled(address: str, cache: Path | None = None) -> bool:
    """Whether `pull_weights` would find them in the cache."""
    if is_hub(address):
        return (hub_place(address.removeprefix(MARK), cache) / WHOLE).is_file()
    return is_pulled(address, cache)


def hub_place(name: str, cache: Path | None = None) -> Path:
    """The folder of `pull_hub`; UsageError V007 when `name` is no OWNER/NAME."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", name, re.ASCII):
        raise UsageError(
            "V007",
            f"`{name}` names no model of the hub",
            hint="give OWNER/NAME, as in `hf:google/vit-base-patch16-224`",
        )
    return (cache or cache_folder()) / "huggingface.co" / name


def pull_hub(
    name: str,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    how: How | None = None,
    base: str = HUB,
) -> Path:
    """A folder with the configs and the weights of a hub model OWNER/NAME: safetensors, else pytorch_model.bin.

    Sharded weights come with their index. A whole folder is checked against what was noted and needs no net.
    Errors as `pull`; WeightsError V202 for an index that names anything but plain files.
    """
    how = how or How()
    folder = hub_place(name, cache)
    address = f"{base}/{name}/resolve/main"
    why = refused(address, how)
    if why:
        raise UsageError("V007", f"`{address}` is not fetched: {why}", hint="give an https address")
    whole = folder / WHOLE
    files = _plain(read_json(whole).get("files")) if whole.is_file() else []
    if files and all((folder / file).is_file() for file in files):
        for file in files:
            check(Wanted(f"{address}/{file}", folder / file), disk.sha256_file(folder / file))
        return folder
    disk.make_folder(folder)

    def fetched(file: str) -> bool:
        limit = SMALL if file.endswith(".json") else None
        try:
            bring(Wanted(f"{address}/{file}", folder / file, limit=limit, progress=progress, how=how))
        except Absent:
            return False
        return True

    with locked(folder):
        files = _model(fetched, folder)
        if not files:
            raise SystemFault(
                "V704",
                f"{base}/{name} is no model that can be fetched",
                evidence=["a config.json, and model.safetensors or pytorch_model.bin, whole or sharded, are not there"],
                hint=f"check the name; files fetched by hand go into `{folder}`",
            )
        disk.write_file(whole, (json.dumps({"files": files}) + "\n").encode())
    return folder


def _model(fetched: Callable[[str], bool], folder: Path) -> list[str]:
    """Fetch what makes a model and name it; nothing when there is no model."""
    by_hand = [file for file in WEIGHTS if (folder / file).is_file() or (folder / f"{file}.index.json").is_file()]
    if not fetched("config.json"):
        return []
    files = ["config.json"]
    if (not by_hand or (folder / PICTURES).is_file()) and fetched(PICTURES):
        files.append(PICTURES)
    for weights in by_hand or WEIGHTS:
        index = f"{weights}.index.json"
        if not (folder / index).is_file() and fetched(weights):
            return [*files, weights]
        if fetched(index):
            shards = _shards(folder / index)
            absent = [shard for shard in shards if not fetched(shard)]
            if absent:
                raise WeightsError(
                    "V207", f"`{index}` names `{absent[0]}`, which is not there", hint="take another one"
                )
            return [*files, index, *shards]
    return []


def _shards(index: Path) -> list[str]:
    weight_map = read_json(index).get("weight_map")
    values = weight_map.values() if isinstance(weight_map, dict) else []
    return _plain(sorted({value if isinstance(value, str) else "" for value in values}))


def _plain(files: object) -> list[str]:
    """Plain file names out of a description; V202 for anything that could lead elsewhere."""
    if not isinstance(files, list) or not 0 < len(files) <= 1000:
        raise WeightsError("V202", "the index names no files, or more than 1000", hint="take another model")
    for file in files:
        if not isinstance(file, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,199}\.(safetensors|bin|json)", file):
            raise WeightsError("V202", f"the index names `{file!s:.80}`, no plain file name", hint="take another model")
    return files
