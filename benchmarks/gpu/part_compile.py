"""Part `compile`: every kernel that the model will launch, compiled by several processes at once into MLX's folder.

A kernel takes a second or two, MLX compiles one after another, and a network has about a hundred. Here each process
walks through the steps of a few layers whose weights are zeros and launches its own share of the kernels, once; what it
does not launch gives zeros. The shares are disjoint, so no two processes write the same file of MLX_PTX_CACHE_DIR.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
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
from ds4_backend.ops.kernels.kernel import MlxLauncher
from ds4_backend.ops.kernels.ops import KernelOps
from ds4_backend.ops.mlx.linear import Blocks

WORKERS = 14
"""Processes at most; each takes a core, a CUDA context, and the largest tensors of a layer (1.2 GB for Flash)."""
STEPS = ((1, 1), (2, 1), (4, 1), (8, 1), (1, 9), (1, HYPER_ALONE + 1))
"""Conversations, and tokens of each: decode of 1, 2, 4 and 8, and short and long prefill (more than 8 tokens)."""


class Share:
    """Launches every `of`-th new kernel, the `number`-th of them; whatever is asked for gives zeros."""

    def __init__(self, launcher: Any, language: str, number: int, of: int) -> None:
        self.launcher, self.language, self.number, self.of = launcher, language, number, of
        self.launches = 0
        self.seen: dict[str, int] = {}
        self.mine: list[str] = []

    def run(self, kernel: Any, inputs: Any, outputs: Any, groups: tuple[int, int, int]) -> list[mx.array]:
        """Zeros; a kernel that is seen first and is this process's runs once, on fresh zeros for its weights."""
        if kernel.name not in self.seen:
            self.seen[kernel.name] = len(self.seen)
            if self.seen[kernel.name] % self.of == self.number:
                self.mine.append(kernel.name)
                given = [mx.zeros(a.shape, a.dtype) if a.dtype == mx.uint8 else a for a in inputs]
                mx.eval(self.launcher.run(kernel, given, outputs, groups))
                mx.clear_cache()
        return [mx.zeros(shape, getattr(mx, dtype)) for shape, dtype in outputs]


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


def blank_model(g: Geometry, recipe: str, launcher: Share) -> Model:
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


def work(told: Any, number: int, of: int) -> None:
    """One process."""
    share = Share(MlxLauncher(told.ops), told.ops, number, of)
    walk(blank_model(few_layers(options.geometry(told)), told.recipe, share))
    print(f"  {number}: {len(share.mine)} of {len(share.seen)} kernels", flush=True)


def everything(told: Any) -> dict[str, Any]:
    """All processes, to their end or the part's."""
    if told.ops not in ("cuda", "metal"):
        return {"skipped": f"the {told.ops} ops compile nothing"}
    of, end = min(WORKERS, os.cpu_count() or 1), time.monotonic() + 0.9 * told.seconds
    folder = os.environ.get("MLX_PTX_CACHE_DIR")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    words = [sys.executable, *sys.argv]
    running = [subprocess.Popen([*words, "--worker", f"{number}/{of}"]) for number in range(of)]
    while any(process.poll() is None for process in running) and time.monotonic() < end:
        time.sleep(0.5)
    late = [number for number, process in enumerate(running) if process.poll() is None]
    for process in running:
        process.kill()
        process.wait()
    failed = [number for number, process in enumerate(running) if process.returncode]
    files = len(list(Path(folder).iterdir())) if folder else None
    return {"processes": of, "failed": failed, "stopped": late, "files": files}


if __name__ == "__main__":
    told = options.read()
    if told.worker:
        work(told, *map(int, told.worker.split("/")))
    else:
        results.attempt("compile", lambda: everything(told))
