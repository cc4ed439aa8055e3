"""`ds4-backend download`: fetch a published build of DeepSeek V4 Flash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ds4_backend.catalog.builds import Build
    from ds4_backend.settings import Settings


@click.command("download")
@click.argument("build", required=False)
@click.option("--force", is_flag=True, help="Download although memory or disk is short, or the file was replaced.")
def command(build: str | None, force: bool) -> None:
    """Download a published build; the same command goes on where it stopped.

    Without BUILD, the best one that fits this machine: `ds4-backend models` shows them.
    """
    from ds4_backend import catalog, progress, settings
    from ds4_backend.catalog.download import download
    from ds4_backend.catalog.hub import HuggingFaceHub
    from ds4_backend.machine import gib

    now = settings.load()
    chosen = catalog.find_build(build) if build else _best(now)
    click.echo(f"{chosen.name}: {chosen.file}, {gib(chosen.nbytes)}, to {now.models_dir}", err=True)
    with progress.bar("download") as fetching, progress.bar("SHA-256") as checking:
        path = download(chosen, now, HuggingFaceHub(), force=force, fetching=fetching, checking=checking)
    click.echo(path)


def _best(now: Settings) -> Build:
    from ds4_backend.catalog.fitting import recommended, what_fits
    from ds4_backend.errors import DoesNotFit

    best = recommended(now)
    if best is None:
        raise DoesNotFit(what_fits(now))
    return best
