"""Writes what C++ takes over from Python: nothing of it is typed twice.

for name in unicode_tables families numerics limits openvino_kinds torchscript_operations synsets; do
    python cpp/tables.py $name > cpp/src/$name.inc
done
"""

from __future__ import annotations

import sys
import typing
import unicodedata
from collections.abc import Iterable, Iterator

from vitrail.models import configs


def not_printable() -> Iterator[tuple[int, int]]:
    """First and last of each run of code points that are not printable."""
    first = None
    for point in range(sys.maxunicode + 2):
        shown = point > sys.maxunicode or chr(point).isprintable()
        if not shown and first is None:
            first = point
        if shown and first is not None:
            yield first, point - 1
            first = None


def folded() -> Iterator[str]:
    """One row for each code point that case folding changes."""
    for point in range(sys.maxunicode + 1):
        to = [ord(letter) for letter in chr(point).casefold()]
        if to != [point]:
            yield f"{{{point}, {{{', '.join(map(str, to))}}}}}"


def lines(items: Iterator[str]) -> Iterator[str]:
    """The items, as many as fit on each line."""
    line = " "
    for item in items:
        if len(line) + len(item) > 116:
            yield line
            line = " "
        line += f" {item},"
    yield line


def unicode_text() -> str:
    """The file of code points."""
    ranges = (f"{{{first}, {last}}}" for first, last in not_printable())
    head = f"// Written by cpp/tables.py from Unicode {unicodedata.unidata_version}."
    parts = [head, "constexpr Range kNotPrintable[] = {", *lines(ranges), "};"]
    parts += ["constexpr Folded kFolded[] = {", *lines(folded()), "};", ""]
    return "\n".join(parts)


def field(family: str, name: str, kind: typing.Any) -> str:
    """The row of one field of a config."""
    words, word = "", {int: "whole", float: "real", bool: "boolean"}.get(kind, "")
    if typing.get_origin(kind) is typing.Literal:
        word, words = "choice", "|".join(typing.get_args(kind))
    elif typing.get_origin(kind) is tuple:
        word = "wholes" if typing.get_args(kind)[-1] is Ellipsis else "two"
    assert word, f"{family}.{name} is of a kind that C++ does not know: {kind}"
    low, high = configs.BOUNDS.get(name, (0, 0))
    later = name in configs._LATER.get(family, ())
    needed = "false" if later else "true"
    return f'    {{"{family}", "{name}", Kind::{word}, {float(low)!r}, {float(high)!r}, {needed}, "{words}"}},'


def families_text() -> str:
    """The file of configs."""
    rows = [
        field(family, name, kind)
        for family, config in configs.FAMILIES.items()
        for name, kind in typing.get_type_hints(config).items()
    ]
    return "\n".join(["// Written by cpp/tables.py.", "constexpr Field kFields[] = {", *rows, "};", ""])


def words_text(name: str, words: Iterable[str]) -> str:
    """The file of a list of words."""
    head = "// Written by cpp/tables.py."
    return "\n".join(
        [head, f"constexpr std::string_view {name}[] = {{", *lines(f'"{w}"' for w in sorted(words)), "};", ""]
    )


def openvino_text() -> str:
    """The file of OpenVINO's operators."""
    from vitrail.engines.openvino import KINDS

    return words_text("kKinds", KINDS)


def torchscript_text() -> str:
    """The file of TorchScript's operations."""
    from vitrail.engines.torchscript import OPERATIONS

    return words_text("kOperations", OPERATIONS)


def numerics_text() -> str:
    """The file of numbers that a config leaves to its family."""
    groups = ", ".join(f'{{"{name}", {eps!r}}}' for name, eps in sorted(configs.GROUP_EPS.items()))
    lines = [
        f"constexpr double kCctEps = {configs.CCT_EPS!r};",
        f'constexpr const char* kCctGelu = "{configs.CCTConfig.gelu}";',
    ]
    lines.append(f"constexpr std::pair<std::string_view, double> kGroupEps[] = {{{groups}}};")
    return "\n".join(["// Written by cpp/tables.py.", *lines, ""])


def limits_text() -> str:
    """The file of numbers and words that both languages keep to."""
    from vitrail.bundle.formats import TOP
    from vitrail.engines import bounds, openvino, torch_export

    best = ", ".join(f'"{name}"' for name in TOP)

    lines = [
        f"constexpr std::int64_t kBatch = {bounds.BATCH};  // a free batch is taken for so many",
        f"constexpr std::int64_t kLargest = {bounds.LARGEST};  // elements of one value",
        f"constexpr std::int64_t kTotal = {bounds.TOTAL};  // of all values together",
        f"constexpr std::int64_t kFollowed = {bounds.FOLLOWED};  // of a list that is followed",
        f"constexpr std::int64_t kLargestBatch = {torch_export.LARGEST_BATCH};  // of a program of torch",
        f"constexpr std::int64_t kMostSized = {openvino.MOST_SIZED};  // pictures that OpenVINO compiles a graph for",
        f"constexpr const char* kTop[] = {{{best}}};  // what a graph gives beside the logits",
    ]
    return "\n".join(["// Written by cpp/tables.py.", *lines, ""])


def synsets_text() -> str:
    """The file of ImageNet's classes: WordNet id, and the name that published weights have for it."""
    from vitrail.class_names import class_names, wnids

    named = zip(wnids("imagenet1k"), class_names("imagenet1k"), strict=True)
    rows = (f'    {{"{wnid}", "{name}"}},' for wnid, name in sorted(named))
    head = "constexpr std::pair<std::string_view, const char*> kSynsets[] = {"
    return "\n".join(["// Written by cpp/tables.py.", head, *rows, "};", ""])


FILES = {
    "unicode_tables": unicode_text,
    "families": families_text,
    "numerics": numerics_text,
    "limits": limits_text,
    "openvino_kinds": openvino_text,
    "torchscript_operations": torchscript_text,
    "synsets": synsets_text,
}

if __name__ == "__main__":
    sys.stdout.write(FILES[sys.argv[1]]())
