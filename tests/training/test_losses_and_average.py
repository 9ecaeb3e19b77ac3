"""The loss against golden numbers, the average against its formula written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.training.tiny import NETWORK
from vitrail.models import build
from vitrail.training import average
from vitrail.training.configs import EMA, SWA, BinaryCrossEntropy, CrossEntropy, HardTeacher, Loss, SoftTeacher
from vitrail.training.losses import balanced_weights, cross_entropy, loss_of

LOGITS = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
LABELS = torch.tensor([2, 0])


def test_golden_numbers() -> None:
    assert float(cross_entropy(LOGITS, LABELS)) == pytest.approx(0.97952533, abs=1e-7)
    assert float(cross_entropy(LOGITS, LABELS, 0.1)) == pytest.approx(1.01285863, abs=1e-7)


def test_the_three_conventions_of_smoothing() -> None:
    """z = (2, -1, .5, 0, 1), label 0, e = .1: none, MindSpore's e/(K - 1), timm's e/K; and a mixed soft target."""
    logits, label = torch.tensor([[2.0, -1.0, 0.5, 0.0, 1.0]]), torch.tensor([0])
    assert float(loss_of(CrossEntropy(), logits, label)) == pytest.approx(0.5744379396, abs=2e-7)
    others = CrossEntropy(smoothing=0.1, smoothing_over="others")
    assert float(loss_of(others, logits, label)) == pytest.approx(0.7619379396, abs=2e-7)
    assert float(loss_of(CrossEntropy(smoothing=0.1), logits, label)) == pytest.approx(0.7244379396, abs=2e-7)
    soft = torch.tensor([[0.02, 0.65, 0.02, 0.29, 0.02]])
    assert float(loss_of(CrossEntropy(), logits, soft)) == pytest.approx(3.1544379396, abs=1e-6)
    mixed = torch.tensor([[0.7, 0.0, 0.3, 0.0, 0.0]])
    by_hand = -((0.9 * mixed + (1 - mixed) * 0.1 / 4) * logits.double().log_softmax(1)).sum()
    assert float(loss_of(others, logits, mixed)) == pytest.approx(float(by_hand), abs=1e-6)


TARGETS = {"labels": LABELS, "mixed": torch.tensor([[0.7, 0.0, 0.3], [0.25, 0.5, 0.25]])}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("smoothing", "threshold"), [(0.0, None), (0.1, None), (0.1, 0.3), (0.0, 0.25)])
def test_binary_cross_entropy_is_its_formula(target: str, smoothing: float, threshold: float | None) -> None:
    given = TARGETS[target]
    wanted = torch.nn.functional.one_hot(given, 3).double() if given.ndim == 1 else given.double()
    wanted = (1 - smoothing) * wanted + smoothing / 3
    if threshold is not None:
        wanted = (wanted > threshold).double()
    chance = LOGITS.double().sigmoid()
    each = -(wanted * chance.log() + (1 - wanted) * (1 - chance).log())
    config = BinaryCrossEntropy(smoothing=smoothing, threshold=threshold)
    assert float(loss_of(config, LOGITS, given)) == pytest.approx(float(each.mean()), abs=1e-6)
    summed = BinaryCrossEntropy(smoothing=smoothing, threshold=threshold, over_classes="sum")
    assert float(loss_of(summed, LOGITS, given)) == pytest.approx(float(each.sum(1).mean()), abs=1e-6)


@pytest.mark.parametrize("base", [CrossEntropy(smoothing=0.1), BinaryCrossEntropy()])
def test_a_teacher_counts_with_its_weight(base: Loss) -> None:
    """DeiT's formula, written out in float64."""
    taught = torch.tensor([[0.5, 1.0, -1.0], [2.0, 0.0, 1.0]])
    alone = float(loss_of(base, LOGITS, LABELS))
    hard = replace(base, teacher=HardTeacher(path="x", alpha=0.3))
    by_class = float(-LOGITS.double().log_softmax(1)[[0, 1], [1, 0]].mean())
    assert float(loss_of(hard, LOGITS, LABELS, taught)) == pytest.approx(0.7 * alone + 0.3 * by_class, abs=1e-6)
    soft = replace(base, teacher=SoftTeacher(path="x", alpha=0.9, temperature=3.0))
    p, q = (taught.double() / 3).softmax(1), (LOGITS.double() / 3).softmax(1)
    apart = float((p * (p / q).log()).sum()) * 9 / 6
    assert float(loss_of(soft, LOGITS, LABELS, taught)) == pytest.approx(0.1 * alone + 0.9 * apart, abs=1e-6)
    assert float(loss_of(soft, taught, LABELS, taught)) == pytest.approx(0.1 * float(loss_of(base, taught, LABELS)))


def test_smoothed_labels_are_the_published_soft_targets() -> None:
    """timm 1.0.31 for labels 0 and 2 mixed with 0.7, smoothing 0.1: its rows, and our loss on the plain mix."""
    theirs = torch.tensor([[0.663333, 0.033333, 0.303333], [0.303333, 0.033333, 0.663333]])
    ours = torch.tensor([[0.7, 0.0, 0.3], [0.3, 0.0, 0.7]])
    wanted = -(theirs * LOGITS.log_softmax(1)).sum(1).mean()
    assert float(cross_entropy(LOGITS, ours, 0.1)) == pytest.approx(float(wanted), abs=3e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_labels_and_one_hot_targets_agree(smoothing: float) -> None:
    hot = torch.nn.functional.one_hot(LABELS, 3).float()
    soft = cross_entropy(LOGITS, hot, smoothing)
    assert float(soft) == pytest.approx(float(cross_entropy(LOGITS, LABELS, smoothing)), abs=1e-6)
    by_hand = -((hot * (1 - smoothing) + smoothing / 3) * LOGITS.double().log_softmax(1)).sum(1).mean()
    assert float(soft) == pytest.approx(float(by_hand), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_count_what_falls_to_each_class(smoothing: float) -> None:
    weights = torch.tensor([0.5, 3.0, 2.0])
    soft = torch.tensor([[0.7, 0.3, 0.0], [0.2, 0.0, 0.8]])
    for target, hot in ((LABELS, torch.eye(3)[LABELS]), (soft, soft)):
        wanted = -((hot * (1 - smoothing) + smoothing / 3) * weights * LOGITS.log_softmax(1)).sum(1).mean()
        assert float(cross_entropy(LOGITS, target, smoothing, weights)) == pytest.approx(float(wanted), abs=1e-6)
    even = torch.ones(3)
    assert float(cross_entropy(LOGITS, LABELS, smoothing, even)) == pytest.approx(
        float(cross_entropy(LOGITS, LABELS, smoothing)), abs=1e-6
    )


def test_balanced_weights_are_one_on_average() -> None:
    counts = [500, 20, 3, 0]
    weights = balanced_weights(counts)
    assert weights[3] == 0.0
    assert sum(w * n for w, n in zip(weights, counts, strict=True)) == pytest.approx(sum(counts))
    assert [w * n for w, n in zip(weights[:3], counts, strict=False)] == pytest.approx([523 / 3] * 3)


def test_bf16_logits_are_counted_in_float32() -> None:
    loss = cross_entropy(LOGITS.bfloat16(), LABELS, 0.1)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(1.01285863, abs=1e-6)  # these logits are exact in bf16


def test_average_follows_its_formula() -> None:
    module = build(NETWORK)
    mean = average.start(module)
    by_hand = [tensor.double() for tensor in mean]
    generator = torch.Generator().manual_seed(0)
    for step in range(30):
        with torch.no_grad():
            for parameter in average.trainable(module):
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        decay = average.decay_at(0.9, step)
        assert decay == min(0.9, (1 + step) / (10 + step))
        average.update(mean, module, 1.0 - decay)
        weights = [p.detach().double() for p in average.trainable(module)]
        by_hand = [decay * a + (1 - decay) * w for a, w in zip(by_hand, weights, strict=True)]
    for ours, wanted in zip(mean, by_hand, strict=True):
        torch.testing.assert_close(ours.double(), wanted, rtol=1e-4, atol=1e-5)


def test_swa_is_the_mean_of_the_ends_of_epochs() -> None:
    module = build(NETWORK)
    mean, ends = average.start(module), []
    generator = torch.Generator().manual_seed(0)
    for step in range(15):  # five epochs of three
        with torch.no_grad():
            for parameter in average.trainable(module):
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        skipped = step == 11  # the last one of an epoch: its weights are those of the step before, and count
        part = average.share(SWA(from_epoch=2), step, updates=step, skipped=skipped, steps_per_epoch=3)
        average.update(mean, module, part)
        weights = [p.detach().double() for p in average.trainable(module)]
        if step < 8:
            assert all(torch.equal(a.double(), w) for a, w in zip(mean, weights, strict=True)), step
        if step in (8, 11, 14):
            ends.append(weights)
    for ours, *theirs in zip(mean, *ends, strict=True):
        torch.testing.assert_close(ours.double(), sum(theirs) / 3, rtol=1e-5, atol=1e-6)


def test_a_skipped_step_moves_no_ema() -> None:
    assert average.share(EMA(decay=0.9), 5, updates=4, skipped=True, steps_per_epoch=3) == 0.0
    assert average.share(EMA(decay=0.9), 5, updates=4, skipped=False, steps_per_epoch=3) == 1 - 5 / 14


def test_averaged_lends_the_weights_and_gives_them_back() -> None:
    module = build(NETWORK)
    mean = [torch.full_like(p, 2.0) for p in average.trainable(module)]
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in module.named_parameters()}

    def look() -> None:
        with average.averaged(module, mean) as lent:
            assert all(bool((p == 2.0).all()) for p in average.trainable(lent))
            raise RuntimeError("an evaluation that fails")

    with pytest.raises(RuntimeError, match="fails"):
        look()
    for name, parameter in module.named_parameters():
        assert parameter.data_ptr() == before[name][0]
        assert torch.equal(parameter, before[name][1])


def test_without_an_average_the_module_is_itself() -> None:
    module = build(NETWORK)
    with average.averaged(module, None) as same:
        assert same is module
