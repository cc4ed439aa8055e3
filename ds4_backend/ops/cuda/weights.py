"""Host bytes into memory of MLX's arrays, by several threads through pinned buffers. It knows no formats.

MLX's own ways took 1.7 GB/s (`mx.array`) and, by its file loader on eight threads, 2.8 GB/s on an H200.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

PART_BYTES = 4 << 20
"""Bytes of a pinned buffer, and so of a copy; all stay pinned while the process lives."""
THREADS = 8


class Copier(Protocol):
    """What `driver.Driver` is to this module."""

    def use(self) -> None: ...
    def new_stream(self) -> int: ...
    def pinned(self, nbytes: int) -> int: ...
    def upload(self, address: int, host: int, nbytes: int, stream: int | None = None) -> None: ...
    def synchronize(self, stream: int | None = None) -> None: ...


class Filler:
    """Brings arrays to the device; a buffer and a stream for each thread are made when first needed, and kept."""

    def __init__(self, device: Copier, addresses: Callable[[Sequence[Any]], list[int]]) -> None:
        self.device, self.addresses = device, addresses
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="weights")
        self._lanes: SimpleQueue[tuple[int, int]] = SimpleQueue()
        self._made = 0

    def __call__(self, data: NDArray[np.uint8]) -> mx.array:
        """A copy of `data` in the device's memory, complete."""
        whole, flat = mx.zeros(data.shape, mx.uint8), np.ascontiguousarray(data).reshape(-1)
        if not flat.size:
            return whole
        (address,) = self.addresses([whole])
        starts = range(0, len(flat), PART_BYTES)
        self._make_lanes(min(THREADS, len(starts)))
        parts = [(address + start, flat[start : start + PART_BYTES]) for start in starts]
        copies = [self._threads.submit(self._copy, *part) for part in parts]
        wait(copies)  # all of them, before an error lets go of their target
        for copy in copies:
            copy.result()
        return whole

    def _make_lanes(self, count: int) -> None:
        while self._made < count:
            self.device.use()
            self._lanes.put((self.device.pinned(PART_BYTES), self.device.new_stream()))
            self._made += 1

    def _copy(self, address: int, part: NDArray[np.uint8]) -> None:
        host, stream = self._lanes.get()
        try:
            buffer = np.ctypeslib.as_array((ctypes.c_uint8 * len(part)).from_address(host))
            np.copyto(buffer, part)  # lets other threads run
            self.device.use()
            self.device.upload(address, host, len(part), stream)
            self.device.synchronize(stream)
        finally:
            self._lanes.put((host, stream))
