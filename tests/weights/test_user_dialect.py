"""Dialects that users write: what holds reads back equal, what does not is named with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.errors import SystemFault, WeightsError
from vitrail.formats.stored import Stored, Tensors
from vitrail.weights.dialects import TABLES
from vitrail.weights.patterns import both_explain, compiled, letters, samples
from vitrail.weights.reshapes import RESHAPES, stack_transposed, transpose
from vitrail.weights.rules import Dialect, Rule
from vitrail.weights.translate import read, to_native
from vitrail.weights.user_dialect import JOINING, KEYS, read_dialect, write_dialect

GOOD = """\
name: mine
family: vit
numerics: {gelu: tanh, eps: 1.0e-5, stages: [2, 2]}
prefixes: ["net."]
rules:
  - {ours: cls_token, theirs: start}
  - {ours: "blocks.{i}.attn.qkv.weight", theirs: ["l{i+1}.q", "l{i+1}.k", "l{i+1}.v"], reshape: stack_transposed}
  - ours: head.weight
    theirs: out.w
    reshape: transpose
    optional: true
drop:
  - {theirs: "optimizer.{*}", why: optimizer state}
"""


def dialect_of(text: str, folder: Path) -> Dialect:
    path = folder / "mine.yaml"
    path.write_text(text)
    return read_dialect(path)


def parts(dialect: Dialect) -> tuple[object, ...]:
    return (
        dialect.name, dialect.family, dialect.rules, dialect.drop, dialect.prefixes, dict(dialect.numerics),
        dialect.made, dialect.form, dialect.containers, dialect.rename,
    )  # fmt: skip


def test_a_dialect_of_a_few_lines_translates(tmp_path: Path) -> None:
    dialect = dialect_of(GOOD, tmp_path)
    assert (dialect.name, dialect.family, dialect.prefixes) == ("mine", "vit", ("net.",))
    assert dict(dialect.numerics) == {"gelu": "tanh", "eps": 1e-5, "stages": (2, 2)}
    assert dialect.rules[1].reshape is stack_transposed and dialect.rules[2].reshape is transpose
    assert dialect.rules[2].optional and not dialect.rules[1].optional
    generator = np.random.default_rng(0)
    theirs: Tensors = {"net.start": Stored.of(generator.standard_normal((1, 1, 4)).astype(np.float32))}
    for i in (1, 2):
        theirs |= {f"net.l{i}.{n}": Stored.of(generator.standard_normal((4, 4)).astype(np.float32)) for n in "qkv"}
    theirs["optimizer.step"] = Stored("I64", (), bytes(8))
    native = to_native(dialect, theirs)
    assert list(native) == ["cls_token", "blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight"]
    wanted = np.concatenate([theirs[f"net.l2.{n}"].array().T for n in "qkv"])
    assert np.array_equal(native["blocks.1.attn.qkv.weight"].array(), wanted)


SAYABLE = [table for table in TABLES if not table.made and not table.rename]


@pytest.mark.parametrize("table", SAYABLE, ids=lambda table: f"{table.family}-{table}")
def test_a_table_of_ours_written_and_read_is_the_same(table: Dialect, tmp_path: Path) -> None:
    back = dialect_of(write_dialect(table), tmp_path)
    assert parts(back)[:6] == parts(table)[:6]


@pytest.mark.parametrize("table", [table for table in TABLES if table.made or table.rename], ids=str)
def test_what_no_text_can_say_is_not_written(table: Dialect) -> None:
    with pytest.raises(WeightsError, match="computes names or tensors") as caught:
        write_dialect(table)
    assert caught.value.code == "V205"


BAD = [  # the line, what is said of it, what stands in the file
    (1, "the dialect has no `name`",
     GOOD.replace("name: mine\n", "")),
    (3, "no key `numeric`; did you mean `numerics`?",
     GOOD.replace("numerics:", "numeric:")),
    (2, "family `vitt` is not known; did you mean `vit`?",
     GOOD.replace("family: vit", "family: vitt")),
    (1, "holds a `:`",
     GOOD.replace("name: mine", "name: mine:old")),
    (1, "name must be a plain text",
     GOOD.replace("name: mine", "name: 7")),
    (3, "numerics: gelu 'tahn' is not `erf` or `tanh`",
     GOOD.replace("gelu: tanh", "gelu: tahn")),
    (3, "no config field `gellu`; did you mean `gelu`?",
     GOOD.replace("gelu: tanh", "gellu: tanh")),
    (3, "YAML reads 1e-5 as a text, write 1.0e-5",
     GOOD.replace("1.0e-5", "1e-5")),
    (3, "eps 0.5 lies outside 0 to 0.1",
     GOOD.replace("1.0e-5", "0.5")),
    (6, "no network of the family vit has `cls_tokn`; did you mean `cls_token`?",
     GOOD.replace("ours: cls_token", "ours: cls_tokn")),
    (7, "did you mean `blocks.{i}.attn.qkv.weight`?",
     GOOD.replace("attn.qkv.weight", "attn.kqv.weight")),
    (7, "on our side numbers are written {i}",
     GOOD.replace('"blocks.{i}.', '"blocks.{i+1}.')),
    (7, "did you mean `stack_transposed`?",
     GOOD.replace("stack_transposed", "stak_transposed")),
    (7, "3 tensors, but reshape `same` takes one",
     GOOD.replace(", reshape: stack_transposed", "")),
    (7, "do not hold the same numbers",
     GOOD.replace('"l{i+1}.k"', '"l1.k"')),
    (6, "numbers i there, none in `cls_token`",
     GOOD.replace("theirs: start", 'theirs: "start{i}"')),
    (7, "numbers n there, i in `blocks.{i}.attn.qkv.weight`",
     GOOD.replace("{i+1}", "{n}")),
    (7, "braces that are none of",
     GOOD.replace('"l{i+1}.k"', '"l{I}.k"')),
    (7, "`{*}` is for drops",
     GOOD.replace('"l{i+1}.k"', '"l{*}.k"')),
    (7, "`l1.q` is explained by `l{i+1}.q` in line 7 and by `l{i+1}.q`",
     GOOD.replace('"l{i+1}.k"', '"l{i+1}.q"')),
    (8, "`start` is explained by `start` in line 6 and by `start`",
     GOOD.replace("theirs: out.w", "theirs: start")),
    (8, "`l22.v` is explained by",
     GOOD.replace("theirs: out.w", "theirs: l22.v")),
    (13, "`out.w` is explained by `out.w` in line 8 and by `out.{*}`",
     GOOD.replace("optimizer.{*}", "out.{*}")),
    (8, "`cls_token` is explained by `cls_token` in line 6",
     GOOD.replace("ours: head.weight", "ours: cls_token")),
    (11, "optional must be true or false",
     GOOD.replace("optional: true", "optional: 1")),
    (13, "a drop has no `why`",
     GOOD.replace(", why: optimizer state", "")),
    (8, "a rule has no `theirs`",
     GOOD.replace("    theirs: out.w\n", "")),
    (4, "prefixes must be a list",
     GOOD.replace('["net."]', "net.")),
    (7, "theirs has 0 names",
     GOOD.replace('["l{i+1}.q", "l{i+1}.k", "l{i+1}.v"]', "[]")),
    (6, "theirs must be a plain text",
     GOOD.replace("theirs: start", "theirs: 3")),
    (3, "rules is empty",
     "name: mine\nfamily: cct\nrules: []\n"),
    (4, "a rule must be a mapping",
     "name: mine\nfamily: cct\nrules:\n- just a text\n"),
    (1, "the dialect must be a mapping",
     "- name\n"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "said", "text"), BAD)
def test_what_does_not_hold_is_named_with_its_line(line: int, said: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        dialect_of(text, tmp_path)
    assert caught.value.code == "V205"
    assert any(text.startswith(f"{tmp_path}/mine.yaml:{line}: ") and said in text for text in caught.value.evidence)


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        dialect_of(GOOD.replace("cls_token", "clstoken").replace("gelu", "glu").replace("head.weight", "hd"), tmp_path)
    assert [line.split(":")[1] for line in caught.value.evidence] == ["3", "6", "8"]


@pytest.mark.parametrize(
    "text", ["name: [\n", "name: !!python/object:os.system x\n", "a: &x 1\n", "name: a\nname: b\n"]
)
def test_what_is_no_strict_yaml_is_named_with_its_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"mine\.yaml:[12]") as caught:
        dialect_of(text, tmp_path)
    assert caught.value.code == "V205"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"name: \xff")
    with pytest.raises(WeightsError, match="no text in UTF-8"):
        read_dialect(tmp_path / "mine.yaml")


def test_a_file_that_is_not_there_is_a_fault_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(SystemFault) as caught:
        read_dialect(tmp_path / "none.yaml")
    assert caught.value.code == "V702"


def test_the_reshapes_that_join_are_those_that_read_all_they_are_given() -> None:
    for name, reshape in RESHAPES.items():
        joined = []
        for shape in [(4,), (4, 4), (4, 2, 2), (4, 4, 4, 4), (1, 1, 1, 4)]:
            try:
                one, two = (reshape.read([np.zeros(shape)] * count).size for count in (1, 2))
            except ValueError:
                continue
            joined.append(two == 2 * one)
        assert joined and all(there == (name in JOINING) for there in joined), name


def test_too_many_names_are_refused_before_they_are_compared(tmp_path: Path) -> None:
    rules = "".join(f"- {{ours: cls_token, theirs: a{n}}}\n" for n in range(3000))
    with pytest.raises(WeightsError) as caught:
        dialect_of(f"name: mine\nfamily: vit\nrules:\n{rules}", tmp_path)
    assert "3000 names in all rules" in caught.value.evidence[0]


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(KEYS), st.recursive(st.none() | st.text() | st.integers(), st.lists)))
def test_any_mapping_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]) -> None:
    import yaml

    path = tmp_path_factory.mktemp("any") / "mine.yaml"
    path.write_text(yaml.safe_dump({"family": "vit", "rules": [], **values}))
    with pytest.raises(WeightsError):
        read_dialect(path)


piece = st.sampled_from(["a", "b", "1", "0", "12", "_", "{i}", "{i+1}", "{_i}"])
PATTERNS = st.lists(piece, min_size=1, max_size=5).map("".join).filter(lambda text: text.count("{") <= 1)


@given(PATTERNS, PATTERNS)
def test_a_name_that_two_patterns_share_is_one_that_both_explain(one: str, other: str) -> None:
    witness = both_explain(one, other)
    if one == other:
        assert witness is not None
    if witness is not None:
        assert compiled(one).fullmatch(witness) and compiled(other).fullmatch(witness)
        assert both_explain(other, one) is not None


def test_samples_have_one_and_two_digits() -> None:
    assert samples("blocks.{i}.norm{_j}")[:2] == ("blocks.0.norm", "blocks.1.norm_1")
    assert samples("unit{u+1}")[-1] == "unit13"
    assert both_explain("a{i}1", "a1{i}") == "a11"
    assert both_explain("a{i}", "a01") is None
    assert letters("a{i}.{s+1}.{i}") == ("i", "s")


def test_a_name_that_two_rules_explain_after_all_is_refused_when_it_is_met() -> None:
    table = Dialect(name="mine", family="vit", rules=(Rule("cls_token", "a{i}7"), Rule("pos_embed", "a3{i}")))
    with pytest.raises(WeightsError, match="two rules"):
        read(table, {"a37": Stored("F32", (), bytes(4))})
