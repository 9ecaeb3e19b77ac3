"""Fuzzers that follow coverage, with the address and undefined-behaviour sanitizers: no crash, hang, leak or bomb."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from cpp.build import INSTALL, build, found, missing
from tests.bundle import tiny
from tests.bundle.test_manifest import CHANGES, edited, whole
from tests.bundle.test_read import GRAPH
from tests.pictures.hostile import HOSTILE
from tests.pictures.mutants import READERS

pytestmark = pytest.mark.prove
SECONDS, HANG_S, MEMORY_MB = 200, 5, 2048  # of sanitizers, which take several times what the readers themselves take


@pytest.fixture(scope="module")
def fuzzers() -> Path:
    if lacking := missing() or ([] if found("clang++") else ["clang++"]):
        pytest.skip(f"fuzzers are not built: {', '.join(lacking)} missing; {INSTALL} clang libclang-rt-14-dev")
    return build("fuzz")


def fuzzed(fuzzer: Path, seeds: Iterable[bytes], place: Path, *, longest: int) -> None:
    corpus = place / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds):
        (corpus / str(number)).write_bytes(data)
    limits = [f"-timeout={HANG_S}", f"-rss_limit_mb={MEMORY_MB}", f"-max_len={longest}", f"-max_total_time={SECONDS}"]
    command = [fuzzer, *limits, "-verbosity=0", "-print_final_stats=1", f"-artifact_prefix={place}/", corpus]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stderr[-3000:]
    runs = next(line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line)
    assert int(runs) > 10_000


def test_E03_pictures(fuzzers: Path, tmp_path: Path) -> None:
    seeds = [make() for make, _ in HOSTILE.values()]
    seeds += [seed.file(seed.body) for reader in READERS.values() for seed in reader.seeds()]
    forms = bytes(range(0, 256, 11))
    fuzzed(
        fuzzers / "vitrail-fuzz-picture",
        (bytes([forms[at % len(forms)]]) + data for at, data in enumerate(seeds) if len(data) < 20_000),
        tmp_path,
        longest=20_000,
    )


def test_E03_manifests(fuzzers: Path, tmp_path: Path) -> None:
    seeds = [whole(), *(edited(change) for change in CHANGES.values())]
    fuzzed(fuzzers / "vitrail-fuzz-manifest", seeds, tmp_path, longest=16_000)


def test_E03_graphs(fuzzers: Path, tmp_path: Path) -> None:
    seeds = [tiny.bundle_files()[GRAPH], *(tiny.graph(kind) for kind in ("cvt", "vit_lite"))]
    fuzzed(fuzzers / "vitrail-fuzz-graph", seeds, tmp_path, longest=200_000)
