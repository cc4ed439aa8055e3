"""The ops contract in fused CUDA kernels, over raw blocks in the GPU's memory."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ds4_backend.errors import EngineError
from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.reader import Tensor
from ds4_backend.ops.base import Batch, State
from ds4_backend.ops.cuda.addresses import Addresses
from ds4_backend.ops.cuda.compiler import Compiler
from ds4_backend.ops.cuda.driver import Driver
from ds4_backend.ops.cuda.launcher import CudaLauncher
from ds4_backend.ops.cuda.programs import Programs
from ds4_backend.ops.cuda.replay import RecordingFailed, Replay
from ds4_backend.ops.cuda.weights import Filler
from ds4_backend.ops.kernels.handles import Step
from ds4_backend.ops.kernels.kernel import Launcher, MlxLauncher
from ds4_backend.ops.kernels.ops import KernelOps
from ds4_backend.ops.kernels.projections import MOST_TOKENS
from ds4_backend.ops.kernels.state import KernelState
from ds4_backend.ops.kernels.verdict import cache_folder, device_name
from ds4_backend.ops.mlx.linear import Blocks, load_blocks

log = logging.getLogger(__name__)


class CudaOps(KernelOps):
    """Kernels by programs of our own; steps of one token a conversation as graphs, where NVIDIA's driver lets us."""

    replay: Replay | None = None
    fill: Filler | None = None

    def __init__(self, geometry: Geometry, *, cache_simulation: bool, without: frozenset[str] = frozenset()) -> None:
        launcher = make_launcher()
        super().__init__(geometry, launcher, cache_simulation=cache_simulation, without=without)
        if not isinstance(launcher, CudaLauncher):
            return
        self.fill = filler()
        if not without:
            self.replay = replay = Replay(driver(), launcher, self.fill.addresses, settle)
            weakref.finalize(self, replay.close).atexit = False  # a process that ends gives everything back anyway

    def blocks(self, tensor: Tensor) -> Blocks:
        return load_blocks(tensor, self.fill) if self.fill else super().blocks(tensor)

    def compute(self, batch: Batch, state: State, rows: int, work: Callable[[], Any]) -> NDArray[np.float32]:
        if self.replay is None or not one_token_each(batch, rows):
            return super().compute(batch, state, rows, work)
        assert isinstance(state, KernelState)
        try:
            return self.replay.run(self.planner.plan(batch), state, work)
        except RecordingFailed as error:  # nothing of this step has run
            log.warning("%s; decoding goes on without CUDA graphs, which is slower", error)
            self.replay = None
            return super().compute(batch, state, rows, work)

    def begin(self, batch: Batch, state: State) -> Step:
        if self.replay is None or self.replay.plan is None:
            return super().begin(batch, state)
        assert isinstance(state, KernelState)
        step: Any = self.replay.step
        self._current = Step(self.replay.plan, step, state, step)
        return self._current

    def _hand_over(self, array: Any, step: Step) -> None:
        if self.replay is None or self.replay.plan is None:
            super()._hand_over(array, step)


def one_token_each(batch: Batch, rows: int) -> bool:
    """Whether this is a step of decode that wants all its logits."""
    return len(batch.ids) <= MOST_TOKENS and len(batch.ids) == len(batch.spans) == rows


def settle(state: KernelState) -> None:
    """Wait for everything that MLX was given."""
    state.settle()
    mx.synchronize()


@cache
def driver() -> Driver:
    """The process's one, in MLX's context."""
    mx.eval(mx.zeros((1,)) + 1)  # the context is there once something ran
    return Driver()


@cache
def filler() -> Filler:
    """The process's one: its threads and buffers serve every model."""
    return Filler(driver(), Addresses(translator()))


@cache
def translator() -> Compiler:
    """NVRTC for the GPU that MLX computes on."""
    info = mx.device_info(mx.default_device())
    return Compiler(f"sm_{info['compute_capability_major']}{info['compute_capability_minor']}")


def make_launcher() -> Launcher:
    """Ours, or MLX's where NVIDIA's compiler or driver cannot be had: slower to start and to decode, and right."""
    # of this GPU and this MLX alone; MLX reads it when it compiles a kernel of its own for the first time
    os.environ.setdefault("MLX_PTX_CACHE_DIR", str(cache_folder() / "ptx" / version("mlx") / device_name()))
    try:
        filler()  # the driver, the compiler, and a first kernel
        programs = Programs(translator(), cache_folder() / "cubin" / device_name())
    except EngineError as error:
        log.warning(
            "%s; kernels go through MLX's own compiler, which makes the first answer and decoding slower", error
        )
        return MlxLauncher("cuda")
    return CudaLauncher(programs)


__all__ = ["CudaLauncher", "CudaOps", "make_launcher"]
