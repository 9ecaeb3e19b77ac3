"""Levels of optimisation: each reaches the engine as it is meant, and is refused where it is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bundle import tiny
from vitrail.engines import open_bundle
from vitrail.engines.levels import MEANINGS, at_level
from vitrail.engines.table import ENGINES
from vitrail.errors import BundleError, UsageError


def test_each_level_reaches_onnx_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    opened = open_bundle(tiny.bundle(tmp_path), engine="onnx")
    seen: list[tuple[str, int]] = []
    real = onnxruntime.InferenceSession

    def noted(data: bytes, options: onnxruntime.SessionOptions, **words: object) -> onnxruntime.InferenceSession:
        seen.append((options.graph_optimization_level.name, options.intra_op_num_threads))
        return real(data, options, **words)

    monkeypatch.setattr(onnxruntime, "InferenceSession", noted)
    levels = [at_level(opened, level, threads=1) for level in range(3)]
    assert seen == [("ORT_DISABLE_ALL", 1), ("ORT_ENABLE_EXTENDED", 1), ("ORT_ENABLE_ALL", 1)]
    pictures = np.random.default_rng(0).standard_normal((4, 3, *tiny.SIZE), np.float32)
    wanted = opened.logits(pictures)
    for found in levels:
        assert np.abs(found.logits(pictures) - wanted).max() < 1e-4
        assert found.policy == opened.policy and found.classes == opened.classes


def test_torch_has_level_0_alone_and_others_none(tmp_path: Path) -> None:
    bundle = tiny.bundle(tmp_path)
    torch = open_bundle(bundle, engine="torch")
    assert at_level(torch, 0) is torch and at_level(tiny.classifier(), 0) is tiny.classifier()
    for engine, level in (("torch", 1), ("openvino", 0), ("onnx", 3), ("onnx", -1)):
        with pytest.raises(UsageError, match="level") as caught:
            at_level(open_bundle(bundle, engine=engine), level)
        assert caught.value.code == "V007"
    assert set(MEANINGS) <= set(ENGINES)


def test_a_graph_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    opened = open_bundle(tiny.bundle(tmp_path), engine="onnx")
    with (tmp_path / "engines" / "onnx-fp32" / "model.onnx").open("r+b") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        at_level(opened, 1)
