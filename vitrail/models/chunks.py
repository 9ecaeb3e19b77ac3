"""Attention for training on the processor: a few pictures at a time, so that their maps stay in its cache.

A map (B, H, N, N) is by far the largest thing of a small transformer: written whole it goes through memory once for
the scores, the softmax, the mask and each product, in both directions. In chunks it leaves the cache once, to be kept
for the backward pass with its mask in the sign bits.

Letters: B pictures, b of a chunk, N tokens, D width, H heads, d = D/H.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vitrail.models.dropout import Masks, Rate, kept, unmarked

CHUNK = 2 << 20  # bytes of maps at a time; 1 to 4 MiB are equally fast where a core has 1 MiB and shares 32 MiB


def chunked_attention(qkv: Tensor, *, heads: int, dropout: float, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v with dropout on the weights; bias (H, N, N).  (B, N, 3 D) -> (B, N, D)"""
    out: Tensor = _Attention.apply(qkv, bias, heads, dropout)  # type: ignore[no-untyped-call]
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor | None, heads: int, dropout: float) -> Tensor:
        B, N, D = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3  # noqa: N806
        out = qkv.new_empty(B, N, heads, D // heads)
        maps = qkv.new_empty(B * heads, N, N)
        masks = Masks(dropout, qkv.dtype) if dropout else None
        for part, own in _chunks(B, heads, maps):
            q, k, v = _heads(qkv[part], 3, heads)
            scores = q.new_empty(own.shape) if bias is None else _repeated(bias, own)
            torch.baddbmm(
                scores, q, k.transpose(1, 2), beta=int(bias is not None), alpha=q.shape[-1] ** -0.5, out=scores
            )
            torch.softmax(scores, -1, out=own)
            if masks is not None:
                masks.mark(own)
                own = kept(own, out=scores)
            x = _product(own, v, masks.rate.scale if masks is not None else 1.0)
            out[part] = x.view(-1, heads, N, D // heads).transpose(1, 2)
        ctx.save_for_backward(qkv, maps)
        ctx.heads, ctx.dropout, ctx.bias = heads, dropout, bias is not None and bias.dtype
        return out.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qkv, maps = ctx.saved_tensors
        heads, dropout = ctx.heads, ctx.dropout
        B, N, D = grad.shape  # noqa: N806
        scale = Rate(dropout, qkv.dtype).scale if dropout else 1.0
        grad_qkv = torch.empty_like(qkv)
        grad_bias = maps.new_zeros(heads, N, N, dtype=ctx.bias) if ctx.bias else None
        for part, own in _chunks(B, heads, maps):
            q, k, v = _heads(qkv[part], 3, heads)
            (g,) = _heads(grad[part], 1, heads)
            room = torch.empty_like(own)
            grad_v = _product((kept(own, out=room) if dropout else own).transpose(1, 2), g, scale)
            scores = _product(g, v.transpose(1, 2), scale)
            if dropout:
                torch.ops.aten.threshold_backward.grad_input(scores, own, 0.0, grad_input=scores)
                own = unmarked(own, out=room)
            scores = torch._softmax_backward_data(scores, own, -1, own.dtype)
            grad_q = _product(scores, k, q.shape[-1] ** -0.5)
            grad_k = _product(scores.transpose(1, 2), q, q.shape[-1] ** -0.5)
            if grad_bias is not None:
                grad_bias += scores.view(-1, heads, N, N).sum(0, dtype=ctx.bias)
            for i, gradient in enumerate((grad_q, grad_k, grad_v)):
                into = grad_qkv[part].view(-1, N, 3, heads, D // heads)[:, :, i]
                into.copy_(gradient.view(-1, heads, N, D // heads).transpose(1, 2))
        return grad_qkv, grad_bias, None, None


def _chunks(B: int, heads: int, maps: Tensor) -> Iterator[tuple[slice, Tensor]]:  # noqa: N803
    """The pictures of each chunk and their maps (b H, N, N)."""
    pictures = max(1, CHUNK // (heads * maps.shape[1] * maps.shape[2] * maps.itemsize))
    for start in range(0, B, pictures):
        stop = min(B, start + pictures)
        yield slice(start, stop), maps[start * heads : stop * heads]


def _heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(b, N, parts D) -> parts x (b H, N, d)"""
    x = torch.unflatten(x, 2, (parts, heads, -1)).permute(2, 0, 3, 1, 4).contiguous()
    return x.flatten(1, 2).unbind(0)


def _repeated(bias: Tensor, maps: Tensor) -> Tensor:
    """(H, N, N) -> (b H, N, N)"""
    return bias.to(maps.dtype).repeat(len(maps) // len(bias), 1, 1)


def _product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale a b"""
    out = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)
