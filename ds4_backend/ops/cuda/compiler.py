"""NVIDIA's runtime compiler (NVRTC) through ctypes: a kernel's text to a program for one GPU. It knows no launches."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ds4_backend.errors import EngineError

HEADERS = ("cuda_fp16.h", "mma.h", "crt/mma.h")
NAMES = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")


class Compiler:
    """NVRTC as MLX brings it along. `architecture` is such as `sm_90`; `target` says it with the compiler's version."""

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture
        self._library, self._options = _library(), [f"-I{place}" for place in _headers()]
        self.target = f"{architecture}, NVRTC {self._version()}"

    def compile(self, text: str, name: str) -> bytes:
        """The program of a text; any number of threads may compile at once. Raises EngineError with NVRTC's log."""
        program = c_void_p()
        self._call("nvrtcCreateProgram", byref(program), text.encode(), f"{name}.cu".encode(), 0, None, None)
        try:
            options = [f"--gpu-architecture={self.architecture}", "--std=c++17", *self._options]
            given = (c_char_p * len(options))(*(option.encode() for option in options))
            if self._library.nvrtcCompileProgram(program, len(options), given):
                raise EngineError(f"NVIDIA's compiler refused {name}: {self._text(program, 'ProgramLog')[:2000]!r}")
            return self._text(program, "CUBIN")
        finally:
            self._call("nvrtcDestroyProgram", byref(program))

    def _text(self, program: c_void_p, what: str) -> bytes:
        size = c_size_t()
        self._call(f"nvrtcGet{what}Size", program, byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def _version(self) -> str:
        major, minor = c_int(), c_int()
        self._call("nvrtcVersion", byref(major), byref(minor))
        return f"{major.value}.{minor.value}"

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise EngineError(f"{name} failed with NVRTC's code {code}")


def _packages() -> Iterator[Path]:
    """Folders of NVIDIA's Python packages."""
    spec = find_spec("nvidia")
    for place in (spec.submodule_search_locations or []) if spec else []:
        yield from sorted(Path(place).iterdir())


def _library() -> ctypes.CDLL:
    """NVRTC from NVIDIA's packages, or where the loader finds it; what it opens by name later is opened first."""
    folders = [folder / "lib" for folder in _packages()]
    for builtins in (path for folder in folders for path in sorted(folder.glob("libnvrtc-builtins.so.*"))):
        with suppress(OSError):
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    for name in (*(str(folder / name) for name in NAMES for folder in folders if (folder / name).exists()), *NAMES):
        with suppress(OSError):
            return ctypes.CDLL(name)
    raise EngineError("NVIDIA's runtime compiler (libnvrtc) was not found; it comes with mlx[cuda13]")


def _headers() -> list[Path]:
    """Where cuda_fp16.h, mma.h and what they include lie."""
    places = [*(folder / "include" for folder in _packages()), Path("/usr/local/cuda/include")]
    for header in HEADERS:
        if not any((place / header).exists() for place in places):
            raise EngineError(f"NVIDIA's header {header} was not found; `pip install 'ds4-backend[cuda]'` brings it")
    return [place for place in places if any((place / header).exists() for header in HEADERS)]
