"""Which published build suits this machine, in numbers and in words. It downloads nothing."""

from __future__ import annotations

from ds4_backend.catalog.builds import FLASH, NEWEST, Build
from ds4_backend.machine import Machine, Verdict, fits, free_disk, gib, this_machine
from ds4_backend.settings import Settings


def verdicts(settings: Settings, machine: Machine | None = None) -> tuple[tuple[Build, Verdict], ...]:
    """Each build of the newest checkpoint, best first, and whether it fits the memory and the models folder's disk."""
    machine = machine or this_machine()
    free = free_disk(settings.models_dir)
    return tuple((build, fits(build.nbytes, machine, free)) for build in FLASH if build.dialect == NEWEST)


def recommended(settings: Settings, machine: Machine | None = None) -> Build | None:
    """The best build of the newest checkpoint that fits this machine, or None."""
    return next((build for build, verdict in verdicts(settings, machine) if verdict.fits), None)


def what_fits(settings: Settings, machine: Machine | None = None) -> str:
    """A paragraph for a person without weights: this machine's numbers, each build's verdict, the command to run."""
    machine = machine or this_machine()
    lines = [
        f"This machine has {gib(machine.memory_total)} of memory ({gib(machine.memory_available)} available now) and "
        f"{gib(free_disk(settings.models_dir))} of free disk for {settings.models_dir}."
    ]
    for build, verdict in verdicts(settings, machine):
        word = "fits" if verdict.fits else "does not fit"
        lines.append(f"  {build.name:6} {word:12}  {_needs(verdict)} ({build.about})")
    lines.append(_advice(recommended(settings, machine)))
    return "\n".join(lines)


def _needs(verdict: Verdict) -> str:
    return f"needs {gib(verdict.memory_needed)} of memory, {gib(verdict.disk_needed)} of disk"


def _advice(best: Build | None) -> str:
    if best:
        return f"Get it with: ds4-backend download {best.name}"
    smallest = min((build for build in FLASH if build.dialect == NEWEST), key=lambda build: build.nbytes)
    return (
        f"None fits. To get the smallest in spite of that: ds4-backend download {smallest.name} --force\n"
        'ds4-tiny runs anywhere: llm -m ds4-tiny "What\'s 12 plus 30?"'
    )
