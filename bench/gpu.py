"""How fast one accelerator trains:  python bench/gpu.py throughput | cifar --data DIR [--dry] [--fresh] [--out FILE]

throughput  ViT-B/16 in bf16 at batch 256: our step, and its blocks compiled, beside timm's network in a plain loop,
            eager and compiled, taking turns in every round; model FLOPs as a share of a measured peak of matrix
            products; the same step fed from JPEG files; the step of the model zoo's fine-tuning at batch 32, which its
            README gives as 157 ms (Ascend 910) and 467 ms (V100).
cifar       a whole run of CCT-7/3x1 in 300 epochs on CIFAR-10 (DIR: its binary or python files), time and accuracy.

Each call ends within 9 minutes; the same call again goes on where it stopped, --fresh begins anew. Figures go to
results/gpu_throughput.json and results/gpu_cifar.json. Without an accelerator nothing is measured, and it says so;
--dry runs every line of it with tiny networks on the processor, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from vitrail import __version__  # noqa: E402
from vitrail.bundle.write import tools  # noqa: E402
from vitrail.data.batches import TrainBatch  # noqa: E402
from vitrail.data.configs import Augment, Data  # noqa: E402
from vitrail.data.loader import TrainLoader  # noqa: E402
from vitrail.data.sources import open_source  # noqa: E402
from vitrail.errors import Stopped  # noqa: E402
from vitrail.machine import accelerator, cores, device, keep_fp32_true, set_float32_products, synchronize  # noqa: E402
from vitrail.models import build, set_attention  # noqa: E402
from vitrail.models.catalog import variant  # noqa: E402
from vitrail.models.configs import ModelConfig  # noqa: E402
from vitrail.models.count import macs  # noqa: E402
from vitrail.training.configs import CrossEntropy  # noqa: E402
from vitrail.training.journal import read  # noqa: E402
from vitrail.training.optimizer_configs import SGD, AdamW, Optimizer  # noqa: E402
from vitrail.training.optimizers import make  # noqa: E402
from vitrail.training.rehearsal import generated  # noqa: E402
from vitrail.training.state import TrainState  # noqa: E402
from vitrail.training.step import How, take_step  # noqa: E402
from vitrail.training.upload import uploaded  # noqa: E402
from vitrail.verbs.train import train  # noqa: E402

SECONDS = 8 * 60  # of a call of cifar; of throughput so long that no part, compiling included, ends after 9 minutes
A_PART = 2 * 60
RECIPE = "cifar10/cct_7_3x1_32_300epochs"
Way = Callable[[], None]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    config: ModelConfig
    batch: int
    steps: int  # of a way in a round
    rounds: int
    product: int  # side of the matrices whose product is the peak
    photos: int
    photo: tuple[int, int]
    small_batch: int
    compiled: bool


WHOLE = Size(variant("vit_base_patch16_224").config, 256, 10, 7, 8192, 2048, (500, 375), 32, True)
DRY = Size(
    replace(variant("vit_tiny_patch16_224").config, image_size=(32, 32), dim=48, heads=3, depth=2, classes=10),
    *(4, 2, 2, 128, 16, (40, 32), 2, False),
)


def ours(size: Size, batch: int, on: torch.device, precision: str, *, compiled: bool, optimizer: Optimizer) -> Way:
    """Our whole step, guard and optimizer included, on pictures that lie on the device as the loop brings them."""
    module = build(size.config).to(on).train()
    set_attention(module, "fused")
    if compiled:
        for block in module.get_submodule("blocks").children():
            block.compile()
    state = TrainState(module, make(optimizer, module))
    how = How(device=on, precision=precision, loss=CrossEntropy(smoothing=0.1), seed=0)  # type: ignore[arg-type]
    pictures = next(iter(uploaded(iter([generated(size.config, batch, 0)]), 1, on)))

    def step() -> None:
        assert not take_step(state, replace(pictures, step=state.step), 1e-4, how).skipped

    return step


def theirs(size: Size, on: torch.device, *, compiled: bool) -> Way:
    """timm's network of the same size in a plain loop, with its fused attention and torch's fused AdamW."""
    import timm

    module: nn.Module = timm.create_model(
        "vit_base_patch16_224",
        img_size=size.config.image_size,
        num_classes=size.config.classes,
        embed_dim=size.config.dim,
        depth=size.config.depth,
        num_heads=size.config.heads,
    )
    module = module.to(on).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, weight_decay=0.05, fused=True)
    if compiled:
        module = torch.compile(module)  # type: ignore[assignment]
    pictures = generated(size.config, size.batch, 0)
    images, labels = torch.from_numpy(pictures.images).to(on), torch.from_numpy(pictures.labels).to(on)

    def step() -> None:
        with torch.autocast(on.type, torch.bfloat16):
            loss = F.cross_entropy(module(images), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def in_turns(ways: dict[str, Way], size: Size, on: torch.device) -> dict[str, list[float]]:
    """Seconds of one step of each way, round by round; the first steps, which compile, are not counted."""
    for way in ways.values():
        for _ in range(3):
            way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(size.rounds):
        for name, way in ways.items():
            synchronize(on)
            began = time.perf_counter()
            for _ in range(size.steps):
                way()
            synchronize(on)
            times[name].append((time.perf_counter() - began) / size.steps)
    return times


def row(batch: int, seconds: list[float]) -> dict[str, object]:
    """The figures of a way."""
    low, middle, high = (float(x) for x in np.percentile(seconds, [25, 50, 75]))
    return {"batch": batch, "pictures_per_s": batch / middle, "step_s": middle, "quartiles_s": [low, high]}


def peak(size: Size, on: torch.device) -> dict[str, object]:
    """The measured limit of bf16 products, in multiplications and additions a second."""
    left, right = (torch.randn(size.product, size.product, device=on, dtype=torch.bfloat16) for _ in range(2))

    def product() -> None:
        torch.mm(left, right)

    times = in_turns({"product": product}, size, on)["product"]
    return {"flop_per_s": 2.0 * size.product**3 / float(np.median(times))}


def networks(size: Size, on: torch.device) -> dict[str, object]:
    """Ours and timm's, in turns."""
    common: dict[str, Any] = {"size": size, "batch": size.batch, "on": on, "precision": "bf16", "optimizer": AdamW()}
    ways = {"vitrail": ours(**common, compiled=False)}
    if size.compiled:
        ways["vitrail compiled"] = ours(**common, compiled=True)
    found: dict[str, object] = {}
    try:
        with contextlib.suppress(ImportError):
            import torchvision_beside_cpu_torch  # noqa: F401
        ways["timm"] = theirs(size, on, compiled=False)
        if size.compiled:
            ways["timm compiled"] = theirs(size, on, compiled=True)
    except ImportError:
        found["timm"] = "not run: timm is not installed"
    return {**{name: row(size.batch, times) for name, times in in_turns(ways, size, on).items()}, **found}


def from_files(size: Size, on: torch.device) -> dict[str, object]:
    """The same step on one batch that lies there, and on batches read from JPEG files, one after the other."""
    step = ours(size, size.batch, on, "bf16", compiled=False, optimizer=AdamW())
    lying = in_turns({"lying there": step}, size, on)["lying there"]
    with tempfile.TemporaryDirectory() as place:
        batches = read_from(photographs(Path(place), size), size, on)
        times = in_turns({"from JPEG": trained_on(batches, size, on)}, size, on)["from JPEG"]
        batches.close()  # type: ignore[attr-defined]
    share = float(np.median(lying)) / float(np.median(times))
    return {"lying there": row(size.batch, lying), "from JPEG": row(size.batch, times), "share": share}


def photographs(place: Path, size: Size) -> Path:
    """A folder of JPEG files of two classes: smooth noise, which compresses about as photographs do."""
    random = np.random.default_rng(0)
    width, height = size.photo
    for number in range(size.photos):
        folder = place / f"class_{number % 2}"
        folder.mkdir(exist_ok=True)
        few = random.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        Image.fromarray(few).resize(size.photo, Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
    return place


def read_from(place: Path, size: Size, on: torch.device) -> Iterator[TrainBatch]:
    """Batches of the folder as a run has them: random crops and flips, as many threads as cores, brought ahead."""
    data = Data(root=str(place), batch=size.batch, workers=cores(), decode="fast")
    policy = replace(variant("vit_base_patch16_224").policy, size=size.config.image_size)
    loader = TrainLoader(open_source(data), policy, Augment(flip=0.5), data, 0)
    count = 3 + size.rounds * size.steps
    batches = uploaded(loader.iterate(0, count), count, on)
    yield from batches


def trained_on(batches: Iterator[TrainBatch], size: Size, on: torch.device) -> Way:
    """Our step on the next batch."""
    module = build(size.config).to(on).train()
    set_attention(module, "fused")
    state = TrainState(module, make(AdamW(), module))
    how = How(device=on, precision="bf16", loss=CrossEntropy(smoothing=0.1), seed=0)

    def step() -> None:
        take_step(state, next(batches), 1e-4, how)

    return step


def fine_tuning(size: Size, on: torch.device) -> dict[str, object]:
    """The model zoo's step at batch 32, momentum: in bf16, and in tf32 where that is CUDA."""
    config = replace(size.config, classes=10)
    precisions = ["bf16", "fp32"] if on.type != "cuda" else ["bf16", "tf32"]
    found: dict[str, object] = {"published_s": {"Ascend 910": 0.157, "V100": 0.467}}
    for precision in precisions:
        set_float32_products(precision, str(on))
        small = replace(size, config=config)
        step = ours(small, size.small_batch, on, precision, compiled=False, optimizer=SGD())
        found[precision] = row(size.small_batch, in_turns({precision: step}, size, on)[precision])
    keep_fp32_true()
    return found


PARTS: dict[str, Callable[[Size, torch.device], dict[str, object]]] = {
    "peak": peak,
    "networks": networks,
    "from_files": from_files,
    "fine_tuning": fine_tuning,
}


def throughput(args: argparse.Namespace, on: torch.device) -> int:
    """Every part that is not in the results yet, each written when it is done."""
    began, size = time.monotonic(), DRY if args.dry else WHOLE
    found = {} if args.fresh or not args.out.is_file() else json.loads(args.out.read_text())
    if found.get("machine") != machine(on, dry=args.dry):
        found = {"machine": machine(on, dry=args.dry), "parts": {}}
    for name, part in PARTS.items():
        if name in found["parts"]:
            continue
        if time.monotonic() - began > SECONDS - A_PART:
            print(f"{name}: not begun, no time is left; the same command goes on here")
            return 75
        found["parts"][name] = part(size, on)
        write(args.out, found)
    print("\n".join(table(found["parts"], size)))
    return 0


def table(parts: dict[str, Any], size: Size) -> list[str]:
    """The figures as lines."""
    limit, lines = parts["peak"]["flop_per_s"], []
    lines.append(f"products in bf16, measured: {limit / 1e12:,.1f} TFLOP/s")
    for name, figures in parts["networks"].items():
        if isinstance(figures, str):
            lines.append(f"{name:<18} {figures}")
            continue
        flops = 6.0 * macs(size.config) * figures["pictures_per_s"]
        lines.append(
            f"{name:<18} {figures['pictures_per_s']:>10,.1f} pictures/s   {1000 * figures['step_s']:,.1f} ms a step   "
            f"{flops / 1e12:,.2f} TFLOP/s of the model, {100 * flops / limit:.1f} % of the measured limit"
        )
    for mine in ("vitrail", "vitrail compiled"):
        for peer in ("timm", "timm compiled"):
            one, other = parts["networks"].get(mine), parts["networks"].get(peer)
            if isinstance(one, dict) and isinstance(other, dict):
                lines.append(f"{mine} / {peer}: {other['step_s'] / one['step_s']:.2f}")
    lines.append(f"from JPEG, of what lies there: {100 * parts['from_files']['share']:.1f} %")
    for name in ("bf16", "tf32", "fp32"):
        if name in parts["fine_tuning"]:
            spent = 1000 * parts["fine_tuning"][name]["step_s"]
            lines.append(
                f"fine-tuning step at batch {size.small_batch}, {name}: {spent:,.1f} ms (published 157 and 467)"
            )
    return lines


def cifar(args: argparse.Namespace, on: torch.device) -> int:
    """A run of the recipe, stopped in time as by hand, and gone on with by the next call."""
    folder = args.run
    if args.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    overrides = [f"data.root={args.data}", f"train.device={on}", f"data.workers={cores()}", *args.overrides]
    clock = threading.Timer(args.seconds, os.kill, (os.getpid(), signal.SIGTERM))
    clock.daemon = True
    clock.start()
    try:
        done = train(args.recipe, overrides, out=folder, resume=(folder / "recipe.yaml").is_file())
    except Stopped as error:
        print(f"{error.what}; the same command goes on from there")
        return error.exit_code
    finally:
        clock.cancel()
    rows = read(folder / "journal.jsonl")
    spent = [float(str(r["step_s"])) + float(str(r["wait_s"])) for r in rows if r["event"] == "step"]
    epochs = max(int(str(r["epoch"])) for r in rows if r["event"] == "step") + 1
    quality = done.quality
    keys = ("top1", "top1_interval", "correct", "pictures")
    values = {
        "machine": machine(on, dry=args.dry),
        "recipe": args.recipe,
        "overrides": args.overrides,
        "epochs": epochs,
        "steps_s": sum(spent),
        "epoch_s": sum(spent) / epochs,
        **{key: quality[key] for key in keys},
    }
    write(args.out, values)
    print(
        f"{args.recipe}: top-1 {100 * quality['top1']:.2f} %, {epochs} epochs in {sum(spent):,.1f} s of steps, "
        f"{sum(spent) / epochs:.2f} s an epoch"
    )
    return 0


def machine(on: torch.device, *, dry: bool) -> dict[str, object]:
    """Where the figures come from."""
    named = getattr(torch.get_device_module(on), "get_device_name", None)
    return {
        "device": "cpu" if on.type == "cpu" or named is None else str(named(on)),
        "dry": dry,
        "versions": {"vitrail": __version__, **tools(("torch", "numpy"))},
    }


def write(path: Path, values: object) -> None:
    """The results, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(values, indent=1) + "\n")
    aside.replace(path)


def main(words: list[str] | None = None) -> int:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["throughput", "cifar"])
    parser.add_argument("overrides", nargs="*", help="of the recipe, for cifar")
    parser.add_argument("--data", type=Path, help="of cifar: the folder of CIFAR-10")
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a call of cifar")
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "gpu_cifar", help="run folder of cifar")
    parser.add_argument("--out", type=Path)
    args = parser.parse_intermixed_args(words)
    if accelerator()[1] == 0 and not args.dry:
        print("torch finds no accelerator here: nothing is measured; --dry tries the script on the processor")
        return 0
    if args.what == "cifar" and args.data is None:
        parser.error("cifar needs --data DIR")
    folder = Path(tempfile.mkdtemp()) if args.dry and args.out is None else ROOT / "results"
    args.out = args.out or folder / f"gpu_{args.what}.json"
    keep_fp32_true()
    on = device("cpu" if args.dry else "auto")
    return throughput(args, on) if args.what == "throughput" else cifar(args, on)


if __name__ == "__main__":
    sys.exit(main())
