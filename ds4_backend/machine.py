"""What this machine is and what it can hold: platform, memory, free disk.

It knows no model by name; a build is just a number of bytes here. All sizes are bytes; messages speak of GiB.
"""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from ds4_backend.errors import EngineError

GIB = 1 << 30
# Beside the weights: the key-value state of a 100,000-token conversation (1.4 GB in F32, 13,760 bytes a token), and
# the activations of one prefill chunk.
WORKING_MEMORY = 4 * GIB
# What the system and the user's other programs keep. The published 2-bit build (80.8 GiB) is known to run on 96 GiB.
SYSTEM_MEMORY = 6 * GIB
# A disk filled to the last byte stops everything else on it.
SPARE_DISK = 2 * GIB
OLDEST_MACOS = (14, 0)
OLDEST_GLIBC = (2, 35)


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine. `memory_total` honours a container's limit; `memory_available` is a reading of this moment."""

    system: str
    arch: str
    memory_total: int
    memory_available: int
    release: tuple[int, ...] = ()  # the version of macOS, or of glibc


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a build fits, and if not, why: one sentence a reason, with the numbers."""

    memory_needed: int
    disk_needed: int
    reasons: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """True when nothing speaks against it."""
        return not self.reasons


def this_machine() -> Machine:
    """Reads the machine that runs this."""
    import psutil

    memory = psutil.virtual_memory()
    total = min([memory.total, *_container_limits()])
    return Machine(
        system=platform.system(),
        arch=platform.machine().lower(),
        memory_total=total,
        memory_available=min(memory.available, total),
        release=_release(),
    )


def check_platform(machine: Machine) -> None:
    """Raises EngineError on a platform where this cannot run: it says which ones it can."""
    problem = _platform_problem(machine)
    if problem:
        raise EngineError(
            f"{problem} ds4-backend runs on macOS 14 or newer with Apple silicon, and on Linux (x86-64 or aarch64) "
            "with glibc 2.35 or newer."
        )


def free_disk(folder: Path) -> int:
    """Free bytes where `folder` is, or will be once it is made."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def fits(nbytes: int, machine: Machine, free: int, already_there: int = 0) -> Verdict:
    """Whether a build of `nbytes` fits `machine` and `free` bytes of disk, of which `already_there` are written."""
    memory = nbytes + WORKING_MEMORY + SYSTEM_MEMORY
    disk = nbytes - already_there + SPARE_DISK if already_there < nbytes else 0
    reasons = []
    if memory > machine.memory_total:
        reasons.append(f"needs {gib(memory)} of memory, this machine has {gib(machine.memory_total)}")
    if disk > free:
        reasons.append(f"needs {gib(disk)} of free disk, there is {gib(free)}")
    return Verdict(memory_needed=memory, disk_needed=disk, reasons=tuple(reasons))


def gib(nbytes: int) -> str:
    """`nbytes` as text, in GiB with one decimal; small sizes in MiB."""
    if abs(nbytes) < GIB // 10:
        return f"{nbytes / (1 << 20):.1f} MiB"
    return f"{nbytes / GIB:.1f} GiB"


def _platform_problem(machine: Machine) -> str | None:
    if machine.system == "Darwin":
        return _macos_problem(machine)
    if machine.system == "Linux":
        return _linux_problem(machine)
    if machine.system == "Windows":
        return "This is Windows. Under WSL 2 it counts as Linux."
    return f"This is {machine.system or 'an unknown system'}."


def _macos_problem(machine: Machine) -> str | None:
    if machine.arch != "arm64":
        return "This Mac has an Intel processor."
    if machine.release < OLDEST_MACOS:
        return f"This is macOS {_dotted(machine.release)}."
    return None


def _linux_problem(machine: Machine) -> str | None:
    if machine.arch not in {"x86_64", "amd64", "aarch64", "arm64"}:
        return f"This is Linux on {machine.arch}."
    if not machine.release:
        return "This Linux has no glibc."
    if machine.release < OLDEST_GLIBC:
        return f"This Linux has glibc {_dotted(machine.release)}."
    return None


def _release() -> tuple[int, ...]:
    if platform.system() == "Darwin":
        return _numbers(platform.mac_ver()[0])
    name, version = platform.libc_ver()
    return _numbers(version) if name == "glibc" else ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version) or "of an unknown version"


def _container_limits() -> list[int]:
    """Memory limits that a container sets, cgroup v2 and v1; "max" and absent files are no limit."""
    files = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    texts = [file.read_text().strip() for file in files if file.is_file()]
    return [int(text) for text in texts if text.isdigit()]
