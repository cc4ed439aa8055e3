"""Which tensors a DeepSeek V4 GGUF holds, and of which shape. It knows names and shapes, no block formats and no data.

Shapes are row-major (`[out, in]`), that is GGUF's dims reversed. Names are llama.cpp's and ds4's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ds4_backend.errors import FileError
from ds4_backend.gguf.geometry import CSA, Geometry


class HasShape(Protocol):
    """Anything with a row-major shape."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def expected_tensors(g: Geometry) -> dict[str, tuple[int, ...]]:
    """Every tensor that a file of this geometry must hold, with its row-major shape (main model, without MTP)."""
    shapes = _top(g)
    for layer in range(g.block_count):
        prefix = f"blk.{layer}."
        for name, shape in (_attention(g, layer) | _feed_forward(g, layer)).items():
            shapes[prefix + name] = shape
    return shapes


def check_tensors(tensors: Mapping[str, HasShape], g: Geometry) -> None:
    """Compare a file's tensors with `expected_tensors`; extra tensors (MTP, say) are left alone.

    Raises FileError naming the missing tensors, or the first one of another shape with both shapes.
    """
    wanted = expected_tensors(g)
    missing = [name for name in wanted if name not in tensors]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise FileError(f"the file lacks {len(missing)} of {len(wanted)} tensors: {', '.join(missing[:5])}{more}")
    for name, shape in wanted.items():
        if tuple(tensors[name].shape) != shape:
            raise FileError(
                f"tensor {name} has shape {list(tensors[name].shape)}, but the metadata asks for {list(shape)}"
            )


def _top(g: Geometry) -> dict[str, tuple[int, ...]]:
    streams = g.hyper_connection_count
    return {
        "token_embd.weight": (g.vocab_size, g.embedding_length),
        "output.weight": (g.vocab_size, g.embedding_length),
        "output_norm.weight": (g.embedding_length,),
        "output_hc_fn.weight": (streams, streams * g.embedding_length),
        "output_hc_base.weight": (streams,),
        "output_hc_scale.weight": (1,),
    }


def _attention(g: Geometry, layer: int) -> dict[str, tuple[int, ...]]:
    dim, width, heads = g.embedding_length, g.attention_key_length, g.attention_head_count
    groups, rank = g.attention_output_group_count, g.attention_output_lora_rank
    shapes: dict[str, tuple[int, ...]] = {
        **_hyper_connection(g, "attn"),
        "attn_norm.weight": (dim,),
        "attn_q_a.weight": (g.attention_q_lora_rank, dim),
        "attn_q_a_norm.weight": (g.attention_q_lora_rank,),
        "attn_q_b.weight": (heads * width, g.attention_q_lora_rank),
        "attn_kv.weight": (width, dim),
        "attn_kv_a_norm.weight": (width,),
        "attn_sinks.weight": (heads,),
        "attn_output_a.weight": (groups * rank, heads * width // groups),
        "attn_output_b.weight": (dim, groups * rank),
    }
    ratio = g.ratio(layer)
    if ratio:
        shapes |= _compressor("attn_compressor", ratio, width, dim)
    if ratio == CSA:
        shapes |= _indexer(g)
    return shapes


def _compressor(prefix: str, ratio: int, width: int, dim: int) -> dict[str, tuple[int, ...]]:
    lanes = (2 if ratio == CSA else 1) * width
    return {
        f"{prefix}_kv.weight": (lanes, dim),
        f"{prefix}_gate.weight": (lanes, dim),
        f"{prefix}_ape.weight": (ratio, lanes),
        f"{prefix}_norm.weight": (width,),
    }


def _indexer(g: Geometry) -> dict[str, tuple[int, ...]]:
    heads, width = g.attention_indexer_head_count, g.attention_indexer_key_length
    return {
        "indexer.attn_q_b.weight": (heads * width, g.attention_q_lora_rank),
        "indexer.proj.weight": (heads, g.embedding_length),
        **_compressor("indexer_compressor", CSA, width, g.embedding_length),
    }


def _feed_forward(g: Geometry, layer: int) -> dict[str, tuple[int, ...]]:
    dim, hidden, experts = g.embedding_length, g.expert_feed_forward_length, g.expert_count
    shared = g.expert_shared_count * hidden
    router: dict[str, tuple[int, ...]] = (
        {"ffn_gate_tid2eid.weight": (g.vocab_size, g.expert_used_count)}
        if g.is_hash_routed(layer)
        else {"exp_probs_b.bias": (experts,)}
    )
    return {
        **_hyper_connection(g, "ffn"),
        "ffn_norm.weight": (dim,),
        "ffn_gate_inp.weight": (experts, dim),
        **router,
        "ffn_gate_exps.weight": (experts, hidden, dim),
        "ffn_up_exps.weight": (experts, hidden, dim),
        "ffn_down_exps.weight": (experts, dim, hidden),
        "ffn_gate_shexp.weight": (shared, dim),
        "ffn_up_shexp.weight": (shared, dim),
        "ffn_down_shexp.weight": (dim, shared),
    }


def _hyper_connection(g: Geometry, part: str) -> dict[str, tuple[int, ...]]:
    streams = g.hyper_connection_count
    mixes = streams * (streams + 2)
    return {
        f"hc_{part}_fn.weight": (mixes, streams * g.embedding_length),
        f"hc_{part}_base.weight": (mixes,),
        f"hc_{part}_scale.weight": (3,),
    }
