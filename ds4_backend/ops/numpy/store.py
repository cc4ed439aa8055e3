"""Where the weights lie: by columns, side by side in large blocks. It knows no formulas and no names."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
BLOCK = 4 << 20
"""Values of a block, 16 MiB: from 4 MiB up numpy asks Linux for huge pages, and one row then runs a tenth faster."""
LINE = 16
"""Values of a cache line; every weight begins at one."""


class Store:
    """Hands out room in blocks; a weight larger than half a block gets one of its own.

    Pages of a block that nothing was written to take no memory.
    """

    def __init__(self) -> None:
        self._block = np.empty(0, np.float32)
        self._used = 0

    def empty(self, *shape: int) -> Float:
        """Room for an array of this shape; its values are not set."""
        size = math.prod(shape)
        if size > BLOCK // 2:
            return np.empty(shape, np.float32)
        if self._used + size > len(self._block):
            self._block, self._used = np.empty(BLOCK, np.float32), 0
        start = self._used
        self._used += -(-size // LINE) * LINE
        return self._block[start : start + size].reshape(shape)

    def by_columns(self, weight: Float) -> Float:
        """The same [..., out, in], laid out as [..., in, out]: BLAS multiplies rows by it up to twice as fast."""
        turned = weight.swapaxes(-1, -2)
        room = self.empty(*turned.shape)
        room[:] = turned
        return room.swapaxes(-1, -2)
