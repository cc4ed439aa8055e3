"""`ds4-backend debug synth`: a random model of a true shape, to time and size what is not at hand."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("synth")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--geometry", type=click.Choice(["flash", "pro", "tiny"]), default="tiny", show_default=True)
@click.option("--recipe", type=click.Choice(["q2", "q4", "q8", "mxfp4"]), default="q2", show_default=True)
@click.option("--layers", type=click.IntRange(min=1), help="Only the first layers.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes that write; one a core otherwise.")
@click.option("--force", is_flag=True, help="Replace OUT.")
def synth(out: Path, geometry: str, recipe: str, layers: int | None, seed: int, jobs: int | None, force: bool) -> None:
    """Write OUT, a GGUF of random weights with sane numbers.

    It loads and runs like the real one, and says nothing sensible. flash with q2 takes 80.8 GiB.
    """
    from ds4_backend import progress
    from ds4_backend.errors import RequestError
    from ds4_backend.gguf.shapes import GEOMETRIES, first_layers
    from ds4_backend.machine import gib
    from ds4_backend.measure.synth import write_random

    shape = GEOMETRIES[geometry]
    if layers is not None and layers > shape.block_count:
        raise RequestError(f"{geometry} has {shape.block_count} layers; --layers {layers} asks for more.")
    if out.exists() and not force:
        raise RequestError(f"{out} is there already; --force replaces it.")
    if not out.parent.is_dir():
        raise RequestError(f"{out} cannot be written: its folder is not there.")
    with progress.bar("synth") as report:
        layout = write_random(
            first_layers(shape, layers or shape.block_count), recipe, out, seed=seed, jobs=jobs, report=report
        )
    click.echo(f"{out}: {gib(layout.nbytes)}, {len(layout.plans)} tensors, random")
