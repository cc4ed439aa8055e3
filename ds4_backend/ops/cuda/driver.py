"""NVIDIA's driver through ctypes: modules, memory, and graphs of launches. It knows no kernels and no network.

MLX owns the device's primary context; everything here runs in it, on a stream of its own. Symbols are those of the CUDA
driver API (`cuda.h`), with the versions that it exports for them.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass
from typing import Any

from ds4_backend.errors import EngineError

NON_BLOCKING, RELAXED = 1, 2
"""CU_STREAM_NON_BLOCKING, CU_STREAM_CAPTURE_MODE_RELAXED: what else happens meanwhile does not end the capture."""
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuCtxGetCurrent": (POINTER(c_void_p),),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxSynchronize": (),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuModuleLoadData": (POINTER(c_void_p), c_char_p),
    "cuModuleGetFunction": (POINTER(c_void_p), c_void_p, c_char_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, POINTER(c_void_p)),
    "cuGraphInstantiateWithFlags": (POINTER(c_void_p), c_void_p, c_ulonglong),
    "cuGraphUpload": (c_void_p, c_void_p),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphExecDestroy": (c_void_p,),
    "cuLaunchKernel": (c_void_p, *[c_uint] * 7, c_void_p, POINTER(c_void_p), POINTER(c_void_p)),
    "cuMemAlloc_v2": (POINTER(c_ulonglong), c_size_t),
    "cuMemFree_v2": (c_ulonglong,),
    "cuMemAllocHost_v2": (POINTER(c_void_p), c_size_t),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_ulonglong, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_ulonglong, c_size_t, c_void_p),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
}


@dataclass(frozen=True, slots=True)
class Call:
    """One launch: a function, its threadgroups and threads, and the addresses of its arrays."""

    function: int
    groups: tuple[int, int, int]
    threads: int
    addresses: tuple[int, ...]


class Driver:
    """The driver, in the context that is current on this thread. Raises EngineError with NVIDIA's name of an error."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise EngineError(f"NVIDIA's driver library cannot be opened ({error})") from None
        for name, arguments in SIGNATURES.items():
            if not hasattr(self._library, name):
                raise EngineError(f"NVIDIA's driver is too old: it has no {name}; the one for CUDA 12 or newer has it")
            getattr(self._library, name).argtypes = arguments
        self._lock, self._loaded = threading.RLock(), dict[bytes, int]()
        self("cuInit", 0)
        self.context = self._context()
        self.use()
        self.stream = self.new_stream()

    def __call__(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            text = c_char_p()
            self._library.cuGetErrorName(code, byref(text))
            raise EngineError(f"{name} failed on the GPU: {(text.value or b'?').decode()} ({code})")

    def _made(self, name: str, *arguments: Any) -> int:
        value = c_void_p()
        self(name, byref(value), *arguments)
        return value.value or 0

    def _context(self) -> int:
        current = self._made("cuCtxGetCurrent")
        return current or self._made("cuDevicePrimaryCtxRetain", 0)

    def use(self) -> None:
        """Make the context this thread's."""
        self("cuCtxSetCurrent", self.context)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The stream is this thread's meanwhile: engines of other threads wait."""
        with self._lock:
            self.use()
            yield

    def new_stream(self) -> int:
        """A stream that waits for no other."""
        return self._made("cuStreamCreate", NON_BLOCKING)

    def function(self, cubin: bytes, name: str) -> int:
        """A kernel of a compiled program, which is loaded once for all models of the process, and stays."""
        if cubin not in self._loaded:
            module = self._made("cuModuleLoadData", cubin)
            self._loaded[cubin] = self._made("cuModuleGetFunction", module, name.encode())
        return self._loaded[cubin]

    def allocate(self, nbytes: int) -> int:
        """Device memory, as an address."""
        value = c_ulonglong()
        self("cuMemAlloc_v2", byref(value), nbytes)
        return value.value

    def free(self, address: int) -> None:
        self("cuMemFree_v2", address)

    def pinned(self, nbytes: int) -> int:
        """Host memory that copies run from and to at full speed, as an address."""
        return self._made("cuMemAllocHost_v2", nbytes)

    def unpin(self, address: int) -> None:
        self.use()  # whoever drops an array last may be any thread
        self("cuMemFreeHost", address)

    def upload(self, address: int, host: int, nbytes: int, stream: int | None = None) -> None:
        """Copy from pinned memory, in the stream's order."""
        self("cuMemcpyHtoDAsync_v2", address, host, nbytes, stream or self.stream)

    def download(self, host: int, address: int, nbytes: int) -> None:
        """Copy to pinned memory, in the stream's order."""
        self("cuMemcpyDtoHAsync_v2", host, address, nbytes, self.stream)

    def synchronize(self, stream: int | None = None) -> None:
        """Wait for the stream."""
        self("cuStreamSynchronize", stream or self.stream)

    def graph(self, calls: Sequence[Call]) -> int:
        """Launches one after another, ready to be launched as one."""
        self("cuStreamBeginCapture_v2", self.stream, RELAXED)
        try:
            for call in calls:
                self._launch(call)
        finally:  # also after an error: a stream left in capture takes nothing else
            graph = self._captured()
        try:
            ready = self._made("cuGraphInstantiateWithFlags", graph, 0)
        finally:
            self("cuGraphDestroy", graph)
        self("cuGraphUpload", ready, self.stream)
        return ready

    def _launch(self, call: Call) -> None:
        pointers = (c_ulonglong * len(call.addresses))(*call.addresses)
        first = ctypes.addressof(pointers)
        places = (c_void_p * len(call.addresses))(*(first + 8 * i for i in range(len(call.addresses))))
        self("cuLaunchKernel", call.function, *call.groups, call.threads, 1, 1, 0, self.stream, places, None)

    def _captured(self) -> int:
        graph = c_void_p()
        self("cuStreamEndCapture", self.stream, byref(graph))
        return graph.value or 0

    def launch(self, graph: int) -> None:
        self("cuGraphLaunch", graph, self.stream)

    def drop(self, graph: int) -> None:
        self("cuGraphExecDestroy", graph)
