"""How many bytes one decoded token must read, and what share of the memory's speed a measured rate is.

Counted from the file: every weight once, routed experts by the share that a token uses, one row of tables that are
looked up; of the state, the rows that attention reads. What a device moves beyond that is its own affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ds4_backend.gguf.geometry import CSA, HCA, Geometry
from ds4_backend.gguf.reader import Tensor

ROW_BYTES = 2
"""Of a stored value, as float16; packed rows are 43 % smaller."""


def weight_bytes(tensors: Mapping[str, Tensor], g: Geometry) -> int:
    """Bytes of weights that a token reads."""
    return sum(_share(name, tensor, g) for name, tensor in tensors.items())


def state_bytes(g: Geometry, length: int, value_bytes: float = ROW_BYTES) -> int:
    """Bytes of state that a token after `length` others reads: the window, all HCA rows, all indexer rows beyond the
    top-k, and the chosen CSA rows."""
    width, narrow = g.attention_key_length, g.attention_indexer_key_length
    window = min(length, g.attention_sliding_window) * width * g.block_count
    hca = length // HCA * width * len(g.layers_of(HCA))
    rows = length // CSA
    scored = rows * narrow if rows > g.attention_indexer_top_k else 0
    csa = (scored + min(rows, g.attention_indexer_top_k) * width) * len(g.layers_of(CSA))
    return int(value_bytes * (window + hca + csa))


def state_size(g: Geometry, length: int, value_bytes: float = ROW_BYTES) -> int:
    """Bytes that the state of `length` tokens takes (docs/model.md, section 3), without the open windows' pairs."""
    width, narrow = g.attention_key_length, g.attention_indexer_key_length
    values = min(length, g.attention_sliding_window) * width * g.block_count
    values += length // CSA * (width + narrow) * len(g.layers_of(CSA))
    values += length // HCA * width * len(g.layers_of(HCA))
    return int(value_bytes * values)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What the memory alone would allow: its bytes a second, the bytes of weights that a token reads, the network."""

    bytes_per_second: float
    weight_bytes: int
    geometry: Geometry

    def share(self, tokens_per_second: float, length: int) -> float:
        """Of the ceiling at a context of `length` tokens, the share that was measured."""
        nbytes = self.weight_bytes + state_bytes(self.geometry, length)
        return tokens_per_second * nbytes / self.bytes_per_second


def _share(name: str, tensor: Tensor, g: Geometry) -> int:
    if name == "token_embd.weight" or "tid2eid" in name:
        return tensor.nbytes // tensor.shape[0]
    if "_exps." in name:
        return tensor.nbytes * g.expert_used_count // g.expert_count
    return tensor.nbytes
