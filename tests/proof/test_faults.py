"""A planted fault is named, not only caught; nothing is named where nothing is known, and nothing on clean exports."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.bundle import tiny
from tests.proof.planted import (
    FAMILIES,
    FAULTS,
    HIDDEN,
    POLICIES,
    Planted,
    exported,
    first_line,
    graph,
    hidden,
    source,
    written,
)
from vitrail.engines import open_bundle
from vitrail.errors import OutsideBound
from vitrail.models.classifier import Classifier
from vitrail.pictures.decode import decode, load
from vitrail.pictures.policy import Policy
from vitrail.proof.diagnose import diagnose
from vitrail.proof.encoded import TURNED, encoded
from vitrail.proof.faults import Geometry, prepared
from vitrail.proof.pictures import generated
from vitrail.proof.prove import prove
from vitrail.proof.verify import verify

FROZEN = "4d04f3c0ec7b9a2d141b1e4da268db4bd16d7d2b930ff5f87ee417d444cb317c"


@pytest.mark.parametrize("fault", [*FAULTS, *HIDDEN], ids=lambda fault: fault.name)
def test_the_first_line_names_a_planted_fault(fault: Planted) -> None:
    clean = source("vit")
    line = first_line(clean, fault.into(clean))
    assert line is not None
    assert line.startswith("the export answers as if ")
    assert any(words in line for words in fault.words), line


@pytest.mark.prove
@pytest.mark.parametrize("fault", [*FAULTS, *HIDDEN], ids=lambda fault: fault.name)
@pytest.mark.parametrize("network", FAMILIES)
def test_the_first_line_names_a_fault_planted_in_a_graph(network: str, fault: Planted) -> None:
    clean = source(network)
    faulty = fault.into(clean)
    data = written(faulty)
    line = first_line(clean, exported(faulty, data), data)
    assert line is not None
    assert any(words in line for words in fault.words), line


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("network", FAMILIES)
def test_nothing_is_named_on_a_clean_export(network: str, policy: str) -> None:
    clean = source(network, policy)
    assert first_line(clean, exported(clean, graph(network)), graph(network)) is None


def named(clean: Classifier, candidate: Any) -> list[str]:
    """Every mistake that is said to explain the answers of a candidate, which is none that passes."""
    proof = prove(clean, candidate)
    assert proof.measured is not None
    return [cause.words for cause in diagnose(proof.measured)]


@pytest.mark.parametrize("network", FAMILIES)
def test_any_tensor_that_is_scaled_is_named(network: str) -> None:
    clean = source(network)
    names = list(clean.module.state_dict())
    for name in names[:: len(names) // 3]:
        module = copy.deepcopy(clean.module)
        with torch.no_grad():
            module.state_dict()[name].mul_(1.01)
        assert f"`{name}` were scaled by 1.01" in named(clean, replace(clean, module=module))


def _swapped(module: nn.Module) -> None:
    qkv = next(part for name, part in module.named_modules() if name.endswith("qkv"))
    weight = qkv.weight.unflatten(0, (3, 4, -1))  # type: ignore[union-attr, operator]
    qkv.weight.copy_(weight[:, [1, 0, 2, 3]].flatten(0, 2))  # type: ignore[union-attr, operator]


def _noisy(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.add_(1e-3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))


def _two_scaled(module: nn.Module) -> None:
    for place in (5, 12):
        list(module.parameters())[place].mul_(1.01)


@pytest.mark.parametrize("change", [_swapped, _noisy, _two_scaled])
def test_what_no_single_known_mistake_explains_is_not_called_one(change: Callable[[nn.Module], None]) -> None:
    clean = source("vit")
    module = copy.deepcopy(clean.module)
    with torch.no_grad():
        change(module)
    candidate = replace(clean, module=module)
    assert named(clean, candidate) == []
    line = first_line(clean, candidate)
    assert line is not None
    assert line.startswith("logits: ")


def test_two_mistakes_at_once_are_not_called_one() -> None:
    clean = source("vit")
    other = replace(clean.policy, interpolation="bilinear")
    assert named(clean, replace(clean, policy=hidden(lambda _, p: other.pixels(p)[:, :, ::-1])(clean.policy))) == []


@pytest.mark.parametrize("fault", [1e-3, float("nan")])
def test_a_fault_at_one_batch_size_has_no_such_cause(fault: float) -> None:
    clean = source("vit")

    class Uneven:
        policy, classes = clean.policy, clean.classes

        def logits(self, batch: Any, /) -> Any:
            return clean.logits(batch) + np.float32(fault if len(batch) == 7 else 0)

    assert named(clean, Uneven()) == []


def test_equal_mistakes_are_all_named() -> None:
    """Behind a stem without biases and with ReLU, the scale of either convolution and that of the input are one."""
    clean = source("cct")
    module = copy.deepcopy(clean.module)
    with torch.no_grad():
        module.state_dict()["tokenizer.conv_layers.0.0.weight"].mul_(1.01)
    found = named(clean, replace(clean, module=module))
    assert sorted(found) == [
        "`tokenizer.conv_layers.0.0.weight` were scaled by 1.01",
        "`tokenizer.conv_layers.1.0.weight` were scaled by 1.01",
        "std were [0.495, 0.495, 0.495]",
    ]


@pytest.mark.parametrize("name", POLICIES)
def test_a_geometry_of_the_policys_own_roundings_is_the_policy(name: str) -> None:
    policy = Policy(size=(16, 24), **POLICIES[name])
    for square in (policy, replace(policy, size=(20, 20))):
        for picture in generated(3):
            np.testing.assert_array_equal(Geometry(square)(picture), prepared(square)(picture))


def test_the_encoded_pictures_never_change() -> None:
    assert hashlib.sha256(b"".join(encoded(3))).hexdigest() == FROZEN
    assert encoded(1) == encoded(3)


def test_the_encoded_pictures_hold_what_decoders_get_wrong() -> None:
    drawn = generated(3)[16:]
    for file, (turn, place) in zip(encoded(3), TURNED.items(), strict=False):
        plain, pixels = drawn[place], decode(file)
        ways = [np.rot90(plain, k) for k in range(4)] + [np.rot90(plain[:, ::-1], k) for k in range(4)]
        same = [k for k, way in enumerate(ways) if way.shape == pixels.shape and (way == pixels).all()]
        assert len(same) == 1 and same != [0], f"orientation {turn}"
    assert (load(encoded(3)[7]) == drawn[9]).all()
    assert (load(encoded(3)[14])[:, :, :1] == drawn[20][:, :, :1]).all()


def test_a_bundle_that_decodes_otherwise_here_is_named(tmp_path: Path) -> None:
    bundle = open_bundle(tiny.bundle(tmp_path))
    unturned = next(fault for fault in FAULTS if fault.name == "EXIF orientation ignored")
    assert unturned.policy is not None

    class Wrong:
        policy = unturned.policy(bundle.policy)  # type: ignore[misc]

        def __getattr__(self, name: str) -> Any:
            return getattr(bundle, name)

    with pytest.raises(OutsideBound) as caught:
        verify(Wrong()).raise_if_failed()  # type: ignore[arg-type]
    assert caught.value.what == (
        "the bundle no longer gives the proven answers: the bundle on onnx answers as if EXIF orientation were ignored"
    )
    assert verify(bundle).encoded == 16
