"""`ds4-backend warm`: read a system prompt and tools once, so that conversations that begin with them start at once."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ds4_backend.types import Event, Request, Usage

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("warm")
@click.option("-m", "--model", required=True, help="The model's name, or its .gguf file.")
@click.option("--system", type=FILE, help="A text file: the system prompt.")
@click.option("--tools", type=FILE, help="A JSON file: a list of tools in OpenAI's form.")
@click.option("--prompt", type=FILE, help="A text file: the first message of the user.")
def command(model: str, system: Path | None, tools: Path | None, prompt: Path | None) -> None:
    """Read a prompt's beginning, and keep its state for the conversations that share it.

    Without any file it only loads the model. What it reads must equal what the conversations send, to the letter.
    """
    from ds4_backend.connect import connect
    from ds4_backend.progress import bar

    with ExitStack() as stack:
        loading = stack.enter_context(bar("load", unit=" layers"))
        engine = connect(model, progress=loading)
        stack.callback(engine.close)
        if not (system or tools or prompt):
            click.echo(f"{model} is loaded.")
            return
        request = prefix(system, tools, prompt)
        usage, seconds = _read(engine.chat(request), stack.enter_context(bar("read", unit=" tokens")))
    click.echo(f"{usage.input:,} tokens, {usage.cached:,} of them known already, in {seconds:.1f} s.")


def prefix(system: Path | None, tools: Path | None, prompt: Path | None) -> Request:
    """The request that only reads. Raises RequestError for a file that cannot be read, or is not of the form."""
    from ds4_backend.chat.openai import request_from_openai

    files = {"system": system, "user": prompt}
    messages = [{"role": role, "content": _text(path)} for role, path in files.items() if path]
    return request_from_openai(messages, _json_list(tools) if tools else (), max_tokens=0)


def _read(events: Any, report: Any) -> tuple[Usage, float]:
    from ds4_backend.types import End, Failed, Progress

    with closing(events):
        last: Event | None = None
        for last in events:
            if isinstance(last, Progress) and last.total:
                report(last.done, last.total)
            elif isinstance(last, Failed):
                raise last.error
    assert isinstance(last, End)
    report(last.usage.input, last.usage.input)
    return last.usage, last.timings.prefill_seconds


def _text(path: Path) -> str:
    from ds4_backend.errors import RequestError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read: {error}") from error


def _json_list(path: Path) -> list[Any]:
    from ds4_backend.errors import RequestError

    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise RequestError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, list):
        raise RequestError(f"{path} holds no list of tools")
    return found
