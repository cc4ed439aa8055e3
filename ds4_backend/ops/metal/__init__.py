"""The ops contract in fused Metal kernels, over raw blocks in shared memory."""

from __future__ import annotations

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.ops.kernels.kernel import MlxLauncher
from ds4_backend.ops.kernels.ops import KernelOps


class MetalOps(KernelOps):
    """Kernels by `mx.fast.metal_kernel`."""

    def __init__(self, geometry: Geometry, *, cache_simulation: bool, without: frozenset[str] = frozenset()) -> None:
        super().__init__(geometry, MlxLauncher("metal"), cache_simulation=cache_simulation, without=without)


__all__ = ["MetalOps"]
