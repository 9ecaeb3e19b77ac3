"""What the files of the offline flow are called, and what a folder of packed pictures says of itself.

`cifar10`, the files of the ViT package: `img_data/vit_base_cifar10_1_N.bin` is picture N of 0 on, normalised, as raw
little-endian float32 (C, H, W); the file of the same name in `label` is its label as int32.
`imagenet2012`, the files of the CCT package: `imagenet_label.json`, {file name: label}; pictures stay where they are.

`pack.json` is ours: what was packed and how. Folders made by others, which lack it, are read too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vitrail.disk import read_file
from vitrail.errors import DataError, UsageError, nearest
from vitrail.formats import json
from vitrail.pictures.policy import Policy

Dataset = Literal["cifar10", "imagenet2012"]
DATASETS: tuple[Dataset, ...] = ("cifar10", "imagenet2012")

PACKED = "preprocess_Result"
IMAGES, LABELS = "img_data", "label"  # folders of `cifar10`
LABEL_FILE = "imagenet_label.json"
RECORD = "vit_base_cifar10_1_{}.bin"
RESULTS = "result_Files"
TIMES, TIME_FILE = "time_Result", "test_perform_static.txt"
INFER_LOG, SCORE_LOG = "infer.log", "acc.log"
MANIFEST, FORMAT = "pack.json", "1.0"
LIMIT = 64 << 20  # bytes of a JSON file
_KEYS = {"format", "dataset", "pictures", "classes", "policy", "pictures_sha256"}


def known(dataset: str) -> Dataset:
    """The name in lower case, as the packages took it; UsageError V007 for another one."""
    for name in DATASETS:
        if dataset.lower() == name:
            return name
    raise UsageError("V007", f"no dataset is called `{dataset}`", hint=nearest(dataset.lower(), DATASETS))


def result_name(name: str) -> str:
    """The file with the logits of an input file: its name up to the first dot, and the number of the output.

    >>> result_name("ILSVRC2012_val_00000293.JPEG")
    'ILSVRC2012_val_00000293_0.bin'
    """
    return f"{name.split('.', 1)[0]}_0.bin"


def refuse_doubled(names: Iterable[str], place: str) -> None:
    """DataError V404 where two input files would have one result file."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(result_name(name), name)
        if other is not name:
            raise DataError(
                "V404",
                f"two files in `{place}` would have one result, `{result_name(name)}`",
                evidence=[other, name],
                hint="rename one: a result is called as its picture, up to the first dot",
            )


@dataclass(frozen=True)
class Packed:
    """What a folder of packed pictures holds. policy: None where the pictures stay as they are.

    classes: names in the order of the labels. pictures_sha256: of the source's fingerprint, which pictures of it, and
    their labels.
    """

    dataset: Dataset
    pictures: int
    classes: tuple[str, ...]
    policy: Policy | None
    pictures_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they stand in `pack.json`."""
        return {
            "format": FORMAT,
            "dataset": self.dataset,
            "pictures": self.pictures,
            "classes": list(self.classes),
            "policy": None if self.policy is None else self.policy.to_json(),
            "pictures_sha256": self.pictures_sha256,
        }


def read_packed(folder: Path) -> Packed | None:
    """What `pack.json` in a folder says; None where there is none. DataError V404 where it is not of its form."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return _packed(json.loads(read_file(path, limit=LIMIT), limit=LIMIT))
    except ValueError as error:
        raise DataError("V404", f"`{path}` is damaged: {error}", hint="pack the pictures again") from error


def _packed(values: object) -> Packed:
    if not isinstance(values, dict) or not set(values) >= _KEYS:
        raise ValueError(f"it must hold {', '.join(sorted(_KEYS))}")
    version, classes, digest = values["format"], values["classes"], values["pictures_sha256"]
    if not isinstance(version, str) or version.split(".")[0] != FORMAT.split(".")[0]:
        raise ValueError(f"its format is {version!r:.40}, this vitrail reads {FORMAT}")
    if values["dataset"] not in DATASETS or type(values["pictures"]) is not int or not isinstance(digest, str):
        raise ValueError("dataset, pictures or pictures_sha256 do not stand")
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("classes is no list of names")
    policy = None if values["policy"] is None else Policy.from_json(values["policy"])
    return Packed(values["dataset"], values["pictures"], tuple(classes), policy, digest)


def shortened(names: Sequence[str], what: str) -> list[str]:
    """The first five names as lines of evidence, and how many more there are.

    >>> shortened(["a", "b"], "missing")
    ['missing: a', 'missing: b']
    """
    more = [f"{what}: {len(names) - 5:,} more"] if len(names) > 5 else []
    return [*(f"{what}: {name}" for name in names[:5]), *more]
