"""How near the answers are to the originals':  python bench/parity.py [SHARED]

Runs every model case of the reference vectors in float64 and in float32, prints the greatest difference of a logit by
world, and writes results/parity.json. SHARED is the folder that holds `reference/` (default: ../shared).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.models import test_beit, test_cct, test_hybrid, test_vit  # noqa: E402
from tests.models.battery import Reference  # noqa: E402
from tests.weights.worlds import WORLDS  # noqa: E402
from vitrail import __version__  # noqa: E402
from vitrail.bundle.write import tools  # noqa: E402
from vitrail.machine import cpu_name  # noqa: E402
from vitrail.models.classifier import Classifier  # noqa: E402
from vitrail.weights import from_tensors  # noqa: E402

OWN = {**test_cct.CASES, **test_vit.CASES, **test_hybrid.CASES, **test_beit.CASES}


def classifier(reference: Reference, name: str, kind: type) -> Classifier:
    """Our network with the case's weights in that precision, through the dialect of its world."""
    world = name.split("_")[0]
    if world in WORLDS:
        model, dialect = WORLDS[world](name, reference.meta["config"], reference.meta["input_shape"])
        weights = reference.formula()
    else:
        model, dialect = OWN[name], "shi_labs" if world == "shi" else "timm"
        weights = reference.weights()
    classes = reference.meta["config"].get("num_classes")
    return from_tensors({k: v.astype(kind) for k, v in weights.items()}, model, dialect=dialect, classes=classes)


def difference(reference: Reference, name: str, kind: type) -> float:
    """The greatest difference of a logit."""
    logits = classifier(reference, name, kind).logits(reference.input)
    return float(np.abs(logits - reference.values["logits"]).max())


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", nargs="?", type=Path, default=ROOT.parent / "shared")
    shared = parser.parse_args().shared
    index = json.loads((shared / "reference" / "index.json").read_text())
    cases: dict[str, dict[str, float]] = {}
    for entry in index:
        name = entry["file"].removesuffix(".npz")
        if name.split("_")[0] in WORLDS or name in OWN:
            if name == "mindspore_dtypes":
                continue
            reference = Reference(shared, name)
            cases[name] = {kind.__name__: difference(reference, name, kind) for kind in (np.float64, np.float32)}
            print(f"{name:<45}{cases[name]['float64']:>12.1e}{cases[name]['float32']:>12.1e}", flush=True)
    print(f"\n{'world':<12}{'cases':>6}{'float64':>12}{'float32':>12}   greatest difference of a logit")
    for world in sorted({name.split("_")[0] for name in cases}):
        own = [value for name, value in cases.items() if name.split("_")[0] == world]
        worst = [max(value[kind] for value in own) for kind in ("float64", "float32")]
        print(f"{world:<12}{len(own):>6}{worst[0]:>12.1e}{worst[1]:>12.1e}")
    values = {"cases": cases, "versions": {"vitrail": __version__, **tools(("torch", "numpy"))}, "cpu": cpu_name()}
    (ROOT / "results" / "parity.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
