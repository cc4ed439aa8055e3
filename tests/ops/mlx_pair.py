"""The numpy and the MLX ops side by side: same tensors, same batches, same inputs. Shared by the MLX ops' tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from random_model import SMALL, random_ids, random_tensors

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.reader import Tensor
from ds4_backend.model.weights import Layer, Weights, bind
from ds4_backend.ops.base import Batch, Ops, Span, State
from ds4_backend.ops.mlx import MlxOps
from ds4_backend.ops.numpy import NumpyOps

PAGES = 8


class Side:
    """One implementation with its weights, its state and its current step."""

    def __init__(self, ops: Ops, tensors: Mapping[str, Tensor], slots: int) -> None:
        self.ops, self.weights = ops, bind(tensors, ops.geometry, ops)
        self.state: State = ops.new_state()
        self.state.reserve(PAGES * slots, slots)
        self.step: Any = None

    def array(self, values: np.ndarray) -> Any:
        return mx.array(values) if isinstance(self.ops, MlxOps) else values.copy()


class Pair:
    """Both sides. `begin` starts a step of several conversations, which keep their lengths."""

    def __init__(self, g: Geometry = SMALL, *, simulated: bool = False, slots: int = 1, seed: int = 0) -> None:
        self.geometry, self.rng = g, np.random.default_rng(seed)
        tensors = random_tensors(g, seed)
        kinds = (NumpyOps(g, cache_simulation=simulated), MlxOps(g, cache_simulation=simulated))
        self.sides = [Side(ops, tensors, slots) for ops in kinds]
        self.lengths = [0] * slots

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def begin(self, counts: Sequence[int]) -> int:
        """A step of `counts[slot]` tokens in each slot (0 leaves it out). Returns the number of tokens."""
        spans = []
        for slot, count in enumerate(counts):
            if count:  # pages dealt to the conversations in turn, so that none has one run of them
                pages = tuple(slot + i * len(counts) for i in range(-(-(self.lengths[slot] + count) // 128)))
                spans.append(Span(slot, pages, self.lengths[slot], count))
                self.lengths[slot] += count
        ids = np.array(random_ids(sum(counts), self.geometry, seed=sum(self.lengths)), np.int32)
        for side in self.sides:
            side.step = side.ops.begin(Batch(ids, tuple(spans)), side.state)
        return sum(counts)

    def both(self, call: Any) -> tuple[Any, Any]:
        """`call(side)` of the numpy side, then of the MLX side."""
        first, second = (call(side) for side in self.sides)
        return first, second


def layer(side: Side, index: int) -> Layer:
    weights: Weights = side.weights
    return weights.layers[index]


def assert_close(pair: tuple[Any, Any], tolerance: float = 2e-5) -> None:
    """Equal within `tolerance` of the largest magnitude."""
    expected, got = (np.asarray(x) for x in pair)
    assert expected.shape == got.shape
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got, expected, atol=tolerance * scale, rtol=0)
