"""`ds4-backend models`: the models there are, and what fits this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ds4_backend.catalog import Entry


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the models: embedded, registered, downloaded; and what fits."""
    from ds4_backend import catalog, settings
    from ds4_backend.catalog.fitting import what_fits

    now = settings.load()
    entries = catalog.models(now)
    if as_json:
        click.echo(json.dumps([_plain(entry) for entry in entries], ensure_ascii=False, indent=1))
        return
    for entry in entries:
        click.echo(_line(entry))
    click.echo(f"\n{what_fits(now)}")


def _line(entry: Entry) -> str:
    from ds4_backend.machine import gib

    names = ", ".join(entry.names)
    size = gib(entry.path.stat().st_size) if entry.path else "not here"
    return f"{names:20} {size:>10}  {entry.about}"


def _plain(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "path": str(entry.path) if entry.path else None,
        "about": entry.about,
        "context": entry.context,
    }
