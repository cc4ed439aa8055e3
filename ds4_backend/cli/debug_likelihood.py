"""`ds4-backend debug ppl` and `debug logprobs`: how likely a model finds a text, and what it would say next."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from ds4_backend.cli.running_model import OPS
from ds4_backend.errors import RequestError

PATH = click.Path(path_type=Path)


@click.command("ppl")
@click.argument("model")
@click.argument("text", type=PATH)
@click.option("--context", type=click.IntRange(min=2), default=2048, show_default=True, help="Tokens of a window.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first tokens of the text.")
@OPS
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ppl(model: str, text: Path, context: int, limit: int | None, ops: str | None, as_json: bool) -> None:
    """Print the perplexity of a text file under MODEL.

    The text is cut into windows, each read from a fresh start; every token but a window's first is scored.
    """
    from ds4_backend.cli.running_model import loaded
    from ds4_backend.measure.perplexity import perplexity
    from ds4_backend.progress import bar

    content = read_text(text)
    with loaded(model, ops) as it:
        ids = it.tokenizer.encode(content)[:limit]
        if not ids:
            raise RequestError(f"{text} is empty; there is nothing to score.")
        with bar("ppl", unit="token") as report:
            found = perplexity(it.model, ids, it.tokenizer.bos, context, report)
    if as_json:
        click.echo(json.dumps({**asdict(found), "perplexity": found.perplexity, "context": context, "ops": it.ops}))
    else:
        click.echo(f"perplexity {found.perplexity:.4f} ({found.nll:.5f} nats a token, {found.tokens:,} tokens)")


@click.command("logprobs")
@click.option("--model", required=True, help="The model's name, or its .gguf file.")
@click.option("--messages", required=True, type=PATH, help="A JSON file: a list of OpenAI-form messages.")
@click.option("--tokens", type=click.IntRange(min=1), default=16, show_default=True, help="Tokens to generate.")
@OPS
@click.option("--json", "as_json", is_flag=True, help="Print a vector that `verify --vectors` reads.")
def logprobs(model: str, messages: Path, tokens: int, ops: str | None, as_json: bool) -> None:
    """Print the greedy answer token by token, with alternatives.

    Thinking is off; --json shows the 20 likeliest of each.
    """
    from ds4_backend.cli.running_model import loaded
    from ds4_backend.measure.vectors import make_vector

    conversation = _conversation(messages)
    with loaded(model, ops) as it:
        vector = make_vector(it.model, it.tokenizer, it.dialect, messages.stem, conversation, tokens)
    if as_json:
        click.echo(json.dumps(vector, ensure_ascii=False, indent=1))
        return
    for step in vector["steps"]:
        others = (f"{one['token']['text']!r} {one['logprob']:.3f}" for one in step["top_logprobs"][1:4])
        click.echo(f"{step['token']['text']!r:16} {step['logprob']:8.4f}   {', '.join(others)}")
    click.echo(f"ended: {vector['finish_reason']}")


def read_text(path: Path) -> str:
    """A text file's content. Raises RequestError where it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is no UTF-8 text: {error}.") from error


def _conversation(path: Path) -> list[dict[str, object]]:
    """The messages of a file, as they stand there; they are checked when they are rendered."""
    from ds4_backend.cli.debug_prompt import read_request

    read_request(path)
    found = json.loads(path.read_text(encoding="utf-8-sig"))
    return list(found["messages"] if isinstance(found, dict) else found)
