"""`ds4-backend debug`: the stages between a conversation and its logits, one by one."""

from __future__ import annotations

import click

from ds4_backend.cli.debug_logits import logits
from ds4_backend.cli.debug_prompt import render, tokens


@click.group("debug")
def command() -> None:
    """Look at a prompt, its tokens, or a model's logits."""


command.add_command(render)
command.add_command(tokens)
command.add_command(logits)
