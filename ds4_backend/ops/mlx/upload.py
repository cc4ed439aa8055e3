"""Host bytes into a GPU's own memory, fast. It knows no formats and no network.

`mx.array` of host bytes on CUDA gives managed memory that moves to the GPU page by page when it is first read, at
1.7 GB/s, and moves back when the host looks. MLX's file loader instead allocates on the GPU and copies there. It takes
any file object, so here is one that serves an array's bytes; large arrays go in parts, on several threads, each with
the MLX stream of its own thread.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import BinaryIO, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

PART_BYTES = 64 << 20
"""Bytes a thread copies at a time; an array beyond it is put together on the GPU."""
THREADS = 8


def upload(data: NDArray[np.uint8], part_bytes: int = PART_BYTES) -> mx.array:
    """A copy of `data` (any shape, of one dimension at least) in the memory of MLX's default device, evaluated.

    Takes as much again of the device's memory as `data` has while it works, and leaves it in MLX's cache.
    """
    data = np.ascontiguousarray(data)
    parts = list(_parts(data, part_bytes))
    if len(parts) == 1:
        return _load(data)
    whole = mx.concatenate(list(_pool().map(_load, parts)), axis=0)
    mx.eval(whole)
    return whole


def _parts(data: NDArray[np.uint8], part_bytes: int) -> Iterator[NDArray[np.uint8]]:
    """Runs along the first axis, alike in size so that MLX uses their buffers again."""
    count = min(len(data), -(-data.nbytes // part_bytes)) or 1
    step = -(-len(data) // count)
    for first in range(0, max(len(data), 1), max(step, 1)):
        yield data[first : first + step]


def _load(data: NDArray[np.uint8]) -> mx.array:
    if not data.nbytes:
        return mx.zeros(data.shape, mx.uint8)
    try:
        loaded = mx.load(cast(BinaryIO, _Npy(data)), format="npy")
    except (TypeError, ValueError, RuntimeError) as error:  # another MLX may take no such file
        log.warning("MLX does not load from memory (%s); weights are copied to the GPU slowly", error)
        loaded = mx.array(data) | 0  # a copy on the device: the first one may lie in managed memory
        mx.eval(loaded)
    assert isinstance(loaded, mx.array)
    return loaded


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads are kept: MLX's streams are never given back."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="upload")


class _Npy(io.RawIOBase):
    """An .npy file that is nowhere: a header, then an array's bytes."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(data))
        self._head = head.getvalue()
        self._data = data.reshape(-1)
        self._at = 0

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        """Fill `target` from here on; how many bytes there were."""
        buffer = np.frombuffer(target, np.uint8)
        done = 0
        for start, source in ((0, np.frombuffer(self._head, np.uint8)), (len(self._head), self._data)):
            first = self._at - start
            if first < len(source) and done < len(buffer):
                run = source[first : first + len(buffer) - done]
                np.copyto(buffer[done : done + len(run)], run)  # lets other threads run
                done += len(run)
                self._at += len(run)
        return done

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a place, counted from the start, from here, or from the end."""
        self._at = offset + (0, self._at, len(self._head) + len(self._data))[whence]
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at
