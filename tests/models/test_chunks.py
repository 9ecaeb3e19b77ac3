"""Attention in chunks is attention: equal to what is written out, with and without dropout, in every direction."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vitrail.models import build, chunks, set_attention
from vitrail.models.chunks import chunked_attention
from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, ViTConfig
from vitrail.models.dropout import Masks, Rate
from vitrail.models.layers import attend, split_heads, weigh

SHAPES = [(5, 16, 2, 8), (3, 17, 3, 4), (1, 1, 1, 8)]  # B, N, H, d
NETWORKS: dict[str, ModelConfig] = {
    "cct": CCTConfig(image_size=(16, 16), classes=5, dim=16, depth=2, heads=2, attention_dropout=0.0, drop_path=0.0),
    "vit": ViTConfig(image_size=(16, 16), classes=5, patch=4, dim=16, depth=2, heads=2),
    "beit": BEiTConfig(image_size=(16, 16), classes=5, patch=4, dim=16, depth=2, heads=2, head_init=1.0),
}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures at a time, so that the last chunk is another one."""
    monkeypatch.setattr(chunks, "CHUNK", 2 * 2 * 17 * 17 * 8)


def drawn(shape: tuple[int, int, int, int], *, bias: bool) -> tuple[Tensor, Tensor | None]:
    B, N, H, d = shape  # noqa: N806
    torch.manual_seed(0)
    qkv = torch.randn(B, N, 3 * H * d, dtype=torch.float64, requires_grad=True)
    return qkv, torch.randn(H, N, N, dtype=torch.float64, requires_grad=True) if bias else None


def gradients(out: Tensor, *inputs: Tensor | None) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return torch.autograd.grad(out, [one for one in inputs if one is not None], torch.randn_like(out))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_without_dropout_it_is_what_is_written_out(shape: tuple[int, int, int, int], bias: bool) -> None:
    qkv, table = drawn(shape, bias=bias)
    out = chunked_attention(qkv, heads=shape[2], dropout=0.0, bias=table)
    q, k, v = split_heads(qkv, 3, shape[2])
    plain = attend(q, k, v, q.shape[-1] ** -0.5, path="explicit", dropout=0.0, bias=table).transpose(1, 2).flatten(2)
    torch.testing.assert_close(out, plain, rtol=0, atol=1e-12)
    for ours, theirs in zip(gradients(out, qkv, table), gradients(plain, qkv, table), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_with_dropout_it_is_the_masked_map_times_the_values(shape: tuple[int, int, int, int]) -> None:
    B, N, H, _ = shape  # noqa: N806
    qkv, _ = drawn(shape, bias=False)
    torch.manual_seed(2)
    out = chunked_attention(qkv, heads=H, dropout=0.3)
    torch.manual_seed(2)
    masks = Masks(0.3, qkv.dtype)
    at_a_time = {5: 2, 3: 1, 1: 1}[B]
    in_turn = [masks.draw(at_a_time * H, N, N) >= 0 for _ in range(0, B, at_a_time)]  # the last one's first are taken
    mask = torch.cat(in_turn)[: B * H].view(B, H, N, N)
    q, k, v = split_heads(qkv, 3, H)
    plain = (weigh(q, k, q.shape[-1] ** -0.5) * mask * Rate(0.3, qkv.dtype).scale @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(out, plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients(out, qkv), gradients(plain, qkv), rtol=0, atol=1e-12)


def test_bf16_is_as_near_as_bf16_can_be() -> None:
    qkv, _ = drawn((5, 16, 2, 8), bias=False)
    short = qkv.detach().bfloat16().requires_grad_()
    out, exact = chunked_attention(short, heads=2, dropout=0.0), chunked_attention(qkv, heads=2, dropout=0.0)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=0.03)
    (ours,), (theirs,) = gradients(out.double(), short), gradients(exact, qkv)
    assert float((ours.double() - theirs).norm() / theirs.norm()) < 0.02


@pytest.mark.parametrize("family", NETWORKS)
def test_a_network_trains_alike_on_both_paths_without_dropout(family: str) -> None:
    module = build(NETWORKS[family]).double().train()
    x = torch.randn(5, 3, 16, 16, dtype=torch.float64)
    found = []
    for path in ("explicit", "fused"):
        set_attention(module, path)
        module.zero_grad()
        torch.autograd.backward(module(x).square().sum())
        found.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("family", NETWORKS)
def test_with_dropout_both_paths_are_the_same_masks(family: str, path: str) -> None:
    module = build(replace(NETWORKS[family], attention_dropout=0.5, dropout=0.2)).train()
    x = torch.randn(5, 3, 16, 16)
    outs = []
    for way in ("explicit", path):
        set_attention(module, way)  # type: ignore[arg-type]
        torch.manual_seed(3)
        outs.append(module(x))
    assert torch.equal(*outs)
    assert not torch.equal(outs[0], module(x))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_attention_has_the_same_masks(reentrant: bool) -> None:
    def attention(qkv: Tensor) -> Tensor:
        return chunked_attention(qkv, heads=2, dropout=0.5)

    qkv, _ = drawn((5, 16, 2, 8), bias=False)
    found = []
    for again in (False, True):
        torch.manual_seed(4)
        qkv.grad = None
        out = checkpoint(attention, qkv, use_reentrant=reentrant) if again else attention(qkv)
        torch.autograd.backward(out.square().sum())
        assert qkv.grad is not None
        found.append(qkv.grad.clone())
    assert torch.equal(*found)
