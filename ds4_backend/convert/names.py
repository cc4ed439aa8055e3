"""The three names of every tensor: DeepSeek's checkpoint (called official here), transformers, and GGUF.

It knows names only: no shapes, no data. Sources: DeepSeek's inference code, transformers' `deepseek_v4` module tree,
llama.cpp's `deepseek4` tensor table.
"""

from __future__ import annotations

import re

_TOP = (  # transformers, official, GGUF
    ("model.embed_tokens.weight", "embed.weight", "token_embd.weight"),
    ("lm_head.weight", "head.weight", "output.weight"),
    ("model.norm.weight", "norm.weight", "output_norm.weight"),
    ("model.hc_head.hc_fn", "hc_head_fn", "output_hc_fn.weight"),
    ("model.hc_head.hc_base", "hc_head_base", "output_hc_base.weight"),
    ("model.hc_head.hc_scale", "hc_head_scale", "output_hc_scale.weight"),
)

_LAYER = (  # inside `model.layers.N.`, `layers.N.` and `blk.N.`
    ("attn_hc.fn", "hc_attn_fn", "hc_attn_fn.weight"),
    ("attn_hc.base", "hc_attn_base", "hc_attn_base.weight"),
    ("attn_hc.scale", "hc_attn_scale", "hc_attn_scale.weight"),
    ("input_layernorm.weight", "attn_norm.weight", "attn_norm.weight"),
    ("self_attn.q_a_proj.weight", "attn.wq_a.weight", "attn_q_a.weight"),
    ("self_attn.q_a_norm.weight", "attn.q_norm.weight", "attn_q_a_norm.weight"),
    ("self_attn.q_b_proj.weight", "attn.wq_b.weight", "attn_q_b.weight"),
    ("self_attn.kv_proj.weight", "attn.wkv.weight", "attn_kv.weight"),
    ("self_attn.kv_norm.weight", "attn.kv_norm.weight", "attn_kv_a_norm.weight"),
    ("self_attn.sinks", "attn.attn_sink", "attn_sinks.weight"),
    ("self_attn.o_a_proj.weight", "attn.wo_a.weight", "attn_output_a.weight"),
    ("self_attn.o_b_proj.weight", "attn.wo_b.weight", "attn_output_b.weight"),
    ("self_attn.compressor.kv_proj.weight", "attn.compressor.wkv.weight", "attn_compressor_kv.weight"),
    ("self_attn.compressor.gate_proj.weight", "attn.compressor.wgate.weight", "attn_compressor_gate.weight"),
    ("self_attn.compressor.position_bias", "attn.compressor.ape", "attn_compressor_ape.weight"),
    ("self_attn.compressor.kv_norm.weight", "attn.compressor.norm.weight", "attn_compressor_norm.weight"),
    ("self_attn.compressor.indexer.q_b_proj.weight", "attn.indexer.wq_b.weight", "indexer.attn_q_b.weight"),
    ("self_attn.compressor.indexer.scorer.weights_proj.weight", "attn.indexer.weights_proj.weight",
     "indexer.proj.weight"),
    ("self_attn.compressor.indexer.kv_proj.weight", "attn.indexer.compressor.wkv.weight",
     "indexer_compressor_kv.weight"),
    ("self_attn.compressor.indexer.gate_proj.weight", "attn.indexer.compressor.wgate.weight",
     "indexer_compressor_gate.weight"),
    ("self_attn.compressor.indexer.position_bias", "attn.indexer.compressor.ape", "indexer_compressor_ape.weight"),
    ("self_attn.compressor.indexer.kv_norm.weight", "attn.indexer.compressor.norm.weight",
     "indexer_compressor_norm.weight"),
    ("ffn_hc.fn", "hc_ffn_fn", "hc_ffn_fn.weight"),
    ("ffn_hc.base", "hc_ffn_base", "hc_ffn_base.weight"),
    ("ffn_hc.scale", "hc_ffn_scale", "hc_ffn_scale.weight"),
    ("post_attention_layernorm.weight", "ffn_norm.weight", "ffn_norm.weight"),
    ("mlp.gate.weight", "ffn.gate.weight", "ffn_gate_inp.weight"),
    ("mlp.gate.e_score_correction_bias", "ffn.gate.bias", "exp_probs_b.bias"),
    ("mlp.gate.tid2eid", "ffn.gate.tid2eid", "ffn_gate_tid2eid.weight"),
    ("mlp.shared_experts.gate_proj.weight", "ffn.shared_experts.w1.weight", "ffn_gate_shexp.weight"),
    ("mlp.shared_experts.up_proj.weight", "ffn.shared_experts.w3.weight", "ffn_up_shexp.weight"),
    ("mlp.shared_experts.down_proj.weight", "ffn.shared_experts.w2.weight", "ffn_down_shexp.weight"),
)  # fmt: skip

ROUTED = {"ffn_gate_exps.weight": "w1", "ffn_up_exps.weight": "w3", "ffn_down_exps.weight": "w2"}
"""GGUF's stacked routed tensors, and the official name of one expert's part."""

_SAVED_LEAF = {"attn.norm.weight": "attn.kv_norm.weight"}
"""Where transformers' `save_pretrained` strays from the official name."""

_EXPERT_PARTS = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}

_OFFICIAL_TOP = {hf: official for hf, official, _ in _TOP}
_OFFICIAL_LEAF = {hf: official for hf, official, _ in _LAYER}
_GGUF_TOP = {gguf: official for _, official, gguf in _TOP}
_GGUF_LEAF = {gguf: official for _, official, gguf in _LAYER}


def official_name(name: str) -> str:
    """A transformers name under its official one; anything else unchanged.

    transformers has two: its own modules', and what its `save_pretrained` writes, which is official names behind
    `model.` but for one norm. Stacked experts (`mlp.experts.gate_up_proj`) hold several official tensors and are left
    to the caller.
    """
    if name in _OFFICIAL_TOP:
        return _OFFICIAL_TOP[name]
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
    if not match:
        return name
    layer, leaf = match.groups()
    expert = re.fullmatch(r"mlp\.experts\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight", leaf)
    if expert:
        return expert_name(int(layer), int(expert[1]), _EXPERT_PARTS[expert[2]])
    if leaf in _OFFICIAL_LEAF:
        return f"layers.{layer}.{_OFFICIAL_LEAF[leaf]}"
    return f"layers.{layer}.{_SAVED_LEAF.get(leaf, leaf)}" if _is_saved_leaf(leaf) else name


def _is_saved_leaf(leaf: str) -> bool:
    """Whether `save_pretrained` writes this name behind `model.layers.N.`."""
    return (
        leaf in _SAVED_LEAF
        or leaf in _GGUF_LEAF.values()
        or bool(re.fullmatch(r"ffn\.experts\.\d+\.w[123]\.weight", leaf))
    )


def expert_name(layer: int, expert: int, part: str) -> str:
    """Official name of one routed expert's matrix; `part` is w1 (gate), w2 (down) or w3 (up)."""
    return f"layers.{layer}.ffn.experts.{expert}.{part}.weight"


def stacked_experts(name: str) -> tuple[int, tuple[str, ...]] | None:
    """(layer, parts in row order) when `name` is transformers' stack of all experts of a layer, else None."""
    match = re.fullmatch(r"model\.layers\.(\d+)\.mlp\.experts\.(gate_up_proj|down_proj)", name)
    if not match:
        return None
    return int(match[1]), ("w1", "w3") if match[2] == "gate_up_proj" else ("w2",)


def official_parts(gguf_name: str, expert_count: int) -> list[str]:
    """The official tensors that make up one GGUF tensor: one, or one per routed expert in id order."""
    if gguf_name in _GGUF_TOP:
        return [_GGUF_TOP[gguf_name]]
    _, layer, leaf = gguf_name.split(".", 2)
    if leaf in ROUTED:
        return [expert_name(int(layer), expert, ROUTED[leaf]) for expert in range(expert_count)]
    return [f"layers.{layer}.{_GGUF_LEAF[leaf]}"]


def gguf_leaf(gguf_name: str) -> str:
    """The name without its layer: `blk.3.attn_q_a.weight` -> `attn_q_a.weight`."""
    return gguf_name.split(".", 2)[2] if gguf_name.startswith("blk.") else gguf_name


def is_left_out(name: str, layer_count: int) -> bool:
    """Whether a source tensor belongs to no main model: multi-token prediction, or a buffer that is computed."""
    if re.match(r"(model\.)?mtp\.", name) or name.endswith((".inv_freq", "_inv_freq", "freqs_cis")):
        return True
    match = re.match(r"(?:model\.)?layers\.(\d+)\.", name)
    return bool(match) and int(match[1]) >= layer_count  # type: ignore[index]
