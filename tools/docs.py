"""Writes the generated parts of README.md and docs/: everything between `<!-- made: NAME -->` and `<!-- end -->`.

`python tools/docs.py` writes them, `--check` only compares and ends with 1 where they differ.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click

from ds4_backend.catalog.builds import FLASH
from ds4_backend.chat import parameters
from ds4_backend.cli import main as cli
from ds4_backend.machine import gib
from ds4_backend.options import OPTIONS
from ds4_backend.settings import KEYS, MODEL_KEYS, ONLY_IN_ENVIRONMENT

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- made: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings() -> str:
    """The plain settings, one row each."""
    rows = [("key", "variable", "allowed", "default", "what it is for")]
    rows += [(f"`{k.name}`", f"`{k.variable}`", k.kind.allowed, k.default_text, k.help) for k in KEYS]
    rows += [("", f"`{variable}`", "", "", what) for variable, what in ONLY_IN_ENVIRONMENT.items()]
    return table(rows)


def model_settings() -> str:
    """The keys of a registered model."""
    return table([("key", "allowed"), *((f"`{name}`", kind.allowed) for name, kind in MODEL_KEYS.items())])


def builds() -> str:
    """The published builds, best first."""
    rows = [("build", "size", "dialect", "what", "bytes", "SHA-256")]
    for b in FLASH:
        digest = b.sha256 or "the hub keeps it"
        rows.append((f"`{b.name}`", gib(b.nbytes), b.dialect, b.about, f"{b.nbytes:,}", f"`{digest}`"))
    return table(rows)


def build_files() -> str:
    """The file of each build."""
    return table([("build", "file"), *((f"`{build.name}`", f"`{build.file}`") for build in FLASH)])


def commands() -> str:
    """The help of every command."""
    return "\n\n".join(f"## {path}\n\n```text\n{text}\n```" for path, text in _helps(cli, "ds4-backend"))


def litellm_options() -> str:
    """The parameters that LiteLLM's provider takes; importing it would take ten seconds."""
    rows = [("parameter", "what it does")]
    rows += [(f"`{name}`", OPTIONS[name].text) for name in parameters.KNOWN]
    rows += [(f"`ds4_{name}`", OPTIONS[name].text) for name in parameters.OURS]
    return table(rows)


def langchain_options() -> str:
    """What may be set on LangChain's chat model, in its constructor or for one call."""
    from langchain_ds4.options import Options

    return _fields(Options)


def langchain_constructor() -> str:
    """What may be set in its constructor only."""
    from langchain_ds4.options import Connection

    return _fields(Connection)


def _fields(model: Any) -> str:
    """The fields of a pydantic class, one row each."""
    rows = [("option", "also called", "values", "default", "what it does")]
    for name, field in model.model_fields.items():
        also = ", ".join(f"`{alias}`" for alias in getattr(field.validation_alias, "choices", [name])[1:])
        default = "" if field.default is None else f"`{field.default}`"
        rows.append((f"`{name}`", also, _kinds(field.annotation), default, field.description or ""))
    return table(rows)


def _kinds(annotation: Any) -> str:
    """A type as people read it, without the None that means: left out."""
    if get_origin(annotation) is Literal:
        return ", ".join(get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_kinds(kind) for kind in get_args(annotation) if kind is not NoneType)
    return str(annotation) if get_args(annotation) else annotation.__name__


def table(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def _helps(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    context = click.Context(command, info_name=path, terminal_width=100, help_option_names=["-h", "--help"])
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _helps(inner, f"{path} {name}")


def llm_options() -> str:
    """The options of the llm plugin."""
    from llm_ds4.options import Options

    rows = [("option", "what it does")]
    return table(rows + [(f"`{name}`", field.description or "") for name, field in Options.model_fields.items()])


MADE: dict[str, Callable[[], str]] = {
    "settings": settings,
    "model-settings": model_settings,
    "builds": builds,
    "build-files": build_files,
    "commands": commands,
    "litellm-options": litellm_options,
    "langchain-options": langchain_options,
    "langchain-constructor": langchain_constructor,
    "llm-options": llm_options,
}


def renewed(text: str) -> str:
    """The page with its generated parts as they should be. Raises KeyError for a part that nothing makes."""
    return BLOCK.sub(lambda block: f"{block[1]}{MADE[block['name']]()}\n{block[3]}", text)


def main() -> int:
    """Writes or checks every page; returns the exit status."""
    check = "--check" in sys.argv[1:]
    stale = 0
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if not page.exists():
            continue
        old = page.read_text(encoding="utf-8")
        new = renewed(old)
        if new == old:
            continue
        stale += 1
        print(f"{page.relative_to(ROOT)} {'is out of date: run `make docs`' if check else 'written'}")
        if not check:
            page.write_text(new, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
