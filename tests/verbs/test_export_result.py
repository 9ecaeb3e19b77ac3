"""What `export` prints and returns: proof with interval, speed of this machine, and what the file is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitrail
from tests.verbs.small import small
from vitrail import weights
from vitrail.bundle.manifest import File
from vitrail.cli import run as command
from vitrail.data.configs import Data
from vitrail.data.sources import open_source
from vitrail.disk import sha256_bytes
from vitrail.engines import open_bundle
from vitrail.verbs.export import export
from vitrail.verbs.train import train


def test_an_export_says_how_right_how_fast_and_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(small("schedule.epochs=1"), out=tmp_path / "run")
    capsys.readouterr()
    assert command(["export", str(tmp_path / "run")]) == 0
    name, proof, speed, file, versions = capsys.readouterr().out.splitlines()
    data = (tmp_path / "run" / "bundle" / "engines" / "onnx-fp32" / "model.onnx").read_bytes()
    is_there = File(len(data), sha256_bytes(data))
    assert name == f"onnx-fp32 in {tmp_path / 'run' / 'bundle'}"
    assert "over 64 + 16 + 355 pictures at batch 1, 2, 7; 0 decisions changed; top-1 " in proof
    assert proof.endswith(" %)")
    assert speed.startswith("p50 for one picture here: ")
    assert file == f"engines/onnx-fp32/model.onnx: {is_there.size:,} bytes, SHA-256 {is_there.sha256}"
    assert versions.startswith("written by ") and "onnxruntime " in versions

    assert command(["export", str(tmp_path / "run"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["files"] == {"engines/onnx-fp32/model.onnx": asdict(is_there)}
    assert values["top1"]["labelled"] == 355
    low, high = values["top1"]["intervals"]["candidate"]
    assert low <= values["top1"]["candidate"] / 355 <= high
    assert values["faster"] == pytest.approx(values["p50_s"]["torch"] / values["p50_s"]["engine"])


def test_a_proof_of_few_pictures_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(small("schedule.steps=1", "schedule.warmup_epochs=0"), out=tmp_path / "run")
    pictures = open_source(Data(source="digits"))
    for index in pictures.held_out[:20].tolist():
        folder = tmp_path / "few" / pictures.classes[pictures.labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures.read(index).squeeze()).save(folder / f"{index}.png")
    assert export(run.folder, data=tmp_path / "few").notes[-1].endswith("went into the proof: 256 or more say more")


def test_another_size_is_another_bundle(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["export", "cct_2_3x2_32", "--image-size", "24x40"]
    assert command([*words, "--out", str(tmp_path / "b")]) == 0
    opened = open_bundle(tmp_path / "b", engine="onnx")
    assert (opened.policy.size, opened.manifest.config.image_size) == ((24, 40), (24, 40))
    images = np.random.default_rng(0).standard_normal((2, 3, 24, 40)).astype(np.float32)
    sized = weights.resized(vitrail.create("cct_2_3x2_32"), (24, 40)).classifier
    assert np.abs(opened.logits(images) - sized.logits(images)).max() < 1e-5
    assert "positional_emb" in capfd.readouterr().err  # what was fitted is told
    assert command([*words]) == 2  # no bundle of its own
    assert "--out DIR" in capfd.readouterr().err
    assert command(["export", "vit_tiny_patch16_224", "--image-size", "100", "--out", str(tmp_path / "c")]) == 2
    assert "96 or 112" in capfd.readouterr().err and not (tmp_path / "c").exists()
