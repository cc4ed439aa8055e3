"""`ds4-backend stop`: end the resident host."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ds4_backend.host.place import Place

CLOSE_SECONDS = 120.0
"""How long a host may write its caches."""


@click.command("stop")
@click.option("--grace", default=10.0, show_default=True, type=click.FloatRange(min=0), help="Seconds for answers.")
def command(grace: float) -> None:
    """End the host: answers in progress get some seconds, then its caches are written.

    The next request starts a new one.
    """
    from ds4_backend import settings
    from ds4_backend.errors import HostError
    from ds4_backend.host.launch import link_of
    from ds4_backend.host.link import Lost, Unreachable
    from ds4_backend.host.place import place_of

    place = place_of(settings.load())
    if not held(place):
        click.echo("No host runs for these settings.")
        return
    try:
        waiting = link_of(place).call("/stop", {"grace": grace}, seconds=20)["requests"]
        if waiting:
            click.echo(f"{waiting} requests in progress: they have {grace:g} s to end.", err=True)
    except (Unreachable, Lost):  # it is ending already, or does not answer any more
        with suppress(OSError, ValueError):
            os.kill(int(place.pid.read_text(encoding="ascii")), signal.SIGTERM)
    patience = time.monotonic() + grace + CLOSE_SECONDS
    while held(place):
        if time.monotonic() > patience:
            pid = place.pid.read_text(encoding="ascii")
            raise HostError(f"host {pid} has not ended within {grace + CLOSE_SECONDS:g} s: end it with `kill -9 {pid}`")
        time.sleep(0.05)
    click.echo("The host has ended.")


def held(place: Place) -> bool:
    """Whether a host lives at `place`: it holds its lock as long as it does."""
    from filelock import FileLock, Timeout

    if not place.lock.exists():
        return False
    try:
        with FileLock(place.lock, timeout=0):
            return False
    except Timeout:
        return True
