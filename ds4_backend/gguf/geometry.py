"""The shape of one DeepSeek V4 network, read from GGUF metadata and written back to it.

Field names are the GGUF's own keys, dots made underscores: `attention.head_count` is `attention_head_count`. Nothing
here is a constant of Flash: tiny, Flash and Pro files differ in metadata only. It knows no tensors and no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from ds4_backend.errors import FileError

ARCHITECTURE = "deepseek4"
PAGE_TOKENS = 128
"""Tokens in a page: the least common multiple of both compression ratios."""

SLIDING, CSA, HCA = 0, 4, 128
"""A layer's compression ratio is its kind: window only; compressed sparse (overlapping, indexed); heavily so."""


def _key(name: str, **options: Any) -> Any:
    return field(metadata={"key": name}, **options)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Hyper-parameters of the network; counts unless the name says otherwise (metadata keys `deepseek4.*`)."""

    block_count: int = _key("block_count")
    embedding_length: int = _key("embedding_length")
    vocab_size: int = _key("vocab_size")
    attention_head_count: int = _key("attention.head_count")
    attention_key_length: int = _key("attention.key_length")
    attention_q_lora_rank: int = _key("attention.q_lora_rank")
    attention_output_lora_rank: int = _key("attention.output_lora_rank")
    attention_output_group_count: int = _key("attention.output_group_count")
    attention_sliding_window: int = _key("attention.sliding_window")
    attention_compress_ratios: tuple[int, ...] = _key("attention.compress_ratios")
    attention_indexer_head_count: int = _key("attention.indexer.head_count")
    attention_indexer_key_length: int = _key("attention.indexer.key_length")
    attention_indexer_top_k: int = _key("attention.indexer.top_k")
    rope_dimension_count: int = _key("rope.dimension_count")
    expert_count: int = _key("expert_count")
    expert_used_count: int = _key("expert_used_count")
    expert_feed_forward_length: int = _key("expert_feed_forward_length")
    hash_layer_count: int = _key("hash_layer_count")
    swiglu_clamp_exp: tuple[float, ...] = _key("swiglu_clamp_exp")
    context_length: int = _key("context_length", default=1 << 20)
    attention_head_count_kv: int = _key("attention.head_count_kv", default=1)
    attention_layer_norm_rms_epsilon: float = _key("attention.layer_norm_rms_epsilon", default=1e-6)
    attention_compress_rope_freq_base: float = _key("attention.compress_rope_freq_base", default=160000.0)
    rope_freq_base: float = _key("rope.freq_base", default=10000.0)
    rope_scaling_type: str = _key("rope.scaling.type", default="yarn")
    rope_scaling_factor: float = _key("rope.scaling.factor", default=16.0)
    rope_scaling_original_context_length: int = _key("rope.scaling.original_context_length", default=65536)
    rope_scaling_yarn_beta_fast: float = _key("rope.scaling.yarn_beta_fast", default=32.0)
    rope_scaling_yarn_beta_slow: float = _key("rope.scaling.yarn_beta_slow", default=1.0)
    expert_shared_count: int = _key("expert_shared_count", default=1)
    expert_weights_scale: float = _key("expert_weights_scale", default=1.5)
    expert_weights_norm: bool = _key("expert_weights_norm", default=True)
    expert_gating_func: int = _key("expert_gating_func", default=4)
    hyper_connection_count: int = _key("hyper_connection.count", default=4)
    hyper_connection_sinkhorn_iterations: int = _key("hyper_connection.sinkhorn_iterations", default=20)
    hyper_connection_epsilon: float = _key("hyper_connection.epsilon", default=1e-6)
    nextn_predict_layers: int = _key("nextn_predict_layers", default=0)

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Geometry:
        """Read the geometry of a `deepseek4` file.

        Raises FileError naming the key that is missing, of the wrong kind, or outside what the network can be.
        """
        architecture = metadata.get("general.architecture")
        if architecture != ARCHITECTURE:
            raise FileError(
                f"the file's architecture is {architecture!r}; ds4-backend runs {ARCHITECTURE!r} (DeepSeek V4) only"
            )
        return cls(**{f.name: _read(f, metadata) for f in fields(cls) if _present(f, metadata)})

    def to_metadata(self) -> dict[str, Any]:
        """The `deepseek4.*` keys that `from_metadata` reads; tuples stay tuples (GGUF arrays)."""
        return {f"{ARCHITECTURE}.{f.metadata['key']}": getattr(self, f.name) for f in fields(self)}

    def ratio(self, layer: int) -> int:
        """Compression ratio of a layer: 0 (window only), 4 (CSA) or 128 (HCA)."""
        return self.attention_compress_ratios[layer]

    def layers_of(self, ratio: int) -> tuple[int, ...]:
        """Indices of the layers with that compression ratio."""
        return tuple(i for i in range(self.block_count) if self.ratio(i) == ratio)

    def is_hash_routed(self, layer: int) -> bool:
        """Whether the layer's experts are a fixed function of the input token id."""
        return layer < self.hash_layer_count


def _present(f: Field[Any], metadata: Mapping[str, Any]) -> bool:
    key = f"{ARCHITECTURE}.{f.metadata['key']}"
    if key in metadata:
        return True
    if f.default is MISSING:
        raise FileError(f"the file lacks the metadata key {key}, which a {ARCHITECTURE} model needs")
    return False


def _read(f: Field[Any], metadata: Mapping[str, Any]) -> Any:
    key = f"{ARCHITECTURE}.{f.metadata['key']}"
    value = metadata[key]
    if f.type in ("tuple[int, ...]", "tuple[float, ...]"):
        kind = int if "int" in str(f.type) else float
        values = [value] if isinstance(value, int | float) else value
        if isinstance(values, str) or any(isinstance(v, str) for v in values):
            raise FileError(f"metadata key {key} should be an array of numbers, not {value!r}")
        return tuple(kind(v) for v in values)
    want = {"int": int, "float": (int, float), "bool": bool, "str": str}[str(f.type)]
    if not isinstance(value, want) or (f.type != "bool" and isinstance(value, bool)):  # type: ignore[arg-type]
        raise FileError(f"metadata key {key} should be of type {f.type}, not {value!r}")
    return float(value) if f.type == "float" else value


_LIMIT = 1 << 24
"""No count of a real network is larger; keeps products of counts far from overflow."""


def _check(g: Geometry) -> None:
    for f in fields(g):
        value, key = getattr(g, f.name), f.metadata["key"]
        low = 0 if f.name in ("hash_layer_count", "nextn_predict_layers") else 1
        if f.type == "int" and not low <= value <= _LIMIT:
            raise FileError(f"metadata key {key} is {value}; it must lie between {low} and {_LIMIT}")
        if f.type == "float" and not 0 < value < float("inf"):
            raise FileError(f"metadata key {key} is {value}; it must be a positive number")
    for ok, text in _rules(g):
        if not ok:
            raise FileError(f"the metadata describes no DeepSeek V4 network: {text}")


def _rules(g: Geometry) -> list[tuple[bool, str]]:
    width, rotary = g.attention_key_length, g.rope_dimension_count
    ratios = g.attention_compress_ratios
    heads, groups = g.attention_head_count, g.attention_output_group_count
    indexed = CSA in ratios[: g.block_count]
    return [
        (
            len(ratios) >= g.block_count,
            f"attention.compress_ratios has {len(ratios)} entries for {g.block_count} layers",
        ),
        (
            all(r in (SLIDING, CSA, HCA) for r in ratios),
            f"compression ratios must be 0, 4 or 128, found {sorted(set(ratios))}",
        ),
        (
            len(g.swiglu_clamp_exp) >= g.block_count,
            f"swiglu_clamp_exp has {len(g.swiglu_clamp_exp)} entries for {g.block_count} layers",
        ),
        (rotary % 2 == 0 and rotary <= width, f"{rotary} rotary channels in heads of width {width}"),
        (
            not indexed or rotary <= g.attention_indexer_key_length,
            f"{rotary} rotary channels in indexer rows of width {g.attention_indexer_key_length}",
        ),
        (heads % groups == 0, f"{heads} attention heads do not divide into {groups} output groups"),
        (g.expert_used_count <= g.expert_count, f"{g.expert_used_count} of {g.expert_count} experts used"),
        (g.attention_head_count_kv == 1, f"{g.attention_head_count_kv} key/value heads; V4 has 1"),
        (g.expert_gating_func == 4, f"expert_gating_func {g.expert_gating_func}; V4 uses 4 (sqrt-softplus)"),
        (g.expert_weights_norm, "expert_weights_norm is false; V4 normalises the selected experts' weights"),
        (g.attention_sliding_window <= PAGE_TOKENS, f"a window of {g.attention_sliding_window} tokens; at most 128"),
        (g.hyper_connection_count <= 16, f"{g.hyper_connection_count} hyper-connection streams; at most 16"),
        (
            g.rope_scaling_type in ("yarn", "none"),
            f"rope scaling {g.rope_scaling_type!r}; known are 'yarn' and 'none'",
        ),
    ]
