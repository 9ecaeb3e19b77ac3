"""A new network from the weights of an opened one."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from vitrail.errors import UsageError, WeightsError
from vitrail.models import build
from vitrail.models.catalog import variant
from vitrail.models.classifier import Classifier
from vitrail.models.configs import CCTConfig
from vitrail.weights import adopt, native_tensors
from vitrail.weights.heads import head_names

SMALL = CCTConfig(image_size=(16, 16), classes=3, conv_layers=1, dim=12, depth=2, heads=2, mlp_ratio=2.0)
HEAD = head_names(SMALL)
POLICY = replace(variant("cct_2_3x2_32").policy, size=(16, 16), crop=0.5)
PICTURES = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)


def source(classes: tuple[str, ...] = ("cat", "dog", "eel"), kind: torch.dtype = torch.float32) -> Classifier:
    module = build(SMALL, seed=5).to(kind)
    with torch.no_grad():
        module.get_parameter(HEAD[1]).copy_(torch.tensor([1.0, 2.0, 3.0]))
    return Classifier(module, SMALL, POLICY, classes, {"variant": "tiny", "step": 7})


def test_the_same_classes_take_everything_over_into_memory_of_its_own() -> None:
    before = source()
    taken = adopt(before, SMALL, classes=before.classes)
    after = taken.classifier
    assert taken.policy_stated
    assert (after.policy, after.classes, after.provenance) == (POLICY, before.classes, {"variant": "tiny", "step": 7})
    assert np.array_equal(after.logits(PICTURES), before.logits(PICTURES))
    assert [p.requires_grad for p in after.module.parameters()] == [p.requires_grad for p in build(SMALL).parameters()]
    next(after.module.parameters()).data.zero_()
    assert next(before.module.parameters()).any()


def test_noise_comes_from_the_new_config() -> None:
    config = replace(SMALL, dropout=0.5, attention_dropout=0.25, drop_path=0.75)
    before = source()
    after = adopt(before, config, classes=before.classes).classifier
    assert after.config == config
    assert np.array_equal(after.logits(PICTURES), before.logits(PICTURES))
    rates = {layer.p for layer in after.module.modules() if isinstance(layer, torch.nn.Dropout)}
    assert rates == {layer.p for layer in build(config).modules() if isinstance(layer, torch.nn.Dropout)}


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_classes_in_another_order_take_their_rows_along(order: tuple[int, ...], kind: torch.dtype) -> None:
    before = source(kind=kind)
    want = tuple(before.classes[i] for i in order)
    taken = adopt(before, SMALL, classes=want)
    for name in HEAD:
        old, new = before.module.state_dict()[name], taken.classifier.module.state_dict()[name]
        assert new.dtype == kind
        assert torch.equal(new, old[list(order)])
    assert any("by name" in line for line in taken.report) == (want != before.classes)
    assert adopt(before, SMALL, classes=want, head="keep").report == taken.report


@pytest.mark.parametrize(
    "want", [("cat", "dog", "fox"), ("a", "b"), ("cat", "dog", "eel", "fox"), ("cat", "cat", "eel")]
)
@pytest.mark.parametrize("head", ["auto", "zero"])
def test_other_classes_get_a_zero_head_and_a_line(want: tuple[str, ...], head: str) -> None:
    before = source()
    taken = adopt(before, replace(SMALL, classes=len(want)), classes=want, head=head)  # type: ignore[arg-type]
    after, old = native_tensors(taken.classifier.module), native_tensors(before.module)
    assert after[HEAD[0]].shape == (len(want), 12)
    assert not any(after[name].array().any() for name in HEAD)
    assert {name: after[name] for name in after if name not in HEAD} == {n: old[n] for n in old if n not in HEAD}
    assert any(line.startswith("head replaced by zeros") for line in taken.report)
    assert taken.classifier.classes == want


def test_a_zero_head_is_made_for_the_same_classes_only_when_asked() -> None:
    before = source()
    assert not adopt(before, SMALL, classes=before.classes, head="zero").classifier.logits(PICTURES).any()


def test_keep_refuses_other_classes_by_name() -> None:
    with pytest.raises(WeightsError) as caught:
        adopt(source(), SMALL, classes=("cat", "dog", "fox"), head="keep")
    assert caught.value.code == "V204"
    assert caught.value.evidence == ("only in the weights: eel", "only wanted: fox")


def test_names_that_stand_twice_keep_their_rows_only_in_the_same_order() -> None:
    before = source(("cat", "cat", "eel"))
    assert np.array_equal(
        adopt(before, SMALL, classes=before.classes).classifier.logits(PICTURES), before.logits(PICTURES)
    )
    assert not adopt(before, SMALL, classes=("cat", "eel", "cat")).classifier.logits(PICTURES).any()


@pytest.mark.parametrize(
    ("field", "value"),
    [("depth", 3), ("heads", 3), ("image_size", (32, 32)), ("positions", "none"), ("pooling", "class"), ("stride", 2)],
)
def test_another_network_is_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(WeightsError) as caught:
        adopt(source(), replace(SMALL, **{field: value}), classes=("cat", "dog", "eel"))
    assert caught.value.code == "V204"
    (line,) = caught.value.evidence
    assert line.startswith(f"{field} ")


def test_wrong_words_and_broken_numbers_are_refused() -> None:
    with pytest.raises(UsageError):
        adopt(source(), SMALL, classes=("cat", "dog", "eel"), head="fresh")  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        adopt(source(), SMALL, classes=("cat", "dog"))
    broken = source()
    with torch.no_grad():
        broken.module.get_parameter(HEAD[1])[1] = float("nan")
    with pytest.raises(WeightsError) as caught:
        adopt(broken, SMALL, classes=broken.classes)
    assert caught.value.code == "V201"


def test_of_another_family_the_family_alone_is_named() -> None:
    with pytest.raises(WeightsError) as caught:
        adopt(source(), replace(variant("vit_tiny_patch16_224").config, classes=3), classes=("cat", "dog", "eel"))
    assert list(caught.value.evidence) == ["family  weights cct  wanted vit"]
