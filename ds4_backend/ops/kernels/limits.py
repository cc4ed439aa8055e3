"""What sizes the kernels are written for; other networks run on the mlx ops. It knows no device."""

from __future__ import annotations

from ds4_backend.errors import SettingsError
from ds4_backend.gguf.geometry import CSA, Geometry


def check(g: Geometry) -> None:
    """Raise SettingsError naming the first size that the kernels cannot take."""
    for fine, text in _rules(g):
        if not fine:
            raise SettingsError(f"the GPU kernels do not take {text}; use the mlx ops (DS4_BACKEND_OPS=mlx)")


def _rules(g: Geometry) -> list[tuple[bool, str]]:
    width, indexer = g.attention_key_length, g.attention_indexer_key_length
    indexed = CSA in g.attention_compress_ratios[: g.block_count]
    inner = (g.embedding_length, g.attention_q_lora_rank, g.attention_output_lora_rank, g.expert_feed_forward_length)
    return [
        (all(n % 8 == 0 for n in inner), f"inner widths {inner}: each must be a multiple of 8"),
        (width % 16 == 0 and width <= 512, f"attention heads of width {width}: a multiple of 16 up to 512"),
        (
            not indexed or (indexer % 32 == 0 and indexer <= 128 and indexer & (indexer - 1) == 0),
            f"indexer rows of width {indexer}: 32, 64 or 128",
        ),
        (
            not indexed or g.attention_indexer_head_count <= 64,
            f"{g.attention_indexer_head_count} indexer heads: up to 64",
        ),
        (g.hyper_connection_count in (1, 2, 4), f"{g.hyper_connection_count} hyper-connection streams: 1, 2 or 4"),
        (g.expert_count < 1024, f"{g.expert_count} experts: fewer than 1024"),
        (g.expert_used_count <= 31, f"{g.expert_used_count} experts a token: up to 31"),
    ]
