"""The shapes of known networks, where no file is at hand to read them from: Flash, Pro, and a small one of every kind.

Source of the numbers: the published configurations (docs/model.md, section 1). It knows no tensors and no weights.
"""

from __future__ import annotations

from dataclasses import replace

from ds4_backend.gguf.geometry import CSA, HCA, SLIDING, Geometry

FLASH = Geometry(
    block_count=43,
    embedding_length=4096,
    vocab_size=129280,
    attention_head_count=64,
    attention_key_length=512,
    attention_q_lora_rank=1024,
    attention_output_lora_rank=1024,
    attention_output_group_count=8,
    attention_sliding_window=128,
    attention_compress_ratios=(SLIDING, SLIDING, *((CSA, HCA) * 20), CSA),
    attention_indexer_head_count=64,
    attention_indexer_key_length=128,
    attention_indexer_top_k=512,
    rope_dimension_count=64,
    expert_count=256,
    expert_used_count=6,
    expert_feed_forward_length=2048,
    hash_layer_count=3,
    swiglu_clamp_exp=(10.0,) * 43,
)

PRO = replace(
    FLASH,
    block_count=61,
    embedding_length=7168,
    attention_head_count=128,
    attention_q_lora_rank=1536,
    attention_output_group_count=16,
    attention_compress_ratios=(HCA, HCA, *((CSA, HCA) * 29), CSA),
    attention_indexer_top_k=1024,
    expert_count=384,
    expert_feed_forward_length=3072,
    expert_weights_scale=2.5,
    swiglu_clamp_exp=(10.0,) * 61,
)

TINY = replace(
    FLASH,
    block_count=6,
    embedding_length=512,
    vocab_size=1024,
    attention_head_count=8,
    attention_q_lora_rank=256,
    attention_output_lora_rank=256,
    attention_output_group_count=2,
    attention_compress_ratios=(SLIDING, CSA, HCA, CSA, HCA, CSA),
    attention_indexer_head_count=16,
    attention_indexer_top_k=64,
    expert_count=16,
    expert_feed_forward_length=256,
    hash_layer_count=2,
    swiglu_clamp_exp=(10.0,) * 6,
)
"""Every layer kind and both routers; Flash's head, window and indexer widths; rows that every block format divides."""

GEOMETRIES = {"flash": FLASH, "pro": PRO, "tiny": TINY}
"""By name."""


def first_layers(g: Geometry, count: int) -> Geometry:
    """The same network cut after `count` layers. Raises ValueError where it has fewer."""
    if not 1 <= count <= g.block_count:
        raise ValueError(f"{count} layers of a network that has {g.block_count}")
    return replace(
        g,
        block_count=count,
        attention_compress_ratios=g.attention_compress_ratios[:count],
        swiglu_clamp_exp=g.swiglu_clamp_exp[:count],
        hash_layer_count=min(g.hash_layer_count, count),
    )
