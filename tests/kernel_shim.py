"""Runs kernels on the CPU, from the very texts that MLX would get, through the C++ headers in `tests/metal/include`.

`ShimLauncher` takes and gives MLX arrays of the CPU, so that whole ops run on it; writes into inputs land in them.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ds4_backend.ops.kernels.kernel import Kernel, Output

INCLUDE = Path(__file__).parent / "metal" / "include"
COMPILER = next(filter(shutil.which, (os.environ.get("CXX", ""), "clang++", "g++")), None)
WHY_NOT = "no C++ compiler (clang++ or g++) to run kernels on the CPU"
C_TYPES = {"float32": "float", "float16": "half", "int32": "int", "uint8": "uint8_t", "uint32": "uint"}
FLAGS = ("-O1", "-w", "-ffp-contract=off", "-fPIC", "-shared")
_IDS = {
    "metal": "uint3 threadgroup_position_in_grid = {shim_group.x, shim_group.y, shim_group.z};\n"
    "uint thread_index_in_threadgroup = shim_lane_number, thread_index_in_simdgroup = shim_lane_number % 32;\n"
    "uint simdgroup_index_in_threadgroup = shim_lane_number / 32;\n",
    "cuda": "uint3 blockIdx = {shim_group.x, shim_group.y, shim_group.z}, threadIdx = {shim_lane_number, 0, 0};\n",
}
_folder: Path | None = None


def folder() -> Path:
    """Where compiled kernels are: DS4_SHIM_CACHE, which processes may share and keep, or a folder of this process."""
    global _folder
    if _folder is None:
        _folder = Path(os.environ.get("DS4_SHIM_CACHE") or tempfile.mkdtemp(prefix="kernel_shim_"))
        _folder.mkdir(parents=True, exist_ok=True)
    return _folder


class ShimError(Exception):
    """What a GPU would answer with a hang or with nonsense."""


def program(kernel: Kernel, language: str, dtypes: Sequence[str]) -> str:
    """The C++ file around a kernel's texts. Only arrays of threadgroup memory are rewritten."""
    header, body = kernel.header(language), kernel.source(language)
    shared = r"\bthreadgroup\s+(\w+)\s+(\w+)\s*\[(.*?)\];" if language == "metal" else (
        r"__shared__ __align__\(32\) (\w+)\s+(\w+)\s*\[(.*?)\];"
    )  # fmt: skip
    body = re.sub(shared, r"\1* \2 = shim::shared<\1>(\3);", body)
    names = kernel.inputs + kernel.outputs
    const = ["const "] * len(kernel.inputs) + [""] * len(kernel.outputs)
    arguments = "".join(
        f"{c}{C_TYPES[d]}* {n} = ({c}{C_TYPES[d]}*)pointers[{i}];\n"
        for i, (c, d, n) in enumerate(zip(const, dtypes, names, strict=True))
    )
    return (
        f"{header}\nstatic void kernel_body(void** pointers) {{\n{arguments}"
        "const shim::Dim shim_group = shim::m().group; const uint shim_lane_number = shim::m().current;\n"
        f"{_IDS[language]}{body}}}\n"
        'extern "C" const char* run(void** p, unsigned x, unsigned y, unsigned z, int lanes, unsigned seed) {\n'
        "  return shim::launch(kernel_body, p, {x, y, z}, lanes, seed);\n}\n"
    )


def compiled(text: str, name: str, language: str) -> Any:
    """The program's `run`, compiled once; Metal is C++14 at heart, CUDA C++17."""
    assert COMPILER is not None
    command = [COMPILER, f"-std=c++{14 if language == 'metal' else 17}", *FLAGS, f"-I{INCLUDE}"]
    known = "\n".join([text, *command, *(path.read_text() for path in sorted(INCLUDE.iterdir()))])
    library = folder() / f"{name}_{hashlib.sha256(known.encode()).hexdigest()[:12]}.so"
    if not library.exists():
        partial = library.with_suffix(f".{os.getpid()}.cpp")  # another process may be at the same kernel
        partial.write_text(text, encoding="utf-8")
        built = partial.with_suffix(".so")
        done = subprocess.run([*command, str(partial), "-o", str(built)], capture_output=True, text=True)
        if done.returncode:
            raise ShimError(f"{name} does not compile:\n{done.stderr[:3000]}")
        built.rename(library)
        partial.unlink()
    run = ctypes.CDLL(str(library)).run
    run.restype = ctypes.c_char_p
    return run


class ShimLauncher:
    """Runs kernels of one language at once; `launches` counts them, `names` lists them."""

    def __init__(self, language: str = "metal", seed: int = 1) -> None:
        self.language, self.seed, self.launches = language, seed, 0
        self.names: list[str] = []
        self._built: dict[tuple[str, tuple[str, ...]], Any] = {}

    def run(
        self, kernel: Kernel, inputs: Sequence[Any], outputs: Sequence[Output], groups: tuple[int, int, int]
    ) -> list[mx.array]:
        assert min(groups) > 0, f"{kernel.body}: CUDA refuses the empty grid {groups}"
        mx.eval(*inputs)
        given = [np.array(a, copy=False) for a in inputs]
        for name, a in zip(kernel.inputs, given, strict=True):
            assert a.size >= 8 and a.flags.c_contiguous, f"{kernel.body}: {name} {a.shape}"
        made = [np.full(shape, -1 if dtype == "int32" else np.nan, dtype) for shape, dtype in outputs]
        dtypes = tuple(str(a.dtype) for a in [*given, *made])
        key = (kernel.name, dtypes)
        if key not in self._built:
            self._built[key] = compiled(program(kernel, self.language, dtypes), kernel.name, self.language)
        pointers = (ctypes.c_void_p * len(dtypes))(*[a.ctypes.data for a in [*given, *made]])
        self.launches += 1
        self.names.append(kernel.body)
        error = self._built[key](pointers, *groups, kernel.threads, self.seed + self.launches)
        if error:
            raise ShimError(f"{kernel.body}: {error.decode()}")
        return [mx.array(a) for a in made]
