"""The fused ops that the network is written against: one interface, an implementation per device.

`numpy` is the reference of every test and the CPU engine; `metal` and `cuda` are the engines of GPUs, `mlx` their
safety net on any MLX device.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ds4_backend.errors import SettingsError
from ds4_backend.gguf.geometry import Geometry
from ds4_backend.ops.base import Ops

if TYPE_CHECKING:
    from ds4_backend.ops.kernels.kernel import Launcher

# MLX reads these when it first touches the device. It ends a batch of launches when their inputs add up to the first:
# weights alone would end one at every launch (measured in docs/decisions.md). With the second, float32 products keep
# all their bits.
os.environ.setdefault("MLX_MAX_MB_PER_BUFFER", "1000000")
os.environ.setdefault("MLX_ENABLE_TF32", "0")

NAMES = ("numpy", "mlx", "metal", "cuda")


def make_ops(name: str, geometry: Geometry, *, cache_simulation: bool) -> Ops:
    """The implementation called `name`, for one network.

    Raises SettingsError if there is none of that name, or no such device.
    """
    if name == "numpy":
        from ds4_backend.ops.numpy import NumpyOps

        return NumpyOps(geometry, cache_simulation=cache_simulation)
    if name == "mlx":
        from ds4_backend.ops.mlx import MlxOps

        return MlxOps(geometry, cache_simulation=cache_simulation)
    if name in ("metal", "cuda"):
        _check_device(name)
        return _tested(name, geometry, cache_simulation)
    raise SettingsError(f"no ops are called {name!r}; there are {', '.join(NAMES)}")


def _check_device(name: str) -> None:
    """Raise SettingsError where MLX has no such device."""
    import mlx.core as mx

    if not {"metal": mx.metal, "cuda": mx.cuda}[name].is_available():
        raise SettingsError(
            f"the {name} ops need a {name.upper() if name == 'cuda' else 'Metal'} device, and MLX finds none here; "
            "the setting `ops` = auto takes what is there"
        )


def _tested(name: str, geometry: Geometry, cache_simulation: bool) -> Ops:
    """A device's ops, or what is right of them: kernels that fail their self-test on this machine give way to MLX's
    own operations."""
    from ds4_backend.ops.kernels.verdict import failed_families

    failed = failed_families(name, lambda: launcher(name))
    if "attention" in failed:
        return make_ops("mlx", geometry, cache_simulation=cache_simulation)
    if name == "metal":
        from ds4_backend.ops.metal import MetalOps

        return MetalOps(geometry, cache_simulation=cache_simulation, without=failed)
    from ds4_backend.ops.cuda import CudaOps

    return CudaOps(geometry, cache_simulation=cache_simulation, without=failed)


def self_tests(name: str) -> Iterator[tuple[str, float, bool]]:
    """Each kernel of these ops against the numpy op on this machine: (body, relative error, whether it is right).

    The mlx and the numpy ops have no kernels of their own: nothing comes.
    """
    if name in ("metal", "cuda"):
        from ds4_backend.ops.kernels.selftest import run

        for outcome in run(launcher(name)):
            yield outcome.body, outcome.error, outcome.ok


def launcher(name: str) -> Launcher:
    """What launches the kernels of `metal` or `cuda` on this machine."""
    if name == "cuda":
        from ds4_backend.ops.cuda import make_launcher

        return make_launcher()
    from ds4_backend.ops.kernels.kernel import MlxLauncher

    return MlxLauncher(name)
