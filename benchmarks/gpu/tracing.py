"""Every kernel that the GPU runs, with its times, by CUPTI through ctypes: no profiler has to be installed.

CUPTI (libcupti) comes with CUDA's Python packages. It calls back for buffers and hands them over full of records; of a
kernel's record this reads the fields below, which lie where they have lain since CUDA 9 (CUpti_ActivityKernel4 to 10).
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CONCURRENT_KERNEL = 10
BUFFER_BYTES = 8 << 20
REQUEST = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t),
                           ctypes.POINTER(ctypes.c_size_t))  # fmt: skip
COMPLETE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel: nanoseconds, threadgroups, threads, registers and spilled bytes a thread."""

    name: str
    start: int
    end: int
    groups: int
    threads: int
    registers: int
    local_bytes: int


def parse(record: bytes, name: str) -> Launch:
    """A kernel's record, of which the first 96 bytes are read."""
    (registers,) = struct.unpack_from("<H", record, 6)
    start, end = struct.unpack_from("<QQ", record, 16)
    gx, gy, gz, bx, by, bz = struct.unpack_from("<6i", record, 52)
    (local,) = struct.unpack_from("<I", record, 84)
    return Launch(name, start, end, gx * gy * gz, bx * by * bz, registers, local)


def library() -> ctypes.CDLL:
    """libcupti, from the folders of CUDA's Python packages or where the loader finds it. Raises OSError without one."""
    spec = find_spec("nvidia")
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    found = [str(path) for folder in folders for path in sorted(folder.glob("*/lib/libcupti.so.*"))]
    for name in [*found, "libcupti.so.13", "libcupti.so.12", "libcupti.so", "/usr/local/cuda/lib64/libcupti.so"]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError("no libcupti: neither in the nvidia-cuda-cupti package nor where the loader looks")


class Trace:
    """Records kernels while it is open. One at a time; `launches` is there after `stop`."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self._cupti = library()
        self._buffers: dict[int, Any] = {}
        self._callbacks = (REQUEST(self._request), COMPLETE(self._complete))  # kept: C holds pointers to them
        self._call("cuptiActivityRegisterCallbacks", *self._callbacks)

    def start(self) -> None:
        """Begin to record."""
        self.launches.clear()
        self._call("cuptiActivityEnable", CONCURRENT_KERNEL)

    def stop(self) -> list[Launch]:
        """Stop, and what was recorded, in the order of its beginnings."""
        self._call("cuptiActivityFlushAll", 1)
        self._call("cuptiActivityDisable", CONCURRENT_KERNEL)
        self.launches.sort(key=lambda launch: launch.start)
        return self.launches

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._cupti, name)(*arguments)
        if code:
            raise OSError(f"{name} returned {code}; is a profiler attached, or is tracing not allowed for this user?")

    def _request(self, buffer: Any, size: Any, records: Any) -> None:
        memory = ctypes.create_string_buffer(BUFFER_BYTES + 8)
        address = (ctypes.addressof(memory) + 7) & ~7
        self._buffers[address] = memory
        buffer[0], size[0], records[0] = address, BUFFER_BYTES, 0

    def _complete(self, context: Any, stream: int, buffer: int, size: int, valid: int) -> None:
        record = ctypes.c_void_p(None)
        while valid:
            if self._cupti.cuptiActivityGetNextRecord(
                ctypes.c_void_p(buffer), ctypes.c_size_t(valid), ctypes.byref(record)
            ):
                break  # the end of the buffer
            if record.value and ctypes.c_uint32.from_address(record.value).value == CONCURRENT_KERNEL:
                pointer = ctypes.c_char_p.from_address(record.value + 104).value or b"?"
                self.launches.append(parse(ctypes.string_at(record.value, 96), pointer.decode()))
        self._buffers.pop(buffer, None)


def traced(work: Callable[[], Any], trace: Trace) -> list[Launch]:
    """The kernels of one piece of work, which must have waited for the device at its end."""
    trace.start()
    work()
    return trace.stop()
