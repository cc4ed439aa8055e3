"""A Hugging Face `config.json` as a Geometry. Both spellings are read: DeepSeek's own (compress_ratios, rope_scaling,
num_hash_layers) and transformers' (layer_types, compress_rates, rope_parameters, mlp_layer_types).

It knows no tensors. What V4 fixes (activation, scoring, no biases) is checked, not written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ds4_backend.errors import ConversionError, FileError
from ds4_backend.gguf.geometry import ARCHITECTURE, Geometry

_COUNTS = {  # GGUF key -> config field
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "vocab_size": "vocab_size",
    "attention.head_count": "num_attention_heads",
    "attention.key_length": "head_dim",
    "attention.q_lora_rank": "q_lora_rank",
    "attention.output_lora_rank": "o_lora_rank",
    "attention.output_group_count": "o_groups",
    "attention.sliding_window": "sliding_window",
    "attention.indexer.head_count": "index_n_heads",
    "attention.indexer.key_length": "index_head_dim",
    "attention.indexer.top_k": "index_topk",
    "expert_count": "n_routed_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
}
_DEFAULTED: dict[str, tuple[str, Any]] = {  # GGUF key -> config field, V4's value
    "context_length": ("max_position_embeddings", 1 << 20),
    "attention.head_count_kv": ("num_key_value_heads", 1),
    "expert_shared_count": ("n_shared_experts", 1),
    "hyper_connection.count": ("hc_mult", 4),
    "hyper_connection.sinkhorn_iterations": ("hc_sinkhorn_iters", 20),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", 1e-6),
    "hyper_connection.epsilon": ("hc_eps", 1e-6),
    "expert_weights_scale": ("routed_scaling_factor", 1.5),
    "expert_weights_norm": ("norm_topk_prob", True),
}
_FIXED: dict[str, tuple[Any, ...]] = {  # config field -> values that V4 knows
    "hidden_act": ("silu",),
    "scoring_func": ("sqrtsoftplus",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "tie_word_embeddings": (False,),
    "n_group": (0, 1, None),
    "topk_group": (0, 1, None),
}
_RATIOS = {"sliding_attention": 0, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json as it is.

    Raises ConversionError when it is missing, no JSON object, or of another model than DeepSeek V4.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConversionError(f"{folder} has no config.json; give a Hugging Face model folder") from None
    except ValueError:
        raise ConversionError(f"{path} is not valid JSON; download it again") from None
    kind = config.get("model_type", "deepseek_v4") if isinstance(config, dict) else None
    if kind != "deepseek_v4":
        raise ConversionError(f"{path} describes a {kind!r} model; only 'deepseek_v4' can be converted")
    return config


def geometry_of(config: Mapping[str, Any]) -> Geometry:
    """The network that a config describes. Multi-token prediction layers are left out of it.

    Raises ConversionError naming the field that is missing or that no DeepSeek V4 has.
    """
    for name, values in _FIXED.items():
        if config.get(name, values[0]) not in values:
            raise ConversionError(f"config.json: {name} is {config[name]!r}; DeepSeek V4 has {values[0]!r}")
    layers = _integer(config, "num_hidden_layers")
    ratios = _ratios(config, layers)
    keys: dict[str, Any] = {key: _integer(config, name) for key, name in _COUNTS.items()}
    keys |= {key: type(usual)(config.get(name, usual)) for key, (name, usual) in _DEFAULTED.items()}
    keys |= {
        "attention.compress_ratios": ratios,
        "hash_layer_count": _hash_layers(config, layers),
        "swiglu_clamp_exp": [float(config.get("swiglu_limit", 10.0))] * layers,
        "rope.dimension_count": _rotary_channels(config),
        **_rope(config),
        "nextn_predict_layers": 0,
    }
    metadata = {f"{ARCHITECTURE}.{key}": value for key, value in keys.items()}
    try:
        return Geometry.from_metadata({"general.architecture": ARCHITECTURE, **metadata})
    except FileError as error:
        raise ConversionError(f"config.json cannot be used: {error}") from None


def _integer(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConversionError(f"config.json: {name} should be a whole number, found {value!r}")
    return value


def _ratios(config: Mapping[str, Any], layers: int) -> list[int]:
    """Compression ratio per layer, and per prediction layer where the config has them."""
    if config.get("compress_ratios") is not None:
        ratios = [int(ratio) for ratio in config["compress_ratios"]]
    elif config.get("layer_types") is not None:
        ratios = [_ratio_of_kind(config, kind) for kind in config["layer_types"]]
    else:
        raise ConversionError("config.json has neither compress_ratios nor layer_types; the layers' kinds are unknown")
    if len(ratios) < layers:
        raise ConversionError(f"config.json lists the kinds of {len(ratios)} layers, but num_hidden_layers is {layers}")
    return ratios


def _ratio_of_kind(config: Mapping[str, Any], kind: str) -> int:
    if kind not in _RATIOS:
        raise ConversionError(f"config.json: layer type {kind!r} is unknown; known are {', '.join(_RATIOS)}")
    return int((config.get("compress_rates") or {}).get(kind, _RATIOS[kind]))


def _hash_layers(config: Mapping[str, Any], layers: int) -> int:
    if config.get("num_hash_layers") is not None:
        return _integer(config, "num_hash_layers")
    if config.get("mlp_layer_types") is None:
        raise ConversionError("config.json has neither num_hash_layers nor mlp_layer_types")
    kinds = list(config["mlp_layer_types"])[:layers]
    count = kinds.count("hash_moe")
    if kinds != ["hash_moe"] * count + ["moe"] * (layers - count):
        raise ConversionError(f"config.json: mlp_layer_types must be hash_moe layers, then moe layers; found {kinds}")
    return count


def _rotary_channels(config: Mapping[str, Any]) -> int:
    if config.get("qk_rope_head_dim") is not None:
        return _integer(config, "qk_rope_head_dim")
    share = config.get("partial_rotary_factor")
    if not isinstance(share, int | float):
        raise ConversionError("config.json has neither qk_rope_head_dim nor partial_rotary_factor")
    return int(_integer(config, "head_dim") * share)


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary bases and scaling. Scaling is of the compressed layers; sliding layers never have any."""
    main, compressed = _rope_sections(config)
    base = main.get("rope_theta", config.get("rope_theta", 10000.0))
    compressed_base = config.get("compress_rope_theta", compressed.get("rope_theta", 160000.0))
    kind = compressed.get("rope_type", compressed.get("type", "default"))
    if kind not in ("yarn", "default", "none"):
        raise ConversionError(f"config.json: rope scaling {kind!r} is unknown; known are 'yarn' and none at all")
    yarn = kind == "yarn"
    pick: Callable[[str, float], float] = lambda name, usual: compressed.get(name, usual) if yarn else usual  # noqa: E731
    return {
        "rope.freq_base": float(base),
        "attention.compress_rope_freq_base": float(compressed_base),
        "rope.scaling.type": "yarn" if yarn else "none",
        "rope.scaling.factor": float(pick("factor", 16.0 if yarn else 1.0)),
        "rope.scaling.original_context_length": int(pick("original_max_position_embeddings", 65536)),
        "rope.scaling.yarn_beta_fast": float(pick("beta_fast", 32)),
        "rope.scaling.yarn_beta_slow": float(pick("beta_slow", 1)),
    }


def _rope_sections(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """(sliding layers' section, compressed layers' section); an older config has one flat section for the latter."""
    parameters = config.get("rope_parameters") or {}
    if "compress" in parameters or "main" in parameters:
        return parameters.get("main") or {}, parameters.get("compress") or {}
    flat = config.get("rope_scaling") or {key: v for key, v in parameters.items() if key != "rope_theta"}
    base = {"rope_theta": parameters["rope_theta"]} if "rope_theta" in parameters else {}
    return base, flat
