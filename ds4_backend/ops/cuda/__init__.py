"""The ops contract in fused CUDA kernels, over raw blocks in the GPU's memory."""

from __future__ import annotations

import os
from importlib.metadata import version

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.ops.kernels.kernel import MlxLauncher
from ds4_backend.ops.kernels.ops import KernelOps
from ds4_backend.ops.kernels.verdict import cache_folder, device_name


class CudaOps(KernelOps):
    """Kernels by `mx.fast.cuda_kernel`."""

    def __init__(self, geometry: Geometry, *, cache_simulation: bool, without: frozenset[str] = frozenset()) -> None:
        keep_compiled()
        super().__init__(geometry, MlxLauncher("cuda"), cache_simulation=cache_simulation, without=without)


def keep_compiled() -> None:
    """Let MLX keep compiled kernels (two seconds each) in a folder that lasts, of this GPU and this MLX alone.

    MLX reads the folder's name when it compiles for the first time. A name that is set is kept.
    """
    folder = cache_folder() / "ptx" / version("mlx") / device_name()
    os.environ.setdefault("MLX_PTX_CACHE_DIR", str(folder))


__all__ = ["CudaOps", "keep_compiled"]
