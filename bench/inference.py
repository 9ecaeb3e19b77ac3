"""How fast a bundle answers, beside the best of the peers:  python bench/inference.py [VARIANT ...] [--rounds 30]

Variants with random weights, none of them 0 or 1: such biases and scales an engine leaves out, and those of a trained
network it cannot. Ours is a bundle opened with `engine=auto` in a precision, for the size of batch. Peers are timm's
network with the same weights (CCT: `plain_cct.py`): in torch as it is, under torch.compile, and through torch's ONNX
exporter in ONNX Runtime and OpenVINO with their own defaults, told the precision and the threads. All take turns in
every round. A way whose logits leave the gate of its precision is shown and does not count.
A ratio is our time over the best peer's, round by round; its bounds are 95 % of bootstrap samples of the median.
Bundles are kept in --work; figures go to results/inference.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import vitrail  # noqa: E402
from bench.plain_cct import PlainCCT  # noqa: E402
from vitrail.bundle.formats import Form  # noqa: E402
from vitrail.bundle.manifest import weights_hash  # noqa: E402
from vitrail.bundle.write import tools  # noqa: E402
from vitrail.disk import write_file  # noqa: E402
from vitrail.engines import open_bundle  # noqa: E402
from vitrail.engines.openvino import core  # noqa: E402
from vitrail.evaluation.answers import CheckPicture, Run, answers  # noqa: E402
from vitrail.evaluation.speed import in_turns, ratio  # noqa: E402
from vitrail.machine import cores, cpu_flags, cpu_name, has_fast_bf16  # noqa: E402
from vitrail.models.classifier import Classifier  # noqa: E402
from vitrail.models.configs import CCTConfig  # noqa: E402
from vitrail.proof.export import Candidate  # noqa: E402
from vitrail.proof.pictures import generated  # noqa: E402
from vitrail.proof.prove import FACTOR, FLOOR, in_float64, in_precision  # noqa: E402
from vitrail.verbs.export import export  # noqa: E402
from vitrail.weights import native_tensors  # noqa: E402

RESULTS = ROOT / "results" / "inference.json"
BARS = {"vit_base_patch16_224": 0.93, "beit_base_patch16_224": 0.97, "cct_14_7x2_224": 0.97}
GRAPHS = {"fp32": ("onnx", "openvino"), "bf16": ("openvino",)}
BATCHES = (1, 8)
Logits = Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Peer:
    """A way of someone else's."""

    logits: Logits


def bundle(name: str, source: Classifier, precision: str, work: Path) -> Path:
    """The bundle with every graph that `auto` may choose from, made once."""
    place = work / f"{name}-{weights_hash(native_tensors(source.module))[:8]}"
    for format in GRAPHS[precision]:
        if not (place / "engines" / f"{format}-{precision}").is_dir():
            export(source, place, format=format, form=Form(precision))  # type: ignore[arg-type]
    return place


def as_if_trained(name: str) -> Classifier:
    """A variant of which no parameter is 0 or 1."""
    source = vitrail.create(name)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in source.module.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return source


def network(source: Classifier) -> nn.Module:
    """The peer's network with our weights."""
    config = source.config
    if isinstance(config, CCTConfig):
        module: nn.Module = PlainCCT(config)
    else:
        import torchvision_beside_cpu_torch  # noqa: F401, I001  before timm, which imports torchvision
        import timm

        sizes = {"img_size": config.image_size, "patch_size": config.patch, "num_classes": config.classes}
        module = timm.create_model(str(source.provenance["variant"]), **sizes)
    module.load_state_dict(source.module.state_dict())
    return module.eval().requires_grad_(False)


def peers(source: Classifier, precision: str) -> Iterator[tuple[str, Logits]]:
    """Each way of theirs in a precision."""
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    module = network(source).to(kind)
    compiled = torch.compile(module)

    def asked(net: Callable[[torch.Tensor], torch.Tensor]) -> Logits:
        def logits(images: NDArray[Any]) -> NDArray[np.float32]:
            with torch.inference_mode():
                return net(torch.from_numpy(images).to(kind)).float().numpy()

        return logits

    yield "torch", asked(module)
    yield "torch.compile", asked(compiled)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        example = torch.zeros(2, source.policy.channels, *source.policy.size)
        shapes = ({0: "batch"},)
        torch.onnx.export(network(source), (example,), path, dynamo=True, dynamic_shapes=shapes,
                          input_names=["images"], external_data=False, verbose=False)  # fmt: skip
        if precision == "fp32":
            yield "ONNX Runtime", in_onnxruntime(path)
        yield "OpenVINO", in_openvino(path, {"fp32": "f32", "bf16": "bf16"}[precision])


def in_onnxruntime(path: Path) -> Logits:
    """A session with its own defaults and our threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def in_openvino(path: Path, hint: str) -> Logits:
    """A compiled model with its own defaults, our threads and the precision."""
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": cores()}
    compiled = core().compile_model(path, "CPU", settings)
    return lambda images: np.asarray(compiled([images])[0], np.float32)


def measured(name: str, source: Classifier, precision: str, work: Path, rounds: int) -> list[dict[str, Any]]:
    """A row for each batch size."""
    place = bundle(name, source, precision, work)
    theirs = {peer: Candidate(Peer(logits), source.policy, source.classes) for peer, logits in peers(source, precision)}
    rows = []
    for batch in BATCHES:
        opened = open_bundle(place, engine=f"auto-{precision}", batch=batch)
        ours = {f"vitrail ({opened.engine})": Candidate(opened.runner, source.policy, source.classes)}
        ways = {**ours, **theirs}
        errors, gate = judged(source, ways, precision)
        times = dict(zip(ways, in_turns([*ways.values()], batch=batch, rounds=rounds, warm=3), strict=True))
        mine, *others = times
        good = [way for way in others if errors[way] <= gate]
        assert errors[mine] <= gate, "our own answers are beyond the gate"
        best = min(good, key=lambda way: statistics.median(times[way]))
        found = ratio(times[mine], times[best])
        rows.append(
            {
                **{"case": name, "precision": precision, "batch": batch, "best": best, "gate": gate},
                "ratio": found.median, "low": found.low, "high": found.high, "bar": BARS[name],
                "ways": {
                    way: {"p50_ms": round(1000 * statistics.median(seconds), 3), "max_dlogit": errors[way]}
                    for way, seconds in times.items()
                },
            }
        )  # fmt: skip
        print(f"{name} {precision} batch {batch}: {found.median:.3f} of {best} ({found.low:.3f} to {found.high:.3f})")
        for way, seconds in times.items():
            out = "" if errors[way] <= gate else f", beyond the gate of {gate:.1e}: does not count"
            print(
                f"  {way:<24}{1000 * statistics.median(seconds):9.2f} ms   {errors[way]:.1e} from exact{out}",
                flush=True,
            )
    return rows


def judged(source: Classifier, ways: dict[str, Candidate], precision: str) -> tuple[dict[str, float], float]:
    """The largest difference of each way from float64, and the gate that torch's own difference gives."""
    pictures = [CheckPicture.of(pixels) for pixels in generated(source.policy.channels)[:12]]
    there = source if precision == "fp32" else in_precision(source, precision)  # type: ignore[arg-type]
    runs: list[Run] = [(in_float64(source), (4,)), (there, (4,)), *((way, (4,)) for way in ways.values())]
    exact, *found = (parts[0] for parts in answers(runs, pictures).logits)
    torch_error, *errors = (float(np.abs(logits - exact).max()) for logits in found)
    return dict(zip(ways, errors, strict=True)), FACTOR * torch_error + FLOOR


def main() -> None:
    """Measure the cases and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="VARIANT", default=[*BARS])
    parser.add_argument("--precision", nargs="*", default=["fp32", *(["bf16"] if has_fast_bf16() else [])])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "inference")
    args = parser.parse_args()
    if unknown := set(args.cases) - set(BARS):
        parser.error(f"known: {', '.join(BARS)}; not {', '.join(sorted(unknown))}")
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": []}
    for case in args.cases:
        source = as_if_trained(case)
        for precision in args.precision:
            rows = measured(case, source, precision, args.work, args.rounds)
            mine = (case, precision, cpu_name())
            old = [row for row in kept["rows"] if (row["case"], row["precision"], row["machine"]["processor"]) != mine]
            how = {
                "rounds": args.rounds,
                "machine": {"processor": cpu_name(), "cores": cores(), "amx": "amx_bf16" in cpu_flags()},
                "versions": tools(("vitrail", "torch", "timm", "onnxruntime", "openvino")),
            }
            kept = {"rows": [*old, *({**row, **how} for row in rows)]}
            write_file(RESULTS, (json.dumps(kept, indent=1) + "\n").encode())
            torch.compiler.reset()
            gc.collect()


if __name__ == "__main__":
    main()
