"""Networks of ours as MINDIR through MindSpore itself, which has an environment of its own: the usual proof of each.

python tests/oracles/mindir.py PYTHON    (the interpreter that has MindSpore)
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from held import Held

from tests.engines.networks import NETWORKS, classifier, graph
from vitrail.engines import mindir
from vitrail.engines.mindir import program
from vitrail.engines.table import Said
from vitrail.errors import UsageError
from vitrail.proof.export import Candidate
from vitrail.proof.prove import prove

FIXED = {"vit": 1, "hybrid": 2, "beit": 7, "cct same": 2}


def free(held: Held, name: str, python: str) -> None:
    """Any batch: proven as every export is, over the generated pictures at batch 1, 2 and 7."""
    source, data = classifier(name), graph(name)
    written = mindir.write(data, python=python)
    made, version = written.files[mindir.FILE], written.facts["mindspore"]
    runner = mindir.open(made, python=python, threads=2)
    said = Said(written.facts, source.classes)
    proof = prove(source, Candidate(runner, source.policy, source.classes), said=said)
    held.within(f"{name}, MindSpore {version}, any batch", ("logits", proof.max_dlogit, proof.gate))
    held.true(f"{name}: {proof.line()}", not proof.failures, "; ".join(proof.failures))
    again = mindir.write(data, python=python)  # MindSpore joins the names of what a graph shares in an order of its own
    same = again.facts == written.facts and sorted(again.files[mindir.FILE]) == sorted(made)
    held.true(f"{name}: written again, the same but for the order of names", same)


def fixed(held: Held, name: str, batch: int, python: str) -> None:
    """One batch alone, and our own word against every other."""
    source, config = classifier(name), NETWORKS[name]
    made = mindir.write(graph(name), batch=batch, python=python).files[mindir.FILE]
    runner = mindir.open(made, python=python, threads=2)
    images = np.random.default_rng(batch).standard_normal((batch, config.channels, *config.image_size))
    found = runner.logits(images.astype(np.float32))
    gap = float(np.abs(found - source.logits(images.astype(np.float32))).max())
    held.within(f"{name}, batch {batch} alone", ("logits", gap, 2e-5))
    held.true(f"{name}: it says so itself", program.read(made).batch == batch)
    try:
        runner.logits(np.zeros((batch + 1, config.channels, *config.image_size), np.float32))
    except UsageError as error:
        held.true(f"{name}: batch {batch + 1} is refused, {error.code}", error.code == "V007")
    else:
        held.true(f"{name}: batch {batch + 1} is refused", False, "it was answered")


def main(python: str) -> int:
    held = Held("MINDIR through MindSpore")
    for name in NETWORKS:
        with held.trying(name):
            free(held, name, python)
    for name, batch in FIXED.items():
        with held.trying(f"{name}, batch {batch}"):
            fixed(held, name, batch, python)
    return held.end()


if __name__ == "__main__":
    torch.set_num_threads(2)
    sys.exit(main(sys.argv[1]))
