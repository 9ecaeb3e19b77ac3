"""A user's own dialect: a strict YAML file of the same rules as the tables in `dialects/`.

    name: mine
    family: vit
    numerics: {gelu: tanh}                  # config fields that the world's code fixes; may be left out
    prefixes: ["net."]                      # texts that may stand before every name; may be left out
    rules:
      - {ours: cls_token, theirs: start}
      - {ours: "blocks.{i}.attn.qkv.weight", theirs: ["l{i}.q", "l{i}.k", "l{i}.v"], reshape: stack_transposed}
      - {ours: head.weight, theirs: out.w, optional: true}
    drop:
      - {theirs: "optimizer.{*}", why: optimizer state}

`{i}` is a number, the same on both sides; on their side `{i+1}` counts from 1, and `{_i}` is nothing for the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, combinations, product
from pathlib import Path
from types import MappingProxyType

from vitrail.disk import read_file
from vitrail.errors import RecipeError, WeightsError, nearest
from vitrail.formats import yaml
from vitrail.formats.bounds import NAME_BYTES, shown
from vitrail.formats.yaml import Node, looks_like_number, plain, scalar_text
from vitrail.models.configs import FAMILIES, ModelConfig
from vitrail.weights.dialects import NATIVE
from vitrail.weights.patterns import PIECE, both_explain, letters, samples
from vitrail.weights.reshapes import RESHAPES, same
from vitrail.weights.rules import Dialect, Drop, Rule

KEYS = ("name", "family", "rules", "drop", "prefixes", "numerics")
RULE_KEYS = ("ours", "theirs", "reshape", "optional")
DROP_KEYS = ("theirs", "why")
JOINING = ("stack", "stack_transposed", "stack_heads", "stack_head_biases")  # the reshapes of several tensors
_SAVE_AS = "save it as UTF-8; `vitrail convert SRC --suggest` begins one"
NAMES = 2048  # in all rules of a file
PARTS = 16  # of one rule
PIECES = 6  # of one name


def read_dialect(path: str | Path) -> Dialect:
    """The dialect in a YAML file.  WeightsError V205 names every key and value that does not hold, with its line."""
    try:
        node = yaml.read(read_file(Path(path), limit=yaml.TEXT_BYTES).decode(), str(path))
    except UnicodeDecodeError as error:
        raise WeightsError(
            "V205", f"the dialect `{path}` is no text in UTF-8: {error.reason}", hint=_SAVE_AS
        ) from error
    except RecipeError as error:
        raise WeightsError("V205", f"the dialect does not hold: {error.what}", hint=error.hint) from error
    reader = _Reader()
    dialect = reader.dialect(node)
    if reader.problems:
        raise WeightsError(
            "V205",
            f"the dialect `{path}` does not hold",
            evidence=[f"{path}:{line}: {what}" for line, what in sorted(reader.problems)],
            hint="mend the lines named above; `vitrail convert SRC --suggest` begins one",
        )
    assert dialect is not None
    return dialect


def own_file(dialect: str | Path) -> tuple[Dialect, ...]:
    """The dialect of a YAML file, none for a name; errors as `read_dialect`."""
    return (read_dialect(dialect),) if str(dialect).lower().endswith((".yaml", ".yml")) else ()


def write_dialect(dialect: Dialect) -> str:
    """The YAML text from which `read_dialect` makes an equal dialect: name, family, rules, drops, prefixes, numerics.

    What no text can say is refused: tensors that are made, and names that are renamed first. WeightsError V205.

    >>> from vitrail.weights.dialects.timm import BEIT
    >>> write_dialect(BEIT).splitlines()[:3]
    ['name: timm', 'family: beit', 'prefixes: [module., model.]']
    """
    if dialect.made or dialect.rename is not None:
        raise WeightsError("V205", f"dialect `{dialect}` computes names or tensors, which no YAML file can")
    lines = [f"name: {_text(dialect.name)}", f"family: {dialect.family}"]
    if dialect.prefixes:
        lines.append(f"prefixes: {scalar_text(list(dialect.prefixes))}")
    if dialect.numerics:
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in dialect.numerics.items()}
        lines.append(f"numerics: {{{', '.join(f'{key}: {_text(value)}' for key, value in values.items())}}}")
    lines += ["rules:", *(f"  - {rule_text(rule)}" for rule in dialect.rules)]
    if dialect.drop:
        lines += ["drop:", *(f"  - {{theirs: {_text(d.theirs)}, why: {_text(d.why)}}}" for d in dialect.drop)]
    return "\n".join(lines) + "\n"


def rule_text(rule: Rule) -> str:
    """One rule on one line of YAML.

    >>> rule_text(Rule("head.bias", "top.b", optional=True))
    '{ours: head.bias, theirs: top.b, optional: true}'
    """
    theirs = rule.theirs if isinstance(rule.theirs, str) else list(rule.theirs)
    reshape = "" if rule.reshape is same else f", reshape: {rule.reshape.name}"
    return f"{{ours: {_text(rule.ours)}, theirs: {_text(theirs)}{reshape}{', optional: true' * rule.optional}}}"


def _text(value: object) -> str:
    return scalar_text([value])[1:-1]  # as it must stand inside brackets


@dataclass
class _Reader:
    """Builds the dialect and notes (line, what is wrong)."""

    problems: list[tuple[int, str]] = field(default_factory=list)

    def note(self, node: Node, what: str) -> None:
        self.problems.append((node.line, what))

    def dialect(self, node: Node) -> Dialect | None:
        values = self.mapping(node, KEYS, needed=("name", "family", "rules"), what="the dialect")
        if not {"name", "family", "rules"} <= values.keys():
            return None
        name, family = self.text(values["name"], "name"), self.text(values["family"], "family")
        if ":" in name:
            self.note(values["name"], f"name `{name}` holds a `:`, which parts a dialect from its form")
        if family not in FAMILIES:
            self.note(values["family"], f"family `{shown(family)}` is not known; {nearest(family, FAMILIES)}")
            return None
        rules = [(item, self.rule(item, family)) for item in self.list(values["rules"], "rules")]
        drop = [(item, self.drop(item)) for item in self.list(values.get("drop"), "drop")]
        if not rules:
            self.note(values["rules"], "rules is empty")
        good_rules = [(item, rule) for item, rule in rules if rule]
        good_drops = [(item, one) for item, one in drop if one]
        self.overlaps(good_rules, good_drops)
        return Dialect(
            name=name,
            family=family,
            rules=tuple(rule for _, rule in good_rules),
            drop=tuple(one for _, one in good_drops),
            prefixes=tuple(self.text(item, "a prefix") for item in self.list(values.get("prefixes"), "prefixes")),
            numerics=self.numerics(values.get("numerics"), family),
        )

    def rule(self, node: Node, family: str) -> Rule | None:
        values = self.mapping(node, RULE_KEYS, needed=("ours", "theirs"), what="a rule")
        if not {"ours", "theirs"} <= values.keys():
            return None
        before = len(self.problems)
        ours = self.text(values["ours"], "ours")
        parts = self.parts(values["theirs"])
        self.is_ours(values["ours"], ours, family)
        if len({letters(part) for part in parts}) > 1:
            self.note(values["theirs"], f"the names {', '.join(parts)} do not hold the same numbers")
        elif parts and letters(parts[0]) != letters(ours) and (letters(parts[0]) or letters(ours) != ("i",)):
            theirs = ", ".join(letters(parts[0])) or "none"
            self.note(values["theirs"], f"numbers {theirs} there, {', '.join(letters(ours)) or 'none'} in `{ours}`")
        reshape = self.text(values["reshape"], "reshape") if "reshape" in values else "same"
        if reshape not in RESHAPES:
            self.note(values["reshape"], f"reshape `{shown(reshape)}` is not known; {nearest(reshape, RESHAPES)}")
        elif len(parts) > 1 and reshape not in JOINING:
            self.note(
                values["theirs"], f"{len(parts)} tensors, but reshape `{reshape}` takes one; {', '.join(JOINING)} join"
            )
        optional = values["optional"].value if "optional" in values else False
        if not isinstance(optional, bool):
            self.note(values["optional"], "optional must be true or false")
        if len(self.problems) > before:
            return None
        listed = isinstance(values["theirs"].value, list)
        return Rule(ours, tuple(parts) if listed else parts[0], RESHAPES[reshape], optional=bool(optional))

    def parts(self, node: Node) -> list[str]:
        items = node.value if isinstance(node.value, list) else [node]
        if not 1 <= len(items) <= PARTS:
            self.note(node, f"theirs has {len(items)} names, allowed are 1 to {PARTS}")
            return []
        return [self.pattern(item, star=False) for item in items]

    def drop(self, node: Node) -> Drop | None:
        values = self.mapping(node, DROP_KEYS, needed=DROP_KEYS, what="a drop")
        if len(values) < 2:
            return None
        before = len(self.problems)
        found = Drop(self.pattern(values["theirs"], star=True), self.text(values["why"], "why"))
        return found if len(self.problems) == before else None

    def is_ours(self, node: Node, ours: str, family: str) -> None:
        """A name that some network of the family has; numbers may be given or stand as letters."""
        known = [rule.ours for rule in NATIVE[family].rules]
        if any(len(piece) > 1 or piece == "*" for piece in PIECE.findall(ours)):
            self.note(node, f"`{shown(ours)}`: on our side numbers are written {{i}}")
        elif not any(all(both_explain(name, sample) is not None for sample in samples(ours)) for name in known):
            self.note(node, f"no network of the family {family} has `{shown(ours)}`; {nearest(ours, known)}")

    def overlaps(self, rules: list[tuple[Node, Rule]], drops: list[tuple[Node, Drop]]) -> None:
        """Names that two rules would explain, on either side."""
        theirs = [(node, part) for node, rule in rules for part in rule.parts]
        dropped = [(node, drop.theirs) for node, drop in drops]
        if len(theirs) + len(dropped) > NAMES:
            self.note(rules[0][0], f"{len(theirs) + len(dropped)} names in all rules, the limit is {NAMES}")
            return
        ours = [(node, rule.ours) for node, rule in rules]
        for (first, one), (second, other) in chain(
            combinations(theirs, 2), product(theirs, dropped), combinations(ours, 2)
        ):
            if (witness := both_explain(one, other)) is not None:
                self.note(second, f"`{witness}` is explained by `{one}` in line {first.line} and by `{other}`")

    def numerics(self, node: Node | None, family: str) -> Mapping[str, object]:
        values = node.value if node else {}
        if not isinstance(values, dict):
            assert node is not None
            self.note(node, "numerics must be a mapping of config fields")
            values = {}
        found: dict[str, object] = {}
        blank = FAMILIES[family](image_size=(224, 224))
        for key, child in values.items():
            value = plain(child)
            value = tuple(value) if isinstance(value, list) else value
            if key not in blank.__dataclass_fields__:
                known = nearest(key, blank.__dataclass_fields__)
                self.note(child, f"the family {family} has no config field `{shown(key)}`; {known}".rstrip("; "))
            elif problem := _out_of_range(blank, key, value):
                self.note(child, f"numerics: {problem}{_number_hint(value)}")
            found[key] = value
        return MappingProxyType(found)

    def mapping(self, node: Node, known: tuple[str, ...], *, needed: tuple[str, ...], what: str) -> dict[str, Node]:
        """The known keys of a mapping; what is unknown or missing is noted."""
        if not isinstance(node.value, dict):
            self.note(node, f"{what} must be a mapping with {', '.join(known)}")
            return {}
        for key, child in node.value.items():
            if key not in known:
                self.note(child, f"{what} has no key `{shown(key)}`; {nearest(key, known)}")
        for key in needed:
            if key not in node.value:
                self.note(node, f"{what} has no `{key}`")
        return {key: child for key, child in node.value.items() if key in known}

    def list(self, node: Node | None, what: str) -> list[Node]:
        if node is None:
            return []
        if not isinstance(node.value, list):
            self.note(node, f"{what} must be a list")
            return []
        return node.value

    def text(self, node: Node, what: str) -> str:
        if isinstance(node.value, str) and 0 < len(node.value) <= NAME_BYTES and node.value.isprintable():
            return node.value
        self.note(node, f"{what} must be a plain text of 1 to {NAME_BYTES} characters")
        return ""

    def pattern(self, node: Node, *, star: bool) -> str:
        """Their name; braces stand for numbers alone, and in a drop for any text."""
        text = self.text(node, "theirs")
        rest = PIECE.sub("", text)
        if "{" in rest or "}" in rest:
            self.note(node, f"`{shown(text)}` holds braces that are none of {{i}}, {{i+1}}, {{_i}}")
        if not star and "{*}" in text:
            self.note(node, f"`{shown(text)}`: `{{*}}` is for drops; a rule names its tensors")
        if len(PIECE.findall(text)) > PIECES:
            self.note(node, f"`{shown(text)}` holds more than {PIECES} numbers")
            return ""
        return text


def _out_of_range(blank: ModelConfig, key: str, value: object) -> str | None:
    """What is wrong with a value by itself, whatever the other fields are."""
    changed: ModelConfig = replace(blank, **{key: value})  # type: ignore[arg-type]  # checked by `problems`
    own = tuple(f"{key} {value!r} {what}" for what in ("is not ", "lies outside "))
    return next((line for line in changed.problems() if line.startswith(own)), None)


def _number_hint(value: object) -> str:
    number = looks_like_number(value) if isinstance(value, str) else None
    return f"; YAML reads {value} as a text, write {number}" if number else ""
