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
        split = qkv.new_empty(3 * B, heads, N, D // heads)  # of each chunk in turn its q, its k, its v
        masks = Masks(dropout, qkv.dtype) if dropout else None
        for part, own in _chunks(B, heads, maps):
            theirs = torch.unflatten(qkv[part], 2, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # (3, b, H, N, d)
            q, k, v = _three(split, part).copy_(theirs).flatten(1, 2)
            scores = q.new_empty(own.shape) if bias is None else _repeated(bias, own)
            torch.baddbmm(
                scores, q, k.transpose(1, 2), beta=int(bias is not None), alpha=q.shape[-1] ** -0.5, out=scores
            )
            torch.softmax(scores, -1, out=own)
            if masks is not None:
                masks.mark(own)
                own = kept(own, out=scores)
            x = _product(own, v, masks.rate.scale if masks is not None else 1.0, out=torch.empty_like(q))
            out[part] = torch.unflatten(x, 0, (-1, heads)).transpose(1, 2)
        ctx.save_for_backward(split, maps)
        ctx.dropout, ctx.bias = dropout, bias is not None and bias.dtype
        return out.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        split, maps = ctx.saved_tensors
        dropout = ctx.dropout
        B, N, D = grad.shape  # noqa: N806
        heads = split.shape[1]
        scale = Rate(dropout, grad.dtype).scale if dropout else 1.0
        grad_qkv = grad.new_empty(B, N, 3, heads, D // heads)
        grad_bias = maps.new_zeros(heads, N, N, dtype=ctx.bias) if ctx.bias else None
        for part, own in _chunks(B, heads, maps):
            q, k, v = _three(split, part).flatten(1, 2)
            g = torch.unflatten(grad[part], 2, (heads, -1)).transpose(1, 2).flatten(0, 1)
            gradients = q.new_empty(3, *q.shape)
            room = torch.empty_like(own)
            _product((kept(own, out=room) if dropout else own).transpose(1, 2), g, scale, out=gradients[2])
            scores = _product(g, v.transpose(1, 2), scale, out=torch.empty_like(own))
            if dropout:
                torch.ops.aten.threshold_backward.grad_input(scores, own, 0.0, grad_input=scores)
                own = unmarked(own, out=room)
            scores = torch._softmax_backward_data(scores, own, -1, own.dtype)
            _product(scores, k, q.shape[-1] ** -0.5, out=gradients[0])
            _product(scores.transpose(1, 2), q, q.shape[-1] ** -0.5, out=gradients[1])
            if grad_bias is not None:
                grad_bias += scores.view(-1, heads, N, N).sum(0, dtype=ctx.bias)
            grad_qkv[part] = torch.unflatten(gradients, 1, (-1, heads)).permute(1, 3, 0, 2, 4)
        return grad_qkv.flatten(2), grad_bias, None, None


def _chunks(B: int, heads: int, maps: Tensor) -> Iterator[tuple[slice, Tensor]]:  # noqa: N803
    """The pictures of each chunk and their maps (b H, N, N)."""
    pictures = max(1, CHUNK // (heads * maps.shape[1] * maps.shape[2] * maps.itemsize))
    for start in range(0, B, pictures):
        stop = min(B, start + pictures)
        yield slice(start, stop), maps[start * heads : stop * heads]


def _three(split: Tensor, part: slice) -> Tensor:
    """A chunk's own q, k and v.  (3 B, H, N, d) -> (3, b, H, N, d)"""
    return torch.unflatten(split[3 * part.start : 3 * part.stop], 0, (3, -1))


def _repeated(bias: Tensor, maps: Tensor) -> Tensor:
    """(H, N, N) -> (b H, N, N)"""
    return bias.to(maps.dtype).repeat(len(maps) // len(bias), 1, 1)


def _product(a: Tensor, b: Tensor, scale: float, *, out: Tensor) -> Tensor:
    """scale a b"""
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)
