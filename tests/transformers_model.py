"""A random network of `random_model` as transformers' DeepseekV4ForCausalLM, the independent implementation.

Needs torch and transformers, which only CI and `pip install ds4-backend[oracle]` bring.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ds4_backend.convert.names import _LAYER, _TOP
from ds4_backend.gguf.geometry import Geometry

KINDS = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}


def official_config(g: Geometry) -> dict[str, Any]:
    """DeepSeek's own config.json of this geometry."""
    return {
        "model_type": "deepseek_v4",
        "vocab_size": g.vocab_size,
        "hidden_size": g.embedding_length,
        "moe_intermediate_size": g.expert_feed_forward_length,
        "num_hidden_layers": g.block_count,
        "num_attention_heads": g.attention_head_count,
        "num_key_value_heads": 1,
        "head_dim": g.attention_key_length,
        "qk_rope_head_dim": g.rope_dimension_count,
        "q_lora_rank": g.attention_q_lora_rank,
        "o_groups": g.attention_output_group_count,
        "o_lora_rank": g.attention_output_lora_rank,
        "n_routed_experts": g.expert_count,
        "num_experts_per_tok": g.expert_used_count,
        "n_shared_experts": g.expert_shared_count,
        "scoring_func": "sqrtsoftplus",
        "norm_topk_prob": True,
        "routed_scaling_factor": g.expert_weights_scale,
        "num_hash_layers": g.hash_layer_count,
        "swiglu_limit": g.swiglu_clamp_exp[0],
        "compress_ratios": list(g.attention_compress_ratios),
        "sliding_window": g.attention_sliding_window,
        "index_n_heads": g.attention_indexer_head_count,
        "index_head_dim": g.attention_indexer_key_length,
        "index_topk": g.attention_indexer_top_k,
        "hc_mult": g.hyper_connection_count,
        "hc_sinkhorn_iters": g.hyper_connection_sinkhorn_iterations,
        "hc_eps": g.hyper_connection_epsilon,
        "rms_norm_eps": g.attention_layer_norm_rms_epsilon,
        "rope_theta": g.rope_freq_base,
        "compress_rope_theta": g.attention_compress_rope_freq_base,
        "rope_scaling": _rope_scaling(g),
        "max_position_embeddings": g.context_length,
        "num_nextn_predict_layers": 0,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }


def transformers_model(g: Geometry, values: dict[str, np.ndarray]) -> Any:
    """The transformers model with these weights (by GGUF name), float32, on the CPU."""
    import torch
    from transformers import DeepseekV4Config, DeepseekV4ForCausalLM

    torch.set_num_threads(1)  # these networks are too small for more
    config = official_config(g)
    scaling = config.pop("rope_scaling")
    config["rope_parameters"] = {"rope_type": scaling.pop("type"), **scaling}
    settings = DeepseekV4Config(**config)
    settings._attn_implementation = settings._experts_implementation = "eager"
    model = DeepseekV4ForCausalLM(settings).to(torch.float32).eval()
    state = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in _by_transformers_name(g, values).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all("inv_freq" in name for name in missing), (missing, unexpected)
    return model


def logits_of(model: Any, ids: list[int]) -> np.ndarray:
    """Logits [N, V] of one prefill without a cache."""
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy()


def _rope_scaling(g: Geometry) -> dict[str, Any]:
    return {
        "type": "yarn",
        "factor": g.rope_scaling_factor,
        "beta_fast": g.rope_scaling_yarn_beta_fast,
        "beta_slow": g.rope_scaling_yarn_beta_slow,
        "original_max_position_embeddings": g.rope_scaling_original_context_length,
    }


def _by_transformers_name(g: Geometry, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    out = {theirs: values[ours] for theirs, _, ours in _TOP}
    for layer in range(g.block_count):
        for theirs, _, ours in _LAYER:
            if f"blk.{layer}.{ours}" in values:
                value = values[f"blk.{layer}.{ours}"]
                out[f"model.layers.{layer}.{theirs}"] = value.astype(np.int64) if value.dtype.kind == "i" else value
        gate, up, down = (values[f"blk.{layer}.ffn_{part}_exps.weight"] for part in ("gate", "up", "down"))
        out[f"model.layers.{layer}.mlp.experts.gate_up_proj"] = np.concatenate([gate, up], axis=1)
        out[f"model.layers.{layer}.mlp.experts.down_proj"] = down
    return out
