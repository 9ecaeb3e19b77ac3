"""`show`: what a model, a recipe, a source or a list holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vitrail import __version__
from vitrail.bundle.formats import ABOUT
from vitrail.bundle.manifest import Manifest
from vitrail.bundle.read import read_manifest
from vitrail.data.configs import Data
from vitrail.data.sources import BUILT_IN, is_data, open_source
from vitrail.disk import make_folder, sha256_file, write_file
from vitrail.engines.opened import provenance
from vitrail.engines.program import told
from vitrail.errors import BundleError, DataError, UsageError, nearest, printable
from vitrail.formats.json import loads
from vitrail.models.catalog import VARIANTS, variant
from vitrail.models.configs import ModelConfig, family_of
from vitrail.models.count import macs, parameters
from vitrail.opening import Kind, classifier, here, kind_of, local, require_torch
from vitrail.recipe import load_recipe, recipe_names
from vitrail.recipe.evaluating import evaluation_recipe
from vitrail.recipe.read import evaluation_names, recipe_path
from vitrail.recipe.write import to_plain, to_yaml
from vitrail.verbs.outside import refuse_inside
from vitrail.verbs.ranks import is_table, show_table
from vitrail.weights import published

if TYPE_CHECKING:
    from vitrail.models.classifier import Classifier

LISTS = ("models", "recipes", "datasets")
What = Literal["models", "recipes", "datasets", "recipe", "model", "data", "ranks"]


@dataclass(frozen=True)
class Shown:
    """What was asked about, as plain values; `text` where there is a ready text (a recipe)."""

    what: What
    values: Any
    text: str = ""


def show(subject: str) -> Shown:
    """`models`, `recipes`, `datasets`, or one RECIPE, MODEL, DATA or rank table; UsageError V002 for none of these."""
    lists: dict[str, Callable[[], Shown]] = {"models": _models, "recipes": _recipes, "datasets": _datasets}
    if subject in lists and not Path(subject).exists():
        return lists[subject]()
    path = Path(subject)
    if _is_recipe(path):
        return _recipe(subject)
    if is_table(path):
        return Shown("ranks", *show_table(path))
    if path.is_file() and is_data(subject):
        return _data(subject)
    kind = _kind(subject)
    if kind == "published":
        return _published(subject)
    if kind is not None:
        return _model(subject, kind)
    if is_data(subject):
        return _data(subject)
    known = [*LISTS, *recipe_names(), *evaluation_names(), *VARIANTS, *BUILT_IN, *published.names()]
    raise UsageError(
        "V002",
        f"nothing is called `{subject}`, and no file or folder lies there",
        hint=nearest(subject, known) or "`vitrail show models`, `recipes` and `datasets` list what there is",
    )


def _is_recipe(path: Path) -> bool:
    names = (*recipe_names(), *evaluation_names())
    return path.suffix in (".yaml", ".yml") if path.is_file() else not path.exists() and str(path) in names


def _kind(subject: str) -> Kind | None:
    try:
        return kind_of(subject)
    except UsageError:
        return None


def _numbers(config: ModelConfig) -> dict[str, object]:
    return {
        "family": family_of(config),
        "image_size": list(config.image_size),
        "classes": config.classes,
        "parameters": parameters(config),
        "macs": macs(config),
    }


def _models() -> Shown:
    return Shown("models", [{"name": name, **_numbers(row.config)} for name, row in VARIANTS.items()])


def _recipes() -> Shown:
    rows = []
    for name in (*recipe_names(), *evaluation_names()):
        head = recipe_path(name).read_text("utf-8").splitlines()[0].removeprefix("#").strip()
        rows.append({"name": name, "about": head})
    return Shown("recipes", rows)


def _datasets() -> Shown:
    layouts = {
        "FOLDER": "one folder of pictures per class, alone or below train and val (valid, validation, test)",
        "IMAGENET": "train with class folders, a flat val with val_label.txt in it or beside it; or that val alone",
        "TABLE": "a CSV or TSV file: path,label and, where it is given, split",
        "FLOWERS102": "the Oxford flowers as published: jpg, imagelabels.mat, setid.mat",
        "ARRAYS": "a .npz file with x_train, y_train, x_test, y_test",
        "CIFAR": "cifar-10-batches-bin, cifar-10-batches-py, cifar-100-binary, cifar-100-python, or their parent",
    }
    return Shown("datasets", [{"name": name, "about": about} for name, about in {**BUILT_IN, **layouts}.items()])


def _recipe(subject: str) -> Shown:
    if subject in evaluation_names():
        asked = evaluation_recipe(subject)
        return Shown("recipe", asdict(asked), recipe_path(subject).read_text("utf-8"))
    recipe = load_recipe(subject)
    return Shown("recipe", to_plain(recipe), to_yaml(recipe, version=__version__))


def _model(subject: str, kind: Kind) -> Shown:
    if kind == "variant":
        row = variant(subject)
        about: dict[str, Any] = {"weights": "random", "policy": row.policy.to_json(), "config": asdict(row.config)}
        return Shown("model", {"name": subject, "kind": kind, **_numbers(row.config), **about})
    bundle = Path(subject) / "bundle" if kind == "run" else Path(subject)
    values: dict[str, Any] = {"name": subject, "kind": kind}
    if (bundle / "manifest.json").is_file() and kind in ("run", "bundle"):
        manifest = read_manifest(bundle)  # no engine is opened: showing needs none
        values |= {**_numbers(manifest.config), "provenance": provenance(manifest)}
        values["provenance"].pop("licences", None)
        values |= {"licences": asdict(manifest.licences)}
        values |= {"engines": sorted(manifest.engines), "weights_sha256": manifest.weights_sha256}
        return Shown("model", values | _policy_and_classes(manifest))
    if kind == "weights" and (program := _program(Path(subject))) is not None:
        return Shown("model", {"name": subject, **program})
    if kind in ("weights", "hub"):
        return _weights(subject, kind)
    opened = classifier(subject)
    values |= {**_numbers(opened.config), "provenance": dict(opened.provenance)}
    values |= {"checkpoint": _saved(Path(here(subject)))} if kind == "checkpoint" else {}
    return Shown("model", values | _policy_and_classes(opened))


def _saved(path: Path) -> dict[str, Any]:
    """What a checkpoint that was read whole says of its run: how far, how good, how large."""
    from vitrail.training.generation import STATE, SUFFIX, manifest_of
    from vitrail.training.parts import base_name

    manifest = manifest_of(path)
    state = json.loads((path / STATE).read_bytes())
    identity = state["identity"]
    adapter = identity["model"].get("adapter")
    return {
        "step": manifest.step,
        "best_so_far": manifest.best,
        "evaluation": state["metrics"] or "none yet",
        "evaluation_due": not state["settled"],
        "best_top1": state["best"],
        "best_step": state["best_step"],
        "skipped_steps": state["skipped"],
        "trained_s": round(state["elapsed_s"], 1),
        "optimizer": state["optimizer"]["name"],
        "averaged": any(base_name(name.removesuffix(SUFFIX)) == "ema" for name in manifest.files),
        **({} if adapter is None else {"adapter": f"{adapter['name']} of rank {adapter['rank']}, merged when opened"}),
        **{key: identity[key] for key in ("ranks", "drift") if key in identity},
        **{name: f"{member.size:,} bytes" for name, member in sorted(manifest.files.items())},
    }


def _program(path: Path) -> dict[str, Any] | None:
    """What `export` put into a TorchScript program, which is not run for that; None for all else."""
    from vitrail.formats import is_program
    from vitrail.formats.held import hold
    from vitrail.formats.torch_zip import extra

    if not is_program(path):
        return None
    with hold(path) as file:
        said = extra(file, ABOUT)
    if said is None:
        return None
    try:
        about = loads(said)
        policy, classes, takes, batch = told(about if isinstance(about, dict) else {})
    except ValueError as error:
        raise BundleError(
            "V505", f"what `{path}` says of itself is not understood: {error}", hint="export the model again"
        ) from error
    known = {"takes": takes, "batch": batch, "policy": policy.to_json(), "class_names": list(classes)}
    return {"kind": "program", "sha256": sha256_file(path), **known}


def _weights(subject: str, kind: Kind) -> Shown:
    """A weight file or folder of any world: what it was found to be, and by what."""
    require_torch()
    from vitrail.weights import load

    found = load(local(subject))
    opened = found.classifier
    values = {
        "name": subject,
        "kind": kind,
        **{key: opened.provenance[key] for key in ("dialect", "form", "variant") if opened.provenance.get(key)},
        "report": list(found.report),
        **_numbers(opened.config),
        "config": asdict(opened.config),
    }
    return Shown("model", values | _policy_and_classes(opened))


def _published(name: str) -> Shown:
    """A published row as the table has it; nothing is pulled for that."""
    from vitrail.verbs.weights import weights_list

    listed = next(one for one in weights_list(name) if one.row.name == name)
    config = listed.row.config()
    values = {"name": name, "kind": "published", **listed.to_json(), "class_set": listed.row.classes}
    values |= {**_numbers(config), "config": asdict(config)}
    return Shown("model", values | {"class_names": list(published.class_names_of(listed.row))})


def _policy_and_classes(model: Manifest | Classifier) -> dict[str, Any]:
    return {"policy": model.policy.to_json(), "class_names": list(model.classes)}


def _data(subject: str) -> Shown:
    try:
        source = open_source(Data(root=subject))
    except DataError as error:
        if error.code != "V407":
            raise
        source = open_source(Data(root=subject), split_it=False)
        source = replace(source, notes=(*source.notes, error.what))
    training, held_out = source.count(source.training), source.count(source.held_out)
    rows = [
        {"name": name, "training": int(training[i]), "held_out": int(held_out[i])}
        for i, name in enumerate(source.classes)
    ]
    return Shown("data", {"source": source.name, "notes": list(source.notes), "classes": rows})


def _file_name(text: str) -> str:
    """A name that every disk takes: printable, without folders, its end kept where it is too long."""
    return printable(text).replace("/", "-").encode("utf-8")[-200:].decode("utf-8", "ignore") + ".png"


def show_pictures(subject: str, folder: Path, *, data: str | None = None, count: int = 12) -> list[Path]:
    """The first held-out pictures of a DATA, class by class in turn, as PNG files that say what they are.

    Of a RECIPE one sheet of augmented pictures; data: of these, where it names none.
    """
    from PIL import Image

    refuse_inside(folder, subject, data)
    if _is_recipe(Path(subject)):
        from vitrail.verbs.sheet import write_sheet

        return [write_sheet(subject, folder, data=data)]
    source = open_source(Data(root=subject))
    make_folder(folder)
    labels = source.labels[source.held_out]
    turn = np.concatenate([np.arange((labels == label).sum()) for label in range(len(source.classes))])
    by_class = np.argsort(labels, kind="stable")
    order = by_class[np.lexsort((labels[by_class], turn))]
    written = []
    for index in source.held_out[order[:count]].tolist():
        name = _file_name(f"{source.title(index)}-is-{source.classes[source.labels[index]]}")
        pixels = source.read(index)
        buffer = BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
        write_file(folder / name, buffer.getvalue())
        written.append(folder / name)
    return written
