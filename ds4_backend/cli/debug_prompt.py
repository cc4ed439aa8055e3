"""`ds4-backend debug render` and `debug tokens`: what a conversation becomes for one model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ds4_backend.chat.render import Rendered
    from ds4_backend.tokenizer import Tokenizer
    from ds4_backend.types import Request

KEYS = ("messages", "tools", "thinking", "effort")


def _options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that both commands take."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "--messages",
            "messages",
            required=True,
            type=click.Path(path_type=Path),
            help="A JSON file: a list of OpenAI-form messages, or an object with messages, tools, thinking, effort.",
        ),
        click.option("--model", "model", required=True, help="The model's name, or its .gguf file."),
    ):
        function = option(function)
    return function


@click.command("render")
@_options
def render(model: str, messages: Path, as_json: bool) -> None:
    """Print the prompt, byte for byte."""
    prompt, dialect, _ = _prepared(model, messages)
    if not as_json:
        click.echo(prompt.text, nl=False)
        return
    segments = [{"text": segment.text, "control": segment.control} for segment in prompt.segments]
    shown = {"text": prompt.text, "segments": segments, "thinking": prompt.thinking, "dialect": dialect}
    click.echo(json.dumps(shown, ensure_ascii=False, indent=1))


@click.command("tokens")
@_options
def tokens(model: str, messages: Path, as_json: bool) -> None:
    """Print the prompt's token ids."""
    prompt, _, tokenizer = _prepared(model, messages)
    ids = tokenizer.encode_segments(prompt.segments)
    if as_json:
        click.echo(json.dumps({"ids": ids}))
        return
    for token in ids:
        click.echo(f"{token:7} {tokenizer.token_bytes(token).decode(errors='replace')!r}")


def _prepared(model: str, messages: Path) -> tuple[Rendered, str, Tokenizer]:
    """The rendered prompt, the dialect it was rendered in, and the model's tokenizer."""
    from ds4_backend import catalog
    from ds4_backend.catalog.profile import profile_of
    from ds4_backend.chat.render import render
    from ds4_backend.gguf.reader import open_gguf
    from ds4_backend.tokenizer import Tokenizer

    request = read_request(messages)
    with open_gguf(catalog.resolve(model)) as file:
        dialect = profile_of(file).dialect
        tokenizer = Tokenizer.from_gguf(file.metadata)
    return render(request, dialect), dialect, tokenizer


def read_request(path: Path) -> Request:
    """The request in a messages file. Raises RequestError for what cannot be read, or is not of the form."""
    from ds4_backend.chat.openai import request_from_openai
    from ds4_backend.chat.parameters import thinking_from_openai
    from ds4_backend.errors import RequestError

    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))  # with or without a byte order mark
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not JSON: {error}.") from error
    body = found if isinstance(found, Mapping) else {"messages": found}
    if not isinstance(body.get("messages"), list):
        raise RequestError(f"{path} holds no messages: give a list of them, or an object with the key `messages`.")
    for key in body:
        if key not in KEYS:
            click.echo(f"{path}: {key!r} has no part in the prompt; it is passed over.", err=True)
    tools = body.get("tools") or []
    thinking = thinking_from_openai(body.get("thinking"))
    return request_from_openai(body["messages"], tools, thinking=thinking, effort=body.get("effort"))
