"""One function opens any MODEL: a bundle, a run, a checkpoint, a weight file, or a name of a variant or of weights."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitrail.bundle.formats import check_batch
from vitrail.errors import RunError, UsageError, WeightsError, nearest
from vitrail.formats import folders, is_program
from vitrail.models.catalog import VARIANTS, variant

if TYPE_CHECKING:
    from vitrail.engines.program import Answering, Program
    from vitrail.models.classifier import Classifier
    from vitrail.training.checkpoint import Snapshot

Kind = Literal["bundle", "run", "checkpoint", "weights", "variant", "published", "hub"]
RECIPE_FILE = "recipe.yaml"  # in the folder of a run: its recipe with every choice made
LOG = logging.getLogger("vitrail")  # a policy that was only assumed is a warning: Python prints it by itself


def names() -> tuple[str, ...]:
    """Every variant's name, as `create`, `open` and recipes take them."""
    return tuple(sorted(VARIANTS))


def create(name: str, *, classes: Sequence[str] | int | None = None, seed: int = 0) -> Classifier:
    """A variant with fresh random weights, a function of (name, classes, seed) alone.

    classes: names or a number; the variant's own number otherwise. WeightsError V203 for an unknown name.

    >>> create("cct_2_3x2_32").logits(__import__("numpy").zeros((1, 3, 32, 32), "float32")).shape
    (1, 10)
    """
    from dataclasses import replace

    from vitrail.models import build
    from vitrail.models.classifier import Classifier

    row = variant(name)
    if isinstance(classes, str):
        raise UsageError("V007", f"classes is the text `{classes}`", hint="give a list of names, or a number")
    count = row.config.classes if classes is None else classes if isinstance(classes, int) else len(classes)
    config = replace(row.config, classes=count)
    if problems := config.problems():
        raise UsageError("V007", "no network can be built so", evidence=problems)
    labels = tuple(f"class_{i}" for i in range(count)) if classes is None or isinstance(classes, int) else classes
    provenance = {"weights": "random", "variant": name, "seed": seed}
    return Classifier(build(config, seed=seed), config, row.policy, tuple(labels), provenance)


def here(model: str | Path) -> str | Path:
    """A MODEL on this machine: an address (`s3://BUCKET/vit.ckpt`, `https://...`) is fetched once into the cache.

    Of a folder with one file that file is meant, as people keep checkpoints in stores. Errors as `remote.fetched`.
    """
    if isinstance(model, str) and "://" in model:  # what knows of addresses is slow to load
        from vitrail import remote

        if remote.is_address(model):
            path = remote.fetched(model)
            files = list(path.iterdir()) if path.is_dir() else []
            return files[0] if len(files) == 1 and files[0].is_file() else path
    return _pointed_at(Path(model)) or model


def _pointed_at(path: Path) -> Path | None:
    """The checkpoint that a run's `latest` or `best` names, one of those beside it."""
    if path.parent.name != "checkpoints" or path.name not in ("latest", "best") or not path.is_file():
        return None
    with path.open("rb") as file:
        name = file.read(64).strip()
    return next((step for step in path.parent.iterdir() if os.fsencode(step.name) == name), None)


def kind_of(model: str | Path) -> Kind:
    """What a MODEL is, by what lies there; an existing path wins over a name. UsageError V002 for neither."""
    model = here(model)
    path = Path(model)
    if not str(model).strip():
        raise UsageError("V002", "the MODEL is an empty text", hint="name a path, a variant or published weights")
    if path.is_dir():
        if (path / "state.json").is_file():
            return "checkpoint"
        if (path / "manifest.json").is_file():
            return "bundle"
        if (path / RECIPE_FILE).is_file():
            return "run"
        if any((path / name).is_file() for name in (*folders.FILES, folders.TF_STATE)):
            return "weights"
        raise UsageError(
            "V002",
            f"`{path}` is a folder, but no bundle (manifest.json), run (recipe.yaml), checkpoint (state.json) or model",
            hint="name the run folder, its `bundle`, one of its `checkpoints`, or the weight file itself",
        )
    if folders.file_of(path)[0].exists():
        return "weights"
    return _kind_of_name(str(model))


def _kind_of_name(model: str) -> Kind:
    if model in VARIANTS:
        return "variant"
    from vitrail import remote
    from vitrail.weights import published

    if remote.is_hub(model):
        return "hub"
    if model in published.names():
        return "published"
    raise UsageError(
        "V002",
        f"no model `{model}`: neither a path, nor a variant, nor published weights",
        hint=nearest(model, [*VARIANTS, *published.names()])
        or "check the path; `vitrail show models` and `vitrail weights list` have the names",
    )


def local(model: str | Path) -> Path:
    """Where the weights of a MODEL lie here: a path as it is, published or hub weights pulled into the cache."""
    from vitrail import remote
    from vitrail.weights.published import published

    model = here(model)
    kind, url = kind_of(model), str(model)
    if kind not in ("published", "hub"):
        return Path(model)
    row = published(url) if kind == "published" else None
    url = row.url if row else url
    return remote.pull_weights(url, size=row.size if row else None, sha256=row.sha256_prefix if row else None)


def open(
    model: str | Path,
    *,
    engine: str = "auto",
    threads: int | None = None,
    device: str = "cpu",
    trust: bool = False,
    once: bool = False,
    batch: int = 1,
) -> Answering:
    """A MODEL, ready to answer: `.logits(batch)`, `.predict(pictures)`, `.policy`, `.classes`, `.provenance`.

    A bundle and a finished run open as a `Bundle` on the named engine; a checkpoint, weights (a file, a folder, a
    published name, `hf:OWNER/NAME`) and a variant's name as a `Classifier` on torch; a bare TorchScript file as a
    `Program`, which runs as it is. threads: of the engine; None takes what the machine gives. device: of what torch
    runs; `cuda`, `cuda:3` and such open a bundle on torch, `auto` takes the accelerator where there is one and torch is
    what runs. trust: run a program that was not made on this machine. once: a few answers are wanted, as soon as can
    be. batch: how many pictures will come at a time as a rule: OpenVINO compiles the graph for so many, and with one
    for each core or more `auto` asks the engines for one a core.
    """
    check_batch(batch)
    model = here(model)
    found = kind_of(model)
    path = Path(model)
    if found == "run" and (path / "bundle" / "manifest.json").is_file():
        found, path = "bundle", path / "bundle"
    program = found == "weights" and is_program(path)
    if found == "bundle" or program:
        from vitrail.engines.trust import trusting

        with trusting() if trust else nullcontext():
            if program:
                return _program(path, engine, threads, device)
            from vitrail.engines import open_bundle

            return open_bundle(path, engine=engine, threads=threads, device=device, once=once, batch=batch)
    if engine not in ("auto", "torch") or threads is not None:
        raise UsageError(
            "V007",
            f"`{model}` is a {found}: torch runs it, with torch's own threads",
            hint="export it first, and open the bundle" if engine not in ("auto", "torch") else "leave threads out",
        )
    opened = classifier(model)
    if device != "cpu":
        from vitrail.machine import move

        move(opened.module, device)
    return opened


def _program(path: Path, engine: str, threads: int | None, device: str) -> Program:
    if engine not in ("auto", "torchscript") or threads is not None or device not in ("auto", "cpu"):
        raise UsageError(
            "V007",
            f"`{path}` is a TorchScript program: torch runs it on the processor, with torch's own threads",
            hint="leave engine, threads and device out; `vitrail convert` takes its weights, if it is not frozen",
        )
    require_torch()
    from vitrail.engines.program import open_program

    return open_program(path)


def classifier(model: str | Path) -> Classifier:
    """A MODEL as a torch network, whatever engines it also holds: what training and export start from.

    Of a TorchScript program the weights are taken and its code is not run.
    """
    require_torch()
    model = here(model)
    found = kind_of(model)
    path = Path(model)
    if found == "variant":
        return create(str(model))
    if found in ("weights", "published", "hub"):
        from vitrail.weights import load

        loaded = load(local(model))
        for line in loaded.report:
            LOG.log(logging.WARNING if line.startswith("policy assumed") else logging.INFO, "%s: %s", model, line)
        return loaded.classifier
    if found == "run":
        if (path / "bundle" / "manifest.json").is_file():
            return _of_bundle(path / "bundle")
        return _of_checkpoint(_newest(path))
    return _of_bundle(path) if found == "bundle" else _of_checkpoint(path)


def require_torch() -> None:
    """UsageError V003 with the pip command when torch is absent."""
    from vitrail.engines.table import need

    need("torch", "train")


def _newest(run: Path) -> Path:
    from vitrail.training.checkpoint import CHECKPOINTS, newest_good

    path, _ = newest_good(run / CHECKPOINTS, set_aside=False)
    if path is None:
        raise RunError("V603", f"`{run}` holds no checkpoint yet", hint=f"vitrail train --resume --out {run}")
    return path


def identity_of(snapshot: Snapshot, path: Path) -> Mapping[str, Any]:
    """What run a checkpoint is of: hashes of recipe and data, seed and model. RunError V604 when it does not say."""
    identity = snapshot.state.get("identity")
    model = identity.get("model") if isinstance(identity, Mapping) else None
    named = isinstance(model, Mapping) and {"variant", "family", "config", "policy", "classes"} <= set(model)
    if not isinstance(identity, Mapping) or not named or not {"recipe", "data", "holdout", "seed"} <= set(identity):
        raise RunError(
            "V604", f"`{path}` does not say which model it holds", hint="open another checkpoint, or resume the run"
        )
    return identity


def _of_checkpoint(path: Path) -> Classifier:
    from vitrail.models.classifier import Classifier
    from vitrail.models.configs import config_from_json
    from vitrail.pictures.policy import Policy
    from vitrail.training.adapter_file import lora_of, network_of
    from vitrail.training.checkpoint import load
    from vitrail.weights import network
    from vitrail.weights.tensors import check_numbers

    snapshot = load(path)
    identity = identity_of(snapshot, path)
    model = identity["model"]
    try:
        config = config_from_json({"family": model["family"], **model["config"]})
        policy = Policy.from_json(model["policy"])
        lora = lora_of(model["adapter"]) if "adapter" in model else None
    except ValueError as error:
        raise RunError(
            "V604", f"`{path}` holds no model that can be built: {error}", hint="open another checkpoint"
        ) from error
    tensors = snapshot.files.get("ema", snapshot.files["weights"])
    try:
        check_numbers(tensors, path)
        module = network(config, tensors) if lora is None else network_of(config, lora, tensors)
    except WeightsError as error:
        raise RunError(
            "V604", error.what, evidence=error.evidence, hint="open another checkpoint, or resume the run"
        ) from error
    provenance = {
        "weights": "trained",
        "variant": model["variant"],
        "step": snapshot.step,
        "seed": identity["seed"],
        "data_sha256": identity["data"],
        "data_holdout": identity["holdout"],
    }
    return Classifier(module, config, policy, tuple(model["classes"]), provenance)


def _of_bundle(path: Path) -> Classifier:
    from vitrail.engines import bundle_classifier

    return bundle_classifier(path)
