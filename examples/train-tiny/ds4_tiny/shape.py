"""The sizes of ds4-tiny, and its config.json in DeepSeek's own spelling. It knows no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SLIDING, CSA, HCA = 0, 4, 128


@dataclass(frozen=True)
class Shape:
    """Counts and widths of one network; the defaults are ds4-tiny's.

    `head - rotary` is a multiple of 64 and `index_width` a power of two, so the cache simulation fits.
    """

    vocab: int = 4096
    hidden: int = 256
    ratios: tuple[int, ...] = (0, 0, 4, 128, 4, 128, 4)
    heads: int = 8
    head: int = 160
    rotary: int = 32
    query_rank: int = 128
    groups: int = 4
    group_rank: int = 64
    window: int = 128
    index_heads: int = 8
    index_width: int = 64
    index_top: int = 64
    experts: int = 8
    used: int = 2
    expert_width: int = 256
    hashed: int = 3
    clamp: float = 10.0
    expert_scale: float = 1.5
    streams: int = 4
    sinkhorn: int = 20
    epsilon: float = 1e-6
    theta: float = 10_000.0
    compressed_theta: float = 160_000.0
    yarn_factor: float = 16.0
    yarn_original: int = 65_536

    @property
    def layers(self) -> int:
        """Their number."""
        return len(self.ratios)

    def config(self) -> dict[str, Any]:
        """config.json of the Hugging Face folder."""
        return {
            "architectures": ["DeepseekV4ForCausalLM"],
            "model_type": "deepseek_v4",
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "moe_intermediate_size": self.expert_width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": 1,
            "head_dim": self.head,
            "qk_rope_head_dim": self.rotary,
            "q_lora_rank": self.query_rank,
            "o_groups": self.groups,
            "o_lora_rank": self.group_rank,
            "n_routed_experts": self.experts,
            "num_experts_per_tok": self.used,
            "n_shared_experts": 1,
            "scoring_func": "sqrtsoftplus",
            "norm_topk_prob": True,
            "routed_scaling_factor": self.expert_scale,
            "num_hash_layers": self.hashed,
            "swiglu_limit": self.clamp,
            "compress_ratios": list(self.ratios),
            "sliding_window": self.window,
            "index_n_heads": self.index_heads,
            "index_head_dim": self.index_width,
            "index_topk": self.index_top,
            "hc_mult": self.streams,
            "hc_sinkhorn_iters": self.sinkhorn,
            "hc_eps": self.epsilon,
            "rms_norm_eps": self.epsilon,
            "rope_theta": self.theta,
            "compress_rope_theta": self.compressed_theta,
            "rope_scaling": {
                "type": "yarn",
                "factor": self.yarn_factor,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "original_max_position_embeddings": self.yarn_original,
            },
            "max_position_embeddings": 1 << 20,
            "num_nextn_predict_layers": 0,
            "tie_word_embeddings": False,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 2,
        }


TINY = Shape()
