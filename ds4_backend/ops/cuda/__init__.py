"""The ops contract in fused CUDA kernels, over raw blocks in the GPU's memory."""

from __future__ import annotations

import os

from platformdirs import user_cache_path

from ds4_backend.gguf.geometry import Geometry


def set_environment() -> None:
    """What MLX reads before it first touches the device; see docs/decisions.md. Values that are set are kept."""
    # MLX ends a graph of launches when their inputs add up to this: weights would end one at every launch
    os.environ.setdefault("MLX_MAX_MB_PER_BUFFER", "1000000")
    os.environ.setdefault("MLX_ENABLE_TF32", "0")
    # a kernel takes about two seconds to compile: keep what was compiled
    os.environ.setdefault("MLX_PTX_CACHE_DIR", str(user_cache_path("ds4-backend") / "ptx"))


set_environment()

from ds4_backend.ops.kernels.kernel import MlxLauncher  # noqa: E402
from ds4_backend.ops.kernels.ops import KernelOps  # noqa: E402


class CudaOps(KernelOps):
    """Kernels by `mx.fast.cuda_kernel`."""

    def __init__(self, geometry: Geometry, *, cache_simulation: bool, without: frozenset[str] = frozenset()) -> None:
        super().__init__(geometry, MlxLauncher("cuda"), cache_simulation=cache_simulation, without=without)


__all__ = ["CudaOps", "set_environment"]
