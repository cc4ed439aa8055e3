"""`ds4-backend inspect`: what is in a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("inspect")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every tensor.")
def command(file: str, as_json: bool) -> None:
    """Describe a GGUF file: header, metadata, tensors.

    FILE is a path, or the name of an installed model.
    """
    from ds4_backend import catalog
    from ds4_backend.gguf.inspect import as_text, describe
    from ds4_backend.gguf.reader import open_gguf

    path = Path(file) if Path(file).is_file() else catalog.resolve(file)
    with open_gguf(path) as opened:
        description = describe(opened)
    if as_json:
        click.echo(json.dumps(description, ensure_ascii=False, indent=1))
    else:
        click.echo(as_text(description), nl=False)
