"""How fast and how right a trained network answers in 8 bits, beside its peers:

    python bench/int8.py RUN --data DIR [--max-drop 0.5] [--rounds 60]

RUN is a finished run of `vitrail train`. Ours: its bundle exported in int8 for ONNX Runtime and OpenVINO within the
budget, opened with `engine=auto-int8` for the size of batch. Peers: timm's network (CCT: `plain_cct.py`) with the same
weights through torch's exporter, then NNCF's post-training quantisation for OpenVINO and ONNX Runtime's own, each as
its documentation shows it, calibrated on the same pictures; and both in float32. Every way names all held-out pictures,
by which `export` has chosen our layers, too (with all of them in int8 nothing was chosen); one that loses more than the
budget in points of top-1 is shown and does not count. Times are taken in turns; a ratio is our time over that of the
fastest peer that counts, with 95 % of bootstrap samples of the median. Figures go to
results/int8.json by the name of the run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.inference import BATCHES, Logits, Peer, in_onnxruntime, in_openvino, network  # noqa: E402
from vitrail.bundle.formats import Form  # noqa: E402
from vitrail.bundle.write import tools  # noqa: E402
from vitrail.data.configs import Data  # noqa: E402
from vitrail.data.sources import Source, open_source  # noqa: E402
from vitrail.disk import write_file  # noqa: E402
from vitrail.engines import bundle_classifier, open_bundle  # noqa: E402
from vitrail.engines.openvino import core  # noqa: E402
from vitrail.evaluation.speed import in_turns, ratio  # noqa: E402
from vitrail.machine import cores, cpu_flags, cpu_name  # noqa: E402
from vitrail.models.classifier import Classifier  # noqa: E402
from vitrail.proof.export import Candidate  # noqa: E402
from vitrail.verbs.export import CALIBRATING, export  # noqa: E402

RESULTS = ROOT / "results" / "int8.json"
BAR = 0.95


def batches(source: Source, indices: NDArray[np.int64], of: Classifier, size: int) -> Iterator[NDArray[np.float32]]:
    """Pictures by the model's policy, so many at a time."""
    for at in range(0, len(indices), size):
        pixels = [of.policy.pixels(source.read(index)) for index in indices[at : at + size].tolist()]
        yield of.policy.normalise(np.stack(pixels))


def peers(source: Classifier, calibration: list[NDArray[np.float32]]) -> Iterator[tuple[str, Logits]]:
    """Each way of theirs."""
    with tempfile.TemporaryDirectory() as folder:
        path, short = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        example = torch.zeros(2, source.policy.channels, *source.policy.size)
        torch.onnx.export(network(source), (example,), path, dynamo=True, dynamic_shapes=({0: "batch"},),
                          input_names=["images"], external_data=False, verbose=False)  # fmt: skip
        yield "ONNX Runtime", in_onnxruntime(path)
        yield "OpenVINO", in_openvino(path, "f32")
        yield "NNCF for OpenVINO, int8", by_nncf(path, calibration)
        yield "ONNX Runtime, int8", by_onnxruntime(path, short, calibration)


def by_nncf(path: Path, calibration: list[NDArray[np.float32]]) -> Logits:
    """As its guide for transformers has it."""
    import nncf

    model = core().read_model(path)
    short = nncf.quantize(model, nncf.Dataset(calibration), model_type=nncf.ModelType.TRANSFORMER)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": cores()}
    compiled = core().compile_model(short, "CPU", settings)
    return lambda images: np.asarray(compiled([images])[0], np.float32)


def by_onnxruntime(path: Path, short: Path, calibration: list[NDArray[np.float32]]) -> Logits:
    """Its preprocessing, then static quantisation with its own defaults."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    left = iter(calibration)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(left, None)
            return None if batch is None else {"images": batch}

    ready = path.with_name("ready.onnx")
    quant_pre_process(path, ready, skip_symbolic_shape=True)
    quantize_static(ready, short, Reader())
    return in_onnxruntime(short)


def main() -> None:
    """Export, judge, time, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--max-drop", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        bundle = Path(place) / "bundle"
        shutil.copytree(args.run / "bundle", bundle)
        found = measured(bundle, args.data, args.max_drop, args.rounds)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[args.run.resolve().name] = found
    write_file(RESULTS, (json.dumps(kept, indent=1) + "\n").encode())


def measured(bundle: Path, data: str, max_drop: float, rounds: int) -> dict[str, Any]:
    """What a run's row in the results holds."""
    source = bundle_classifier(bundle)
    exported = {}
    for format in ("onnx", "openvino"):
        done = export(bundle, format=format, form=Form("int8"), data=data, max_drop=max_drop)
        print("\n".join(done.lines()), flush=True)
        assert done.proof.quantized is not None
        exported[done.engine] = done.proof.quantized.to_json()
    opened = {batch: open_bundle(bundle, engine="auto-int8", batch=batch) for batch in BATCHES}
    ours = {batch: f"vitrail ({one.engine}, by {batch})" for batch, one in opened.items()}
    pictures = open_source(Data(root=data), seed=0)
    chosen = pictures.training[np.linspace(0, len(pictures.training) - 1, CALIBRATING).astype(int)]
    ways = {ours[batch]: Candidate(one.runner, source.policy, source.classes) for batch, one in opened.items()}
    for peer, logits in peers(source, list(batches(pictures, chosen, source, 1))):
        ways[peer] = Candidate(Peer(logits), source.policy, source.classes)
    held_out, labels = pictures.held_out, pictures.labels[pictures.held_out]
    right = dict.fromkeys(("torch", *ways), 0)
    for at, images in enumerate(batches(pictures, held_out, source, 50)):
        truth = labels[50 * at : 50 * (at + 1)]
        right["torch"] += int((source.logits(images).argmax(axis=1) == truth).sum())
        for name, candidate in ways.items():
            right[name] += int((candidate.logits(images).argmax(axis=1) == truth).sum())
    least = right["torch"] - max_drop / 100 * len(labels)
    assert min(right[mine] for mine in ours.values()) >= least, "our own export is beyond its budget"
    rows = []
    for batch, mine in ours.items():
        others = [way for way in ways if way not in ours.values()]
        turns = in_turns([ways[way] for way in (mine, *others)], batch=batch, rounds=rounds, warm=5)
        times = dict(zip((mine, *others), turns, strict=True))
        best = min((way for way in others if right[way] >= least), key=lambda way: statistics.median(times[way]))
        share = ratio(times[mine], times[best])
        print(f"batch {batch}: {share.median:.3f} of {best} ({share.low:.3f} to {share.high:.3f})")
        for way, seconds in times.items():
            out = "" if right[way] >= least else ", beyond the budget: does not count"
            top1 = 100 * right[way] / len(labels)
            print(f"  {way:<26}{1000 * statistics.median(seconds):9.3f} ms   top-1 {top1:.2f} %{out}", flush=True)
        p50 = {way: round(1000 * statistics.median(seconds), 3) for way, seconds in times.items()}
        rows.append({"batch": batch, "best": best, "ratio": share.median, "low": share.low, "high": share.high,
                     "bar": BAR, "p50_ms": p50})  # fmt: skip
    return {
        "variant": source.provenance.get("variant"),
        "pictures": len(labels),
        "right": right,
        "max_drop": max_drop,
        "exported": exported,
        "rows": rows,
        "machine": {"processor": cpu_name(), "cores": cores(), "amx": "amx_int8" in cpu_flags()},
        "versions": tools(("vitrail", "torch", "timm", "onnxruntime", "openvino", "nncf")),
    }


if __name__ == "__main__":
    main()
