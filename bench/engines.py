"""Every variant through every format:  python bench/engines.py [VARIANT ...] [--pictures 12]

Each variant with random weights is written in every format and precision that is made here, opened as a bundle opens
it, and asked beside its source in float32 and float64 of the first generated pictures, at batch 1, 2 and 7. A row
holds the largest difference from float64, what torch itself differs in that precision, the gate that follows, and the
size. Finished variants are kept in results/engines.json at once, and are not made again.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import vitrail
from vitrail.bundle.formats import FORMATS, INPUT, OUTPUT, Form
from vitrail.bundle.manifest import Engine
from vitrail.bundle.write import tools
from vitrail.disk import write_file
from vitrail.engines import graphs
from vitrail.errors import VitrailError
from vitrail.evaluation.answers import BATCHES, CheckPicture, Run, answers
from vitrail.machine import cpu_name
from vitrail.models.classifier import Classifier
from vitrail.proof.export import Candidate, graph_name
from vitrail.proof.pictures import generated
from vitrail.proof.prove import FACTOR, FLOOR, in_float64, in_precision

RESULTS = Path(__file__).resolve().parents[1] / "results" / "engines.json"
VARIANTS = (
    "vit_base_patch8_224", "vit_base_patch16_224", "vit_base_patch16_384", "vit_base_patch32_224",
    "vit_base_patch32_384", "vit_tiny_patch16_224", "vit_base_r50_s16_224", "cct_7_3x1_32", "cct_14_7x2_224",
    "beit_base_patch16_224",
)  # fmt: skip


def rows_of(source: Classifier, count: int) -> dict[str, Any]:
    """A row for each format and precision, or the first line of its error."""
    pictures = [CheckPicture.of(pixels) for pixels in generated(source.policy.channels)[:count]]
    rows: dict[str, Any] = {}
    runs: list[Run] = [(source, (7,)), (in_float64(source), (7,))]
    runs += [(in_precision(source, precision), (7,)) for precision in ("bf16", "fp16")]
    whole = answers(runs, pictures).logits
    exact = whole[1][0]
    errors = {
        name: float(np.abs(whole[place][0] - exact).max()) for name, place in (("fp32", 0), ("bf16", 2), ("fp16", 3))
    }
    for name, format in FORMATS.items():
        for precision in format.precisions:
            if precision == "int8":
                continue  # which a network with random weights says nothing about
            form, began = Form(precision), time.monotonic()
            try:
                found = one(source, name, form, pictures, exact)
            except VitrailError as error:
                rows[graph_name(name, form)] = {"refused": error.what}
                continue
            gate = FACTOR * errors[precision] + FLOOR
            rows[graph_name(name, form)] = {**found, "torch": errors[precision], "gate": gate}
            seconds = time.monotonic() - began
            print(
                f"  {graph_name(name, form):<20}{found['max_dlogit']:.1e}  gate {gate:.1e}  {seconds:.0f} s", flush=True
            )
            gc.collect()
    return rows


def one(source: Classifier, name: str, form: Form, pictures: list[CheckPicture], exact: Any) -> dict[str, float]:
    """The largest difference of one format from float64, and its megabytes."""
    written, format = graphs.write(source, name, form), FORMATS[name]
    entry = Engine(
        f"engines/x/{format.file}",
        name,
        form.precision,
        written.opset,
        INPUT,
        OUTPUT,
        written.facts,
        {},
        form.takes,
        None,
    )
    files = {f"engines/x/{file}": data for file, data in written.files.items()}
    runner = graphs.open(graphs.Stored(entry, source.config, source.classes, files.__getitem__), format.engine)
    (found,) = answers([(Candidate(runner, source.policy, source.classes), BATCHES)], pictures).logits
    size = sum(map(len, files.values())) / 1e6
    return {"max_dlogit": max(float(np.abs(part - exact).max()) for part in found), "MB": round(size, 1)}


def main() -> int:
    """Work through the variants; 5 when one leaves its gate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("variants", nargs="*", default=VARIANTS)
    parser.add_argument("--pictures", type=int, default=12)
    args = parser.parse_args()
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"variants": {}}
    versions = tools(("vitrail", "torch", "onnxruntime", "openvino"))
    for name in args.variants:
        if name not in kept["variants"]:
            print(name, flush=True)
            source = vitrail.create(name)
            rows = rows_of(source, args.pictures)
            kept["variants"][name] = {
                "machine": cpu_name(),
                "versions": versions,
                "pictures": args.pictures,
                "rows": rows,
            }
            write_file(RESULTS, (json.dumps(kept, indent=1) + "\n").encode())
    found = [row for of in kept["variants"].values() for row in of["rows"].values() if "gate" in row]
    beyond = sum(row["max_dlogit"] > row["gate"] for row in found)
    print(f"{len(found)} graphs of {len(kept['variants'])} variants, {beyond} beyond their gate")
    return 5 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
