"""`ds4-backend verify`: is this model file the published one, and does it answer as the published model does?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ds4_backend.cli.running_model import OPS

if TYPE_CHECKING:
    from ds4_backend.catalog.builds import Build

PATH = click.Path(path_type=Path)


@click.command("verify")
@click.argument("file")
@click.option("--sha256", metavar="DIGEST", help="What it should be; by default, as published under its name.")
@click.option("--vectors", type=PATH, multiple=True, help="Compare answers with these: a JSON file, or a folder.")
@click.option("--make-vectors", type=PATH, help="Write this build's own answers as vectors here.")
@click.option("--tokens", type=click.IntRange(min=1), default=4, help="Tokens of each vector to make.")
@OPS
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    file: str,
    sha256: str | None,
    vectors: tuple[Path, ...],
    make_vectors: Path | None,
    tokens: int,
    ops: str | None,
    as_json: bool,
) -> None:
    """Compare a model with the published one: its bytes, or its answers.

    Reads the whole file for its SHA-256. With --vectors it answers instead, and its tokens are compared; with those or
    --make-vectors the digest is compared only where --sha256 gives it. FILE is a path, or the name of an installed
    model. Ends with 1 where the digest is another, or an answer is.
    """
    from ds4_backend import catalog

    path = Path(file) if Path(file).is_file() else catalog.resolve(file)
    told: dict[str, Any] = {"file": str(path)}
    if make_vectors:
        told["made"] = _make(path, make_vectors, tokens, ops)
    if vectors:
        told |= _answers(path, vectors, ops)
    if sha256 or not (vectors or make_vectors):
        told |= _digest(path, sha256)
    bad = told.get("same") is False or told.get("answers_ok") is False
    if as_json:
        click.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        _show(told, path)
    raise SystemExit(1 if bad else 0)


def _digest(path: Path, sha256: str | None) -> dict[str, Any]:
    from ds4_backend import progress
    from ds4_backend.catalog.download import sha256_of

    build = _published(path)
    wanted = (sha256 or (build.sha256 if build else None) or "").lower() or None
    with progress.bar("verify", unit="B") as report:
        found = sha256_of(path, report)
    return {"sha256": found, "wanted": wanted, "same": None if wanted is None else found == wanted}


def _answers(path: Path, vectors: tuple[Path, ...], ops: str | None) -> dict[str, Any]:
    from ds4_backend.cli.running_model import loaded
    from ds4_backend.measure.vectors import check, read_vectors

    wanted = [vector for place in vectors for vector in read_vectors(place)]
    with loaded(str(path), ops) as it:
        found = [check(it.model, it.tokenizer, it.dialect, vector) for vector in wanted]
    answers = [{**asdict(outcome), "ok": outcome.ok} for outcome in found]
    return {"answers": answers, "answers_ok": all(outcome.ok for outcome in found)}


def _make(path: Path, out: Path, tokens: int, ops: str | None) -> int:
    from ds4_backend.cli.debug_logits import check_out
    from ds4_backend.cli.running_model import loaded
    from ds4_backend.measure.vectors import PROMPTS, make_vector

    check_out(out)
    with loaded(str(path), ops) as it:
        made = [
            make_vector(it.model, it.tokenizer, it.dialect, name, [{"role": "user", "content": text}], tokens)
            for name, text in PROMPTS.items()
        ]
    out.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return len(made)


def _show(told: dict[str, Any], path: Path) -> None:
    if "made" in told:
        click.echo(f"{told['made']} vectors written")
    for answer in told.get("answers", ()):
        word = "good" if answer["ok"] else "BAD "
        click.echo(f"{word} {answer['name']}: {answer['equal']} of {answer['tokens']} tokens, "
                   f"log-probabilities within {answer['difference']:.3f}")  # fmt: skip
        for line in answer["wrong"]:
            click.echo(f"       {line}")
    if "sha256" in told:
        click.echo(f"{told['sha256']}  {path.name}")
        click.echo(_verdict(told["wanted"], told["same"]), err=told["same"] is False)


def _published(path: Path) -> Build | None:
    from ds4_backend.catalog.builds import FLASH

    return next((build for build in FLASH if build.file == path.name), None)


def _verdict(wanted: str | None, same: bool | None) -> str:
    if same is None:
        return "No published digest is known for a file of this name; compare it with --sha256."
    if same:
        return "As published."
    return f"It should be {wanted}: the file is damaged or another one. Get it again with `ds4-backend download`."
