"""`ds4-backend imatrix`: how much each input of the routed experts matters, measured on a text."""

from __future__ import annotations

from pathlib import Path

import click

PATH = click.Path(path_type=Path)


@click.command("imatrix")
@click.argument("model")
@click.argument("text", type=PATH)
@click.option("--out", required=True, type=PATH, help="The .dat file to write, in llama.cpp's legacy format.")
@click.option("--max-tokens", type=click.IntRange(min=2), default=1 << 17, show_default=True, help="Read no more.")
def command(model: str, text: Path, out: Path, max_tokens: int) -> None:
    """Run MODEL over the file TEXT and write what `convert --imatrix` takes.

    MODEL is a .gguf file, or the name of an installed model.
    """
    from ds4_backend import catalog, progress
    from ds4_backend.convert.collect import collect

    with progress.bar("imatrix", unit="token") as report:
        done = collect(catalog.resolve(model), text, out, max_tokens=max_tokens, report=report)
    click.echo(f"{out}: {done.tokens} tokens; {done.experts - done.silent} of {done.experts} experts were reached")
