"""The tree of errors: codes belong to classes, exit codes to branches; every error prints and pickles."""

from __future__ import annotations

import copy
import errno
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail import errors
from vitrail.errors import CODES, SystemFault, VitrailError, nearest, printable, read_fault, write_fault

EXITS = {
    "V0": 2,
    "V1": 2,
    "V2": 2,
    "V3": 2,
    "V4": 2,
    "V5": 2,
    "V6": 2,
    "V70": 4,
    "V80": 5,
    "V81": 6,
    "V90": 75,
}


def classes(kind: type[VitrailError] = VitrailError) -> list[type[VitrailError]]:
    return [kind, *(inner for child in kind.__subclasses__() for inner in classes(child))]


def of_module() -> list[type[VitrailError]]:
    return [kind for kind in classes() if kind.__module__ == errors.__name__]


def test_a_code_belongs_to_its_branch_and_exit_code() -> None:
    for code, (kind, meaning) in CODES.items():
        assert re.fullmatch(r"V[0-9]{3}", code)
        prefix = max((prefix for prefix in EXITS if code.startswith(prefix)), key=len)
        assert kind.exit_code == EXITS[prefix], code
        assert meaning
        assert meaning == printable(meaning)
        assert meaning[-1] not in ".!?"


def test_codes_stand_in_order_and_once_per_meaning() -> None:
    assert list(CODES) == sorted(CODES)
    meanings = [meaning for _, meaning in CODES.values()]
    assert len(meanings) == len(set(meanings))


def test_a_range_of_codes_has_one_class() -> None:
    owners: dict[str, set[type[VitrailError]]] = {}
    for code, (kind, _) in CODES.items():
        owners.setdefault(code[:2] if code < "V7" else code[:3], set()).add(kind)
    assert all(len(kinds) == 1 for kinds in owners.values()), owners
    used = {kind for kind, _ in CODES.values()}
    assert used == set(of_module()) - {VitrailError, errors.Refused}


def test_the_drawing_at_the_top_shows_every_class() -> None:
    drawing = errors.__doc__ or ""
    for kind in of_module():
        assert re.search(rf"(-- |^ +){kind.__name__}\b", drawing, re.MULTILINE), kind


@pytest.mark.parametrize("code", CODES)
def test_an_error_pickles_copies_and_prints(code: str) -> None:
    kind = CODES[code][0]
    error = kind(code, "what happened", evidence=["one 1", "two 2"], hint="do this")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert (again.code, again.what, again.evidence, again.hint) == (
            code,
            "what happened",
            ("one 1", "two 2"),
            "do this",
        )
        assert str(again) == f"error[{code}]: what happened\n  one 1\n  two 2\n\nhint: do this"


def test_without_evidence_and_hint_it_is_one_line() -> None:
    assert str(SystemFault("V701", "what")) == "error[V701]: what"


@pytest.mark.parametrize("kind", [kind for kind in of_module() if kind is not SystemFault])
def test_a_class_refuses_a_code_of_another(kind: type[VitrailError]) -> None:
    with pytest.raises(AssertionError, match="V701 belongs to SystemFault"):
        kind("V701", "what")
    with pytest.raises(KeyError):
        kind("V000", "what")


@given(st.text())
def test_an_error_is_as_many_printable_lines_as_it_has_parts(text: str) -> None:
    error = SystemFault("V701", text, evidence=[text], hint=text)
    lines = str(error).split("\n")
    assert len(lines) == (4 if text else 2)
    assert all(line.isprintable() for line in lines)
    str(error).encode()


@given(st.text())
def test_printable_keeps_what_is_printable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text


def test_a_file_name_forges_no_line() -> None:
    assert printable("a\nerror[V001]: b\x1b[2J\u202e\udcff") == r"a\nerror[V001]: b\x1b[2J\u202e\udcff"


def test_nearest_names_the_likely_or_the_choice_or_nothing() -> None:
    assert nearest("epoch", ["epochs", "lr"]) == "did you mean `epochs`?"
    assert nearest("zzz", ["a", "b"]) == "known: a, b"
    assert nearest("zzz", [f"name{i}" for i in range(13)]) == ""
    assert nearest("zzz", []) == ""


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_with_its_cause(code: int) -> None:
    fault = write_fault(OSError(code, "the cause"), "place/file")
    assert fault.code == "V701"
    assert fault.what == "cannot write `place/file`: the cause"
    assert fault.evidence == (f"errno {code} ({errno.errorcode[code]})",)
    assert "free some space" in fault.hint


def test_other_faults_are_told_with_their_cause() -> None:
    assert "permi" not in write_fault(OSError(errno.ENOSPC, "x"), "f").hint
    assert "written" in write_fault(PermissionError(errno.EACCES, "Permission denied"), "f").hint
    assert read_fault(OSError(errno.EIO, "Input/output error"), "f").evidence == ("errno 5 (EIO)",)
    assert read_fault(OSError("no number"), "f").what == "cannot read `f`: no number"
    assert read_fault(OSError("no number"), "f").evidence == ("errno None (?)",)
