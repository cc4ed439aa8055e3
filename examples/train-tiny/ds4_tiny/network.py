"""ds4-tiny's forward pass for training: whole sequences, no cache, weights by Hugging Face name.

The same network as docs/model.md, arranged for a GPU: a flat token axis, all experts computed and weighted by gates
that are mostly zero, and a dozen functions that are compiled one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ds4_tiny import attention as att
from ds4_tiny.attention import rms_norm
from ds4_tiny.rounding import hadamard
from ds4_tiny.shape import CSA, HCA, SLIDING, Shape
from ds4_tiny.weights import Weights

Sight = Literal["chosen", "all", "none"]
"""Which CSA rows attention sees: those that the indexer chose, every one, or none at all."""
SAMPLED = 8
"""One of so many tokens teaches the indexer in each step."""


def collapse(
    x: Tensor, fn: Tensor, base: Tensor, scale: Tensor, norm: Tensor, steps: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Streams [N, n, D] -> a sub-layer's normed input [N, D], output gates [N, n], mixing [N, n, n]. (1)"""
    count, n = x.shape[0], x.shape[1]
    mixes = _mixes(x, fn, eps)
    opened = torch.sigmoid(mixes[:, :n] * scale[0] + base[:n]) + eps
    post = 2 * torch.sigmoid(mixes[:, n : 2 * n] * scale[1] + base[n : 2 * n])
    mixing = torch.softmax((mixes[:, 2 * n :] * scale[2] + base[2 * n :]).view(count, n, n), -1) + eps
    mixing = mixing / (mixing.sum(-2, keepdim=True) + eps)
    for _ in range(steps - 1):
        mixing = mixing / (mixing.sum(-1, keepdim=True) + eps)
        mixing = mixing / (mixing.sum(-2, keepdim=True) + eps)
    return rms_norm((opened.unsqueeze(-1) * x).sum(1), norm, eps), post, mixing


def spread(x: Tensor, y: Tensor, post: Tensor, mixing: Tensor) -> Tensor:
    """X'_k = post_k y + sum_j C_jk X_j: [N, n, D]. (1)"""
    return post.unsqueeze(-1) * y.float().unsqueeze(1) + (mixing.unsqueeze(-1) * x.unsqueeze(2)).sum(1)


def mixture(
    x: Tensor, router: Tensor, bias: Tensor | None, table: Tensor | None, gate_up: Tensor, down: Tensor,
    shared_gate: Tensor, shared_up: Tensor, shared_down: Tensor, used: int, scale: float, clamp: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Experts on x [N, D]: their weighted sum, and each one's share of the tokens [E]. (6)

    `table` [N, k] names the experts in hash-routed layers, else the largest affinities plus `bias` do.
    """
    experts, hidden = gate_up.shape[0], x.shape[1]
    with torch.autocast(x.device.type, enabled=False):
        # inside the root: where softplus underflows, the root's gradient would be infinite
        affinity = torch.sqrt(F.softplus(F.linear(x.float(), router)) + 1e-12)
    chosen = table if table is not None else (affinity.detach() + bias).topk(used, -1).indices
    weights = affinity.gather(1, chosen)
    weights = scale * weights / (weights.sum(-1, keepdim=True) + 1e-20)
    gates = torch.zeros_like(affinity).scatter(1, chosen, weights)  # [N, E]
    lanes = F.linear(x, gate_up.reshape(-1, hidden)).view(len(x), experts, -1)
    middle = _swiglu(*lanes.chunk(2, -1), clamp) * gates.unsqueeze(-1).to(lanes.dtype)
    out = F.linear(middle.reshape(len(x), -1), down.permute(1, 0, 2).reshape(hidden, -1))
    shared = _swiglu(F.linear(x, shared_gate), F.linear(x, shared_up), clamp)
    return out + F.linear(shared, shared_down), (gates.detach() > 0).float().mean(0)


def head(x: Tensor, fn: Tensor, base: Tensor, scale: Tensor, norm: Tensor, eps: float) -> Tensor:
    """The streams' last collapse: the normed vector [N, D] before the output matrix."""
    opened = torch.sigmoid(_mixes(x, fn, eps) * scale + base) + eps
    return rms_norm((opened.unsqueeze(-1) * x).sum(1), norm, eps)


def loss_of(h: Tensor, output: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean cross entropy in nats of targets [N], and which are the likeliest token."""
    logits = F.linear(h, output).float()
    nats = F.cross_entropy(logits, targets, reduction="none")
    return (nats * weights).sum() / weights.sum().clamp_min(1), logits.argmax(-1) == targets


def _mixes(x: Tensor, fn: Tensor, eps: float) -> Tensor:
    flat = x.reshape(len(x), -1)
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(flat, fn) * torch.rsqrt(flat.square().mean(-1, keepdim=True) + eps)


def _swiglu(gate: Tensor, up: Tensor, clamp: float) -> Tensor:
    return F.silu(gate.clamp(max=clamp)) * up.clamp(-clamp, clamp)


@dataclass(frozen=True)
class Tables:
    """What depends on the length S alone: angles, and who sees whom."""

    window: tuple[Tensor, Tensor]  # cos, sin [S, R/2]
    compressed: tuple[Tensor, Tensor]
    rows: dict[int, tuple[Tensor, Tensor]]  # by ratio: [S/ratio, R/2]
    visible: dict[int, Tensor]  # by ratio: bool [S, S/ratio]
    near: Tensor  # bool [S/128, 128, 1, 256]
    mixer: Tensor  # [w, w]


@dataclass(frozen=True)
class Result:
    """A forward pass: last hidden rows [N, D], the indexer's divergence in nats, experts' loads by layer."""

    hidden: Tensor
    divergence: Tensor
    loads: dict[int, Tensor]


class Network:
    """The weights and how to run them. `trained` are those that a gradient moves."""

    def __init__(self, shape: Shape, weights: Weights, *, simulate: bool = True, compiled: bool = False) -> None:
        self.shape, self.simulate = shape, simulate
        self.weights = weights
        self.trained = {name: w for name, w in weights.items() if not name.endswith(("tid2eid", "correction_bias"))}
        for weight in self.trained.values():
            weight.requires_grad_(True)
        self._tables: dict[int, Tables] = {}
        self._run: dict[str, Callable[..., Any]] = {}
        parts = (collapse, spread, mixture, head, loss_of, att.queries_and_rows, att.rows_csa, att.rows_hca,
                 att.rows_index, att.index_scores, att.attend_window, att.attend, att.attention_of, att.divergence,
                 att.grouped_output)  # fmt: skip
        for part in parts:
            self._run[part.__name__] = torch.compile(part, dynamic=False) if compiled else part

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.weights["lm_head.weight"].device

    def forward(self, ids: Tensor, *, sight: Sight = "chosen", sample: Tensor | None = None) -> Result:
        """ids [B, S], S a multiple of 128. `sample` [S / SAMPLED] are the positions that the indexer learns from;
        without it, or where no CSA row is seen, it learns nothing."""
        s, run = self.shape, self._run
        batch, tokens = ids.shape
        tables = self.tables(tokens)
        flat = ids.reshape(-1)
        x = F.embedding(flat, self.weights["model.embed_tokens.weight"])
        x = x.unsqueeze(1).expand(-1, s.streams, -1).contiguous()
        lessons: list[Tensor] = []
        loads: dict[int, Tensor] = {}
        for layer in range(s.layers):
            w = _Layer(self.weights, layer)
            streams = (w["attn_hc.fn"], w["attn_hc.base"], w["attn_hc.scale"], w["input_layernorm.weight"])
            h, post, mixing = run["collapse"](x, *streams, s.sinkhorn, s.epsilon)
            y = self._attend(w, h, batch, tables, sight, sample, lessons)
            x = run["spread"](x, y, post, mixing)
            streams = (w["ffn_hc.fn"], w["ffn_hc.base"], w["ffn_hc.scale"], w["post_attention_layernorm.weight"])
            h, post, mixing = run["collapse"](x, *streams, s.sinkhorn, s.epsilon)
            y, load = self._experts(w, h, flat)
            if layer >= s.hashed:
                loads[layer] = load
            x = run["spread"](x, y, post, mixing)
        top = _Layer(self.weights, None)
        h = run["head"](x, top["hc_head.hc_fn"], top["hc_head.hc_base"], top["hc_head.hc_scale"],
                        top["norm.weight"], s.epsilon)  # fmt: skip
        return Result(h, torch.stack(lessons).mean() if lessons else h.new_zeros(()), loads)

    def loss(self, result: Result, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross entropy of targets [N] under `weights` [N], and which were likeliest."""
        return self._run["loss_of"](result.hidden, self.weights["lm_head.weight"], targets, weights)

    def logits(self, ids: Tensor, *, sight: Sight = "chosen") -> Tensor:
        """[B, S, V], float32."""
        hidden = self.forward(ids, sight=sight).hidden
        return F.linear(hidden, self.weights["lm_head.weight"]).float().view(*ids.shape, -1)

    def _attend(
        self, w: _Layer, h: Tensor, batch: int, t: Tables, sight: Sight, sample: Tensor | None, lessons: list[Tensor]
    ) -> Tensor:
        s, run = self.shape, self._run
        ratio = s.ratios[w.layer]
        cos, sin = (table.repeat(batch, 1) for table in (t.window if ratio == SLIDING else t.compressed))
        a = w.under("self_attn.")
        q, rows, low = run["queries_and_rows"](
            h, cos, sin, a["q_a_proj.weight"], a["q_a_norm.weight"], a["q_b_proj.weight"], a["kv_proj.weight"],
            a["kv_norm.weight"], s.heads, s.rotary, self.simulate,
        )  # fmt: skip
        q, rows, low, xs = (v.view(batch, -1, *v.shape[1:]) for v in (q, rows, low, h))
        if ratio == SLIDING:
            out = run["attend_window"](q, rows, a["sinks"], t.near)
        else:
            pool = run["rows_csa" if ratio == CSA else "rows_hca"]
            compressed = pool(xs, *_compressor(a.under("compressor.")), *t.rows[ratio], s.rotary, self.simulate)
            seen = t.visible[ratio].unsqueeze(0)
            if ratio == CSA:
                seen = self._select(a, xs.detach(), low.detach(), t, sight)
                if sample is not None and sight != "none":
                    lessons.append(self._lesson(a, xs, low, q, rows, compressed, t, sample))
            out = run["attend"](q, rows, compressed, a["sinks"], t.near, seen)
        return run["grouped_output"](out.flatten(0, 1), cos, sin, a["o_a_proj.weight"], a["o_b_proj.weight"], s.groups)

    def _select(self, a: _Layer, x: Tensor, low: Tensor, t: Tables, sight: Sight) -> Tensor:
        """Which rows each token attends to, bool [B or 1, S, T]."""
        visible = t.visible[CSA]
        if sight == "none":
            return torch.zeros_like(visible).unsqueeze(0)
        if sight == "all" or visible.shape[1] <= self.shape.index_top:
            return visible.unsqueeze(0)
        with torch.no_grad():
            scores = self._scores(a, x, low, *t.compressed, visible, t)
            return att.chosen_rows(scores, self.shape.index_top) & visible

    def _scores(
        self, a: _Layer, x: Tensor, low: Tensor, cos: Tensor, sin: Tensor, visible: Tensor, t: Tables,
        every: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        i = a.under("compressor.indexer.")
        source = x if every is None else every
        rows = self._run["rows_index"](source, *_compressor(i), *t.rows[CSA], t.mixer, self.simulate)
        return self._run["index_scores"](
            x, low, rows, i["q_b_proj.weight"], i["scorer.weights_proj.weight"], cos, sin, visible, t.mixer,
            self.simulate,
        )  # fmt: skip

    def _lesson(
        self, a: _Layer, x: Tensor, low: Tensor, q: Tensor, rows: Tensor, compressed: Tensor, t: Tables, sample: Tensor
    ) -> Tensor:
        """The indexer's loss at the sampled positions; nothing but the indexer gets a gradient from it."""
        x, low, visible = x.detach(), low.detach(), t.visible[CSA][sample]
        with torch.no_grad():
            back = sample[:, None] - torch.arange(att.WINDOW, device=sample.device)  # [s, 128]
            near = rows.detach()[:, back.clamp_min(0)]
            wanted = self._run["attention_of"](
                q.detach()[:, sample], near, compressed.detach(), a["sinks"].detach(), back >= 0, visible
            )
        angles = (table[sample] for table in t.compressed)
        scores = self._scores(a, x[:, sample], low[:, sample], *angles, visible, t, every=x)
        return self._run["divergence"](scores, wanted)

    def _experts(self, w: _Layer, h: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        s, m = self.shape, w.under("mlp.")
        hashed = w.layer < s.hashed
        return self._run["mixture"](
            h, m["gate.weight"], None if hashed else m["gate.e_score_correction_bias"],
            m["gate.tid2eid"][ids] if hashed else None, m["experts.gate_up_proj"], m["experts.down_proj"],
            *(m[f"shared_experts.{part}_proj.weight"] for part in ("gate", "up", "down")),
            s.used, s.expert_scale, s.clamp,
        )  # fmt: skip

    def tables(self, tokens: int) -> Tables:
        """The tables of sequences of this length; made once."""
        if tokens not in self._tables:
            self._tables[tokens] = make_tables(self.shape, tokens, self.device)
        return self._tables[tokens]


class _Layer:
    """The weights whose names begin with a layer's prefix."""

    def __init__(self, weights: Weights, layer: int | None, prefix: str = "") -> None:
        self.weights, self.layer = weights, -1 if layer is None else layer
        self.prefix = prefix or ("model." if layer is None else f"model.layers.{layer}.")

    def __getitem__(self, name: str) -> Tensor:
        return self.weights[self.prefix + name]

    def under(self, part: str) -> _Layer:
        """The weights of one part."""
        return _Layer(self.weights, self.layer, self.prefix + part)


def _compressor(c: _Layer) -> tuple[Tensor, ...]:
    return tuple(c[name] for name in ("kv_proj.weight", "gate_proj.weight", "position_bias", "kv_norm.weight"))


def make_tables(shape: Shape, tokens: int, device: torch.device) -> Tables:
    """Angles and masks for sequences of `tokens` tokens."""
    positions = torch.arange(tokens, device=device)
    turn = {plain: frequencies(shape, plain).to(device) for plain in (True, False)}

    def angles(at: Tensor, plain: bool) -> tuple[Tensor, Tensor]:
        radians = at.float()[:, None] * turn[plain]
        return radians.cos(), radians.sin()

    firsts = {ratio: positions[::ratio][: tokens // ratio] for ratio in (CSA, HCA)}
    back = att.WINDOW + positions[: att.WINDOW, None] - torch.arange(2 * att.WINDOW, device=device)
    near = ((back >= 0) & (back < att.WINDOW)).repeat(tokens // att.WINDOW, 1, 1)
    near[0, :, : att.WINDOW] = False  # the first block has none before it
    return Tables(
        angles(positions, True),
        angles(positions, False),
        {ratio: angles(first, False) for ratio, first in firsts.items()},
        {r: torch.arange(tokens // r, device=device) < ((positions + 1) // r)[:, None] for r in (CSA, HCA)},
        near[:, :, None, :],
        hadamard(shape.index_width).to(device),
    )


def frequencies(shape: Shape, plain: bool) -> Tensor:
    """Radians per position [R/2]; YaRN over the compressed layers' base, `plain` for window layers."""
    base = shape.theta if plain else shape.compressed_theta
    steps = 1.0 / base ** (torch.arange(0, shape.rotary, 2, dtype=torch.float64) / shape.rotary)
    if plain:
        return steps.float()

    def channel(turns: float) -> float:
        return shape.rotary * math.log(shape.yarn_original / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(math.floor(channel(32)), 0), min(math.ceil(channel(1)), shape.rotary - 1)
    ramp = ((torch.arange(shape.rotary // 2, dtype=torch.float64) - low) / max(high - low, 1e-3)).clamp(0, 1)
    return (steps / shape.yarn_factor * ramp + steps * (1 - ramp)).float()
