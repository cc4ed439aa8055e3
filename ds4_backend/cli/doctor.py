"""`ds4-backend doctor`: does this machine compute what it should, and what fits it?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ds4_backend.measure.health import Check
    from ds4_backend.measure.room import Fit
    from ds4_backend.ops.device import Device


@click.command("doctor")
@click.option("--thorough", is_flag=True, help="Compare every kind of layer with every weight format; minutes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(thorough: bool, as_json: bool) -> None:
    """Check this machine: its arithmetic, memory, settings, and the prompt cache.

    Every operation is compared with the numpy one. Says which builds fit with how much context, and which settings to
    change; changes none. Ends with 1 where something is wrong.
    """
    from ds4_backend.machine import this_machine
    from ds4_backend.measure.room import fits, settings_to_change
    from ds4_backend.ops.device import mlx_device

    machine, device = this_machine(), mlx_device()
    checks = list(_checks(device, thorough))
    fit = fits(device)
    advice = [check.advice for check in checks if check.advice] + settings_to_change(device, fit)
    good = all(check.ok is not False for check in checks)
    if as_json:
        told: dict[str, Any] = {"ok": good, "machine": asdict(machine), "device": asdict(device)}
        told |= {"versions": _versions(), "checks": [asdict(c) for c in checks], "fits": [asdict(f) for f in fit]}
        click.echo(json.dumps(told | {"advice": advice}, indent=1))
    else:
        click.echo("\n".join(_lines(device, checks, fit, advice)))
    raise SystemExit(0 if good else 1)


def _checks(device: Device, thorough: bool) -> Iterator[Check]:
    from ds4_backend import catalog, settings
    from ds4_backend.measure import health
    from ds4_backend.progress import bar

    now, names = settings.load(), health.ops_here(device)
    for ops in names:
        yield from health.guarded(f"{ops} kernels", partial(health.bodies, ops))
        with bar(f"{ops} against numpy", unit="network") as report:
            yield from health.guarded(f"{ops} ops", partial(health.arithmetic, ops, device, thorough, report))
    tiny = catalog.resolve(catalog.TINY, now)
    yield from health.guarded("unloading", partial(health.unloading, tiny, names[0]))
    yield from health.guarded("weights", partial(health.sharing, device))
    if now.cache == "on":
        prompts = partial(health.prompt_cache, now.cache_dir / "prompts", now.cache_size)
        yield from health.guarded("prompt cache", prompts)


def _lines(device: Device, checks: list[Check], fit: list[Fit], advice: list[str]) -> Iterator[str]:
    from ds4_backend.machine import gib, this_machine

    machine = this_machine()
    versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
    yield f"{machine.system} {machine.arch}, {gib(machine.memory_total)} of memory; {versions}"
    yield f"MLX computes on {device.name} ({device.kind}); arrays may take {gib(device.limit)}"
    yield ""
    for check in checks:
        word = {True: "good", False: "BAD", None: "note"}[check.ok]
        yield f"{word:5} {check.name}: {check.text}"
    yield ""
    for one in fit:
        yield f"{one.build:7} {gib(one.nbytes):>10}  {_words(one)}"
    if advice:
        yield ""
        yield from (f"- {line}" for line in advice)


def _words(fit: Fit) -> str:
    if fit.fits:
        return f"fits with {fit.context:,} tokens of context"
    if fit.possible > fit.context:
        return f"fits with {fit.possible:,} tokens of context, once the limit below is raised"
    return "does not fit"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from ds4_backend import __version__

    return {"ds4-backend": __version__, "mlx": version("mlx"), "numpy": version("numpy")}
