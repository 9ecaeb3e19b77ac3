"""Keras weight files, laid out as Keras itself writes them: Keras 2 by layer names, Keras 3 by paths alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail import disk
from vitrail.errors import UsageError
from vitrail.formats.bounds import check_names
from vitrail.formats.stored import Stored, Tensors

if TYPE_CHECKING:
    import h5py

_NAMES = 4000  # texts in one attribute: HDF5 keeps it in 64 KiB, and Keras splits longer lists
_KERAS = "2.15.0"


def write(path: Path, tensors: Tensors) -> None:
    """Write a Keras weights file whole or not at all; the same tensors give the same bytes.

    Names with `:0` make a Keras 2 file: each is LAYER/WEIGHT, WEIGHT begins with LAYER/
    (`embedding/embedding/kernel:0`), and Keras fills its layers in the order of the tensors.  All others make a Keras 3
    `.weights.h5`.  UsageError V007 for other names, a mixture, or BF16; V003 without h5py; SystemFault V701 when the
    disk refuses.
    """
    check_names(tensors, "the tensors to write")
    for name, tensor in tensors.items():
        if tensor.dtype == "BF16":
            raise UsageError("V007", f"`{name}` is BF16, which HDF5 does not have", hint="convert it to F32 first")
    old = [":" in name.rsplit("/", 1)[-1] for name in tensors]
    if any(old) and not all(old):
        name = next(name for name, is_old in zip(tensors, old, strict=True) if not is_old)
        raise UsageError(
            "V007", f"`{name}` has no `:0` where others have it", hint="write names of Keras 2 or of Keras 3, not both"
        )
    layers = _layers(tensors) if any(old) else {}
    try:
        import h5py
    except ImportError:
        raise UsageError(
            "V003", "HDF5 files need h5py, which is not installed", hint='pip install "vitrail[keras]"'
        ) from None
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        if layers:
            _keras2(file, layers)
        else:
            _keras3(file, tensors)
    disk.write_file(path, buffer.getvalue())


def _layers(tensors: Tensors) -> dict[str, dict[str, Stored]]:
    """layer -> its weights by name, both in the order of the tensors."""
    layers: dict[str, dict[str, Stored]] = {}
    for name, tensor in tensors.items():
        layer = _layer(name)
        layers.setdefault(layer, {})[name.removeprefix(layer + "/")] = tensor
    longest = max(len(layers), *map(len, layers.values()))
    if longest > _NAMES:
        raise UsageError("V007", f"{longest} names in one Keras 2 list", hint=f"the limit is {_NAMES}")
    return layers


def _layer(name: str) -> str:
    """The layer of a Keras 2 name.

    >>> _layer("Transformer/encoder_norm/Transformer/encoder_norm/gamma:0")
    'Transformer/encoder_norm'
    """
    parts = name.split("/")
    for count in range(1, len(parts) // 2 + 1):
        if parts[:count] == parts[count : 2 * count] and len(parts) > 2 * count:
            return "/".join(parts[:count])
    raise UsageError(
        "V007",
        f"`{name}` is no Keras 2 name: a layer, and a weight that begins with the layer's name",
        hint="such as `embedding/embedding/kernel:0`",
    )


def _keras2(file: h5py.File, layers: dict[str, dict[str, Stored]]) -> None:
    _texts(file, "layer_names", list(layers))
    file.attrs["backend"] = b"tensorflow"
    file.attrs["keras_version"] = _KERAS.encode()
    for layer in sorted(layers):  # Keras too writes them by name; `layer_names` has the order of the model
        group = file.create_group(layer) if layer not in file else file[layer]
        _texts(group, "weight_names", list(layers[layer]))
        for name, tensor in layers[layer].items():
            group.create_dataset(name, data=tensor.array())
    _texts(file.create_group("top_level_model_weights"), "weight_names", [])


def _texts(group: h5py.Group, name: str, texts: list[str]) -> None:
    """As Keras writes lists of names; an empty one is an empty list of float64 there."""
    import h5py
    import numpy as np

    if texts:
        group.attrs.create(name, [text.encode() for text in texts], dtype=h5py.string_dtype("ascii"))
    else:
        group.attrs[name] = np.zeros(0)


def _keras3(file: h5py.File, tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        file.create_dataset(name, data=tensor.array())
    file.require_group("vars")  # of the model itself: Keras asks for it even where it is empty
