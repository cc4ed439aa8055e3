"""Part `machine`: what was measured on: the GPU, its driver, MLX, and the speed of its memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import mlx.core as mx
import options
import results

from ds4_backend.measure.bandwidth import copy_bandwidth
from ds4_backend.ops.device import mlx_device


def about() -> dict[str, Any]:
    """Names and versions."""
    return {
        "gpu": _driver(),
        "device": str(mlx_device()),
        "mlx": mx.__version__,
        "packages": {name: _version(name) for name in ("numpy", "gguf", "nvidia-cuda-nvrtc")},
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    }


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "no NVIDIA driver"
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True).stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    options.read()
    results.attempt("machine", about)
    results.attempt("bandwidth", lambda: {"copy_bytes_per_second": copy_bandwidth("mlx")})
