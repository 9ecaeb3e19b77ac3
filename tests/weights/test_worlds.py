"""Every world's reference cases, from its own names and its own files, against what its own code answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import battery
from tests.models.battery import Reference
from tests.weights.worlds import WORLDS
from vitrail.formats.stored import Stored
from vitrail.models.catalog import variant
from vitrail.models.classifier import Classifier
from vitrail.models.configs import ModelConfig, family_of
from vitrail.weights import from_tensors, load, native_tensors, save_as
from vitrail.weights.detect import translations
from vitrail.weights.dialects import tables

SHARED = Path(__file__).resolve().parents[3] / "shared"
BOUNDS = {"mindspore": (1e-5, 5e-5), "keras2": (1e-7, 2e-5), "keras3": (1e-7, 2e-5)}


def cases() -> Iterator[str]:
    for path in sorted((SHARED / "reference").glob("*_*.npz")):
        if path.stem.split("_")[0] in WORLDS and path.stem != "mindspore_dtypes":
            yield path.stem


NAMES = list(cases())
FILELESS = ("unilm_beit_tiny_nomean", "unilm_beit2_tiny")
FILES = [name for name in NAMES if "_real_" not in name and name not in FILELESS]


def config_of(reference: Reference, name: str) -> tuple[str | ModelConfig, str]:
    meta = reference.meta
    return WORLDS[name.split("_")[0]](name, meta["config"], meta["input_shape"])


def difference(reference: Reference, classifier: Classifier) -> float:
    return float(np.abs(classifier.logits(reference.input) - reference.values["logits"]).max())


def bounds(name: str) -> tuple[float, float]:
    small, large = BOUNDS.get(name.split("_")[0], (1e-9, 2e-5))
    return small, 1e-4 if "hybrid" in name or "_r26_" in name else large


@pytest.mark.parametrize("name", battery.by_size(NAMES))
def test_the_originals_names_give_the_originals_logits(shared: Path, name: str) -> None:
    reference = Reference(shared, name)
    model, dialect = config_of(reference, name)
    weights = reference.formula()
    for kind, bound in zip((np.float64, np.float32), bounds(name), strict=True):
        if kind is np.float32 and "_real_" in name:
            continue
        tensors = {key: value.astype(kind) for key, value in weights.items()}
        classes = reference.meta["config"].get("num_classes")
        assert difference(reference, from_tensors(tensors, model, dialect=dialect, classes=classes)) <= bound


WITH_GRADIENTS = ("google_vit_tiny", "hf_vit_tiny", "hf_beit_tiny_relpos_mean", "unilm_beit_tiny_relpos")


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients_are_the_originals(shared: Path, name: str) -> None:
    reference = Reference(shared, name)
    model, dialect = config_of(reference, name)
    tensors = {key: value.astype(np.float64) for key, value in reference.formula().items()}
    classifier = from_tensors(tensors, model, dialect=dialect)
    found, loss = battery.gradients(classifier.module, reference.input, reference.values["labels"])
    foreign = {key[5:]: Stored.of(value) for key, value in reference.values.items() if key.startswith("grad/")}
    recorded = next(translations(foreign, tables(dialect, family_of(classifier.config))))[1].tensors
    assert abs(loss - float(reference.values["loss"])) <= 1e-9
    assert found.keys() == recorded.keys()
    for key, gradient in found.items():
        wanted = recorded[key].array()
        assert np.abs(gradient - wanted).max() <= 1e-6 * np.abs(wanted).max() + 1e-14, key


def files(reference: Reference) -> list[Path]:
    native: Any = reference.meta.get("native_files") or {"": reference.meta.get("native_file")}
    return [reference.folder / name for name in native.values() if name]


@pytest.mark.parametrize("name", FILES)
def test_the_originals_own_files_give_the_originals_logits(shared: Path, name: str) -> None:
    reference = Reference(shared, name)
    paths = files(reference)
    assert paths
    model, dialect = config_of(reference, name)
    for path in paths:
        loaded = load(path, model)
        assert difference(reference, loaded.classifier) <= bounds(name)[1], path
        assert loaded.classifier.provenance["dialect"] in (dialect, "timm")


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(("google", "hf"))])
def test_a_file_that_shows_its_heads_needs_no_config(shared: Path, name: str) -> None:
    reference = Reference(shared, name)
    (path,) = files(reference)
    folder = path.parent if name.startswith("hf") else path
    loaded = load(folder)
    assert difference(reference, loaded.classifier) <= bounds(name)[1]
    assert loaded.classifier.config == config_of(reference, name)[0] or "layer_scale_init" in str(loaded)


SUFFIX = {"google": ".npz", "mindspore": ".ckpt", "unilm": ".pth", "hf": "", "keras2": ".h5", "keras3": ".weights.h5"}


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("tf001")])
def test_C12_from_its_world_and_back_every_bit_is_the_same(shared: Path, tmp_path: Path, name: str) -> None:
    from vitrail.formats import read_tensors

    reference = Reference(shared, name)
    model, dialect = config_of(reference, name)
    for path in files(reference)[:1]:
        first = load(path, model).classifier
        target = tmp_path / f"back{SUFFIX[name.split('_')[0]]}"
        save_as(first, target, f"{dialect}:{first.provenance['form']}" if "form" in first.provenance else dialect)
        before, after = read_tensors(path)[0], read_tensors(target)[0]
        for key, tensor in after.items():
            source = before.get(key) or before[f"model.{key}"]
            assert (tensor.dtype, tensor.shape, bytes(tensor.data)) == (source.dtype, source.shape, bytes(source.data))
        left_out = {key.removeprefix("model.") for key in before} - after.keys()
        assert all("adam_" in key or key in LEFT_OUT for key in left_out), left_out
        again = load(target, model).classifier
        one, other = native_tensors(first.module), native_tensors(again.module)
        assert {k: bytes(v.data) for k, v in one.items()} == {k: bytes(v.data) for k, v in other.items()}


LEFT_OUT = {"global_step", "learning_rate", "beit.embeddings.mask_token"}


def test_the_reference_of_every_world_was_found(shared: Path) -> None:
    names = {entry["file"] for entry in json.loads((shared / "reference" / "index.json").read_text())}
    wanted = {name.removesuffix(".npz") for name in names if name.split("_")[0] in WORLDS}
    assert set(NAMES) == wanted - {"mindspore_dtypes"}
    assert variant("vit_base_patch16_224").config.classes == 1000


@pytest.mark.parametrize("prefix", ["opt/target/", "params/", "params/img/"])
def test_google_files_of_optimizers_and_of_two_towers(shared: Path, prefix: str) -> None:
    reference = Reference(shared, "google_vit_tiny")
    tensors = {prefix + name: value.astype(np.float64) for name, value in reference.formula().items()}
    extra = {"opt/": "opt/state/step", "params/": "opt_state/count"}[prefix.split("/")[0] + "/"]
    tensors[extra] = np.zeros((), np.int32)
    model, dialect = config_of(reference, "google_vit_tiny")
    assert difference(reference, from_tensors(tensors, model, dialect=dialect)) <= 1e-9


@pytest.mark.parametrize("scanned", [False, True])
def test_big_visions_names_and_its_scanned_layers(shared: Path, scanned: bool) -> None:
    reference = Reference(shared, "google_vit_tiny_linen_names")
    linen = {name: value.astype(np.float64) for name, value in reference.formula().items()}
    tensors = {name.replace("Transformer/posembed_input/", ""): value for name, value in linen.items()}
    if scanned:
        first = "Transformer/encoderblock_0/"
        layers = {name.removeprefix(first) for name in tensors if name.startswith(first)}
        for name in layers:
            both = [tensors.pop(f"Transformer/encoderblock_{i}/{name}") for i in range(2)]
            tensors[f"Transformer/encoderblock/{name}"] = np.stack(both)
    model, dialect = config_of(reference, "google_vit_tiny_linen_names")
    classifier = from_tensors(tensors, model, dialect=dialect)
    assert difference(reference, classifier) <= 1e-9
    assert classifier.provenance["form"] == ("big_vision_scanned" if scanned else "big_vision")


def test_names_that_transformers_holds_in_memory(shared: Path) -> None:
    """5.x renames when it loads; its state dict is no file format, but people save it."""
    words = (
        ("vit.encoder.layer.", "vit.layers."), ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"), ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"), ("intermediate.dense", "mlp.fc1"), ("output.dense", "mlp.fc2"),
    )  # fmt: skip
    reference = Reference(shared, "hf_vit_tiny")
    tensors = {}
    for name, value in reference.formula().items():
        for old, new in words:
            name = name.replace(old, new)
        tensors[name] = value.astype(np.float64)
    model, dialect = config_of(reference, "hf_vit_tiny")
    assert difference(reference, from_tensors(tensors, model, dialect=dialect)) <= 1e-9


def test_what_distributed_training_and_loss_cells_put_before_names(shared: Path) -> None:
    for name, prefix in (("unilm_beit_tiny_relpos", "module."), ("mindspore_vit_tiny", "model.")):
        reference = Reference(shared, name)
        model, dialect = config_of(reference, name)
        tensors = {prefix + key: value.astype(np.float64) for key, value in reference.formula().items()}
        if prefix == "model.":
            tensors |= {"global_step": np.zeros(1, np.int32), "adam_m.model.head.bias": np.zeros(10)}
        assert difference(reference, from_tensors(tensors, model, dialect=dialect)) <= bounds(name)[0]
