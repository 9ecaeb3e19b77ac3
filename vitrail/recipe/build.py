"""A strict builder: YAML nodes to frozen dataclasses by their annotations. Problems are collected, none is raised."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin

from vitrail.errors import nearest
from vitrail.formats.yaml import Node, looks_like_number, plain

FAILED = object()  # stands for a value that could not be built; its problem is noted


@dataclass
class Builder:
    """Builds values and notes (line, dotted key, what is wrong) and where each value came from."""

    ranges: Mapping[str, tuple[Callable[[float], bool], str]]
    problems: list[tuple[int, str, str]] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)

    def note(self, node: Node | None, key: str, what: str) -> object:
        self.problems.append((node.line if node else 0, key, what))
        return FAILED

    def value(self, kind: Any, node: Node, key: str) -> Any:
        """The value of `kind` that `node` holds, or FAILED."""
        origin = get_origin(kind)
        if origin in (Union, types.UnionType):
            return self._union(get_args(kind), node, key)
        if is_dataclass(kind):
            return self.part(typing.cast(type, kind), node, key)
        self.origins[key] = "command line" if node.line == 0 else "recipe"
        if origin is Literal:
            return self._choice(get_args(kind), node, key)
        if origin is tuple:
            return self._tuple(get_args(kind), node, key)
        if origin is Mapping:
            return self._mapping(get_args(kind)[1], node, key)
        return self._ranged(self._scalar(kind, node, key), node, key)

    def part(self, kind: type, node: Node, key: str, *, defaults: object = None) -> Any:
        """A dataclass from a mapping; fields that are absent come from `defaults`, an instance, or the class."""
        if not isinstance(node.value, dict):
            return self.note(node, key, f"must be a mapping, not `{_shown(node)}`")
        hints = typing.get_type_hints(kind)
        known: dict[str, Field[Any]] = {key_of(f.name): f for f in fields(kind)}
        built: dict[str, Any] = {}
        for name, child in node.value.items():
            if name not in known:
                self.note(child, f"{key}.{name}", f"no such key; {nearest(name, known)}".rstrip("; "))
            else:
                built[name] = self.value(hints[known[name].name], child, f"{key}.{name}")
        for name, item in known.items():
            if name in built:
                continue
            built[name] = self.absent(item, node, f"{key}.{name}", defaults)
        if any(value is FAILED for value in built.values()):
            return FAILED
        return kind(**{known[name].name: value for name, value in built.items()})

    def absent(self, item: Field[Any], node: Node, key: str, defaults: object = None) -> Any:
        """The value of a field that is not given: from `defaults`, an instance, or the class; else a problem."""
        if defaults is not None:
            self.origins[key] = "variant"
            return getattr(defaults, item.name)
        if item.default is MISSING and item.default_factory is MISSING:
            return self.note(node, key, "is missing")
        value = item.default_factory() if callable(item.default_factory) else item.default
        self._defaulted(value, key)
        return value

    def _defaulted(self, value: object, key: str) -> None:
        if is_dataclass(value) and not isinstance(value, type):
            for item in fields(value):
                self._defaulted(getattr(value, item.name), f"{key}.{key_of(item.name)}")
        else:
            self.origins[key] = "default"

    def _union(self, kinds: tuple[Any, ...], node: Node, key: str) -> Any:
        if node.value is None and type(None) in kinds:
            self.origins[key] = "command line" if node.line == 0 else "recipe"
            return None
        kinds = tuple(kind for kind in kinds if kind is not type(None))
        if len(kinds) == 1:
            return self.value(kinds[0], node, key)
        if str in kinds:  # a list, or the one text that stands for it
            return self.value(next(k for k in kinds if (k is str) != isinstance(node.value, list)), node, key)
        return self._tagged(kinds, node, key)

    def _tagged(self, kinds: tuple[type, ...], node: Node, key: str) -> Any:
        """A union of dataclasses told apart by `name`, whose default is the class's own word."""
        by_name = {_tag(kind): kind for kind in kinds}
        if not isinstance(node.value, dict):
            return self.note(node, key, f"must be a mapping with a name, not `{_shown(node)}`")
        tag = node.value.get("name")
        if tag is None:
            return self.note(node, f"{key}.name", f"is missing; known: {', '.join(by_name)}")
        if tag.value not in by_name:
            return self.note(tag, f"{key}.name", f"`{_shown(tag)}` is not known; {nearest(str(tag.value), by_name)}")
        kind = by_name[tag.value]
        mine = {item.name for item in fields(kind)}
        for dead, child in node.value.items():
            owners = [f"`{_tag(other)}`" for other in kinds if dead in {item.name for item in fields(other)}]
            if owners and dead not in mine:
                whose = ", ".join(owners)
                self.note(child, f"{key}.{dead}", f"has no effect: it belongs to {whose}, not to `{tag.value}`")
        live = {name: child for name, child in node.value.items() if name in mine or not _anywhere(name, kinds)}
        return self.part(kind, Node(live, node.line), key)

    def _choice(self, choices: tuple[str, ...], node: Node, key: str) -> Any:
        if node.value in choices:
            return node.value
        return self.note(node, key, f"`{_shown(node)}` is not one of {', '.join(map(str, choices))}")

    def _tuple(self, kinds: tuple[Any, ...], node: Node, key: str) -> Any:
        open_ended = len(kinds) == 2 and kinds[1] is Ellipsis
        items = node.value if isinstance(node.value, list) else None
        if items is None and kinds == (int, int) and type(node.value) is int:
            items = [node, node]  # a square size may be given as one number
        if items is None or (not open_ended and len(items) != len(kinds)):
            wanted = "a list of" if open_ended else f"a list of {len(kinds)}"
            what = "texts" if kinds[0] is str else "numbers"
            return self.note(node, key, f"must be {wanted} {what}, not `{_shown(node)}`")
        each = [kinds[0]] * len(items) if open_ended else list(kinds)
        values = tuple(self._ranged(self._scalar(k, n, key), n, key) for k, n in zip(each, items, strict=True))
        return FAILED if FAILED in values else values

    def _mapping(self, kind: Any, node: Node, key: str) -> Any:
        if not isinstance(node.value, dict):
            return self.note(node, key, f"must be a mapping, not `{_shown(node)}`")
        values = {name: self._scalar(kind, child, f"{key}.{name}") for name, child in node.value.items()}
        return FAILED if any(value is FAILED for value in values.values()) else values

    def _scalar(self, kind: Any, node: Node, key: str) -> Any:
        value = node.value
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is kind:
            return value
        if kind is str and type(value) is int:
            return str(value)
        hint = looks_like_number(value) if isinstance(value, str) else None
        more = f": YAML reads it as text, write {hint}" if hint else ""
        return self.note(node, key, f"must be {WORDS.get(kind, kind)}, not `{_shown(node)}`{more}")

    def _ranged(self, value: Any, node: Node, key: str) -> Any:
        if value is not FAILED and key in self.ranges and value is not None:
            holds, words = self.ranges[key]
            if not holds(value):
                return self.note(node, key, f"is {value:g}, {words}")
        return value


WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def key_of(field_name: str) -> str:
    """The key of a field in a recipe: `from_` stands for `from`, which Python keeps for itself."""
    return field_name.removesuffix("_")


def _tag(kind: type) -> str:
    return str(next(item.default for item in fields(kind) if item.name == "name"))


def _anywhere(name: str, kinds: tuple[type, ...]) -> bool:
    return any(item.name == name for kind in kinds for item in fields(kind))


def _shown(node: Node) -> str:
    value = plain(node)
    text = (
        {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)
    )
    return text if len(text) <= 60 else text[:57] + "..."
