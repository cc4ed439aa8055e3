"""`ds4-backend serve`: the resident host in the foreground, for service managers, other machines and traces."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _duration(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    from ds4_backend.settings.kinds import DURATION

    try:
        return None if value is None else float(DURATION.read(value))
    except ValueError:
        raise click.BadParameter(f"{value!r}; allowed: {DURATION.allowed}") from None


def _address(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    name, _, port = value.rpartition(":")
    if not name or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise click.BadParameter(f"{value!r}; allowed: HOST:PORT, such as 127.0.0.1:11500")
    return name.strip("[]"), int(port)


@click.command("serve")
@click.option("-m", "--model", help="Load this model at once, and keep it.")
@click.option("--keep-alive", callback=_duration, help="How long an unused model stays, such as 30m; -1 for ever.")
@click.option("--tcp", callback=_address, metavar="HOST:PORT", help="Listen there too; needs DS4_BACKEND_TOKEN.")
@click.option("--allow-remote", is_flag=True, help="Let --tcp listen beyond this machine, unencrypted.")
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), help="Write what happens to this file.")
@click.option("--trace-text", is_flag=True, help="With the texts, which are left out otherwise.")
def command(
    model: str | None,
    keep_alive: float | None,
    tcp: tuple[str, int] | None,
    allow_remote: bool,
    trace: Path | None,
    trace_text: bool,
) -> None:
    """Run the host here until Ctrl-C. Whoever asks for a model starts one anyway; this is for control.

    Over TCP it answers requests and nothing else: it cannot be stopped or asked about files there.
    """
    from ds4_backend import progress, settings
    from ds4_backend.host.process import Options, serve

    now = settings.load()
    token = _token(tcp, allow_remote, now.token)
    _log_to_stderr()
    with progress.bar("load", unit=" layers") as report:
        options = Options(
            keep_alive=now.keep_alive if keep_alive is None else keep_alive,
            ends_idle=False,
            tcp=tcp,
            token=token,
            trace=trace.absolute() if trace else now.trace,
            trace_text=trace_text,
            model=model,
            report=lambda done, total: report(done, total) if total else None,
        )
        serve(now, options, ready=lambda: click.echo("The host answers; Ctrl-C ends it.", err=True))


def _token(tcp: tuple[str, int] | None, allow_remote: bool, token: str | None) -> str | None:
    """The token of a TCP listener. Raises SettingsError where one would be open to others."""
    from ds4_backend.errors import SettingsError

    if tcp is None:
        return None
    if token is None:
        raise SettingsError("--tcp needs a token: set DS4_BACKEND_TOKEN, or `token` in the config file, to a secret")
    if tcp[0] not in LOOPBACK and not allow_remote:
        raise SettingsError(
            f"{tcp[0]} can be reached from other machines, and the traffic is not encrypted. Listen on 127.0.0.1 and "
            "go through `ssh -L` (docs/host.md), or add --allow-remote"
        )
    return token


def _log_to_stderr() -> None:
    options: dict[str, Any] = {"format": "%(asctime)s %(levelname)s %(message)s"}
    logging.basicConfig(level=logging.WARNING, **options)
    logging.getLogger("ds4_backend").setLevel(logging.INFO)
