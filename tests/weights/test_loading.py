"""Files to classifiers and back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.battery import Reference
from vitrail import weights
from vitrail.errors import UsageError, WeightsError
from vitrail.formats import safetensors
from vitrail.formats.stored import Stored, Tensors
from vitrail.models import build
from vitrail.models.catalog import variant
from vitrail.models.classifier import Classifier
from vitrail.models.configs import CCTConfig
from vitrail.models.count import shapes
from vitrail.weights import from_tensors, load, load_native, native_tensors, save_as
from vitrail.weights.dialects import written
from vitrail.weights.translate import from_native, to_native

SMALL = CCTConfig(image_size=(16, 16), classes=3, conv_layers=1, dim=12, depth=2, heads=2, mlp_ratio=2.0)
HEAD = "classifier.fc.weight"
Save = Callable[[Tensors], Path]


@st.composite
def configs(draw: st.DrawFn) -> CCTConfig:
    heads = draw(st.integers(1, 3))
    patches = draw(st.booleans())
    return CCTConfig(
        image_size=(draw(st.sampled_from([8, 12, 17])), draw(st.sampled_from([8, 12, 17]))),
        channels=draw(st.sampled_from([1, 3])),
        classes=draw(st.integers(1, 5)),
        kernel=4 if patches else 3,
        stride=4 if patches else 1,
        padding=0 if patches else 1,
        conv_layers=1 if patches else draw(st.integers(1, 2)),
        conv_width=5,
        conv_bias=patches,
        max_pool=not patches,
        dim=heads * draw(st.integers(1, 4)),
        depth=draw(st.integers(1, 12)),
        heads=heads,
        mlp_ratio=draw(st.sampled_from([1.0, 2.0, 2.5])),
        pooling=draw(st.sampled_from(["sequence", "class"])),
        positions=draw(st.sampled_from(["learned", "sine", "none"])),
    )


def equal(one: Tensors, other: Tensors) -> bool:
    def plain(tensors: Tensors) -> dict[str, tuple[object, ...]]:
        return {name: (tensor.dtype, tensor.shape, bytes(tensor.data)) for name, tensor in tensors.items()}

    return plain(one) == plain(other)


def body(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if ".fc." not in name}


@settings(max_examples=25, deadline=None)
@given(configs(), st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]), st.integers(0, 9))
def test_C12_every_dialect_gives_back_the_same_bits(config: CCTConfig, kind: torch.dtype, seed: int) -> None:
    module = build(config, seed=seed).to(kind)
    native = native_tensors(module)
    assert native.keys() == shapes(config).keys()
    for dialect in written("native", "cct"):
        theirs = from_native(dialect, native, config)
        assert equal(to_native(dialect, theirs), native)
        again = from_tensors(theirs, config, dialect=dialect.name)
        assert equal(native_tensors(again.module), native)
        assert next(again.module.parameters()).dtype == kind
        assert [p.requires_grad for p in again.module.parameters()] == [p.requires_grad for p in module.parameters()]


@pytest.fixture
def saved(tmp_path: Path) -> Save:
    """Writes tensors as a foreign safetensors file."""

    def write(tensors: Tensors) -> Path:
        safetensors.write(tmp_path / "w.safetensors", tensors)
        return tmp_path / "w.safetensors"

    return write


def test_a_file_of_ours_opens_as_it_was_saved(tmp_path: Path) -> None:
    policy = replace(variant("cct_2_3x2_32").policy, size=(16, 16), crop=0.5)
    before = Classifier(build(SMALL, seed=4), SMALL, policy, ("left", "right", "ø"), {"variant": None})
    save_as(before, tmp_path / "a.safetensors")
    save_as(before, tmp_path / "b.safetensors", dialect="shi_labs")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    after = load(tmp_path / "a.safetensors").classifier
    assert (after.config, after.policy, after.classes) == (SMALL, policy, ("left", "right", "ø"))
    assert after.provenance == {"weights": "trained", "variant": None, "dialect": "shi_labs", "file": "a.safetensors"}
    assert equal(native_tensors(after.module), native_tensors(before.module))
    pictures = np.ones((1, 3, 16, 16), np.float32)
    assert np.array_equal(after.logits(pictures), before.logits(pictures))


def test_the_reference_library_reads_what_is_saved(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    module = build(SMALL)
    policy = replace(variant("cct_2_3x2_32").policy, size=(16, 16))
    save_as(Classifier(module, SMALL, policy, ("a", "b", "c")), tmp_path / "w.safetensors")
    read = load_file(tmp_path / "w.safetensors")
    assert read.keys() == module.state_dict().keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("name", ["shi_cct_tiny_sine", "shi_vitlite_tiny_learnable"])
def test_a_published_torch_file_opens_when_its_config_is_given(shared: Path, name: str) -> None:
    from tests.models.test_cct import CASES

    reference = Reference(shared, name)
    path = shared / "reference" / "files" / f"{name}.pth"
    loaded = load(path, model=CASES[name])
    assert np.abs(loaded.classifier.logits(reference.input) - reference.values["logits"]).max() <= 2e-5
    assert any(line.startswith("policy assumed") for line in loaded.report)
    with pytest.raises(WeightsError) as caught:
        load(path)  # heads are not in the file, and no variant is that small
    assert caught.value.code == "V205"


def test_a_foreign_file_is_detected_and_takes_the_variants_policy(saved: Save) -> None:
    row = variant("cct_2_3x2_32_sine")
    loaded = load(saved(native_tensors(build(row.config))))
    assert (loaded.classifier.config, loaded.classifier.policy) == (row.config, row.policy)
    assert loaded.classifier.provenance["variant"] == row.name
    assert loaded.classifier.classes[:2] == ("class_0", "class_1")
    assert any("those of cct_2_3x2_32_sine" in line for line in loaded.report)


def test_types_of_tensors_are_kept() -> None:
    config = variant("cct_2_3x2_32").config
    state = build(config).state_dict()
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        classifier = from_tensors({name: tensor.to(kind) for name, tensor in state.items()}, "cct_2_3x2_32")
        assert {p.dtype for p in classifier.module.parameters()} == {kind}
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    classifier = from_tensors(arrays, "cct_2_3x2_32")
    next(classifier.module.parameters()).data.zero_()  # the network's memory is its own
    assert arrays["tokenizer.conv_layers.0.0.weight"].any()


# heads


def test_a_head_is_replaced_when_classes_are_given_and_the_report_says_so(saved: Save) -> None:
    native = native_tensors(build(SMALL))
    path = saved(native)
    loaded = load(path, model=SMALL, classes=("a", "b", "c", "d"))
    assert loaded.classifier.config.classes == 4
    assert loaded.classifier.classes == ("a", "b", "c", "d")
    assert "head replaced by zeros: the file has 3 classes, wanted are 4" in loaded.report
    after = native_tensors(loaded.classifier.module)
    assert after[HEAD].shape == (4, 12)
    assert not after[HEAD].array().any()
    assert not after["classifier.fc.bias"].array().any()
    assert equal(body(after), body(native))

    named = load(path, model=SMALL, classes=("x", "y", "z"))
    assert named.classifier.classes == ("x", "y", "z")
    assert native_tensors(named.classifier.module)[HEAD].array().any()
    fresh = load(path, model=SMALL, head="zero")
    assert not native_tensors(fresh.classifier.module)[HEAD].array().any()
    assert any(line.startswith("head replaced") for line in fresh.report)


@pytest.mark.parametrize("arguments", [{}, {"classes": 7, "head": "keep"}])
def test_a_head_of_another_size_is_refused_otherwise(saved: Save, arguments: dict[str, object]) -> None:
    with pytest.raises(WeightsError) as caught:
        load(saved(native_tensors(build(SMALL))), model=replace(SMALL, classes=7), **arguments)
    assert caught.value.code == "V204"
    assert [line.split()[0] for line in caught.value.evidence] == [HEAD, "classifier.fc.bias"]


def test_a_refusal_names_shapes_and_what_would_fit(saved: Save) -> None:
    config = replace(variant("cct_6_3x2_32").config, image_size=(64, 64), classes=102)
    with pytest.raises(WeightsError) as caught:
        load(saved(native_tensors(build(config))), model="cct_6_3x2_32")
    assert str(caught.value) == (
        "error[V204]: 3 of 75 tensors do not fit `cct_6_3x2_32`\n"
        "  classifier.positional_emb  file (1, 256, 256)  model (1, 64, 256)\n"
        "  classifier.fc.weight       file (102, 256)     model (10, 256)\n"
        "  classifier.fc.bias         file (102,)         model (10,)\n"
        "\n"
        "hint: trained at 64 x 64 with 102 classes; in Python `vitrail.weights.load(path)` opens it as what it is"
    )
    with pytest.raises(WeightsError) as caught:
        load(saved(native_tensors(build(replace(config, image_size=(32, 32))))), model="cct_6_3x2_32")
    assert caught.value.hint == (
        "trained at 32 x 32 with 102 classes; `vitrail convert` opens it with `--classes 102`, in Python "
        '`vitrail.weights.load(path, model="cct_6_3x2_32", classes=102)`'
        "; `vitrail train --model cct_6_3x2_32 --weights FILE` starts from it, "
        "with `weights.head=zero` for other classes"
    )


@pytest.mark.parametrize("arguments", [{"head": "fresh"}, {"classes": 0}, {"classes": ()}])
def test_wrong_words_are_refused(saved: Save, arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        load(saved(native_tensors(build(SMALL))), model=SMALL, **arguments)


def test_unknown_dialects_variants_and_containers_are_refused(saved: Save, tmp_path: Path) -> None:
    path = saved(native_tensors(build(SMALL)))
    for code, call in {
        "V205": lambda: load(path, model=SMALL, dialect="shi_lab"),
        "V203": lambda: load(path, model="cct_7"),
        "V206": lambda: save_as(load(path, model=SMALL).classifier, tmp_path / "w.onnx"),
    }.items():
        with pytest.raises(WeightsError) as caught:
            call()
        assert caught.value.code == code
    with pytest.raises(UsageError):
        load(path, model=replace(SMALL, heads=5))


# hostile


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["classifier.blocks.1.linear1.weight", "classifier.fc.bias"])
def test_A18_numbers_that_are_none_are_refused_by_tensor_and_index(name: str, value: float) -> None:
    native = native_tensors(build(SMALL))
    array = native[name].array().copy()
    array.reshape(-1)[-1] = value
    with pytest.raises(WeightsError) as caught:
        from_tensors(native | {name: Stored.of(array)}, SMALL)
    assert caught.value.code == "V201"
    assert name in caught.value.what
    assert str(tuple(size - 1 for size in array.shape)) in caught.value.what


@pytest.mark.parametrize("name", sorted(shapes(SMALL)))
def test_C12_one_tensor_dropped_renamed_reshaped_or_transposed_is_refused_by_name(name: str) -> None:
    native = native_tensors(build(SMALL))
    tensor = native[name]
    without = {key: value for key, value in native.items() if key != name}
    damages: list[tuple[Tensors, str]] = [
        (without, name),
        (without | {name + ".ema": tensor}, name + ".ema"),
        (without | {name: Stored("F32", (*tensor.shape, 1), tensor.data)}, name),
    ]
    turned = tensor.array().T
    if turned.shape != tensor.shape:  # a square matrix turned round shows in no name or shape
        damages.append((without | {name: Stored.of(np.ascontiguousarray(turned))}, name))
    for damaged, word in damages:
        with pytest.raises(WeightsError) as caught:
            from_tensors(damaged, SMALL)
        assert caught.value.code in ("V204", "V205")
        assert any(word in line for line in caught.value.evidence), caught.value


def test_integers_and_mixed_types_are_no_weights() -> None:
    native = native_tensors(build(SMALL))
    for other in (Stored("I64", (3,), bytes(24)), Stored("F16", (3,), bytes(6))):
        with pytest.raises(WeightsError) as caught:
            from_tensors(native | {"classifier.fc.bias": other}, SMALL)
        assert caught.value.code == "V204"


def test_a_learned_table_is_not_taken_for_fixed_positions() -> None:
    native = native_tensors(build(SMALL))
    with pytest.raises(WeightsError, match="sine") as caught:
        from_tensors(native, replace(SMALL, positions="sine"))
    assert caught.value.code == "V204"


# in place


def test_load_native_copies_exactly_and_changes_nothing_when_it_refuses() -> None:
    source, target = build(SMALL, seed=1), build(SMALL, seed=2)
    first = next(target.parameters())
    native = native_tensors(source)
    load_native(target, native)
    assert next(target.parameters()) is first
    assert equal(native_tensors(target), native)
    other = native_tensors(build(SMALL, seed=3))
    for damaged in (
        {name: tensor for name, tensor in other.items() if name != HEAD},
        other | {"more": other[HEAD]},
        other | {HEAD: Stored("F32", (12, 3), other[HEAD].data)},
        other | {HEAD: Stored("F64", (3, 12), bytes(288))},
    ):
        with pytest.raises(WeightsError) as caught:
            load_native(target, damaged)
        assert caught.value.code == "V204"
    assert equal(native_tensors(target), native)


def test_the_room_itself_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import vitrail.weights, vitrail.weights.detect; print('ok')"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "ok\n"
    assert sorted(weights.__all__) == weights.__all__
    assert callable(weights.load)


def test_metadata_that_the_tensors_contradict_is_refused(tmp_path: Path) -> None:
    policy = replace(variant("cct_2_3x2_32").policy, size=(16, 16))
    config = replace(SMALL, mlp_ratio=3.0)  # what the file will say; its tensors are of SMALL
    save_as(Classifier(build(SMALL), config, policy, ("a", "b", "c")), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        load(tmp_path / "w.safetensors")
    assert caught.value.code == "V204"
    assert any("blocks.1.linear2.weight" in line for line in caught.value.evidence)


def test_an_endless_picture_in_the_metadata_costs_no_memory(tmp_path: Path) -> None:
    policy = replace(variant("cct_2_3x2_32").policy, size=(16, 16))
    config = replace(SMALL, image_size=(65536, 65536), positions="sine")
    save_as(Classifier(build(SMALL), config, policy, ("a", "b", "c")), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        load(tmp_path / "w.safetensors")
    assert caught.value.code == "V204"


# policies


def test_a_policy_counts_as_stated_only_when_the_file_states_it(saved: Save, tmp_path: Path) -> None:
    row = variant("cct_2_3x2_32")
    path = saved(native_tensors(build(row.config)))
    for loaded in (load(path), load(path, model=row.name), load(path, model=row.config)):
        assert (loaded.classifier.policy, loaded.policy_stated) == (row.policy, False)
    small = load(saved(native_tensors(build(SMALL))), model=SMALL)
    assert not small.policy_stated
    assert any(line.startswith("policy assumed") for line in small.report)
    policy = replace(row.policy, size=(16, 16), crop=0.5)
    save_as(Classifier(build(SMALL), SMALL, policy, ("a", "b", "c")), tmp_path / "ours.safetensors")
    for loaded in (load(tmp_path / "ours.safetensors"), load(tmp_path / "ours.safetensors", model=SMALL)):
        assert (loaded.classifier.policy, loaded.policy_stated) == (policy, True)


def test_a_config_that_is_a_variants_but_for_classes_and_noise_takes_its_policy(saved: Save) -> None:
    row = variant("cct_4_3x2_32")
    config = replace(row.config, classes=7, dropout=0.2, attention_dropout=0.0, drop_path=0.3)
    loaded = load(saved(native_tensors(build(row.config))), model=config, classes=7)
    assert loaded.classifier.config == config
    assert loaded.classifier.policy == row.policy
    assert "policy assumed, the file states none: that of cct_4_3x2_32, whose network it is" in loaded.report
    other = replace(config, heads=4)
    assumed = load(saved(native_tensors(build(other))), model=other)
    assert assumed.classifier.policy != row.policy


@pytest.mark.parametrize(("classes", "name"), [(10, "cct_7_3x1_32"), (100, "cct_7_3x1_32_c100"), (5, None)])
def test_of_variants_with_one_network_the_files_own_classes_choose(saved: Save, classes: int, name: str | None) -> None:
    config = replace(variant("cct_7_3x1_32").config, classes=classes)
    loaded = load(saved(native_tensors(build(config))), model=replace(config, classes=4), classes=4)
    if name is None:
        (line,) = (line for line in loaded.report if line.startswith("policy assumed"))
        assert line.endswith("(not those of cct_7_3x1_32, cct_7_3x1_32_c100)")
    else:
        assert loaded.classifier.policy == variant(name).policy


# class names


@pytest.mark.parametrize("names", [["cat", "dog", "eel"], ("cat", "dog", "eel")])
def test_classes_are_any_sequence_of_names(saved: Save, names: list[str] | tuple[str, ...]) -> None:
    native = native_tensors(build(SMALL))
    assert load(saved(native), model=SMALL, classes=names).classifier.classes == ("cat", "dog", "eel")
    assert from_tensors(native, SMALL, classes=names).classes == ("cat", "dog", "eel")


@pytest.mark.parametrize("classes", ["cat", ["cat", 3], b"cat", {"cat", "dog"}, 3.0, True])
def test_classes_that_are_no_names_are_refused(saved: Save, classes: object) -> None:
    for call in (
        lambda: load(saved(native_tensors(build(SMALL))), model=SMALL, classes=classes),  # type: ignore[arg-type]
        lambda: from_tensors(native_tensors(build(SMALL)), SMALL, classes=classes),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.code == "V007"


def test_placeholders_are_the_names_of_a_file_that_has_none(saved: Save) -> None:
    assert weights.placeholders(load(saved(native_tensors(build(SMALL))), model=SMALL).classifier.classes)
    assert weights.placeholders([f"class_{i}" for i in range(12)])
    for names in ([], ["class_1"], ["class_1", "class_0"], ["class_0", "class_01"], ["class_0", "cat"], ["Class_0"]):
        assert not weights.placeholders(names)


@pytest.mark.parametrize("model", [None, SMALL])
def test_names_that_the_file_states_decide_over_the_head(tmp_path: Path, model: CCTConfig | None) -> None:
    policy = replace(variant("cct_2_3x2_32").policy, size=(16, 16))
    before = Classifier(build(SMALL, seed=4), SMALL, policy, ("a", "b", "c"))
    path = tmp_path / "w.safetensors"
    save_as(before, path)
    pictures = np.ones((2, 3, 16, 16), np.float32)
    turned = load(path, model=model, classes=["c", "a", "b"])
    assert np.allclose(turned.classifier.logits(pictures), before.logits(pictures)[:, [2, 0, 1]], atol=1e-6)
    other = load(path, model=model, classes=["x", "y", "z"])  # as many, but not one of them is known
    assert not native_tensors(other.classifier.module)[HEAD].array().any()
    with pytest.raises(WeightsError, match="other classes"):
        load(path, model=model, classes=["x", "y", "z"], head="keep")


def test_metadata_that_does_not_hold_is_passed_over_when_the_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.write(path, native_tensors(build(SMALL)), {"vitrail": "{}"})
    with pytest.raises(WeightsError) as caught:
        load(path)
    assert caught.value.code == "V201"
    loaded = load(path, model=SMALL)  # the way out that the hint names
    assert any(line.startswith("passed over, as the model is named") for line in loaded.report)
    assert not loaded.policy_stated
