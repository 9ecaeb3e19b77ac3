"""Every reader under a fuzzer that follows coverage (atheris, libFuzzer's engine), from the seeds of `mutants.py`.

    python -m tests.hostile.fuzz NAME SECONDS      for each reader: what it found new is added to `corpus/NAME.zip`

An input is the number of a seed, and what stands inside that seed's file in place of its own body. It may read as a
valid file or be refused by a code of the reader's; anything else ends the fuzzer, and the input is kept where
libFuzzer says. The corpus, the smallest set of inputs with all the coverage that was ever seen, is read again by every
`make test`. It wants `pip install atheris`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.errors import VitrailError

if TYPE_CHECKING:
    from tests.hostile.campaign import Reader, Seed

CORPUS = Path(__file__).with_name("corpus")
LONGEST, HANG_S, MEMORY_MB = 4096, 5, 1024  # bytes of an input; of one reading; of the process, torch included


def read(reader: Reader, seeds: list[Seed], folder: Path, given: bytes) -> str | None:
    """The code that an input is refused by, None for a file that is valid; whatever else is raised is a finding."""
    if not given:
        return None
    seed = seeds[given[0] % len(seeds)]
    whole = _kind(reader.place(folder, seed.file(seed.body)))
    path = reader.place(folder, seed.file(given[1:]))
    try:
        found = reader.read(path)
    except VitrailError as error:
        assert error.code in reader.codes, error
        assert str(error).isascii() or all(line.isprintable() for line in str(error).splitlines())
        return error.code
    if reader.check is not None and _kind(path) == whole:  # formats are told apart by content: it may be another by now
        reader.check(path, found)
    return None


def _kind(path: Path) -> str:
    from vitrail.formats import sniff  # not before the fuzzer follows what is imported

    return sniff(path) if path.is_file() else ""


def corpus(name: str) -> list[bytes]:
    """The inputs that are kept for a reader."""
    with zipfile.ZipFile(CORPUS / f"{name}.zip") as archive:
        return [archive.read(member) for member in archive.namelist()]


def _keep(name: str, folder: Path) -> None:
    files = sorted(folder.iterdir())
    CORPUS.mkdir(exist_ok=True)
    with zipfile.ZipFile(CORPUS / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.writestr(zipfile.ZipInfo(file.name), file.read_bytes(), zipfile.ZIP_DEFLATED)


def _fuzz(name: str, folder: Path, options: list[str]) -> None:
    """libFuzzer's own main: it ends the process. folder: where inputs are laid."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["vitrail.formats", "vitrail.weights"]):
        from tests.hostile.mutants import READERS
    reader = READERS[name]
    seeds = [*reader.seeds()]

    def one(given: bytes) -> None:
        read(reader, seeds, folder, given)

    again = folder / "again"  # a merge starts the program anew, by its first word
    again.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.hostile.fuzz --inside {name} {folder} "$@"\n')
    again.chmod(0o755)
    atheris.Setup([str(again), *options], one)
    atheris.Fuzz()


def main(name: str, seconds: str) -> int:
    """Fuzz, then keep the smallest corpus; the exit code is libFuzzer's."""
    from tests.hostile.mutants import READERS

    limits = [f"-timeout={HANG_S}", f"-rss_limit_mb={MEMORY_MB}", f"-max_len={LONGEST}"]
    with tempfile.TemporaryDirectory() as place:
        known, least, laid = (Path(place, word) for word in ("known", "least", "laid"))
        for folder in (known, least, laid):
            folder.mkdir()
        again = [sys.executable, "-m", "tests.hostile.fuzz", "--inside", name, str(laid)]
        inputs = [bytes([number]) + seed.body for number, seed in enumerate(READERS[name].seeds())]
        inputs += corpus(name) if (CORPUS / f"{name}.zip").is_file() else []
        for number, given in enumerate(inputs):
            (known / str(number)).write_bytes(given)
        done = subprocess.run([*again, *limits, f"-max_total_time={seconds}", "-print_final_stats=1", str(known)])
        if done.returncode == 0:
            subprocess.run([*again, *limits, "-merge=1", str(least), str(known)], check=True)
            _keep(name, least)
    return done.returncode


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        _fuzz(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    sys.exit(main(*sys.argv[1:]))
