"""Attention over a window and compressed rows, the compressors and the indexer, for whole sequences at once.

Shapes: B sequences of S tokens, H heads, d head width, T compressed rows. Formula numbers are those of docs/model.md.
Rows come and go in the matrix type: bfloat16 on a GPU, float32 on a CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ds4_tiny.rounding import round_index, round_rows

WINDOW = 128
NEVER = -1e30
"""Finite, so that no softmax is ever over nothing."""


def matrix_type(x: Tensor) -> torch.dtype:
    """What products are made in."""
    return torch.bfloat16 if x.is_cuda else torch.float32


def rms_norm(x: Tensor, weight: Tensor | None = None, epsilon: float = 1e-6) -> Tensor:
    """Over the last axis, in float32."""
    x = x.float()
    y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)
    return y if weight is None else y * weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The last 2 * cos.shape[-1] channels, adjacent ones in pairs; angles broadcast against x's leading axes. (2)"""
    rotary = 2 * cos.shape[-1]
    x = x.float()
    even, odd = x[..., -rotary:].unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)
    return torch.cat([x[..., :-rotary], turned], -1)


def queries_and_rows(
    x: Tensor, cos: Tensor, sin: Tensor, q_a: Tensor, q_norm: Tensor, q_b: Tensor, kv: Tensor, kv_norm: Tensor,
    heads: int, rotary: int, simulate: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """x [N, D] -> queries [N, H, d], window rows [N, d], and the normed low-rank query [N, rank]. (2)"""
    low = rms_norm(F.linear(x, q_a), q_norm)
    q = rotate(rms_norm(F.linear(low, q_b).view(len(x), heads, -1)), cos.unsqueeze(1), sin.unsqueeze(1))
    rows = rotate(rms_norm(F.linear(x, kv), kv_norm), cos, sin)
    if simulate:
        rows = round_rows(rows, rotary)
    return q.to(matrix_type(x)), rows.to(matrix_type(x)), low


def pool_csa(x: Tensor, kv: Tensor, gate: Tensor, bias: Tensor, norm: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, S, D] -> rows [B, S/4, d]: 4 tokens' second halves and the first halves of the 4 before them. (3)"""
    width = kv.shape[0] // 2
    values = F.linear(x, kv).float().unflatten(1, (-1, 4))  # [B, T, 4, 2d]
    gates = F.linear(x, gate).float().unflatten(1, (-1, 4)) + bias
    before = (0, 0, 0, 0, 1, 0)
    old_values = F.pad(values[:, :-1, :, :width], before)
    old_gates = F.pad(gates[:, :-1, :, :width], before, value=NEVER)
    values = torch.cat([old_values, values[..., width:]], 2)  # [B, T, 8, d]
    gates = torch.cat([old_gates, gates[..., width:]], 2)
    return rotate(rms_norm((values * gates.softmax(2)).sum(2), norm), cos, sin)


def pool_hca(x: Tensor, kv: Tensor, gate: Tensor, bias: Tensor, norm: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, S, D] -> rows [B, S/128, d]. (3)"""
    values = F.linear(x, kv).float().unflatten(1, (-1, 128))
    gates = F.linear(x, gate).float().unflatten(1, (-1, 128)) + bias
    return rotate(rms_norm((values * gates.softmax(2)).sum(2), norm), cos, sin)


def rows_csa(
    x: Tensor, kv: Tensor, gate: Tensor, bias: Tensor, norm: Tensor, cos: Tensor, sin: Tensor, rotary: int,
    simulate: bool,
) -> Tensor:  # fmt: skip
    """`pool_csa` as the cache holds it."""
    rows = pool_csa(x, kv, gate, bias, norm, cos, sin)
    return (round_rows(rows, rotary) if simulate else rows).to(matrix_type(x))


def rows_hca(
    x: Tensor, kv: Tensor, gate: Tensor, bias: Tensor, norm: Tensor, cos: Tensor, sin: Tensor, rotary: int,
    simulate: bool,
) -> Tensor:  # fmt: skip
    """`pool_hca` as the cache holds it."""
    rows = pool_hca(x, kv, gate, bias, norm, cos, sin)
    return (round_rows(rows, rotary) if simulate else rows).to(matrix_type(x))


def rows_index(
    x: Tensor, kv: Tensor, gate: Tensor, bias: Tensor, norm: Tensor, cos: Tensor, sin: Tensor, mixer: Tensor,
    simulate: bool,
) -> Tensor:  # fmt: skip
    """The indexer's own compressed rows [B, T, w]."""
    rows = pool_csa(x, kv, gate, bias, norm, cos, sin)
    return (round_index(rows, mixer) if simulate else rows).to(matrix_type(x))


def index_scores(
    x: Tensor, low: Tensor, rows: Tensor, q_b: Tensor, weigh: Tensor, cos: Tensor, sin: Tensor, visible: Tensor,
    mixer: Tensor, simulate: bool,
) -> Tensor:  # fmt: skip
    """How much each of s tokens wants each row, [B, s, T]; NEVER where it is not visible. (4)

    x [B, s, D], low [B, s, rank], cos and sin [s, R/2], visible bool [s, T].
    """
    batch, count, heads = x.shape[0], x.shape[1], weigh.shape[0]
    q = rotate(F.linear(low, q_b).view(batch, count, heads, -1), cos.unsqueeze(1), sin.unsqueeze(1))
    if simulate:
        q = round_index(q, mixer)
    q = q.to(matrix_type(x))
    dots = torch.bmm(q.flatten(1, 2), rows.transpose(1, 2)).view(batch, count, heads, -1)
    weights = F.linear(x, weigh).float() * (heads * q.shape[-1]) ** -0.5
    scores = (F.relu(dots.float()) * weights.unsqueeze(-1)).sum(2)
    return scores.masked_fill(~visible, NEVER)


def chosen_rows(scores: Tensor, top: int) -> Tensor:
    """Which rows are among each token's best, bool [B, s, T]. On a CPU ties go to the lower row, as in the engine."""
    if scores.is_cuda:
        best = scores.topk(top, -1).indices
    else:
        best = scores.sort(dim=-1, descending=True, stable=True).indices[..., :top]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True)


def attend_window(q: Tensor, rows: Tensor, sinks: Tensor, mask: Tensor) -> Tensor:
    """Window attention alone: [B, S, H, d]. mask is bool [S/128, 128, 1, 256]. (5)"""
    logits, near, top = _window_logits(q, rows, mask, sinks)
    weights = torch.exp(logits - top)
    total = weights.sum(-1, keepdim=True) + torch.exp(sinks.view(-1, 1) - top)
    return _window_values(weights / total, near, q)


def attend(q: Tensor, rows: Tensor, compressed: Tensor, sinks: Tensor, mask: Tensor, seen: Tensor) -> Tensor:
    """Window and compressed rows under one softmax: [B, S, H, d]. (5)

    compressed [B, T, d]; seen bool [B or 1, S, T].
    """
    batch, tokens, heads, width = q.shape
    logits, near, top = _window_logits(q, rows, mask, sinks)
    far = torch.bmm(q.reshape(batch, tokens * heads, width), compressed.transpose(1, 2))
    far = (far.view(batch, tokens, heads, -1).float() * width**-0.5).masked_fill(~seen.unsqueeze(2), NEVER)
    top = torch.maximum(top, far.detach().amax(-1, keepdim=True))
    weights, far_weights = torch.exp(logits - top), torch.exp(far - top)
    total = weights.sum(-1, keepdim=True) + far_weights.sum(-1, keepdim=True) + torch.exp(sinks.view(-1, 1) - top)
    out = _window_values(weights / total, near, q)
    far_weights = (far_weights / total).to(q.dtype).view(batch, tokens * heads, -1)
    return out + torch.bmm(far_weights, compressed).view(q.shape)


def attention_of(q: Tensor, near: Tensor, compressed: Tensor, sinks: Tensor, mask: Tensor, visible: Tensor) -> Tensor:
    """Where s sampled tokens would look if they saw every row: their heads' summed weight on each compressed row,
    made to sum to 1, or all 0. [B, s, T]: what the indexer learns.

    q [B, s, H, d]; near [B, s, 128, d] are their window rows, mask bool [s, 128] says which exist; visible [s, T].
    """
    width = q.shape[-1]
    window = torch.einsum("bshd,bskd->bshk", q, near).float() * width**-0.5
    window = window.masked_fill(~mask[None, :, None], NEVER).logsumexp(-1)
    window = torch.logaddexp(window, sinks.expand_as(window))
    far = torch.einsum("bshd,btd->bsht", q, compressed).float() * width**-0.5
    far = far.masked_fill(~visible[None, :, None], NEVER)
    total = torch.logaddexp(window, far.logsumexp(-1))
    wanted = (far - total.unsqueeze(-1)).exp().sum(2)
    return wanted / (wanted.sum(-1, keepdim=True) + 1e-9)


def divergence(scores: Tensor, wanted: Tensor) -> Tensor:
    """KL(wanted || softmax(scores)), mean over the tokens that see any row."""
    has = wanted.sum(-1) > 0.5
    expected = torch.log_softmax(scores, -1).clamp_min(-60.0)
    nats = (wanted * (torch.log(wanted + 1e-9) - expected)).sum(-1) * has
    return nats.sum() / has.sum().clamp_min(1)


def grouped_output(heads: Tensor, cos: Tensor, sin: Tensor, o_a: Tensor, o_b: Tensor, groups: int) -> Tensor:
    """Heads [N, H, d], rotated back, through the low-rank groups: [N, D]."""
    turned = rotate(heads, cos.unsqueeze(1), -sin.unsqueeze(1)).reshape(len(heads), groups, -1).to(heads.dtype)
    down = o_a.view(groups, -1, turned.shape[-1]).to(heads.dtype)
    return F.linear(torch.einsum("ngi,gri->ngr", turned, down).reshape(len(heads), -1), o_b)


def _window_logits(q: Tensor, rows: Tensor, mask: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [B, S, H, 256] over each 128-token block and the one before it, those rows, and the largest logit."""
    batch, tokens, heads, width = q.shape
    blocks = rows.view(batch, tokens // WINDOW, WINDOW, width)
    near = torch.cat([F.pad(blocks[:, :-1], (0, 0, 0, 0, 1, 0)), blocks], 2).view(-1, 2 * WINDOW, width)
    logits = torch.bmm(q.reshape(-1, WINDOW * heads, width), near.transpose(1, 2))
    logits = logits.view(batch, tokens // WINDOW, WINDOW, heads, 2 * WINDOW).float() * width**-0.5
    logits = logits.masked_fill(~mask, NEVER).view(batch, tokens, heads, 2 * WINDOW)
    top = torch.maximum(logits.detach().amax(-1, keepdim=True), sinks.detach().view(-1, 1))
    return logits, near, top


def _window_values(weights: Tensor, near: Tensor, q: Tensor) -> Tensor:
    return torch.bmm(weights.to(q.dtype).reshape(len(near), -1, 2 * WINDOW), near).view(q.shape)
