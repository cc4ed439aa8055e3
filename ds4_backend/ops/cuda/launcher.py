"""Launches of kernels on CUDA: one at a time through MLX, or taken down on a tape. It knows no network."""

from __future__ import annotations

from collections.abc import Sequence

from ds4_backend.ops.cuda.programs import Programs
from ds4_backend.ops.cuda.tape import Tape
from ds4_backend.ops.kernels.kernel import Array, Kernel, Output, dtype_name


class CudaLauncher:
    """`mx.fast.precompiled_cuda_kernel` with programs of our own; nothing runs while there is a `tape`.

    `launches` counts all, `by_mlx` those that MLX was given.
    """

    language = "cuda"

    def __init__(self, programs: Programs) -> None:
        import mlx.core as mx

        self.programs, self.launches, self.by_mlx = programs, 0, 0
        self.tape: Tape | None = None
        self._run = mx.fast.precompiled_cuda_kernel
        self._dtypes = {name: getattr(mx, name) for name in ("float32", "float16", "int32")}
        self._known: dict[int, tuple[Kernel, bytes]] = {}

    def run(
        self, kernel: Kernel, inputs: Sequence[Array], outputs: Sequence[Output], groups: tuple[int, int, int]
    ) -> list[Array]:
        if self.tape is not None:
            return self.tape.ask(kernel, inputs, outputs, groups)
        self.launches += 1
        self.by_mlx += 1
        return self._by_mlx(kernel, inputs, outputs, groups)

    def _by_mlx(
        self, kernel: Kernel, inputs: Sequence[Array], outputs: Sequence[Output], groups: tuple[int, int, int]
    ) -> list[Array]:
        known = self._known.get(id(kernel))
        if known is None:
            dtypes = (*(dtype_name(a) for a in inputs), *(dtype for _, dtype in outputs))
            known = self._known[id(kernel)] = (kernel, self.programs.get((kernel, dtypes)))
        return self._run(
            name=kernel.name,
            compiled_source=known[1],
            inputs=list(inputs),
            output_shapes=[shape for shape, _ in outputs],
            output_dtypes=[self._dtypes[dtype] for _, dtype in outputs],
            scalars=[],
            grid=(groups[0] * kernel.threads, groups[1], groups[2]),
            threadgroup=(kernel.threads, 1, 1),
        )
