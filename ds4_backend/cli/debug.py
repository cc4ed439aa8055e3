"""`ds4-backend debug`: the stages between a conversation and its logits, one by one."""

from __future__ import annotations

import click

from ds4_backend.cli.debug_likelihood import logprobs, ppl
from ds4_backend.cli.debug_logits import logits
from ds4_backend.cli.debug_prompt import render, tokens
from ds4_backend.cli.debug_synth import synth


@click.group("debug")
def command() -> None:
    """Look at a prompt, its tokens, or a model's logits; make a random model."""


command.add_command(render)
command.add_command(tokens)
command.add_command(logits)
command.add_command(logprobs)
command.add_command(ppl)
command.add_command(synth)
