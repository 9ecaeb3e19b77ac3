"""C19: what a fuzzer that follows coverage ever found is read again: each input is valid, or refused by a code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.fuzz import corpus, read
from tests.hostile.mutants import READERS


@pytest.mark.parametrize("name", READERS)
def test_C19_the_corpus_is_read_or_refused(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    seeds, inputs = [*reader.seeds()], corpus(name)
    verdicts = {read(reader, seeds, tmp_path, given) for given in inputs}
    assert len(inputs) >= 10 and len(verdicts) > 1
