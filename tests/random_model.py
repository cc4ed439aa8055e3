"""Small random networks for tests: every parameter non-trivial, all layer kinds, no file."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np

from ds4_backend.gguf.formats import FORMATS
from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.reader import Tensor
from ds4_backend.gguf.schema import expected_tensors
from ds4_backend.model import Model
from ds4_backend.model.weights import bind
from ds4_backend.ops import make_ops

SMALL = Geometry(
    block_count=6,
    embedding_length=64,
    vocab_size=160,
    attention_head_count=4,
    attention_key_length=80,
    attention_q_lora_rank=32,
    attention_output_lora_rank=16,
    attention_output_group_count=2,
    attention_sliding_window=32,
    attention_compress_ratios=(0, 4, 128, 4, 128, 0),
    attention_indexer_head_count=16,
    attention_indexer_key_length=32,
    attention_indexer_top_k=12,
    rope_dimension_count=16,
    expert_count=6,
    expert_used_count=2,
    expert_feed_forward_length=48,
    hash_layer_count=2,
    swiglu_clamp_exp=(2.0,) * 6,
)
"""Every layer kind and router; a window and a top-k that a few hundred tokens outgrow; widths allow simulation."""


def geometry(**changes: Any) -> Geometry:
    return replace(SMALL, **changes)


def random_values(g: Geometry, seed: int) -> dict[str, np.ndarray]:
    """Every tensor of the network, drawn by name, so that a change of one leaves the others."""
    return {name: _draw(name, shape, g, seed) for name, shape in expected_tensors(g).items()}


def random_tensors(g: Geometry, seed: int = 0) -> dict[str, Tensor]:
    return {name: as_tensor(name, values) for name, values in random_values(g, seed).items()}


def as_tensor(name: str, values: np.ndarray) -> Tensor:
    kind = "I32" if values.dtype.kind == "i" else "F32"
    data = np.ascontiguousarray(values).view(np.uint8).reshape(*values.shape[:-1], -1)
    return Tensor(name, values.shape, FORMATS[kind], data)


def random_model(g: Geometry = SMALL, *, seed: int = 0, cache_simulation: bool = False, ops: str = "numpy") -> Model:
    kernels = make_ops(ops, g, cache_simulation=cache_simulation)
    return Model(g, kernels, bind(random_tensors(g, seed), g, kernels))


def random_ids(count: int, g: Geometry = SMALL, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, g.vocab_size, count).tolist()


def _draw(name: str, shape: tuple[int, ...], g: Geometry, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if "tid2eid" in name:
        return np.argsort(rng.random((shape[0], g.expert_count)), axis=1)[:, : shape[1]].astype(np.int32)
    spread, middle = _scale(name, shape)
    return (rng.standard_normal(shape) * spread + middle).astype(np.float32)


def _scale(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Standard deviation and mean that keep signals of order one, and no gate or bias at zero."""
    if name.endswith("norm.weight"):
        return 0.2, 1.0
    if "_base" in name:
        return 0.5, 0.0
    if "_scale" in name:
        return 0.2, 0.6
    if "_ape" in name:
        return 0.7, 0.0
    if "sinks" in name or "token_embd" in name:
        return 1.0, 0.0
    if "exp_probs_b" in name:
        return 0.3, 0.0
    return 1.3 * shape[-1] ** -0.5, 0.0
