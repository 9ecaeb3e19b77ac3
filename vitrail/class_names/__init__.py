"""Names of the classes that published weights and data sets tell apart, in the order of their labels.

The files lie beside this one; NOTICE says where they come from.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from vitrail.class_names.numbered import numbered
from vitrail.errors import UsageError, nearest

ClassSet = Literal["imagenet1k", "imagenet21k", "imagenet22k", "cifar10", "cifar100", "flowers102", "none"]

# set -> classes. imagenet21k is Google's; imagenet22k is the same without the two synsets that lost their pictures.
COUNTS: dict[ClassSet, int] = {
    "imagenet1k":  1000,
    "imagenet21k": 21843,
    "imagenet22k": 21841,
    "cifar10":     10,
    "cifar100":    100,
    "flowers102":  102,
    "none":        0,
}  # fmt: skip
EMPTY_SYNSETS = ("n03931044", "n09859684")  # classes 9205 and 15027 of imagenet21k (google-research/big_transfer#18)

FOLDER = Path(__file__).resolve().parent


@cache
def class_names(of: ClassSet) -> tuple[str, ...]:
    """The names of a set, each one once: the first word of a synset, with its WordNet id where two share the word.

    flowers102 has numbered ones: the order of its published heads is not known; `flowers` is that of the data.
    UsageError V007 for another set.

    >>> class_names("imagenet1k")[:2], class_names("imagenet1k")[134]
    (('tench', 'goldfish'), 'crane (n02012849)')
    """
    _known(of)
    if of in ("flowers102", "none"):
        return numbered(COUNTS[of])
    if of in ("cifar10", "cifar100"):
        return tuple((FOLDER / f"{of}.txt").read_text("utf-8").split())
    first = [(wnid, words.split(", ")[0]) for wnid, words in _synsets(of)]
    shared = Counter(word for _, word in first)
    return tuple(word if shared[word] == 1 else f"{word} ({wnid})" for wnid, word in first)


@cache
def wnids(of: ClassSet) -> tuple[str, ...]:
    """The WordNet ids of an ImageNet set, in the order of its classes; UsageError V007 for a set that has none.

    >>> wnids("imagenet1k")[0], len(wnids("imagenet21k"))
    ('n01440764', 21843)
    """
    _known(of)
    if not of.startswith("imagenet"):
        raise UsageError("V007", f"`{of}` has no WordNet ids", hint="the ImageNet sets have them")
    return tuple(wnid for wnid, _ in _synsets(of))


@cache
def flowers() -> tuple[str, ...]:
    """The names of the Oxford 102 flowers, in the order of the labels 1 to 102 of `imagelabels.mat`.

    >>> flowers()[0], len(flowers())
    ('pink primrose', 102)
    """
    return tuple((FOLDER / "flowers102.txt").read_text("utf-8").splitlines())


def in_words(names: Sequence[str]) -> tuple[str, ...]:
    """Names that are all WordNet ids of ImageNet-1k as published weights call them; any others as they are.

    >>> in_words(["n01443537", "n01440764"]), in_words(["n01440764", "cat"])
    (('goldfish', 'tench'), ('n01440764', 'cat'))
    """
    word = _word_of()
    return tuple(word[name] for name in names) if names and all(name in word for name in names) else tuple(names)


@cache
def _word_of() -> dict[str, str]:
    return dict(zip(wnids("imagenet1k"), class_names("imagenet1k"), strict=True))


@cache
def _synsets(of: ClassSet) -> tuple[tuple[str, str], ...]:
    """(WordNet id, words) of every class."""
    if of == "imagenet1k":
        text = (FOLDER / "imagenet1k.tsv").read_text("utf-8")
    else:
        text = gzip.decompress((FOLDER / "imagenet21k.tsv.gz").read_bytes()).decode()
    rows = [(wnid, words) for wnid, _, words in (line.partition("\t") for line in text.splitlines())]
    return tuple(row for row in rows if of != "imagenet22k" or row[0] not in EMPTY_SYNSETS)


def _known(of: str) -> None:
    if of not in get_args(ClassSet):
        raise UsageError("V007", f"no class set is called `{of}`", hint=nearest(of, get_args(ClassSet)))
