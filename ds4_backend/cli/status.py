"""`ds4-backend status`: what the resident host is doing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Show the host: its models, memory, requests, speed and cache. Starts none."""
    from ds4_backend import settings
    from ds4_backend.host.client import STATUS_SECONDS
    from ds4_backend.host.launch import link_of
    from ds4_backend.host.link import Unreachable, link_to
    from ds4_backend.host.place import place_of

    now = settings.load()
    place = place_of(now)
    link = link_to(now.host) if now.host.startswith("unix:") else link_of(place)
    try:
        told: dict[str, Any] = {"running": True, **link.call("/status", seconds=STATUS_SECONDS)}
    except Unreachable:
        told = {"running": False, "socket": str(link.socket), "log": str(place.log)}
    if as_json:
        click.echo(json.dumps({"host": now.host, **told}, indent=1, ensure_ascii=False))
    else:
        click.echo("\n".join([*_elsewhere(now.host), *_lines(told, now.host)]))


def _elsewhere(host: str) -> Iterator[str]:
    if host == "off":
        yield "The setting `host` is off: requests run the model in the process that asks."
    elif host != "auto":
        yield f"Requests go to {host}."


def _lines(told: dict[str, Any], host: str) -> Iterator[str]:
    from ds4_backend import __version__
    from ds4_backend.machine import gib

    if not told["running"]:
        yield "No host runs for these settings." + (" The next request starts one." if host == "auto" else "")
        return
    state = ", stopping" if told["stopping"] else ""
    yield f"host {told['pid']}, ds4-backend {told['version']}, up {span(told['uptime_seconds'])}{state}"
    if told["version"] != __version__:
        yield f"  this command is ds4-backend {__version__}; `ds4-backend stop` lets the next request start that"
    machine = told["machine"]
    yield (
        f"  memory {gib(told['memory_bytes'])} in this process; the machine has {gib(machine['memory_available'])} "
        f"free of {gib(machine['memory_total'])}"
    )
    for name in ("socket", "tcp", "trace", "log"):
        if told.get(name):
            yield f"  {name} {told[name]}"
    counts = told["requests"]
    yield "requests: {in_progress} in progress, {answered} answered, {failed} failed, {cancelled} cancelled".format(
        **counts
    )
    if not told["models"]:
        yield "no model is loaded"
    for model in told["models"]:
        yield from _model(model)


def _model(model: dict[str, Any]) -> Iterator[str]:
    from ds4_backend.machine import gib

    yield f"{model['model']}: {_state(model)}, {gib(model['weights_bytes'])} of weights"
    if "running" in model:
        yield f"  running {model['running']}, queued {model.get('queued', 0)}; {_speeds(model)}"
    if "input_tokens" in model:
        yield (
            f"  read {model['input_tokens']:,} tokens, {model['cached_tokens']:,} of them from the cache "
            f"({model['cached_disk_tokens']:,} from disk); wrote {model['output_tokens']:,}"
        )
    if "state_bytes" in model:
        yield f"  conversations in memory: {gib(model['state_bytes'])}"


def _state(model: dict[str, Any]) -> str:
    if model["state"] == "loading":
        done, total = model["loading"]
        return f"loading, {done} of {total} layers"
    if model["requests"]:
        return f"loaded, {model['requests']} requests"
    leaves = model["unloads_in_seconds"]
    return "loaded, stays" if leaves is None else f"loaded, idle, leaves in {span(max(leaves, 0))}"


def _speeds(model: dict[str, Any]) -> str:
    prefill, decode = model.get("prefill_tokens_per_second"), model.get("decode_tokens_per_second")
    return f"prefill {prefill or 0:,} tokens/s, decode {decode or 0:,} tokens/s"


def span(seconds: float) -> str:
    """A time as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
