"""`ds4-backend verify`: is this model file, byte for byte, the one that was published?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ds4_backend.catalog.builds import Build


@click.command("verify")
@click.argument("file")
@click.option("--sha256", metavar="DIGEST", help="What it should be; by default, as published under its name.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: str, sha256: str | None, as_json: bool) -> None:
    """Read a whole model file and compare its SHA-256.

    FILE is a path, or the name of an installed model. Ends with 1 where the digest is another.
    """
    from ds4_backend import catalog, progress
    from ds4_backend.catalog.download import sha256_of

    path = Path(file) if Path(file).is_file() else catalog.resolve(file)
    build = _published(path)
    wanted = (sha256 or (build.sha256 if build else None) or "").lower() or None
    with progress.bar("verify", unit="B") as report:
        found = sha256_of(path, report)
    same = None if wanted is None else found == wanted
    if as_json:
        click.echo(json.dumps({"file": str(path), "sha256": found, "wanted": wanted, "same": same}, indent=1))
    else:
        click.echo(f"{found}  {path.name}")
        click.echo(_verdict(wanted, same), err=same is False)
    raise SystemExit(1 if same is False else 0)


def _published(path: Path) -> Build | None:
    from ds4_backend.catalog.builds import FLASH

    return next((build for build in FLASH if build.file == path.name), None)


def _verdict(wanted: str | None, same: bool | None) -> str:
    if same is None:
        return "No published digest is known for a file of this name; compare it with --sha256."
    if same:
        return "As published."
    return f"It should be {wanted}: the file is damaged or another one. Get it again with `ds4-backend download`."
