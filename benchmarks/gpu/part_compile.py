"""Part `compile`: every kernel that the model will launch, compiled by several threads into the cache folder.

A network of few layers whose weights are zeros walks through the steps of decode and prefill; nothing is launched, what
is asked for is written down and gives zeros.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import options
import results

from ds4_backend.convert.recipe import choose_format
from ds4_backend.gguf.formats import FORMATS
from ds4_backend.gguf.geometry import CSA, HCA, SLIDING, Geometry
from ds4_backend.gguf.reader import Tensor
from ds4_backend.gguf.schema import expected_tensors
from ds4_backend.gguf.shapes import first_layers
from ds4_backend.measure.synthetic_state import synthetic_sequence
from ds4_backend.model import Model
from ds4_backend.model.weights import bind
from ds4_backend.ops.kernels import ops as kernel_ops
from ds4_backend.ops.kernels.bodies import HYPER_ALONE
from ds4_backend.ops.kernels.kernel import Listener
from ds4_backend.ops.kernels.ops import KernelOps
from ds4_backend.ops.kernels.verdict import failed_families
from ds4_backend.ops.mlx.linear import Blocks

STEPS = ((1, 1), (2, 1), (4, 1), (8, 1), (1, 9), (1, HYPER_ALONE + 1))
"""Conversations, and tokens of each: decode of 1, 2, 4 and 8, and short and long prefill (more than 8 tokens)."""


def few_layers(g: Geometry) -> Geometry:
    """Enough layers for every kind and both routers: kernels do not depend on how many there are."""
    for count in range(1, g.block_count + 1):
        cut = first_layers(g, count)
        kinds = set(cut.attention_compress_ratios)
        if count > g.hash_layer_count and kinds >= {SLIDING, CSA, HCA} & set(g.attention_compress_ratios):
            return cut
    return g


def blank_tensors(g: Geometry, recipe: str) -> dict[str, Tensor]:
    """The shapes and formats of a recipe; the zeros take no memory until they are read."""
    found = {}
    for name, shape in expected_tensors(g).items():
        format = FORMATS[choose_format(name, shape, recipe)[0]]
        width = shape[-1] // format.block_size * format.block_bytes
        found[name] = Tensor(name, shape, format, np.zeros((*shape[:-1], width), np.uint8))
    return found


def blank_model(g: Geometry, recipe: str, launcher: Listener) -> Model:
    """A model whose matrices are zeros that no device holds until a kernel reads them."""

    def blank(tensor: Tensor) -> Blocks:
        return Blocks(mx.zeros(tensor.data.shape, mx.uint8), tensor.format.name, tensor.shape[-1], None)

    plain, kernel_ops.load_blocks = kernel_ops.load_blocks, blank
    try:
        ops = KernelOps(g, launcher, cache_simulation=True)
        return Model(g, ops, bind(blank_tensors(g, recipe), g, ops))
    finally:
        kernel_ops.load_blocks = plain


def walk(model: Model) -> None:
    """Every step at a context that chooses no rows, and at one that does."""
    for length in (128, (model.geometry.attention_indexer_top_k + 64) * CSA):
        for count, tokens in STEPS:
            crowd = [synthetic_sequence(model, length, seed) for seed in range(count)]
            model.forward([(one, [1] * tokens) for one in crowd])
            for one in crowd:
                one.release()


def compile_all(told: Any) -> dict[str, Any]:
    """All kernels of the geometry and recipe."""
    if told.ops != "cuda":
        return {"skipped": f"the {told.ops} ops compile nothing ahead"}
    from ds4_backend.ops.cuda import CudaLauncher, make_launcher

    launcher = make_launcher()
    if not isinstance(launcher, CudaLauncher):
        return {"skipped": "no compiler but MLX's, which keeps nothing"}
    listener = Listener(told.ops)
    walk(blank_model(few_layers(options.geometry(told)), told.recipe, listener))
    launcher.programs.prepare(listener.asked.values())
    nbytes = sum(len(launcher.programs.get(signature)) for signature in listener.asked.values())
    wrong = sorted(failed_families(told.ops, lambda: launcher))  # the self-test, which a first load would wait for
    return {"kernels": len(listener.asked), "bytes": nbytes, "families that failed": wrong}


if __name__ == "__main__":
    told = options.read()
    results.attempt("compile", lambda: compile_all(told))
