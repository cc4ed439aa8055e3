"""A network for tests of the training example: the real vocabulary over next to nothing. Its importer sets the path."""

from __future__ import annotations

from ds4_tiny.shape import Shape


def tiny() -> Shape:
    """The real vocabulary over next to no network."""
    return Shape(hidden=32, ratios=(0, 4, 128), heads=2, head=80, rotary=16, query_rank=32, groups=2, group_rank=16,
                 index_heads=2, index_width=32, index_top=16, experts=4, expert_width=32, hashed=1)  # fmt: skip
