"""The ops contract in fused CUDA kernels, over raw blocks in the GPU's memory."""

from __future__ import annotations

import os
from importlib.metadata import version

from platformdirs import user_cache_path

from ds4_backend.gguf.geometry import Geometry

# MLX reads this when it first touches the device: it ends a graph of launches when their inputs add up to that much,
# and weights would end one at every launch (see docs/decisions.md)
os.environ.setdefault("MLX_MAX_MB_PER_BUFFER", "1000000")
os.environ.setdefault("MLX_ENABLE_TF32", "0")

from ds4_backend.ops.kernels.kernel import MlxLauncher  # noqa: E402
from ds4_backend.ops.kernels.ops import KernelOps  # noqa: E402


class CudaOps(KernelOps):
    """Kernels by `mx.fast.cuda_kernel`."""

    def __init__(self, geometry: Geometry, *, cache_simulation: bool, without: frozenset[str] = frozenset()) -> None:
        keep_compiled()
        super().__init__(geometry, MlxLauncher("cuda"), cache_simulation=cache_simulation, without=without)


def keep_compiled() -> None:
    """Let MLX keep compiled kernels (two seconds each) in a folder that lasts, of this GPU and this MLX alone.

    MLX reads the folder's name when it compiles for the first time. A name that is set is kept.
    """
    import mlx.core as mx

    gpu = str(mx.device_info(mx.default_device()).get("device_name", "gpu")).replace(" ", "_").replace("/", "_")
    folder = user_cache_path("ds4-backend", appauthor=False) / "ptx" / version("mlx") / gpu
    os.environ.setdefault("MLX_PTX_CACHE_DIR", str(folder))


__all__ = ["CudaOps", "keep_compiled"]
