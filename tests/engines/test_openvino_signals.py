"""A signal after OpenVINO: its plugins change the stack on which signals are handled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OPENED = """
import gc, os, signal, sys
from pathlib import Path
from tests.bundle import tiny
from vitrail.bundle.formats import Form
from vitrail.engines import open_bundle, openvino
from vitrail.proof.export import export
"""
HEARD = """
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGUSR1)
"""
BUNDLES = """
folder = Path(sys.argv[1]) / "bundle"
export(tiny.classifier("vit_lite"), folder, format="openvino")
first, second = (open_bundle(folder, engine="openvino") for _ in range(2))
del first
gc.collect()
del second
gc.collect()
"""
QUANTISED = """
import numpy as np
from vitrail.engines import graphs
graph = graphs.write_onnx(tiny.classifier("vit_lite"), Form())
pictures = [np.zeros((1, 3, *tiny.SIZE), np.float32)]
for _ in range(2):
    held = openvino.open(graph)
    openvino.write_int8(graph, Form("int8"), pictures=pictures, nodes=["none"])
    gc.collect()
"""


@pytest.mark.parametrize("act", [BUNDLES, QUANTISED], ids=["bundles opened and dropped", "int8"])
def test_a_signal_is_heard_after(act: str, tmp_path: Path) -> None:
    """Python handles signals on that stack: where it is freed memory the process dies without a word."""
    command = [sys.executable, "-c", OPENED + act + HEARD, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr[-3000:]
