"""Pinned host memory that results land in, lent to the arrays that are handed out. It knows nothing of what is in them.

A copy of eight rows of Flash's logits would take 0.8 ms on the host, most of it for pages that are touched first.
"""

from __future__ import annotations

import math
import weakref
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Pinning(Protocol):
    """What `driver.Driver` is to this module."""

    def pinned(self, nbytes: int) -> int: ...
    def unpin(self, address: int) -> None: ...


class _Block:
    """The owner of an array's memory: numpy keeps it alive as long as the array or any view of it."""

    def __init__(self, address: int, shape: tuple[int, ...]) -> None:
        self.__array_interface__: dict[str, Any] = {
            "data": (address, False), "shape": shape, "typestr": "<f4", "version": 3
        }  # fmt: skip


class Landing:
    """Blocks of one device; what is dropped is lent again. Use it with the device's context current."""

    def __init__(self, device: Pinning) -> None:
        self._device = device
        self._free: list[tuple[int, int]] = []
        self._closed = False

    def array(self, shape: tuple[int, ...]) -> tuple[NDArray[np.float32], int]:
        """A float32 array of nobody else's memory, and its address."""
        nbytes = 4 * math.prod(shape)
        found = next((block for block in self._free if block[0] == nbytes), None)
        if found:
            self._free.remove(found)
        address = found[1] if found else self._device.pinned(nbytes)
        block = _Block(address, shape)
        weakref.finalize(block, self._dropped, nbytes, address).atexit = False
        return np.asarray(block), address

    def close(self) -> None:
        """Give back what is not lent; what is follows when it is dropped."""
        self._closed = True
        while self._free:
            self._device.unpin(self._free.pop()[1])

    def _dropped(self, nbytes: int, address: int) -> None:
        if self._closed:
            self._device.unpin(address)
        else:
            self._free.append((nbytes, address))
