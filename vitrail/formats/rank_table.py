"""Ascend rank tables, as hccl_tools and ModelArts write them: which accelerators of which servers train together.

Two forms: `server_list` with a number for each device, and the older `group_list`, numbered in the order of the file.
Every refusal is a ValueError that names the place.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vitrail.formats import json
from vitrail.formats.bounds import shown

BYTES = 4 << 20
DEVICES = 100_000


@dataclass(frozen=True)
class Device:
    """One accelerator: its number in the whole, its number on its server, its address."""

    rank: int
    device: int
    address: str


@dataclass(frozen=True)
class Server:
    """A server and its devices, by rank."""

    name: str
    devices: tuple[Device, ...]


def is_rank_table(data: bytes) -> bool:
    """Whether a text is meant as a rank table: whole or damaged, it names one of the lists at its beginning."""
    head = data[:4096]
    return head.lstrip()[:1] == b"{" and (b'"server_list"' in head or b'"group_list"' in head)


def read(data: bytes) -> tuple[Server, ...]:
    """The servers, by their first rank. ValueError for a table that is damaged, incomplete, or names one twice.

    >>> device = '{"device_id": "0", "device_ip": "10.0.0.1", "rank_id": "0"}'
    >>> read(('{"server_list": [{"server_id": "a", "device": [' + device + ']}]}').encode())
    (Server(name='a', devices=(Device(rank=0, device=0, address='10.0.0.1'),)),)
    """
    root = _mapping(json.loads(data, limit=BYTES), "the table")
    if ("server_list" in root) == ("group_list" in root):
        raise ValueError("exactly one of `server_list` and `group_list` must stand")
    if root.get("status", "completed") != "completed":
        raise ValueError(f"its status is `{shown(str(root['status']))}`: it is complete when that is `completed`")
    servers = _servers(root) if "server_list" in root else _groups(root)
    _check(servers)
    return tuple(sorted(servers, key=lambda server: server.devices[0].rank))


def _servers(root: dict[str, object]) -> list[Server]:
    found = []
    listed = _list(root, "server_list", "the table")
    _counted(root, "server_count", len(listed), "servers")
    for number, item in enumerate(listed):
        server = _mapping(item, f"server_list[{number}]")
        name = _text(server, "server_id", f"server_list[{number}]")
        devices = []
        for place, one in enumerate(_list(server, "device", f"server {name}")):
            where = f"device[{place}] of server {name}"
            device = _mapping(one, where)
            devices.append(_device(device, _number(device, "rank_id", where), where))
        found.append(_server(name, devices))
    return found


def _groups(root: dict[str, object]) -> list[Server]:
    found, rank = [], 0
    groups = _list(root, "group_list", "the table")
    _counted(root, "group_count", len(groups), "groups")
    for turn, item in enumerate(groups):
        group = _mapping(item, f"group_list[{turn}]")
        instances = _list(group, "instance_list", f"group_list[{turn}]")
        _counted(group, "instance_count", len(instances), f"instances in group_list[{turn}]")
        before = rank
        for place, one in enumerate(instances):
            where = f"instance_list[{place}] of group_list[{turn}]"
            instance = _mapping(one, where)
            name = _text(instance, "server_id", where)
            devices = []
            for number, device in enumerate(_list(instance, "devices", f"server {name}")):
                at = f"devices[{number}] of server {name}"
                devices.append(_device(_mapping(device, at), rank + number, at))
            rank += len(devices)
            found.append(_server(name, devices))
        _counted(group, "device_count", rank - before, f"devices in group_list[{turn}]")
    return found


def _server(name: str, devices: list[Device]) -> Server:
    if not devices:
        raise ValueError(f"server {name} has no device")
    return Server(name, tuple(sorted(devices, key=lambda device: device.rank)))


def _device(values: dict[str, object], rank: int, where: str) -> Device:
    address = _text(values, "device_ip", where)
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        raise ValueError(f"{where}: device_ip is `{address}`, which is no address") from error
    return Device(rank, _number(values, "device_id", where), address)


def _check(servers: list[Server]) -> None:
    every = [(server, device) for server in servers for device in server.devices]
    if not every:
        raise ValueError("it names no server")
    if len(every) > DEVICES:
        raise ValueError(f"{len(every)} devices, the limit is {DEVICES}")
    _once([server.name for server in servers], "server", [server.name for server in servers])
    ranks = [device.rank for _, device in every]
    _once(ranks, "rank", [f"rank {device.rank} on server {server.name}" for server, device in every])
    _once(
        [(server.name, device.device) for server, device in every],
        "device",
        [f"device {device.device} of server {server.name}" for server, device in every],
    )
    _once([device.address for _, device in every], "address", [f"address {device.address}" for _, device in every])
    missing = sorted(set(range(len(ranks))) - set(ranks))
    if missing:
        raise ValueError(f"rank {missing[0]} is missing: {len(ranks)} devices have the ranks 0 to {len(ranks) - 1}")
    for server in servers:
        first, last = server.devices[0].rank, server.devices[-1].rank
        if last - first + 1 != len(server.devices):
            raise ValueError(f"the ranks of server {server.name} are not consecutive: {first} to {last}")


def _once(values: Sequence[object], what: str, names: list[str]) -> None:
    value, count = Counter(values).most_common(1)[0]
    if count > 1:
        named = dict.fromkeys(names[at] for at, one in enumerate(values) if one == value)
        raise ValueError(f"a {what} stands {count} times: {', '.join(named)}")


def _counted(values: dict[str, object], key: str, count: int, what: str) -> None:
    if key in values and str(values[key]) != str(count):
        raise ValueError(f"{key} is {shown(str(values[key]))}, {what} found: {count}")


def _mapping(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is no mapping")
    return value


def _list(values: dict[str, object], key: str, where: str) -> list[object]:
    value = values.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{where}: `{key}` is missing or no list")
    return value


def _text(values: dict[str, object], key: str, where: str) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value.strip() or len(value) > 255 or not value.isprintable() or " " in value:
        raise ValueError(f"{where}: `{key}` is missing or no plain text")
    return value


def _number(values: dict[str, object], key: str, where: str) -> int:
    value = values.get(key)
    text = str(value) if type(value) in (int, str) else ""
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise ValueError(f"{where}: `{key}` is missing or no number")
    return int(text)
