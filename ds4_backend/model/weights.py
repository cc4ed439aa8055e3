"""The weights of one network, as handles of its ops. It knows tensor names; it computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ds4_backend.gguf.geometry import CSA, HCA, SLIDING, Geometry
from ds4_backend.gguf.reader import Tensor
from ds4_backend.ops.base import Compressor, Head, HyperConnection, Matrix, Ops, Router

KINDS: dict[int, tuple[tuple[str, str], ...]] = {
    SLIDING: (),
    CSA: (("csa", "attn_compressor"), ("indexer", "indexer_compressor")),
    HCA: (("hca", "attn_compressor"),),
}
"""The compressors of a layer, by its ratio: the row class each feeds, and its tensors' prefix."""


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention weights of one layer. `inputs` stacks every matrix that reads the normed input: q_a, kv, then a
    (kv, gate) pair per compressor, then the indexer's head weights."""

    ratio: int
    ordinal: int
    inputs: Matrix
    q_a_norm: Matrix
    q_b: Matrix
    kv_norm: Matrix
    sinks: Matrix
    output_a: Matrix
    output_b: Matrix
    compressors: tuple[tuple[str, Compressor], ...]
    indexer_q_b: Matrix | None


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: two sub-layers, each with its hyper-connection and norm."""

    index: int
    attention_hc: HyperConnection
    attention_norm: Matrix
    attention: Attention
    ffn_hc: HyperConnection
    ffn_norm: Matrix
    router: Router
    experts: Any


@dataclass(frozen=True, slots=True)
class Weights:
    """The whole network."""

    embedding: Matrix
    layers: tuple[Layer, ...]
    head: Head


def bind(
    tensors: Mapping[str, Tensor],
    g: Geometry,
    ops: Ops,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Weights:
    """Hand every tensor to the ops. `progress(layers done, layers)` is called after each layer."""
    layers = []
    for index in range(g.block_count):
        layers.append(_layer(tensors, g, ops, index))
        progress(index + 1, g.block_count)
    top = _Named(tensors, "", ops)
    head = Head(
        fn=top.matrix("output_hc_fn"),
        base=top.vector("output_hc_base"),
        scale=top.vector("output_hc_scale"),
        norm=top.vector("output_norm"),
        output=top.matrix("output"),
    )
    return Weights(ops.table(top.tensor("token_embd")), tuple(layers), head)


@dataclass(frozen=True, slots=True)
class _Named:
    """Tensors under a prefix, by their short name."""

    tensors: Mapping[str, Tensor]
    prefix: str
    ops: Ops

    def tensor(self, name: str, suffix: str = ".weight") -> Tensor:
        return self.tensors[self.prefix + name + suffix]

    def matrix(self, name: str) -> Matrix:
        return self.ops.matrix(self.tensor(name))

    def vector(self, name: str, suffix: str = ".weight") -> Matrix:
        return self.ops.vector(self.tensor(name, suffix))

    def hyper_connection(self, part: str) -> HyperConnection:
        return self.ops.hyper_connection(*(self.tensor(f"hc_{part}_{name}") for name in ("fn", "scale", "base")))


def _layer(tensors: Mapping[str, Tensor], g: Geometry, ops: Ops, index: int) -> Layer:
    w = _Named(tensors, f"blk.{index}.", ops)
    hashed = g.is_hash_routed(index)
    router = Router(
        gate=w.matrix("ffn_gate_inp"),
        bias=None if hashed else w.vector("exp_probs_b", ".bias"),
        table=w.vector("ffn_gate_tid2eid") if hashed else None,
    )
    return Layer(
        index=index,
        attention_hc=w.hyper_connection("attn"),
        attention_norm=w.vector("attn_norm"),
        attention=_attention(w, g, index),
        ffn_hc=w.hyper_connection("ffn"),
        ffn_norm=w.vector("ffn_norm"),
        router=router,
        experts=_experts(w, g, index),
    )


def _attention(w: _Named, g: Geometry, index: int) -> Attention:
    ratio = g.ratio(index)
    kinds = KINDS[ratio]
    inputs = ["attn_q_a", "attn_kv"] + [f"{prefix}_{part}" for _, prefix in kinds for part in ("kv", "gate")]
    if ratio == CSA:
        inputs.append("indexer.proj")
    return Attention(
        ratio=ratio,
        ordinal=g.layers_of(ratio).index(index),
        inputs=w.ops.stack([w.tensor(name) for name in inputs]),
        q_a_norm=w.vector("attn_q_a_norm"),
        q_b=w.matrix("attn_q_b"),
        kv_norm=w.vector("attn_kv_a_norm"),
        sinks=w.vector("attn_sinks"),
        output_a=w.matrix("attn_output_a"),
        output_b=w.matrix("attn_output_b"),
        compressors=tuple((k, Compressor(w.vector(f"{p}_ape"), w.vector(f"{p}_norm"))) for k, p in kinds),
        indexer_q_b=w.matrix("indexer.attn_q_b") if ratio == CSA else None,
    )


def _experts(w: _Named, g: Geometry, index: int) -> Any:
    parts = ("gate_exps", "up_exps", "down_exps", "gate_shexp", "up_shexp", "down_shexp")
    tensors = [w.tensor(f"ffn_{part}") for part in parts]
    return w.ops.expert_weights(index, g.swiglu_clamp_exp[index], tensors)
