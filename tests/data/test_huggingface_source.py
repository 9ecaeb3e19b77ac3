"""Hugging Face data sets from a folder: names, splits, the same bytes; and what is said without package or net."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vitrail.data.configs import Data
from vitrail.data.sources import open_source
from vitrail.errors import DataError, PictureError, SystemFault, UsageError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import datasets

pytestmark = pytest.mark.filterwarnings("ignore")  # of the library's own


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (5, 4), (value, 0, 7)).save(out, "PNG")
    return out.getvalue()


def table(rows: range, **change: Any) -> Any:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "fox"])})
    columns = {"image": [{"bytes": png(i), "path": None} for i in rows], "label": [i % 3 for i in rows]}
    return datasets.Dataset.from_dict(columns | change, features=features)


def test_a_data_set_of_splits(tmp_path: Path) -> None:
    parts = {"train": table(range(9)), "validation": table(range(9, 15)), "test": table(range(15, 18))}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "set"))
    source = open_source(Data(root=str(tmp_path / "set")))
    assert source.name == "huggingface" and source.classes == ("cat", "dog", "fox") and source.own_split
    assert len(source.training) == 9 and len(source.held_out) == 6
    assert source.labels.tolist() == [i % 3 for i in range(15)]
    assert [int(source.read(i)[0, 0, 0]) for i in (0, 8, 9, 14)] == [0, 8, 9, 14]
    assert source.picture(3) == png(3) and source.title(9) == "validation:0"


def test_one_table_is_split_by_seed(tmp_path: Path) -> None:
    table(range(12)).save_to_disk(str(tmp_path / "set"))
    source = open_source(Data(root=str(tmp_path / "set")))
    assert not source.own_split and len(source.training) == 9


def test_what_does_not_stand(tmp_path: Path) -> None:
    table(range(3), image=[{"bytes": png(0), "path": None}, None, None]).save_to_disk(str(tmp_path / "holes"))
    source = open_source(Data(root=str(tmp_path / "holes")), split_it=False)
    with pytest.raises(PictureError, match="train:1"):
        source.read(1)
    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(str(tmp_path / "text"))
    with pytest.raises(DataError) as caught:
        open_source(Data(root=str(tmp_path / "text")))
    assert caught.value.code == "V402" and "text: Value" in caught.value.evidence
    (tmp_path / "text" / "dataset_info.json").write_text("{")
    with pytest.raises(DataError) as caught:
        open_source(Data(root=str(tmp_path / "text")))
    assert caught.value.code == "V404" and caught.value.hint


def test_without_the_net_and_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str) -> Any:
        raise ConnectionError(f"Couldn't reach '{name}' on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(SystemFault) as caught:
        open_source(Data(root="hf:owner/name"))
    assert caught.value.code == "V704" and "owner/name" in caught.value.what and "save_to_disk" in caught.value.hint
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError) as absent:
        open_source(Data(root="hf:owner/name"))
    assert absent.value.code == "V003" and "vitrail[hf]" in absent.value.hint
