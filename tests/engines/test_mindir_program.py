"""MINDIR files as they are read before MindSpore runs them: what is in them, and all that is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.mindir_files import field, graph, node, primitive, program, tensor
from vitrail.engines.mindir import program as programs
from vitrail.errors import BundleError


def test_ends_batch_and_operators() -> None:
    found = programs.read(program())
    assert found.batch is None and found.input == ("net:images", (None, 3, 2, 4))
    assert found.output == ("net:v0", (None, 5)) and found.operators == {"Add": 1, "Constant": 1}
    assert found.facts() == {"input": "net:images", "operators": {"Add": 1, "Constant": 1}}
    assert programs.read(program(graph(batch=4))).batch == 4


def attribute(number: int) -> bytes:
    return field(1, "value") + field(number, b"x")


REFUSED = {
    "an operator that loads a library": program(kinds=("Add", "Custom")),
    "an operator that runs text": program(graph(node("REF::PyExecute:1")), kinds=("PyExecute",)),
    "an operator that is declared nowhere": program(graph(node("REF::Add:7"))),
    "a name in place of a reference": program(graph(node("PyExecute"))),
    "a primitive beside the graph": program(extra=field(12, primitive("PyExecute:9", "PyExecute"))),
    "functions": program(extra=field(8, graph())),
    "preprocessing": program(extra=field(9, b"")),
    "two graphs": program(extra=field(7, graph())),
    "no graph": field(2, "MindSpore"),
    "a graph in an attribute": program(graph(node("REF::Add:1", field(5, attribute(7))))),
    "a function in an attribute": program(graph(node("REF::Add:1", field(8, attribute(19))))),
    "a function in a list": program(graph(node("REF::Add:1", field(5, field(17, attribute(19)))))),
    "a nest of lists": program(graph(node("REF::Add:1", field(5, b"")), extra=field(8, b"\x8a\x01\x00" * 3))),
    "weights in another file": program(graph(extra=field(3, tensor(7, extra=field(12, field(1, "../w")))))),
    "a map of parameters": program(graph(extra=field(10, b""))),
    "three ends": program(graph(extra=field(5, field(1, "more") + field(2, tensor(1))))),
    "an end of another type": program(graph().replace(field(2, 1), field(2, 2))),
    "ends that disagree": program(graph(batch=2).replace(tensor(2, 5), tensor(3, 5))),
    "a free side that is not the batch": program(graph().replace(tensor(-1, 5), tensor(-1, -1))),
    "a side below all": program(graph().replace(tensor(-1, 5), tensor(-7, 5))),
    "a name that is no text": program(graph(node("REF::Add:1").replace(b"Add", b"\xff\xff\xff"))),
    "a field that is cut": program()[:-1],
}


@pytest.mark.parametrize("what", [name for name in REFUSED if name != "a nest of lists"])
def test_what_no_export_of_ours_holds_is_refused(what: str) -> None:
    with pytest.raises(BundleError) as caught:
        programs.read(REFUSED[what])
    assert caught.value.code == "V505"


def test_lists_within_lists_end() -> None:
    nest = b""
    for _ in range(3000):
        nest = field(17, nest)
    with pytest.raises(BundleError) as caught:
        programs.read(program(graph(extra=field(8, nest))))
    assert caught.value.code == "V505"


def test_more_nodes_than_any_network_has() -> None:
    body = graph(*[node("Constant")] * 10)
    assert programs.read(program(body)).operators == {"Constant": 10}
    with pytest.raises(BundleError, match="more than 65536 nodes"):
        programs.read(program(graph(*[node("Constant")] * 65_537)))


@given(st.data())
def test_any_change_gives_a_program_or_our_error(data: st.DataObject) -> None:
    whole = program()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for changed in (whole[:at] + bytes([byte]) + whole[at + 1 :], whole[:cut]):
        try:
            assert programs.read(changed).operators.keys() <= programs.KINDS | {"Constant"}
        except BundleError as error:
            assert error.code == "V505"


def test_the_time_and_the_order_of_a_hash_table_are_taken_out() -> None:
    first = program(graph(phase="export.mindir.17.5.0"))
    second = program(graph(phase="export.mindir.18.6.0"), kinds=())
    second += b"".join(field(12, primitive(name, kind)) for name, kind in (("MatMul:2", "MatMul"), ("Add:1", "Add")))
    assert first != second and programs.canonical(first) == programs.canonical(second)
    made = programs.canonical(first)
    assert b"export.mindir" not in made and programs.canonical(made) == made
    assert programs.read(made) == programs.read(first)


def test_what_cannot_be_read_is_not_put_in_order() -> None:
    with pytest.raises(BundleError) as caught:
        programs.canonical(program()[:-1])
    assert caught.value.code == "V505"
