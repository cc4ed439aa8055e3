"""The device that MLX computes on: what it is, what its memory can hold, and how freed memory is given back.

It asks MLX and the system, changes no setting of the machine, and knows no model. Sizes are bytes.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from ds4_backend.errors import DoesNotFit

GIB = 1 << 30
WORKING_MEMORY = 2 * GIB
"""Beside the weights: the state of 100,000 tokens in float16 (0.7 GB) and the activations of a prefill chunk."""
LEFT_TO_SYSTEM = 6 * GIB
"""What a Mac needs beside the GPU's wired memory; the published 2-bit build (80.8 GiB) runs on 96 GiB."""
CUDA_SHARE = 0.95
"""Of a card's memory, what MLX takes at most by itself."""
SMALL = 1 << 30
"""Models below this are not held against the memory: they fit anywhere."""


@dataclass(frozen=True, slots=True)
class Device:
    """`kind` is `metal`, `cuda` or `cpu`; `limit` is what arrays may take together, of `total`; `free` is a reading of
    this moment, or None where nobody tells."""

    kind: str
    name: str
    total: int
    limit: int
    free: int | None = None


def mlx_device() -> Device:
    """The device of MLX's next operation."""
    import mlx.core as mx

    on_gpu = mx.default_device() == mx.gpu
    info = mx.device_info(mx.default_device())
    name = str(info.get("device_name", "unknown"))
    if on_gpu and mx.metal.is_available():
        total = int(info["memory_size"])
        return Device("metal", name, total, int(info["max_recommended_working_set_size"]))
    if on_gpu and mx.cuda.is_available():
        total = int(info["total_memory"])
        return Device("cuda", name, total, int(total * CUDA_SHARE), int(info["free_memory"]))
    total = host_memory()
    return Device("cpu", name, total, total)


def host_memory() -> int:
    """Physical memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_room(weights: int, device: Device) -> None:
    """Raise DoesNotFit, with the numbers and what to do, where `weights` bytes and a little work do not fit."""
    needed = weights + WORKING_MEMORY
    if weights < SMALL:
        return
    if device.kind == "metal" and needed > device.limit:
        raise DoesNotFit(_metal_refusal(needed, device))
    room = device.limit if device.free is None else min(device.limit, device.free)
    if needed > room:
        used = "" if device.free is None else f", of which {_gib(device.total - device.free)} are in use now"
        raise DoesNotFit(
            f"the model needs {_gib(needed)} of memory ({_gib(weights)} for its weights); {device.name} has "
            f"{_gib(device.total)}{used}. Use a smaller build, or end what else uses that memory"
        )


def wired_limit_command(needed: int) -> str:
    """The command that lets a Mac's GPU hold `needed` bytes until the next start; for the user, never run from here."""
    return f"sudo sysctl iogpu.wired_limit_mb={-(-needed // (1 << 20))}"


def keep_resident(weights: int, device: Device) -> None:
    """Ask Metal to keep that much of MLX's memory wired, so that it is not paged out between requests."""
    if device.kind == "metal" and weights >= SMALL:
        import mlx.core as mx

        mx.set_wired_limit(min(weights + WORKING_MEMORY, device.limit))


def give_back() -> None:
    """Give the memory of freed arrays back to the system; without MLX in this process there is none."""
    if "mlx.core" in sys.modules:
        import mlx.core as mx

        mx.clear_cache()


def _metal_refusal(needed: int, device: Device) -> str:
    says = (
        f"the model needs {_gib(needed)} of memory for the GPU; macOS lets it hold {_gib(device.limit)} of this Mac's "
        f"{_gib(device.total)}"
    )
    if needed + LEFT_TO_SYSTEM > device.total:
        return f"{says}, and too little would be left for the system. Use a smaller build"
    return f"{says}. This command raises the limit until the next start: {wired_limit_command(needed)}"


def _gib(nbytes: int) -> str:
    return f"{nbytes / GIB:.1f} GiB"
