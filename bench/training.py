"""How fast a training step is, beside the peers:  python bench/training.py [--peer DIR] [--rounds 25] [--out FILE]

CCT-7/3x1 on 32 x 32, batch 32, with its attention dropout and drop path of 0.1, and ViT-Tiny/16 on 224 x 224, batch 16.
Ours are whole steps (guard and optimizer included) with default settings; the attention path is what the probe finds.
Peers: SHI-Labs' network in their loop (DIR: their repository, which is no package; without it the row says so), its
form in plain torch (`plain_cct.py`), timm's ViT-Tiny; each in fp32 and under bf16 autocast. All ways take turns in
every round, the first round is not counted; a ratio is paired round by round with the peer's faster form, and its
bounds are 95 % of 10,000 bootstrap samples of the median. It ends within 10 minutes, and keeps what it found in
results/training.json by the name of the machine. --clock cpu measures the process's own time, for a machine that others
use too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.plain_cct import PlainCCT  # noqa: E402
from vitrail import __version__  # noqa: E402
from vitrail.bundle.write import tools  # noqa: E402
from vitrail.data.batches import TrainBatch  # noqa: E402
from vitrail.disk import write_file  # noqa: E402
from vitrail.evaluation.speed import ratio  # noqa: E402
from vitrail.machine import cores, cpu_flags, cpu_name, keep_fp32_true, keep_pages  # noqa: E402
from vitrail.models import build, set_attention  # noqa: E402
from vitrail.models.catalog import variant  # noqa: E402
from vitrail.models.configs import CCTConfig, ModelConfig  # noqa: E402
from vitrail.training.configs import CrossEntropy  # noqa: E402
from vitrail.training.optimizer_configs import AdamW  # noqa: E402
from vitrail.training.optimizers import make  # noqa: E402
from vitrail.training.probe import fastest_way  # noqa: E402
from vitrail.training.state import TrainState  # noqa: E402
from vitrail.training.step import How, take_step  # noqa: E402

Way = Callable[[], None]
SECONDS = 9 * 60  # no new round after it
CASES = {"CCT-7/3x1": ("cct_7_3x1_32", 32), "ViT-Tiny/16": ("vit_tiny_patch16_224", 16)}
SMOOTHING = 0.1


def batch(config: ModelConfig, size: int) -> TrainBatch:
    """Random pictures and labels."""
    random = np.random.default_rng(0)
    images = random.standard_normal((size, config.channels, *config.image_size), np.float32)
    return TrainBatch(0, 0, np.arange(size), images, random.integers(0, config.classes, size))


def ours(config: ModelConfig, size: int, precision: str, notes: list[str]) -> Way:
    """Our step with default settings."""
    settled, attention = fastest_way(config, "bf16" if precision == "bf16" else "fp32", "auto", size)
    notes.append(f"vitrail {settled}, {config.image_size[0]} pixels: attention {attention} (probe)")
    module = build(config).train()
    set_attention(module, "fused" if attention == "fused" else "explicit")
    state = TrainState(module, make(AdamW(), module))
    how = How(device=torch.device("cpu"), precision=settled, loss=CrossEntropy(smoothing=SMOOTHING), seed=0)  # type: ignore[arg-type]
    pictures = batch(config, size)

    def step() -> None:
        state.step = 0  # the same batch again
        done = take_step(state, pictures, 1e-4, how)
        assert not done.skipped

    return step


def theirs(module: nn.Module, config: ModelConfig, size: int, precision: str, *, fused: bool) -> Way:
    """A peer's loop: forward, loss, backward, AdamW."""
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, weight_decay=0.05, fused=fused or None)
    pictures = batch(config, size)
    images, labels = torch.from_numpy(pictures.images), torch.from_numpy(pictures.labels)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(module(images), labels, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def peers_of_cct(config: ModelConfig, size: int, peer: Path | None, notes: list[str]) -> dict[str, Way]:
    """SHI-Labs' own network where it is given, and the plain form, after making sure that it is the same network."""
    assert isinstance(config, CCTConfig)
    plain = PlainCCT(config)
    module = build(config, seed=1).eval()
    plain.load_state_dict(module.state_dict())
    x = torch.from_numpy(batch(config, 2).images)
    torch.testing.assert_close(plain.eval()(x), module(x), rtol=0, atol=1e-4)
    made: dict[str, Callable[[], nn.Module]] = {"plain torch": lambda: PlainCCT(config)}
    if peer is None:
        notes.append("SHI-Labs' loop: not run, no --peer DIR given")
    else:
        sys.path.insert(0, str(peer))
        from src import cct_7_3x1_32  # type: ignore[import-not-found]

        made = {"SHI-Labs": lambda: cct_7_3x1_32(num_classes=config.classes), **made}
    return {
        f"{name} {precision}": theirs(make_one(), config, size, precision, fused=False)
        for name, make_one in made.items()
        for precision in ("fp32", "bf16")
    }


def peers_of_vit(config: ModelConfig, size: int, notes: list[str]) -> dict[str, Way]:
    """timm's network with its fused attention; none where timm is not installed."""
    try:
        import timm
    except ImportError:
        notes.append("timm: not run, not installed")
        return {}
    notes.append(f"timm {timm.__version__}")
    return {
        f"timm {precision}": theirs(
            timm.create_model("vit_tiny_patch16_224", num_classes=config.classes), config, size, precision, fused=True
        )
        for precision in ("fp32", "bf16")
    }


def measured(ways: dict[str, Way], *, rounds: int, clock: Callable[[], float], until: float) -> dict[str, list[float]]:
    """Seconds of each way in each round; a round that cannot be finished in time is not begun."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    longest = 0.0
    for turn in range(rounds + 1):
        began = time.monotonic()
        if turn > 3 and began + longest > until:
            break
        for name, way in ways.items():
            start = clock()
            way()
            if turn > 0:
                times[name].append(clock() - start)
        longest = max(longest, time.monotonic() - began)
    return times


def report(case: str, size: int, times: dict[str, list[float]]) -> dict[str, object]:
    """Print a table of a case; its figures in plain values."""
    print(f"\n{case}, batch {size}, {len(next(iter(times.values())))} rounds")
    rows: dict[str, object] = {}
    for name, seconds in times.items():
        low, middle, high = np.percentile(seconds, [25, 50, 75])
        print(f"  {name:<18}{size / middle:>8.1f} pictures/s   {middle:.3f} s ({low:.3f} to {high:.3f})")
        rows[name] = {"pictures_per_s": size / middle, "median_s": middle, "quartiles_s": [low, high]}
    ratios: dict[str, object] = {}
    for peer in dict.fromkeys(name.rpartition(" ")[0] for name in times if not name.startswith("vitrail")):
        forms = [name for name in times if name.startswith(peer)]
        best = min(forms, key=lambda name: float(np.median(times[name])))
        for mine in ("vitrail bf16", "vitrail fp32"):
            for form in forms:
                found = ratio(times[form], times[mine])._asdict()
                ratios[f"{mine} / {form}"] = found
                mark = "   <- their faster form" if form == best else ""
                print(f"  {mine} / {form:<18}{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f}){mark}")
    return {"batch": size, "ways": rows, "ratios": ratios}


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="folder of SHI-Labs' Compact-Transformers")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "training.json")
    args = parser.parse_args()
    began = time.monotonic()
    torch.set_num_threads(args.threads)
    keep_fp32_true()
    keep_pages()
    with contextlib.suppress(ImportError):
        import torchvision_beside_cpu_torch  # noqa: F401  # timm's, which SHI-Labs' takes too
    clock = time.perf_counter if args.clock == "wall" else time.process_time
    cases: dict[str, object] = {}
    notes: list[str] = []
    for number, (case, (name, size)) in enumerate(CASES.items(), start=1):
        config = variant(name).config
        ways = {f"vitrail {precision}": ours(config, size, precision, notes) for precision in ("bf16", "fp32")}
        ways |= (
            peers_of_cct(config, size, args.peer, notes)
            if name.startswith("cct")
            else peers_of_vit(config, size, notes)
        )
        until = began + SECONDS * number / len(CASES)
        cases[case] = report(case, size, measured(ways, rounds=args.rounds, clock=clock, until=until))
    machine = {
        "processor": cpu_name(),
        "cores": cores(),
        "threads": args.threads,
        "bf16": sorted(flag for flag in cpu_flags() if "bf16" in flag),
    }
    print(f"\n{machine['processor']}, {args.threads} threads, {args.clock} clock; torch {torch.__version__}")
    print("\n".join(notes))
    versions = {"vitrail": __version__, **tools(("torch", "numpy"))}
    values = {"cases": cases, "notes": notes, "clock": args.clock, "machine": machine, "versions": versions}
    kept = json.loads(args.out.read_text()) if args.out.exists() else {}
    kept[f"{machine['processor']}, {args.threads} threads"] = values
    write_file(args.out, (json.dumps(kept, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
