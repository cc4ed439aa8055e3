"""The weights of ds4-tiny by their Hugging Face names, freshly drawn. It knows shapes and starting values only.

Where the start is not the usual one over the square root of the fan-in, the reason stands beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ds4_tiny.shape import CSA, SLIDING, Shape

FIXED = ("tid2eid", "e_score_correction_bias")
"""Ends of the names of tensors that no gradient moves: the hash table, and the router's balance."""
Weights = dict[str, Tensor]


def new_weights(shape: Shape, seed: int = 0) -> Weights:
    """Every tensor, float32 (the hash tables int64), on the CPU."""
    draw = _Drawer(seed)
    out: Weights = {
        "model.embed_tokens.weight": draw(0.5, shape.vocab, shape.hidden),
        "lm_head.weight": draw(0.02, shape.vocab, shape.hidden),
        "model.norm.weight": torch.ones(shape.hidden),
        "model.hc_head.hc_fn": draw(0.02, shape.streams, shape.streams * shape.hidden),
        "model.hc_head.hc_base": torch.zeros(shape.streams),
        "model.hc_head.hc_scale": torch.full((1,), 0.3),
    }
    for layer in range(shape.layers):
        parts = {**_streams(shape, draw, layer), **_attention(shape, draw, layer), **_experts(shape, draw, layer)}
        out |= {f"model.layers.{layer}.{name}": value for name, value in parts.items()}
    return out


class _Drawer:
    """Normal values from one seeded stream."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, spread: float, *sizes: int) -> Tensor:
        return torch.randn(sizes, generator=self.generator) * spread

    def linear(self, out: int, into: int, gain: float = 1.0) -> Tensor:
        """A matrix [out, into] that keeps the size of its input, times `gain`."""
        return self(gain * into**-0.5, out, into)


def _streams(s: Shape, draw: _Drawer, layer: int) -> Weights:
    """Both hyper-connections: each sub-layer reads mostly one stream, in turn, and streams hardly mix at first.

    All zero, as is usual, every sub-layer would read and write the mean of the streams.
    """
    out: Weights = {}
    for part, name in enumerate(("attn_hc", "ffn_hc")):
        n = s.streams
        base = torch.zeros(n * (n + 2))
        base[:n] = -1.0
        base[(2 * layer + part) % n] = 1.5
        base[2 * n :] = (4.0 * torch.eye(n)).flatten()
        out |= {
            f"{name}.base": base,
            f"{name}.scale": torch.full((3,), 0.3),
            f"{name}.fn": draw(0.02, n * (n + 2), n * s.hidden),
        }
    return out


def _attention(s: Shape, draw: _Drawer, layer: int) -> Weights:
    ratio = s.ratios[layer]
    per_group = s.heads * s.head // s.groups
    out = {
        "input_layernorm.weight": torch.ones(s.hidden),
        "self_attn.q_a_proj.weight": draw.linear(s.query_rank, s.hidden),
        "self_attn.q_a_norm.weight": torch.ones(s.query_rank),
        "self_attn.q_b_proj.weight": draw.linear(s.heads * s.head, s.query_rank),
        "self_attn.kv_proj.weight": draw.linear(s.head, s.hidden),
        "self_attn.kv_norm.weight": torch.ones(s.head),
        "self_attn.sinks": torch.zeros(s.heads),
        "self_attn.o_a_proj.weight": draw.linear(s.groups * s.group_rank, per_group),
        "self_attn.o_b_proj.weight": draw(0.01, s.hidden, s.groups * s.group_rank),  # small: sub-layers start quiet
    }
    if ratio != SLIDING:
        out |= _compressor(s, draw, "self_attn.compressor", ratio, s.head)
    if ratio == CSA:
        indexer = "self_attn.compressor.indexer"
        out |= _compressor(s, draw, indexer, ratio, s.index_width)
        out[f"{indexer}.q_b_proj.weight"] = draw.linear(s.index_heads * s.index_width, s.query_rank)
        # positive, so that a match counts for a row and not against it
        out[f"{indexer}.scorer.weights_proj.weight"] = draw.linear(s.index_heads, s.hidden, 0.1).abs()
    return out


def _compressor(s: Shape, draw: _Drawer, name: str, ratio: int, width: int) -> Weights:
    lanes = width * (2 if ratio == CSA else 1)
    return {
        f"{name}.kv_proj.weight": draw.linear(lanes, s.hidden),
        f"{name}.gate_proj.weight": draw.linear(lanes, s.hidden, 0.3),  # gates start near the plain mean
        f"{name}.position_bias": draw(0.02, ratio, lanes),
        f"{name}.kv_norm.weight": torch.ones(width),
    }


def _experts(s: Shape, draw: _Drawer, layer: int) -> Weights:
    out = {
        "post_attention_layernorm.weight": torch.ones(s.hidden),
        "mlp.gate.weight": draw.linear(s.experts, s.hidden),
        "mlp.experts.gate_up_proj": draw(s.hidden**-0.5, s.experts, 2 * s.expert_width, s.hidden),
        "mlp.experts.down_proj": draw(0.01, s.experts, s.hidden, s.expert_width),
        "mlp.shared_experts.gate_proj.weight": draw.linear(s.expert_width, s.hidden),
        "mlp.shared_experts.up_proj.weight": draw.linear(s.expert_width, s.hidden),
        "mlp.shared_experts.down_proj.weight": draw(0.01, s.hidden, s.expert_width),
    }
    if layer >= s.hashed:
        out["mlp.gate.e_score_correction_bias"] = torch.zeros(s.experts)
        return out
    order = torch.rand(s.vocab, s.experts, generator=draw.generator).argsort(1)
    out["mlp.gate.tid2eid"] = order[:, : s.used].contiguous()  # different experts for each id
    return out
