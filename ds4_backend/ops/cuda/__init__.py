"""The ops contract in fused CUDA kernels, over raw blocks in the GPU's memory."""

from __future__ import annotations

import os
from importlib.metadata import version

from platformdirs import user_cache_path

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.ops.kernels.kernel import MlxLauncher
from ds4_backend.ops.kernels.ops import KernelOps


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
