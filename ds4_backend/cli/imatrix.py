"""`ds4-backend imatrix`: how much each input of the routed experts matters, measured on a text."""

from __future__ import annotations

from pathlib import Path

import click

PATH = click.Path(path_type=Path)


@click.command("imatrix")
@click.argument("model")
@click.argument("text", type=PATH)
@click.option("--out", required=True, type=PATH, help="The .dat file to write, in llama.cpp's legacy format.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Stop after so many tokens of TEXT.")
def command(model: str, text: Path, out: Path, max_tokens: int | None) -> None:
    """Run MODEL over the file TEXT and write what `convert --imatrix` takes.

    MODEL is a .gguf file, or the name of an installed model.
    """
    from ds4_backend import catalog, progress
    from ds4_backend.convert.collect import collect

    with progress.bar("imatrix", unit="token") as report:
        found = collect(catalog.resolve(model), text, out, max_tokens=max_tokens, report=report)
    click.echo(f"{out}: {len(found.entries)} tensors")
