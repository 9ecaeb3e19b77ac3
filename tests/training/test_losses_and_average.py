"""The loss against golden numbers, the average against its formula written out."""

from __future__ import annotations

import pytest
import torch

from tests.training.tiny import NETWORK
from vitrail.models import build
from vitrail.training import average
from vitrail.training.losses import balanced_weights, cross_entropy

LOGITS = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
LABELS = torch.tensor([2, 0])


def test_golden_numbers() -> None:
    assert float(cross_entropy(LOGITS, LABELS)) == pytest.approx(0.97952533, abs=1e-7)
    assert float(cross_entropy(LOGITS, LABELS, 0.1)) == pytest.approx(1.01285863, abs=1e-7)


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
        average.update(mean, module, decay)
        weights = [p.detach().double() for p in average.trainable(module)]
        by_hand = [decay * a + (1 - decay) * w for a, w in zip(by_hand, weights, strict=True)]
    for ours, wanted in zip(mean, by_hand, strict=True):
        torch.testing.assert_close(ours.double(), wanted, rtol=1e-4, atol=1e-5)


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
