"""How fast this machine's memory is for the ops in use: a large copy, timed. It knows no model."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

REPEATS = 5
DEVICE_BYTES = 2 << 30
HOST_BYTES = 256 << 20


def copy_bandwidth(ops: str, nbytes: int | None = None) -> float:
    """Bytes a second, read and written both counted: the best of a few copies where these ops keep their weights."""
    return _host(nbytes or HOST_BYTES) if ops == "numpy" else _mlx(nbytes)


def _host(nbytes: int) -> float:
    source, target = np.ones(nbytes // 4, np.float32), np.empty(nbytes // 4, np.float32)
    return 2 * source.nbytes / _best(lambda: np.copyto(target, source))


def _mlx(nbytes: int | None) -> float:
    import mlx.core as mx

    if nbytes is None:
        nbytes = DEVICE_BYTES if mx.default_device() == mx.gpu else HOST_BYTES
    count = nbytes // 4
    whole = mx.arange(count, dtype=mx.uint32)
    mx.eval(whole)
    # the fastest differs by device: adding one, or the copy that joining two halves makes
    works = (lambda: whole + 1, lambda: mx.concatenate([whole[: count // 2], whole[count // 2 :]]))
    best = max(2 * whole.nbytes / _best(partial(_evaluate, work)) for work in works)
    mx.clear_cache()
    return best


def _evaluate(work: Callable[[], Any]) -> None:
    import mlx.core as mx

    mx.eval(work())


def _best(work: Callable[[], Any]) -> float:
    """Seconds of the fastest of some runs, after one to warm up."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
