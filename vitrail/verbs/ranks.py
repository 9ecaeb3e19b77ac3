"""A rank table, and what to type on each of its servers: torchrun starts what the table describes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from vitrail.disk import read_file
from vitrail.errors import DataError
from vitrail.formats import rank_table

PORT = 29500


def is_table(path: Path) -> bool:
    """Whether a rank table lies there."""
    if not path.is_file() or path.suffix != ".json":
        return False
    with path.open("rb") as file:
        return rank_table.is_rank_table(file.read(4096))


def show_table(path: Path) -> tuple[dict[str, Any], str]:
    """The table in plain values, and as text with each server's torchrun line. DataError V404 for a damaged one."""
    try:
        servers = rank_table.read(read_file(path, limit=rank_table.BYTES))
    except ValueError as error:
        raise DataError(
            "V404", f"`{path}` is no sound rank table: {error}", hint="make it again with hccl_tools, or repair it"
        ) from error
    count = sum(len(server.devices) for server in servers)
    rows = [
        {
            "server": server.name,
            "ranks": [device.rank for device in server.devices],
            "devices": [device.device for device in server.devices],
            "addresses": [device.address for device in server.devices],
            "command": _command(servers, number),
        }
        for number, server in enumerate(servers)
    ]
    lines = [f"{count} device{'s' if count > 1 else ''} on {len(servers)} server{'s' if len(servers) > 1 else ''}"]
    for server, row in zip(servers, rows, strict=True):
        first, last = server.devices[0].rank, server.devices[-1].rank
        lines += ["", f"# server {server.name}: ranks {first} to {last}", str(row["command"])]
    return {"devices": count, "servers": rows}, "\n".join(lines)


def _command(servers: tuple[rank_table.Server, ...], number: int) -> str:
    devices = [device.device for device in servers[number].devices]
    visible = f"ASCEND_RT_VISIBLE_DEVICES={','.join(map(str, devices))} "
    return (
        f"{'' if devices == list(range(len(devices))) else visible}torchrun --nnodes={len(servers)}"
        f" --node-rank={number} --nproc-per-node={len(devices)} --master-addr={shlex.quote(servers[0].name)}"
        f" --master-port={PORT} -m vitrail train RECIPE --out DIR --resume"
    )
