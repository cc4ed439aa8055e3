"""`ds4-backend convert`: from a Hugging Face folder to a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ds4_backend.convert import Report

PATH = click.Path(path_type=Path)


@click.command("convert")
@click.argument("folder", type=PATH)
@click.argument("out", type=PATH)
@click.option("--recipe", required=True, type=click.Choice(["f32", "f16", "q8", "q4", "q2", "mxfp4"]), help="Formats.")
@click.option("--imatrix", type=PATH, help="Importance of the experts' inputs, from `ds4-backend imatrix`.")
@click.option("--dialect", type=click.Choice(["preview", "0731"]), help="The checkpoint's prompt dialect.")
@click.option("--cache-simulation/--no-cache-simulation", default=None, help="Whether it expects a rounded cache.")
@click.option("--name", help="The model's name; the folder's own otherwise.")
@click.option("--license", "license_", help="The weights' licence; the model card's otherwise.")
@click.option("--force", is_flag=True, help="Replace OUT.")
def command(
    folder: Path,
    out: Path,
    recipe: str,
    imatrix: Path | None,
    dialect: str | None,
    cache_simulation: bool | None,
    name: str | None,
    license_: str | None,
    force: bool,
) -> None:
    """Convert a Hugging Face FOLDER into the GGUF file OUT.

    Interrupted, the same command goes on where it stopped.
    """
    from ds4_backend import progress
    from ds4_backend.convert import convert

    with progress.bar("convert") as report:
        done = convert(
            folder,
            out,
            recipe,
            imatrix=imatrix,
            dialect=dialect,
            cache_simulation=cache_simulation,
            name=name,
            license=license_,
            force=force,
            report=report,
        )
    click.echo(_summary(done))


def _summary(done: Report) -> str:
    from ds4_backend.machine import gib

    formats = ", ".join(f"{name} {gib(nbytes)}" for name, nbytes in done.formats.items())
    lines = [f"{done.path}: {gib(done.nbytes)}, {done.tensors} tensors ({formats})"]
    if done.resumed:
        lines.append(f"resumed: {done.resumed} tensors were there already")
    lines += [f"fallback: {fallback}" for fallback in done.fallbacks]
    if done.left_out:
        lines.append(f"left out: {len(done.left_out)} tensors that are not of the main model ({done.left_out[0]}, ...)")
    lines += [f"note: {note}" for note in done.notes]
    return "\n".join(lines)
