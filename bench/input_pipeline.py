"""How many pictures a core feeds, beside timm, torchvision and OpenCV:  python bench/input_pipeline.py [--rounds N]

All ways run in turn, round by round, in one thread on one core, on the 90 full-size photographs of ../shared (and, for
the CIFAR recipe, on pieces of them of 32 x 32). A round is timed by the processor time of its thread. Printed and
written to results/input_pipeline.json are the ratios of each round to a peer's, their median and its 95 % bounds
(bootstrap); docs/pictures/input_pipeline.png draws them. The first round of all is left out: it compiles, and it is
the one in which every file is decoded to its end.

Needs, beside vitrail[train,fast]: timm, torchvision, opencv-python-headless.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vitrail import __version__
from vitrail.data.configs import Augment, Data, PadCrop, RandomResizedCrop
from vitrail.data.loader import TrainLoader, evaluation_batches
from vitrail.data.sources import Source, open_source
from vitrail.machine import cpu_name, keep_pages
from vitrail.pictures import kernels, turbo
from vitrail.pictures.policy import CIFAR10, IMAGENET, Policy
from vitrail.pictures.resize import resize
from vitrail.reports.plots import bars
from vitrail.verbs.data_pack import data_pack

ROOT = Path(__file__).resolve().parents[1]
BATCH, SMALL_BATCH, SMALL = 30, 128, 2560
RAND = "rand-m9-mstd0.5-inc1"
POLICY = Policy(size=(224, 224), crop=0.9, mean=IMAGENET.mean, std=IMAGENET.std)
CIFAR = Policy(size=(32, 32), mean=CIFAR10.mean, std=CIFAR10.std)
CROP = Augment(crop=RandomResizedCrop(), flip=0.5)
PAD = Augment(crop=PadCrop(padding=4), flip=0.5)
Way = Callable[[], int]  # one round; how many pictures it gave


@dataclass(frozen=True)
class Row:
    """One comparison: our way, the peers' ways, and the bar for the lower bound of the ratio to the first of them."""

    title: str
    ours: str
    peers: tuple[str, ...]
    bar: float | None = None


ROWS = (
    Row("training, 224 crops", "train", ("timm train", "torchvision train", "opencv train"), 1.8),
    Row("training, 224 crops, decode exact", "train exact", ("timm train",)),
    Row("training, 224 crops, no extras installed", "train plain", ("timm train",)),
    Row("training with RandAugment", "train rand", ("timm train rand",), 1.6),
    Row("exact evaluation", "evaluate", ("timm evaluate", "torchvision evaluate"), 1.6),
    Row("exact evaluation, no extras installed", "evaluate plain", ("timm evaluate",)),
    Row("training from packed shards", "train packed", ("train",), 1.4),
    Row("CIFAR recipe, crop and flip", "cifar", ("timm cifar",)),
    Row("CIFAR recipe with RandAugment", "cifar rand", ("timm cifar rand",), 6.0),
)


# ---------------------------------------------------------------- our ways


def all_to_train(source: Source) -> Source:
    """The source with nothing held out."""
    return replace(source, training=np.arange(len(source.labels)), held_out=np.arange(0))


def ours(source: Source, policy: Policy, augment: Augment, batch: int, decode: Any = Data.decode) -> Way:
    loader = TrainLoader(source, policy, augment, Data(batch=batch, workers=0, decode=decode), 0)
    batches = loader.iterate(0, 1_000_000)
    return lambda: sum(len(next(batches).labels) for _ in range(loader.steps_per_epoch))


def evaluated(source: Source) -> Way:
    indices = np.arange(len(source.labels))
    return lambda: sum(
        len(batch.labels) for batch in evaluation_batches(source, indices, POLICY, batch=BATCH, workers=0)
    )


@contextmanager
def no_extras() -> Iterator[None]:
    """As if neither simplejpeg nor numba were installed."""
    with (
        mock.patch.object(turbo, "decoder", return_value=None),
        mock.patch.object(kernels, "loaded", return_value=None),
        mock.patch.object(kernels, "ready", return_value=None),
    ):
        yield


def plain(way: Way) -> Way:
    def run() -> int:
        with no_extras():
            return way()

    return run


def in_tar(folder: Path, source: Source) -> Source:
    """What was packed, read out of its shard."""
    (shard,) = folder.glob("train-*.tar")
    with tarfile.open(shard) as archive:
        places = [(one.offset_data, one.size) for one in archive if one.name.endswith(".jpg")]
    file = os.open(shard, os.O_RDONLY)
    return replace(source, picture=lambda index: os.pread(file, places[index][1], places[index][0]))


# ---------------------------------------------------------------- theirs


def timm_ways(folder: Path, small: NDArray[np.uint8]) -> dict[str, Way]:
    """timm's own loader, in the form that is faster here: uint8 out of the transforms, normalised in the batch."""
    from timm.data import ImageDataset, auto_augment, create_loader

    keep_a_bit(auto_augment)

    def loader(**more: Any) -> Way:
        made = create_loader(
            ImageDataset(str(folder)), (3, 224, 224), batch_size=BATCH, num_workers=0, persistent_workers=False,
            pin_memory=False, device=torch.device("cpu"), use_prefetcher=True, **more,
        )  # fmt: skip
        return lambda: sum(len(labels) for _, labels in made)

    training: dict[str, Any] = {"is_training": True, "color_jitter": 0.0, "hflip": 0.5}
    return {
        "timm train": loader(**training, interpolation="bicubic"),
        "timm train rand": loader(**training, interpolation="bicubic", auto_augment=RAND),
        "timm evaluate": loader(is_training=False, interpolation="bicubic", crop_pct=0.9),
        "timm cifar": timm_cifar(small, None),
        "timm cifar rand": timm_cifar(small, RAND),
    }


def keep_a_bit(auto_augment: Any) -> None:
    """timm 1.0.31 ends with an error where it posterizes to 0 bits under Pillow 13: one picture in a thousand."""
    name = "PosterizeIncreasing"
    posterize = auto_augment.NAME_TO_OP[name]
    auto_augment.NAME_TO_OP[name] = lambda image, bits, **more: posterize(image, max(1, bits), **more)


def timm_cifar(small: NDArray[np.uint8], auto: str | None) -> Way:
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.loader import fast_collate
    from timm.data.transforms import ToNumpy
    from torchvision import transforms

    fill = tuple(min(255, round(255 * mean)) for mean in CIFAR10.mean)
    steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    if auto:
        steps.append(rand_augment_transform(auto, {"translate_const": 14, "img_mean": fill}))
    transform = transforms.Compose([*steps, ToNumpy()])

    class Pieces(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(small)

        def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
            return transform(Image.fromarray(small[index])), 0

    made = torch.utils.data.DataLoader(Pieces(), SMALL_BATCH, shuffle=True, collate_fn=fast_collate)
    mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (CIFAR10.mean, CIFAR10.std))
    return lambda: sum(len(pictures.float().sub_(mean).div_(std)) for pictures, _ in made)


def torchvision_ways(files: list[Path]) -> dict[str, Way]:
    """torchvision v2 on uint8 tensors, its fast form."""
    from torchvision.transforms import v2

    last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET.mean, IMAGENET.std)]
    bicubic = v2.InterpolationMode.BICUBIC
    crop = v2.RandomResizedCrop(224, interpolation=bicubic, antialias=True)
    train = v2.Compose([v2.PILToTensor(), crop, v2.RandomHorizontalFlip(), *last])
    size = v2.Resize(248, interpolation=bicubic, antialias=True)
    evaluate = v2.Compose([v2.PILToTensor(), size, v2.CenterCrop(224), *last])
    return {"torchvision train": one_by_one(files, train), "torchvision evaluate": one_by_one(files, evaluate)}


def one_by_one(files: list[Path], transform: Callable[[Image.Image], torch.Tensor]) -> Way:
    def run() -> int:
        for start in range(0, len(files), BATCH):
            pictures = []
            for file in files[start : start + BATCH]:
                with Image.open(file) as image:
                    pictures.append(transform(image.convert("RGB")))
            torch.stack(pictures)
        return len(files)

    return run


def opencv_ways(files: list[Path]) -> dict[str, Way]:
    """OpenCV as pipelines use it: whole decode, crop, bilinear without antialiasing, normalised in float32."""
    import cv2

    cv2.setNumThreads(1)
    mean, std = (np.array(values, np.float32) for values in (IMAGENET.mean, IMAGENET.std))
    random = np.random.default_rng(0)

    def box(height: int, width: int) -> tuple[int, int, int, int]:
        for _ in range(10):
            area, aspect = height * width * random.uniform(0.08, 1), np.exp(random.uniform(-0.2877, 0.2877))
            w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if w <= width and h <= height:
                return int(random.integers(height - h + 1)), int(random.integers(width - w + 1)), h, w
        return 0, 0, height, width

    def one(file: Path) -> NDArray[np.float32]:
        pixels = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR_RGB)
        top, left, height, width = box(*pixels.shape[:2])
        pixels = cv2.resize(pixels[top : top + height, left : left + width], (224, 224))
        if random.random() < 0.5:
            pixels = cv2.flip(pixels, 1)
        normal: NDArray[np.float32] = (pixels.astype(np.float32) / 255 - mean) / std
        return normal.transpose(2, 0, 1)

    def run() -> int:
        for start in range(0, len(files), BATCH):
            np.stack([one(file) for file in files[start : start + BATCH]])
        return len(files)

    return {"opencv train": run}


# ---------------------------------------------------------------- the measurement


def unpack(shared: Path, folder: Path) -> list[Path]:
    """The photographs, in one class folder."""
    (folder / "photos").mkdir(parents=True)
    with tarfile.open(shared / "data" / "photos" / "imagenet_samples90.tar") as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith((".jpeg", ".jpg")):
                file = archive.extractfile(member)
                assert file is not None
                (folder / "photos" / Path(member.name).name).write_bytes(file.read())
    return sorted((folder / "photos").iterdir())


def pieces(files: list[Path]) -> NDArray[np.uint8]:
    """Pieces (N, 32, 32, 3) of the photographs, halved."""
    found: list[NDArray[np.uint8]] = []
    for file in files:
        with Image.open(file) as image:
            half = np.asarray(image.convert("RGB").reduce(2))
        rows, columns = (side // 32 for side in half.shape[:2])
        half = half[: rows * 32, : columns * 32]
        found += list(half.reshape(rows, 32, columns, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3))
    return np.stack(found)[:SMALL]


def as_cifar(small: NDArray[np.uint8], folder: Path) -> Source:
    """The pieces as a CIFAR-10 file, opened."""
    place = folder / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    records = b"".join(bytes([i % 10]) + one.transpose(2, 0, 1).tobytes() for i, one in enumerate(small))
    (place / "data_batch_1.bin").write_bytes(records)
    return all_to_train(open_source(Data(root=str(folder))))


def ways_of(place: Path, shared: Path) -> dict[str, Way]:
    files = unpack(shared, place / "folder")
    small = pieces(files)
    source, cifar = all_to_train(open_source(Data(root=str(place / "folder")))), as_cifar(small, place / "cifar")
    data_pack(str(place / "folder"), place / "packed")
    ways: dict[str, Way] = {
        "train": ours(source, POLICY, CROP, BATCH),
        "train exact": ours(source, POLICY, CROP, BATCH, "exact"),
        "train plain": plain(ours(source, POLICY, CROP, BATCH)),
        "train packed": ours(in_tar(place / "packed", source), POLICY, CROP, BATCH),
        "evaluate": evaluated(source),
        "evaluate plain": plain(evaluated(source)),
        "train rand": ours(source, POLICY, replace(CROP, auto=RAND), BATCH),
        "cifar": ours(cifar, CIFAR, PAD, SMALL_BATCH),
        "cifar rand": ours(cifar, CIFAR, replace(PAD, auto=RAND), SMALL_BATCH),
        **timm_ways(place / "folder", small),
        **torchvision_ways(files),
        **opencv_ways(files),
    }
    return ways


def measure(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """Seconds a picture, way by way and round by round; every other round runs backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    began = time.monotonic()
    for number in range(rounds + 1):
        for name in list(ways) if number % 2 else reversed(list(ways)):
            start = time.thread_time()
            count = ways[name]()
            if number:
                seconds[name].append((time.thread_time() - start) / count)
        print(f"\rround {number} of {rounds}, {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return seconds


def bounds(ratios: NDArray[np.float64]) -> tuple[float, float, float]:
    """Median, and the 95 % bounds of it by 10,000 resamples."""
    random = np.random.default_rng(0)
    medians = np.median(random.choice(ratios, (10_000, len(ratios))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def swapped(files: list[Path]) -> dict[str, float]:
    """The share of the photographs that one call of this Pillow resizes to other pixels than the definition says."""
    crops: list[bool] = []
    evaluations: list[bool] = []
    for number, file in enumerate(files):
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
        height, width = pixels.shape[:2]
        random = np.random.default_rng(number)
        tall, wide = int(height * random.uniform(0.4, 1)), int(width * random.uniform(0.4, 1))
        short = 248 / min(height, width)
        whole = (int(height * short), int(width * short))
        for part, size, found in ((pixels[:tall, :wide], (224, 224), crops), (pixels, whole, evaluations)):
            once = Image.fromarray(part).resize((size[1], size[0]), Image.Resampling.BICUBIC)
            found.append(not np.array_equal(np.asarray(once), resize(part, size, "bicubic")))
    return {"training crops": float(np.mean(crops)), "evaluation": float(np.mean(evaluations))}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--dry", action="store_true", help="print alone, write nothing")
    args = parser.parse_args()
    sys.path.insert(0, str(args.shared / "tools"))
    import torchvision_beside_cpu_torch  # noqa: F401

    warnings.simplefilter("ignore")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    keep_pages()  # as `train` does, for the peers alike
    kernels.ready()
    with tempfile.TemporaryDirectory() as place:
        ways = ways_of(Path(place), args.shared)
        share = swapped(sorted((Path(place) / "folder" / "photos").iterdir()))
        seconds = measure(ways, args.rounds)
    rows, rates = compared(seconds), {name: 1 / statistics.median(values) for name, values in seconds.items()}
    tell(rows, rates, share)
    if not args.dry:
        write(rows, rates, share, args.rounds)


def compared(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Every ratio that can be made of what was measured."""
    rows: list[dict[str, Any]] = []
    for row in ROWS:
        for peer in row.peers if row.ours in seconds else ():
            middle, low, high = bounds(np.array(seconds[peer]) / np.array(seconds[row.ours]))
            bar = row.bar if peer == row.peers[0] else None
            named = {"row": row.title, "ours": row.ours, "peer": peer}
            rows.append({**named, "ratio": middle, "low": low, "high": high, "bar": bar})
    return rows


def tell(rows: list[dict[str, Any]], rates: dict[str, float], share: dict[str, float]) -> None:
    for one in rows:
        bar = one["bar"]
        kept = "" if bar is None else f"   bar {bar:.1f} {'kept' if one['low'] >= bar else 'MISSED'}"
        print(f"{one['row']:<42}{one['peer']:<22}{one['ratio']:6.2f}  ({one['low']:.2f} to {one['high']:.2f}){kept}")
    for name, rate in rates.items():
        print(f"  {name:<22}{rate:>10,.0f} pictures a second")
    for name, part in share.items():
        print(f"Pillow's own order of passes gives other pixels: {100 * part:.0f} % of {name}")


def write(rows: list[dict[str, Any]], rates: dict[str, float], share: dict[str, float], rounds: int) -> None:
    """The figures as JSON, and the chart."""
    names = ("torch", "numpy", "pillow", "simplejpeg", "numba", "timm", "torchvision", "opencv-python-headless")
    values = {
        "rows": rows,
        "pictures_per_second": rates,
        "other_pass_order": share,
        "rounds": rounds,
        "clock": "processor time of one thread",
        "cpu": cpu_name(),
        "versions": {"vitrail": __version__, **{name: version(name) for name in names}},
    }
    (ROOT / "results" / "input_pipeline.json").write_text(json.dumps(values, indent=1) + "\n")
    shown = [(f"{one['row']}, to {one['peer']}", one["ratio"], one["low"], one["high"], one["bar"]) for one in rows]
    title = f"Pictures fed by one core, as a multiple of the peer's ({cpu_name()})"
    bars(shown, title, ROOT / "docs" / "pictures" / "input_pipeline.png")


if __name__ == "__main__":
    main()
