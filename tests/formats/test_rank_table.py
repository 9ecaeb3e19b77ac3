"""Rank tables of Ascend servers: both forms, and every way they may be damaged."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.errors import DataError
from vitrail.formats.rank_table import read
from vitrail.verbs.show import show

TWO: dict[str, Any] = {
    "version": "1.0",
    "server_count": "2",
    "server_list": [
        {
            "server_id": f"10.0.0.{server}",
            "device": [
                {"device_id": str(i), "device_ip": f"192.98.{server}.{i}", "rank_id": str(server * 4 + i)}
                for i in range(4)
            ],
            "host_nic_ip": "reserve",
        }
        for server in (1, 0)
    ],
    "status": "completed",
}
OLD: dict[str, Any] = {
    "group_count": "1",
    "group_list": [
        {
            "group_name": "job",
            "device_count": "4",
            "instance_count": "2",
            "instance_list": [
                {
                    "pod_name": f"pod-{pod}",
                    "server_id": f"10.0.0.{pod}",
                    "devices": [{"device_id": str(4 + i), "device_ip": f"192.98.{pod}.{i}"} for i in range(2)],
                }
                for pod in (0, 1)
            ],
        }
    ],
    "status": "completed",
}


def test_the_torchrun_line_of_each_server(tmp_path: Path) -> None:
    path = tmp_path / "hccl_2s_8p.json"
    path.write_text(json.dumps(TWO))
    shown = show(str(path))
    assert [row["server"] for row in shown.values["servers"]] == ["10.0.0.0", "10.0.0.1"]
    assert [row["ranks"] for row in shown.values["servers"]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    line = "torchrun --nnodes=2 --node-rank=1 --nproc-per-node=4 --master-addr=10.0.0.0 --master-port=29500 -m vitrail"
    assert line in shown.text


def test_the_older_form_counts_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(OLD))
    shown = show(str(path))
    assert [row["ranks"] for row in shown.values["servers"]] == [[0, 1], [2, 3]]
    assert "ASCEND_RT_VISIBLE_DEVICES=4,5 torchrun --nnodes=2 --node-rank=0 --nproc-per-node=2" in shown.text


def device(table: dict[str, Any], server: int = 0, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = table["server_list"][server]["device"][number]
    return found


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "rank twice": (lambda t: device(t).update(rank_id="5"), "rank 5 on server 10.0.0.1"),
    "rank missing": (lambda t: device(t, 0, 3).update(rank_id="9"), "rank 7 is missing"),
    "rank no number": (lambda t: device(t).update(rank_id="-1"), "`rank_id` is missing or no number"),
    "rank huge": (lambda t: device(t).update(rank_id="9" * 30), "`rank_id` is missing or no number"),
    "rank gone": (lambda t: device(t).pop("rank_id"), "device[0] of server 10.0.0.1: `rank_id`"),
    "device twice": (lambda t: device(t).update(device_id="1"), "device 1 of server 10.0.0.1"),
    "address twice": (lambda t: device(t).update(device_ip="192.98.0.0"), "address 192.98.0.0"),
    "address none": (lambda t: device(t).update(device_ip="x.y"), "`x.y`, which is no address"),
    "server twice": (lambda t: t["server_list"][0].update(server_id="10.0.0.0"), "a server stands 2 times"),
    "server's name": (lambda t: t["server_list"][0].update(server_id="a; rm"), "no plain text"),
    "no device": (lambda t: t["server_list"][0].update(device=[]), "server 10.0.0.1 has no device"),
    "ranks mixed": (
        lambda t: (device(t).update(rank_id="3"), device(t, 1, 3).update(rank_id="4")),
        "not consecutive",
    ),
    "server count": (lambda t: t.update(server_count="3"), "server_count is 3, servers found: 2"),
    "not complete": (lambda t: t.update(status="initializing"), "its status is `initializing`"),
    "both forms": (lambda t: t.update(group_list=[]), "exactly one of"),
    "list a mapping": (lambda t: t.update(server_list={}), "`server_list` is missing or no list"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_table_is_refused_by_name(tmp_path: Path, name: str) -> None:
    table = copy.deepcopy(TWO)
    damage, words = DAMAGE[name]
    damage(table)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    with pytest.raises(DataError) as caught:
        show(str(path))
    assert caught.value.code == "V404" and words in caught.value.what


@given(st.data())
def test_a_cut_or_changed_table_is_read_or_refused(data: st.DataObject) -> None:
    text = bytearray(json.dumps(data.draw(st.sampled_from([TWO, OLD]))).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    del text[data.draw(st.integers(len(text) // 2, len(text))) :]
    try:
        servers = read(bytes(text))
    except ValueError:
        return
    ranks = [one.rank for server in servers for one in server.devices]
    assert ranks == list(range(len(ranks)))
