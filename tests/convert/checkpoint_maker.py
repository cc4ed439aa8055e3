"""Random tiny DeepSeek V4 checkpoints, written byte by byte so that every stored type can be made.

The names here are spelt out again on purpose: they do not come from the converter's tables.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

TYPES = {np.dtype("f4"): "F32", np.dtype("f2"): "F16", np.dtype("i8"): "I64", np.dtype("i4"): "I32"}


def official_config(**changes: Any) -> dict[str, Any]:
    """DeepSeek's own spelling: two sliding hash layers, one CSA and one HCA layer."""
    return {
        "model_type": "deepseek_v4", "vocab_size": 320, "hidden_size": 64, "moe_intermediate_size": 32,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32,
        "qk_rope_head_dim": 8, "q_lora_rank": 32, "o_groups": 2, "o_lora_rank": 32, "n_routed_experts": 4,
        "num_experts_per_tok": 2, "n_shared_experts": 1, "scoring_func": "sqrtsoftplus", "norm_topk_prob": True,
        "routed_scaling_factor": 1.5, "num_hash_layers": 2, "swiglu_limit": 10.0, "compress_ratios": [0, 0, 4, 128],
        "sliding_window": 128, "index_n_heads": 4, "index_head_dim": 32, "index_topk": 16, "hc_mult": 4,
        "hc_sinkhorn_iters": 20, "hc_eps": 1e-6, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "compress_rope_theta": 160000.0, "max_position_embeddings": 1048576, "tie_word_embeddings": False,
        "rope_scaling": {"type": "yarn", "factor": 16, "beta_fast": 32, "beta_slow": 1,
                         "original_max_position_embeddings": 65536},
        "bos_token_id": 0, "eos_token_id": 1,
    } | changes  # fmt: skip


def transformers_config(config: dict[str, Any]) -> dict[str, Any]:
    """The same model as transformers 5 would save it."""
    kinds = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
    out = {key: value for key, value in config.items()
           if key not in ("compress_ratios", "num_hash_layers", "rope_scaling", "rope_theta")}  # fmt: skip
    yarn = {key: value for key, value in config["rope_scaling"].items() if key != "type"}
    hashed, layers = config["num_hash_layers"], config["num_hidden_layers"]
    return out | {
        "layer_types": [kinds[ratio] for ratio in config["compress_ratios"]],
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128},
        "mlp_layer_types": ["hash_moe"] * hashed + ["moe"] * (layers - hashed),
        "partial_rotary_factor": config["qk_rope_head_dim"] / config["head_dim"],
        "rope_parameters": {
            "main": {"rope_type": "default", "rope_theta": config["rope_theta"]},
            "compress": {"rope_type": "yarn", "rope_theta": config["compress_rope_theta"], **yarn},
        },
    }


def random_weights(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Official name -> random float32 (int64 for tid2eid), experts one by one."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in official_shapes(config).items():
        if name.endswith("tid2eid"):
            rows = [rng.permutation(config["n_routed_experts"])[: shape[1]] for _ in range(shape[0])]
            weights[name] = np.array(rows, np.int64)
        else:
            weights[name] = (rng.standard_normal(shape) * 0.2).astype(np.float16).astype(np.float32)
    return weights


def official_shapes(c: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    dim, vocab, streams = c["hidden_size"], c["vocab_size"], c["hc_mult"]
    shapes: dict[str, tuple[int, ...]] = {
        "embed.weight": (vocab, dim), "head.weight": (vocab, dim), "norm.weight": (dim,),
        "hc_head_fn": (streams, streams * dim), "hc_head_base": (streams,), "hc_head_scale": (1,),
    }  # fmt: skip
    for layer in range(c["num_hidden_layers"]):
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in _layer(c, layer).items()}
    return shapes


def _layer(c: dict[str, Any], layer: int) -> dict[str, tuple[int, ...]]:
    dim, heads, width, q_rank = c["hidden_size"], c["num_attention_heads"], c["head_dim"], c["q_lora_rank"]
    groups, o_rank, hidden = c["o_groups"], c["o_lora_rank"], c["moe_intermediate_size"]
    streams, experts, ratio = c["hc_mult"], c["n_routed_experts"], c["compress_ratios"][layer]
    mixes = streams * (streams + 2)
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (dim,), "ffn_norm.weight": (dim,), "attn.attn_sink": (heads,),
        "attn.wq_a.weight": (q_rank, dim), "attn.q_norm.weight": (q_rank,), "attn.wq_b.weight": (heads * width, q_rank),
        "attn.wkv.weight": (width, dim), "attn.kv_norm.weight": (width,),
        "attn.wo_a.weight": (groups * o_rank, heads * width // groups), "attn.wo_b.weight": (dim, groups * o_rank),
        "ffn.gate.weight": (experts, dim), "ffn.shared_experts.w1.weight": (hidden, dim),
        "ffn.shared_experts.w3.weight": (hidden, dim), "ffn.shared_experts.w2.weight": (dim, hidden),
    }  # fmt: skip
    for part in ("attn", "ffn"):
        shapes |= {f"hc_{part}_fn": (mixes, streams * dim), f"hc_{part}_base": (mixes,), f"hc_{part}_scale": (3,)}
    for expert in range(experts):
        shapes |= {f"ffn.experts.{expert}.{w}.weight": (hidden, dim) for w in ("w1", "w3")}
        shapes[f"ffn.experts.{expert}.w2.weight"] = (dim, hidden)
    if layer < c["num_hash_layers"]:
        shapes["ffn.gate.tid2eid"] = (c["vocab_size"], c["num_experts_per_tok"])
    else:
        shapes["ffn.gate.bias"] = (experts,)
    lanes = {0: 0, 4: 2 * width, 128: width}[ratio]
    if lanes:
        shapes |= _compressor("attn.compressor", ratio, lanes, width, dim)
    if ratio == 4:
        index_heads, index_width = c["index_n_heads"], c["index_head_dim"]
        shapes |= _compressor("attn.indexer.compressor", 4, 2 * index_width, index_width, dim)
        shapes["attn.indexer.wq_b.weight"] = (index_heads * index_width, q_rank)
        shapes["attn.indexer.weights_proj.weight"] = (index_heads, dim)
    return shapes


def _compressor(prefix: str, ratio: int, lanes: int, width: int, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.wkv.weight": (lanes, dim), f"{prefix}.wgate.weight": (lanes, dim),
            f"{prefix}.ape": (ratio, lanes), f"{prefix}.norm.weight": (width,)}  # fmt: skip


HUGGING_FACE = {
    "attn_norm.weight": "input_layernorm.weight", "ffn_norm.weight": "post_attention_layernorm.weight",
    "hc_attn_fn": "attn_hc.fn", "hc_attn_base": "attn_hc.base", "hc_attn_scale": "attn_hc.scale",
    "hc_ffn_fn": "ffn_hc.fn", "hc_ffn_base": "ffn_hc.base", "hc_ffn_scale": "ffn_hc.scale",
    "attn.wq_a.weight": "self_attn.q_a_proj.weight", "attn.q_norm.weight": "self_attn.q_a_norm.weight",
    "attn.wq_b.weight": "self_attn.q_b_proj.weight", "attn.wkv.weight": "self_attn.kv_proj.weight",
    "attn.kv_norm.weight": "self_attn.kv_norm.weight", "attn.attn_sink": "self_attn.sinks",
    "attn.wo_a.weight": "self_attn.o_a_proj.weight", "attn.wo_b.weight": "self_attn.o_b_proj.weight",
    "attn.compressor.wkv.weight": "self_attn.compressor.kv_proj.weight",
    "attn.compressor.wgate.weight": "self_attn.compressor.gate_proj.weight",
    "attn.compressor.ape": "self_attn.compressor.position_bias",
    "attn.compressor.norm.weight": "self_attn.compressor.kv_norm.weight",
    "attn.indexer.compressor.wkv.weight": "self_attn.compressor.indexer.kv_proj.weight",
    "attn.indexer.compressor.wgate.weight": "self_attn.compressor.indexer.gate_proj.weight",
    "attn.indexer.compressor.ape": "self_attn.compressor.indexer.position_bias",
    "attn.indexer.compressor.norm.weight": "self_attn.compressor.indexer.kv_norm.weight",
    "attn.indexer.wq_b.weight": "self_attn.compressor.indexer.q_b_proj.weight",
    "attn.indexer.weights_proj.weight": "self_attn.compressor.indexer.scorer.weights_proj.weight",
    "ffn.gate.weight": "mlp.gate.weight", "ffn.gate.bias": "mlp.gate.e_score_correction_bias",
    "ffn.gate.tid2eid": "mlp.gate.tid2eid", "ffn.shared_experts.w1.weight": "mlp.shared_experts.gate_proj.weight",
    "ffn.shared_experts.w3.weight": "mlp.shared_experts.up_proj.weight",
    "ffn.shared_experts.w2.weight": "mlp.shared_experts.down_proj.weight",
    "embed.weight": "model.embed_tokens.weight", "head.weight": "lm_head.weight", "norm.weight": "model.norm.weight",
    "hc_head_fn": "model.hc_head.hc_fn", "hc_head_base": "model.hc_head.hc_base",
    "hc_head_scale": "model.hc_head.hc_scale",
}  # fmt: skip


def hugging_face_names(weights: dict[str, np.ndarray], config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Official weights under transformers' names, experts stacked."""
    out = {}
    for name, values in weights.items():
        if ".experts." in name:
            continue
        if name.startswith("layers."):
            _, layer, leaf = name.split(".", 2)
            out[f"model.layers.{layer}.{HUGGING_FACE[leaf]}"] = values
        else:
            out[HUGGING_FACE[name]] = values
    experts = range(config["n_routed_experts"])
    for layer in range(config["num_hidden_layers"]):
        part = {w: [weights[f"layers.{layer}.ffn.experts.{e}.{w}.weight"] for e in experts] for w in ("w1", "w2", "w3")}
        gate_up = [np.concatenate(pair) for pair in zip(part["w1"], part["w3"], strict=True)]
        out[f"model.layers.{layer}.mlp.experts.gate_up_proj"] = np.stack(gate_up)
        out[f"model.layers.{layer}.mlp.experts.down_proj"] = np.stack(part["w2"])
    return out


def save_safetensors(path: Path, tensors: dict[str, np.ndarray | tuple[str, np.ndarray]]) -> None:
    """Write a safetensors file; a value is an array, or (type name, array of that type's bytes) for BF16 and FP8."""
    header, chunks, end = {}, [], 0
    for name, value in tensors.items():
        kind, array = value if isinstance(value, tuple) else (TYPES[value.dtype], value)
        data = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [end, end + len(data)]}
        chunks.append(data)
        end += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def make_folder(folder: Path, config: dict[str, Any], tensors: dict[str, Any], shards: int = 1) -> Path:
    """A model folder: config.json and one file, or several with an index."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_safetensors(folder / "model.safetensors", tensors)
        return folder
    names, weight_map = list(tensors), {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_safetensors(folder / file, {name: tensors[name] for name in names[i::shards]})
        weight_map |= dict.fromkeys(names[i::shards], file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder
