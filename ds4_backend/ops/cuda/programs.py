"""Kernels as programs for one GPU, compiled by NVRTC and kept in a folder. It knows no launches and no network.

MLX compiles what it gets as text one after another, at its first launch, in every process anew: 210 s for Flash
(docs/decisions.md). Here 25 kernels take two seconds by 16 threads, once for a machine.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ds4_backend.ops.kernels.kernel import Kernel

C_TYPES = {"float32": "float", "float16": "half", "int32": "int", "uint8": "unsigned char", "uint32": "unsigned int"}
THREADS = 16

Signature = tuple[Kernel, tuple[str, ...]]
"""A kernel and the dtypes of its inputs and outputs, by name."""


class Translator(Protocol):
    """What `compiler.Compiler` is: one text to one program. `target` names the GPU and the compiler."""

    target: str

    def compile(self, text: str, name: str) -> bytes: ...


def text(kernel: Kernel, dtypes: tuple[str, ...]) -> str:
    """The whole program: inputs are read, but for those that a kernel writes in place; outputs follow them."""
    names = (*kernel.inputs, *kernel.outputs)
    read = ["const "] * len(kernel.inputs) + [""] * len(kernel.outputs)
    parts = ", ".join(f"{c}{C_TYPES[d]}* {n}" for c, d, n in zip(read, dtypes, names, strict=True))
    resident = kernel.constants.get("RESIDENT")  # threadgroups that a processor is to hold: so many registers
    bounds = f"__launch_bounds__({kernel.threads}, {resident}) " if resident else ""
    head = f'extern "C" __global__ void {bounds}{kernel.name}({parts})'
    return f'{kernel.header("cuda")}\n{head} {{\n{kernel.source("cuda")}}}\n'


class Programs:
    """Programs by kernel, from memory, from the folder, or compiled."""

    def __init__(self, translator: Translator, folder: Path) -> None:
        self.translator, self.folder = translator, folder
        self._kept: dict[str, bytes] = {}

    def get(self, signature: Signature) -> bytes:
        """The program of one kernel. Raises EngineError where it cannot be compiled."""
        kernel, dtypes = signature
        if kernel.name not in self._kept:
            self._kept[kernel.name] = self._read_or_compile(kernel, text(kernel, dtypes))
        return self._kept[kernel.name]

    def prepare(self, signatures: Iterable[Signature]) -> None:
        """Compile those that are missing, many at a time."""
        missing = {kernel.name: (kernel, dtypes) for kernel, dtypes in signatures if kernel.name not in self._kept}
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads:
            list(threads.map(self.get, missing.values()))

    def _read_or_compile(self, kernel: Kernel, source: str) -> bytes:
        digest = hashlib.sha256(f"{self.translator.target}\n{source}".encode()).hexdigest()[:16]
        path = self.folder / f"{kernel.name}-{digest}.cubin"
        with suppress(OSError):
            return path.read_bytes()
        program = self.translator.compile(source, kernel.name)
        with suppress(OSError):  # in a folder that cannot be written the next process compiles again
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_bytes(program)
            partial.replace(path)
        return program
