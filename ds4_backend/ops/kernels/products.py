"""Products of activations with raw blocks: fused for few rows, with decoded matrices for many. It knows no layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ds4_backend.ops.kernels import bodies, wide
from ds4_backend.ops.kernels.handles import Collapsed, Columns, Stack, Step
from ds4_backend.ops.kernels.kernel import Kernel, Launcher
from ds4_backend.ops.kernels.projections import (
    GRID,
    MOST_TOKENS,
    THREADS,
    Job,
    blocks_of,
    project,
    token_slots,
)
from ds4_backend.ops.mlx.linear import Blocks, multiply


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """What a launch of the same matrices needs every time; `owner` keeps them, and so their identity, alive."""

    kernel: Kernel
    groups: tuple[int, int, int]
    weights: list[mx.array]
    owner: Any


class Products:
    """Products by one launcher; with `plain` by stock MLX operations, where kernels failed their self-test."""

    def __init__(self, launcher: Launcher, *, plain: bool = False) -> None:
        self.launcher, self.plain = launcher, plain
        self._launches: dict[tuple[int, int], Launch] = {}

    @cached_property
    def grid(self) -> mx.array:
        """IQ2_XXS's 256 rows of 8 magnitudes as bytes, uint32 [512]."""
        return mx.array(_magnitudes().view(np.uint32).reshape(-1))

    @cached_property
    def picks(self) -> mx.array:
        """The same for tensor cores, uint32 [384]."""
        return mx.array(wide.picks(_magnitudes()))

    def fused(self, step: Step) -> bool:
        """Whether this step's products go through the fused kernels."""
        return step.tokens <= MOST_TOKENS and not self.plain

    def widely(self, jobs: Sequence[Job], slots: int) -> bool:
        """Whether tensor cores multiply: of several tokens, where the kernels are CUDA's."""
        return slots > 1 and self.launcher.language == "cuda" and wide.fits(jobs)

    def table(self, *matrices: Blocks, widely: bool = False) -> list[mx.array]:
        """The grid, where one of the matrices needs it: a kernel's last input."""
        if not any(m.format_name == GRID for m in matrices):
            return []
        return [self.picks if widely else self.grid]

    def jobs(
        self,
        x: mx.array | Collapsed,
        matrices: Sequence[Blocks],
        step: Step,
        stride: int,
        make: Callable[[], tuple[Job, ...]],
    ) -> mx.array:
        """At most 8 rows x through several matrices in one launch: [T, stride] float32.

        `make` gives their jobs, once for these matrices: what a launch needs is kept by their identity.
        """
        key = (id(matrices[0]), token_slots(step.tokens))
        launch = self._launches.get(key)
        if launch is None:
            jobs, how = make(), x.how if isinstance(x, Collapsed) else None
            widely = self.widely(jobs, key[1])
            kernel = wide.project(jobs, stride) if widely else project(jobs, key[1], stride, how)
            blocks = wide.blocks_of(jobs) if widely else blocks_of(jobs, key[1]) + (how.blocks if how else 0)
            weights = [*(m.raw for m in matrices), *self.table(*matrices, widely=widely)]
            launch = self._launches[key] = Launch(kernel, (blocks, 1, 1), weights, matrices)
        outputs = [((step.tokens, stride), "float32")]
        if not isinstance(x, Collapsed):
            return self.launcher.run(launch.kernel, [step.array, x, *launch.weights], outputs, launch.groups)[0]
        n = x.how.n
        outputs += [((1, n + n * n), "float32"), ((1, x.how.width), "float32")]
        inputs = [step.array, *x.inputs, *launch.weights]
        out, x.mixed, x.x = self.launcher.run(launch.kernel, inputs, outputs, launch.groups)
        return out

    def stack(self, x: mx.array | Collapsed, stack: Stack, step: Step) -> tuple[Columns, ...]:
        """x [T, D] through each matrix."""
        if self.fused(step):
            out = self.jobs(x, stack.matrices, step, stack.stride, stack.jobs)
        else:
            assert not isinstance(x, Collapsed), "of one token, for the fused kernels"
            out = self.wide(x, *stack.matrices)
        return tuple(Columns(out, at, m.rows) for m, at in zip(stack.matrices, stack.columns, strict=True))

    def one(self, x: mx.array, matrix: Blocks, step: Step, groups: int = 1) -> mx.array:
        """x [T, groups * in] through a matrix, or through a group of its rows each: [T, rows]."""
        if not self.fused(step):
            return self.wide(x, matrix)[:, : matrix.rows] if groups == 1 else self._plain_groups(x, matrix, groups)
        stride = x.shape[1]

        def jobs() -> tuple[Job, ...]:
            return (Job(matrix.format_name, matrix.rows, matrix.columns, 0, stride=stride, groups=groups),)

        return self.jobs(x, [matrix], step, matrix.rows, jobs)

    def wide(self, x: mx.array, *matrices: Blocks) -> mx.array:
        """Many rows: float16 [T, rows of all], rounded up to whole fours of columns; float32 where `plain`."""
        if self.plain:
            out = mx.concatenate([multiply(x.astype(mx.float32), m) for m in matrices], axis=1)
            return mx.pad(out, [(0, 0), (0, _whole(out.shape[1]) - out.shape[1])])
        return x.astype(mx.float16) @ self.decoded(*matrices).T

    def decoded(self, *matrices: Blocks) -> mx.array:
        """Matrices one under the other as float16 [rows, columns]."""
        columns, rows = matrices[0].columns, sum(m.rows for m in matrices)
        kernel = bodies.decode(tuple((m.format_name, m.rows) for m in matrices), columns)
        inputs = [*(m.raw for m in matrices), *self.table(*matrices)]
        groups = (-(-rows // (THREADS // 32)), 1, 1)
        (out,) = self.launcher.run(kernel, inputs, [((_whole(rows), columns), "float16")], groups)
        return out

    def grouped(self, parts: mx.array, matrix: Blocks) -> mx.array:
        """Many rows' groups, float16 [G, T, in], through each one's rows of a matrix: float16 [T, rows]."""
        weights = self.decoded(matrix).reshape(parts.shape[0], -1, matrix.columns)
        return (parts @ weights.swapaxes(1, 2)).swapaxes(0, 1).reshape(parts.shape[1], -1)

    @staticmethod
    def _plain_groups(x: mx.array, matrix: Blocks, groups: int) -> mx.array:
        rank, parts = matrix.rows // groups, x.reshape(x.shape[0], groups, -1)
        low = [multiply(parts[:, i], matrix, i * rank, (i + 1) * rank) for i in range(groups)]
        return mx.concatenate(low, axis=1)


def make_stack(matrices: tuple[Blocks, ...]) -> Stack:
    """Matrices side by side; rows of the output are whole fours of floats apart, so that any can be read by fours."""
    columns, at = [], 0
    for m in matrices:
        columns.append(at)
        at += m.rows
    return Stack(matrices, tuple(columns), _whole(at))


def padded(array: Any) -> mx.array:
    """A small float array as float32 of at least 8 values: Metal treats smaller inputs otherwise."""
    flat = np.asarray(array, np.float32).reshape(-1)
    return mx.array(np.concatenate([flat, np.zeros(max(0, 8 - len(flat)), np.float32)]))


def _magnitudes() -> NDArray[np.uint8]:
    """IQ2_XXS's grid, uint8 [256, 8]."""
    from gguf.quants import IQ2_XXS

    IQ2_XXS.init_grid()
    assert IQ2_XXS.grid is not None
    return np.ascontiguousarray(IQ2_XXS.grid.reshape(256, 8).astype(np.uint8))


def _whole(rows: int) -> int:
    return -(-rows // 4) * 4
