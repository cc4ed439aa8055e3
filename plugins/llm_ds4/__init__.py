"""DeepSeek V4 as models of the `llm` command line: the hooks that llm calls, nothing more.

Hooks run on every `llm` command, so nothing heavy is imported here or in what these functions import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import llm


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    """One sync and one async model for every name in the catalogue, the user's own included."""
    from llm_ds4.models import DS4, AsyncDS4, names

    for name, aliases in names():
        register(DS4(name), AsyncDS4(name), aliases=aliases)


@llm.hookimpl
def register_commands(cli: click.Group) -> Any:
    """`llm ds4 ...` is the `ds4-backend` command."""
    from ds4_backend.cli import main

    cli.add_command(main, name="ds4")
