"""Part `ways`: bytes of a file in memory to the GPU by each way there is, in bytes a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import options
import results

from ds4_backend.gguf.reader import open_gguf
from ds4_backend.ops.mlx import upload as module
from ds4_backend.ops.mlx.upload import upload

LARGEST = 3 << 30
"""Bytes that each way copies: a few routed tensors."""


def rate(tensors: list[np.ndarray], way: Callable[[np.ndarray], mx.array]) -> dict[str, Any]:
    """Copy the tensors one after another, keeping none; the sum of each shows that the bytes arrived."""
    start, sums = time.perf_counter(), []
    for data in tensors:
        array = way(data)
        mx.eval(array)
        sums.append(int(mx.sum(array[:1], stream=mx.default_device()).item()))
        del array
    seconds = time.perf_counter() - start
    wanted = [int(data[:1].astype(np.uint64).sum()) % (1 << 32) for data in tensors]
    nbytes = sum(data.nbytes for data in tensors)
    mx.clear_cache()
    return {"bytes_per_second": nbytes / seconds, "right": [s % (1 << 32) for s in sums] == wanted}


def with_threads(count: int, part_bytes: int) -> Callable[[np.ndarray], mx.array]:
    """`upload` with another number of threads, or parts of another size."""

    def way(data: np.ndarray) -> mx.array:
        if count != module.THREADS:
            module.THREADS = count
            module._pool.cache_clear()
        return upload(data, part_bytes)

    return way


def ways(told: Any) -> dict[str, Any]:
    """Every way, best of two."""
    with open_gguf(told.file) as file:
        tensors: list[np.ndarray] = []
        for name, tensor in file.tensors.items():
            if "_exps." in name and sum(t.nbytes for t in tensors) + tensor.nbytes <= LARGEST:
                tensors.append(tensor.data)
        found: dict[str, Any] = {"bytes": sum(t.nbytes for t in tensors)}
        tried = {
            f"upload, {count} threads, parts of {size} MiB": with_threads(count, size << 20)
            for count, size in ((1, 64), (4, 64), (8, 64), (16, 64), (8, 16), (8, 256))
        }
        tried["mx.array, read once on the device"] = lambda data: mx.array(data) | 0
        for name, way in tried.items():
            both = [rate(tensors, way) for _ in range(2)]
            found[name] = max(both, key=lambda r: r["bytes_per_second"])
            results.partly("ways", found)
    return found


if __name__ == "__main__":
    told = options.read()
    results.attempt("ways", lambda: ways(told))
