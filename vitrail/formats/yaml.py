"""Strict YAML for recipes: mappings, lists and plain scalars, each with its line; nothing that surprises.

Refused with the place and the way out: tags, anchors and aliases, merge keys, keys twice, keys that are no text, more
than one document, yes/no/on/off, numbers in base 60 or 8, dates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitrail.errors import RecipeError
from vitrail.formats.bounds import NESTING, shown

if TYPE_CHECKING:
    import yaml

TEXT_BYTES = 1 << 20

Scalar = None | bool | int | float | str


@dataclass(frozen=True)
class Node:
    """A value and the line (from 1) where it is named: that of its key in a mapping, of its own start in a list."""

    value: Scalar | dict[str, Node] | list[Node]
    line: int


def read(text: str, where: str) -> Node:
    """The one document in `text`; where names it in errors.  RecipeError V103 with `where:line` for what is refused.

    >>> plain(read("schedule: {name: cosine, lr: 5.0e-4}", "example.yaml"))
    {'schedule': {'name': 'cosine', 'lr': 0.0005}}
    """
    return _Reader(text, where).document()


def scalar(text: str) -> object:
    """The value of an override `key=value`: one scalar, or a flow list or mapping, by the same strict rules.

    >>> scalar("[1, 2.5, cosine]")
    [1, 2.5, 'cosine']
    """
    return plain(_Reader(text, "override").flow_value())


def scalar_text(value: object) -> str:
    """A plain value as YAML on one line, read back as the same value.

    >>> scalar_text("a: b"), scalar_text(True), scalar_text(3)
    ("'a: b'", 'true', '3')
    """
    import yaml

    if isinstance(value, str) and not value.isprintable():  # else it would go over several lines, or lose what it is
        return f'"{"".join(map(_quoted, value))}"'
    text = yaml.safe_dump(value, default_flow_style=True, width=1_000_000, allow_unicode=True)
    return str(text).removesuffix("\n").removesuffix("\n...")


def _quoted(character: str) -> str:
    """A character as it stands between double quotes."""
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def plain(node: Node) -> object:
    """The node as plain Python values without lines."""
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [plain(value) for value in node.value]
    return node.value


_NUMBER = re.compile(r"([-+]?)([0-9]+)?(?:(\.)([0-9]*))?(?:[eE]([-+]?)([0-9]+))?")
_OCTAL = re.compile(r"0[0-7]*")


def looks_like_number(text: str) -> str | None:
    """How to write a text that is meant as a number, but that YAML 1.1 reads as text; None for every other text.

    >>> looks_like_number("5e-4"), looks_like_number("1.5e3"), looks_like_number("cosine")
    ('5.0e-4', '1.5e+3', None)
    """
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[4]):
        return None
    sign, whole, point, part, exponent_sign, exponent = match.groups()
    if exponent is None and point is None:
        return f"{sign}{int(text.lstrip('+-'))}" if whole.startswith("0") and not _OCTAL.fullmatch(whole) else None
    if point and (whole or not sign) and (exponent is None or exponent_sign):
        return None  # YAML reads it as a number
    return f"{sign}{whole or '0'}.{part or '0'}" + (f"e{exponent_sign or '+'}{exponent}" if exponent else "")


class _Reader:
    """Builds nodes from parser events, which come without recursion; the depth is bounded before each descent."""

    def __init__(self, text: str, where: str) -> None:
        import yaml

        if len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES:
            raise RecipeError("V103", f"`{where}` is larger than {TEXT_BYTES} bytes", hint="a recipe is a short text")
        self._text = text
        self._where = where
        self._yaml = yaml
        self._constructor = yaml.constructor.SafeConstructor()
        self._resolve: Callable[..., str] = yaml.resolver.Resolver().resolve
        self._events = self._all_events()

    def _all_events(self) -> Iterator[Any]:
        try:
            yield from self._yaml.parse(self._text, Loader=self._yaml.SafeLoader)
        except self._yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            hint = "put texts with `: # [ { & * ! %` in quotes"
            raise self._refuse(line, f"{error.problem or error.context}", hint) from error
        except (self._yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError: an escape beyond Unicode
            hint = "write plain UTF-8 text without control characters"
            raise self._refuse(1, str(error).splitlines()[0], hint) from error

    def _refuse(self, line: int, what: str, hint: str) -> RecipeError:
        place = f"override `{shown(self._text)}`" if self._where == "override" else f"`{self._where}:{line}`"
        return RecipeError("V103", f"{place}: {what}", hint=hint)

    def document(self) -> Node:
        self._next()  # the stream begins
        first = self._next()
        if isinstance(first, self._yaml.StreamEndEvent):
            return Node(None, 1)
        node = self._node(self._next(), depth=0)
        self._next()  # the document ends
        more = self._next()
        if not isinstance(more, self._yaml.StreamEndEvent):
            raise self._refuse(_line(more), "a second document begins", "keep one document in one file")
        return node

    def flow_value(self) -> Node:
        self._next()
        if isinstance(self._next(), self._yaml.StreamEndEvent):
            raise self._refuse(1, "the value is empty", 'write `null` for nothing, or `""` for an empty text')
        event = self._next()
        if isinstance(event, self._yaml.CollectionStartEvent) and not event.flow_style:
            raise self._refuse(1, "the value is no single value", 'put texts with `: ` in quotes, like `"a: b"`')
        node = self._node(event, depth=0)
        rest = self._text[self._end :].strip()
        if rest or "\n" in self._text:
            raise self._refuse(1, f"`{shown(rest)}` follows the value", "put texts with `#` or line breaks in quotes")
        return node

    def _next(self) -> Any:
        event = next(self._events)
        self._end = event.end_mark.index
        return event

    def _node(self, event: Any, *, depth: int, line: int | None = None) -> Node:
        yaml = self._yaml
        line = line or _line(event)
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise self._refuse(_line(event), "anchors and aliases are not used here", "write the value out")
        if event.tag is not None:
            raise self._refuse(_line(event), f"the tag `{shown(event.tag)}` is not used here", "leave the tag out")
        if depth > NESTING:
            raise self._refuse(_line(event), f"values are nested deeper than {NESTING}", "a recipe needs no such depth")
        if isinstance(event, yaml.MappingStartEvent):
            return Node(self._mapping(depth), line)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._sequence(depth), line)
        return Node(self._scalar(event), line)

    def _sequence(self, depth: int) -> list[Node]:
        found: list[Node] = []
        while not isinstance(event := self._next(), self._yaml.SequenceEndEvent):
            found.append(self._node(event, depth=depth + 1))
        return found

    def _mapping(self, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while not isinstance(event := self._next(), self._yaml.MappingEndEvent):
            line = _line(event)
            if not isinstance(event, self._yaml.ScalarEvent):
                raise self._refuse(line, "a key is a list or a mapping", "keys are plain texts")
            if event.value == "<<" and event.implicit[0]:
                raise self._refuse(line, "merge keys are not used here", "write the values out")
            key = self._node(event, depth=depth).value
            if not isinstance(key, str):
                raise self._refuse(line, f"the key `{shown(event.value)}` is no text", "put it in quotes")
            if key in found:
                raise self._refuse(
                    line, f"the key `{shown(key)}` stands twice, first in line {found[key].line}", "remove one of them"
                )
            found[key] = self._node(self._next(), depth=depth + 1, line=line)
        return found

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text: str = event.value
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise self._refuse(_line(event), "a text holds a lone surrogate", "write plain UTF-8 text")
        if not event.implicit[0]:
            return text  # quoted
        tag: str = self._resolve(self._yaml.ScalarNode, text, (True, False))
        node = self._yaml.ScalarNode(tag, text)
        kind = tag.rpartition(":")[2]
        quote = f'write `"{text}"` if a text is meant'
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind == "bool":
            meant = "true" if text.lower() in ("yes", "on") else "false"
            raise self._refuse(_line(event), f"`{text}` is an unclear truth value", f"write `{meant}`, or {quote[6:]}")
        if kind == "timestamp":
            raise self._refuse(_line(event), f"`{text}` is read as a date", quote)
        if kind in ("int", "float"):
            return self._number(event, node, kind, quote)
        return text

    def _number(self, event: yaml.ScalarEvent, node: yaml.ScalarNode, kind: str, quote: str) -> int | float:
        text: str = event.value
        if ":" in text or re.fullmatch(r"[-+]?0[0-9_]+", text):
            base = "60" if ":" in text else "8"
            raise self._refuse(_line(event), f"`{text}` is read as a number in base {base}", quote)
        if len(text) > 80:
            raise self._refuse(_line(event), f"`{shown(text)}` is too long for a number", quote)
        try:
            value: int | float = (
                self._constructor.construct_yaml_int(node)
                if kind == "int"
                else self._constructor.construct_yaml_float(node)
            )
        except ValueError:  # such as `0b` or `._`, which the resolver takes for numbers
            raise self._refuse(_line(event), f"`{text}` is no number", quote) from None
        return value


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
