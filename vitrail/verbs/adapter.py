"""Adapters at the end of a run: a small file, and the merged network with the proof that it answers the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.disk import write_file
from vitrail.recipe import Recipe
from vitrail.recipe.schema import Weights
from vitrail.training.configs import Constant

if TYPE_CHECKING:
    from torch import nn

    from vitrail.proof.prove import Proof
    from vitrail.training.adapter_file import Adapter
    from vitrail.weights import Loaded

FILE = "adapter.safetensors"
REPORT = "adapter-proof.json"


def keep_adapter(folder: Path, recipe: Recipe, classes: Sequence[str], module: nn.Module) -> tuple[nn.Module, str]:
    """Write the adapters of a trained network beside its run; the network with them merged, and a line about it.

    OutsideBound V801 unless the merged network answers as the trained one, by the gate of every proof in float32.
    """
    from vitrail.training.adapter_file import cut_out, dumps

    assert recipe.adapter is not None
    names = tuple(classes)
    adapter, plain = cut_out(
        module, recipe.adapter, config=recipe.config, policy=recipe.policy, classes=names, variant=recipe.variant
    )
    proof = _proven(recipe, names, module, plain)
    data = dumps(adapter)
    write_file(folder / REPORT, proof.report())
    write_file(folder / FILE, data)
    return plain, f"adapters: {len(data):,} bytes in {folder / FILE}; merged, {proof.line()}"


def _proven(recipe: Recipe, classes: tuple[str, ...], adapted: nn.Module, plain: nn.Module) -> Proof:
    from vitrail.models.classifier import Classifier
    from vitrail.proof.prove import prove

    source, candidate = (Classifier(one, recipe.config, recipe.policy, classes) for one in (adapted, plain))
    proof = prove(source, candidate)
    proof.raise_if_failed()
    return proof


def merged(source: str | Path, base: str | Path) -> Loaded:
    """A file of adapters merged into the weights they were trained on, any MODEL. Errors as `read` and `merge` there.

    The base is fitted to the adapters' network as the run fitted it: positions and channels by its size, numerics as
    they were settled then.
    """
    from vitrail.bundle.manifest import weights_hash
    from vitrail.models.classifier import Classifier
    from vitrail.training.adapter_file import merge, read
    from vitrail.verbs.start import start
    from vitrail.weights import Loaded, native_tensors

    adapter = read(Path(source))
    fitted = start(_run_from(base, adapter), adapter.classes)
    assert fitted is not None
    module = merge(adapter, native_tensors(fitted.classifier.module), where=str(base))
    same = weights_hash(native_tensors(module)) == adapter.merged
    line = f"adapters of rank {adapter.lora.rank} merged into `{base}`: " + (
        "bit for bit what the run made" if same else "equal to the run's up to the last bit, in which machines differ"
    )
    provenance = {"weights": "trained", "variant": adapter.variant}
    classifier = Classifier(module, adapter.config, adapter.policy, adapter.classes, provenance)
    return Loaded(classifier, (line,), policy_stated=True)


def _run_from(base: str | Path, adapter: Adapter) -> Recipe:
    """As much of the run's recipe as decides what its start weights became, but for the head."""
    return Recipe(
        variant=adapter.variant,
        config=adapter.config,
        classes_given=True,
        policy=adapter.policy,
        weights=Weights(path=str(base), head="zero"),
        schedule=Constant(epochs=1.0, lr=1.0),
        origins={"model.image_size": "recipe", "model.channels": "recipe"},
    )
