"""The 10,000 test records of CIFAR-10 (JPEG copies) through the offline flow, with a network trained on 5,000."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vitrail
from tests.offline import made
from vitrail.cli import run
from vitrail.recipe import load_recipe
from vitrail.verbs.evaluate import evaluate
from vitrail.verbs.train import train

OVERRIDES = ("schedule.epochs=2", "schedule.warmup_epochs=0.2", "data.batch=64", "train.threads=1")


@pytest.fixture(scope="module")
def unpacked(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (shared / "data" / "unpack.py").is_file():
        pytest.skip("needs ../shared/data (CIFAR-10 as JPEG copies), which is absent here")
    place = tmp_path_factory.mktemp("cifar")
    subprocess.run([sys.executable, shared / "data" / "unpack.py", "cifar10", place], check=True, capture_output=True)
    for name in ("data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"):
        (place / "cifar-10-batches-bin" / name).unlink()
    first = place / "cifar-10-batches-bin" / "data_batch_1.bin"
    first.write_bytes(first.read_bytes()[: 5000 * 3073])
    shutil.rmtree(place / "cifar-10-batches-py")
    return place


@pytest.mark.prove
def test_the_flow_over_all_test_records_is_evaluates(
    unpacked: Path, in_memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe("cifar10/cct_2_3x2_32", overrides=(f"data.root={unpacked}", *OVERRIDES))
    train(recipe, out=in_memory / "run")
    bundle, out = vitrail.export(in_memory / "run").folder, in_memory / "out"
    capsys.readouterr()
    assert run(["offline", "run", str(bundle), str(unpacked), str(out), "--dataset", "cifar10", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    alone = evaluate(bundle, unpacked, batch=1).evaluation
    together = evaluate(bundle, unpacked).evaluation
    assert values["pictures"] == alone.total == together.total == 10_000
    assert values["correct"] == alone.correct == together.correct > 2000  # of 1,000 by chance: it has learned
    labels = np.fromfile(unpacked / "cifar-10-verify-bin" / "test_batch.bin", np.uint8).reshape(10_000, 3073)[:, 0]
    packed = [
        np.fromfile(out / "preprocess_Result" / "label" / f"vit_base_cifar10_1_{i}.bin", "<i4") for i in range(10_000)
    ]
    assert (np.concatenate(packed) == labels).all()
    assert (out / "acc.log").read_text() == made.acc_log_of_vit(
        out / "result_Files", out / "preprocess_Result" / "label"
    )
    assert "of infer_count 10000\n" in (out / "time_Result" / "test_perform_static.txt").read_text()
