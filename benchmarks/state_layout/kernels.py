"""The bodies of `bodies.py` as callables, on a CUDA device through MLX or on the CPU through `cuda_on_cpu.h`.

Both take and give arrays of their own kind (`mx.array` or numpy) and write pools and rings in place.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bodies
import numpy as np

Array = Any
HERE = Path(__file__).parent
C_TYPES = {"float32": "float", "float16": "__half", "int32": "int"}


@dataclass(frozen=True)
class Spec:
    """A body and the names of its arrays, in order."""

    name: str
    source: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


APPEND_CSA = Spec(
    "append_csa",
    bodies.APPEND_CSA,
    (
        "spans",
        "tables",
        "window_row",
        "value",
        "gate",
        "ape",
        "norm",
        "index_value",
        "index_gate",
        "index_ape",
        "index_norm",
        "freqs",
        "window",
        "lane",
        "index_lane",
        "csa",
        "index",
        "after",
    ),
    ("done",),
)
APPEND_HCA = Spec(
    "append_hca",
    bodies.APPEND_HCA,
    ("spans", "tables", "window_row", "value", "gate", "ape", "norm", "freqs", "window", "lane", "hca", "after"),
    ("done",),
)
SCORE = Spec("score", bodies.SCORE, ("spans", "tables", "q", "weights", "index", "after"), ("scores",))
TOP_K = Spec("top_k", bodies.TOP_K, ("spans", "scores", "rows"), ("chosen", "best"))
ATTEND = Spec(
    "attend", bodies.ATTEND, ("spans", "tables", "q", "window", "pool", "chosen", "after"), ("parts", "stats")
)
COMBINE = Spec("combine", bodies.COMBINE, ("spans", "parts", "stats", "sinks", "freqs"), ("out",))


class Cuda:
    """Runs specs through `mx.fast.cuda_kernel`."""

    def __init__(self) -> None:
        import mlx.core as mx

        self.mx = mx
        self.kernels: dict[tuple[str, int], Any] = {}

    def array(self, x: np.ndarray) -> Array:
        """A device copy (what `mx.array` makes is managed memory, which pages in and out)."""
        a = self.mx.array(x)
        return self.mx.contiguous(a + self.mx.zeros((1,), a.dtype))

    def host(self, a: Array) -> np.ndarray:
        return np.array(a)

    def run(
        self,
        spec: Spec,
        inputs: list[Array],
        outputs: list[tuple[tuple[int, ...], str]],
        grid: tuple[int, int, int],
        threads: int,
        shared: int = 0,
        **constants: Any,
    ) -> list[Array]:
        """Launch `grid` blocks of `threads`. MLX wants the grid in threads."""
        mx = self.mx
        kernel = self.kernels.get((spec.name, shared))
        if kernel is None:
            kernel = mx.fast.cuda_kernel(
                spec.name, list(spec.inputs), list(spec.outputs), spec.source, bodies.HEADER, True, shared
            )
            self.kernels[spec.name, shared] = kernel
        return kernel(
            inputs=inputs,
            output_shapes=[shape for shape, _ in outputs],
            output_dtypes=[getattr(mx, dtype) for _, dtype in outputs],
            grid=(grid[0] * threads, grid[1], grid[2]),
            threadgroup=(threads, 1, 1),
            template=[("T", mx.float16), *constants.items()],
        )


class Cpu:
    """Runs specs through g++ and `cuda_on_cpu.h`, thread by thread."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp())

    def array(self, x: np.ndarray) -> Array:
        return np.array(x, order="C")

    def host(self, a: Array) -> np.ndarray:
        return a

    def _build(self, spec: Spec, dtypes: list[str], constants: dict[str, Any]) -> Any:
        names = spec.inputs + spec.outputs
        kinds = ["const "] * len(spec.inputs) + [""] * len(spec.outputs)
        arguments = ", ".join(f"{k}{C_TYPES[d]}* {n}" for k, d, n in zip(kinds, dtypes, names, strict=True))
        passed = ", ".join(f"({k}{C_TYPES[d]}*)p[{i}]" for i, (k, d) in enumerate(zip(kinds, dtypes, strict=True)))
        fixed = " ".join(f"constexpr int {n} = {int(v)};" for n, v in constants.items())
        dynamic = "char* dynamic = (char*)(((uintptr_t)dynamic_shared.data() + 15) & ~15ull);"
        source = re.sub(r"extern __shared__ .*", dynamic, spec.source)
        text = '#include "cuda_on_cpu.h"\n' + re.sub(r"#include.*", "", bodies.HEADER)
        text += f"typedef __half T;\nstatic void kernel({arguments}) {{ {fixed}\n{source}\n}}\n"
        text += 'extern "C" void run(void** p, Dim grid, Dim block, int shared) {\n'
        text += f"  launch(grid, block, shared, [=] {{ kernel({passed}); }});\n}}\n"
        stem = self.folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        library = stem.with_suffix(".so")
        if not library.exists():
            stem.with_suffix(".cpp").write_text(text)
            command = [
                "g++",
                "-std=c++17",
                "-O2",
                "-march=native",
                "-w",
                "-shared",
                "-fPIC",
                f"-I{HERE}",
                str(stem.with_suffix(".cpp")),
                "-o",
                str(library),
            ]
            subprocess.run(command, check=True)
        return ctypes.CDLL(str(library)).run

    def run(
        self,
        spec: Spec,
        inputs: list[Array],
        outputs: list[tuple[tuple[int, ...], str]],
        grid: tuple[int, int, int],
        threads: int,
        shared: int = 0,
        **constants: Any,
    ) -> list[Array]:
        poison = {"float32": np.nan, "float16": np.nan, "int32": -7777}
        made = [np.full(shape, poison[dtype], dtype) for shape, dtype in outputs]
        arrays = [*inputs, *made]
        function = self._build(spec, [str(a.dtype) for a in arrays], constants)

        class Dim(ctypes.Structure):
            _fields_ = [(n, ctypes.c_int) for n in "xyz"]

        pointers = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
        function(pointers, Dim(*grid), Dim(threads, 1, 1), ctypes.c_int(shared))
        return made
