"""The models that llm sees: one class to answer, one to answer without blocking an event loop.

llm makes them on every run, whatever model is used; what an answer needs is imported when one is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import click
import llm
from llm.parts import StreamEvent

from ds4_backend import catalog
from llm_ds4.options import Options


def names() -> list[tuple[str, tuple[str, ...]]]:
    """Every model name of the catalogue with its aliases."""
    entries = catalog.listed(lambda complaint: click.echo(complaint, err=True))
    return [(entry.name, entry.aliases) for entry in entries]


class _Shared:
    can_stream = True
    supports_tools = True
    supports_schema = True
    Options = Options

    def __init__(self, name: str) -> None:
        self.model_id = name

    def __str__(self) -> str:
        return f"DeepSeek V4: {self.model_id}"


class DS4(_Shared, llm.Model):
    """A model of the catalogue, answering in this process."""

    def execute(self, prompt: llm.Prompt, stream: bool, response: Any, conversation: Any) -> Iterator[StreamEvent]:
        """Yield the answer as it comes. Stopping early cancels the work. Raises llm.ModelError."""
        from llm_ds4.session import answer

        return answer(self.model_id, prompt, response)


class AsyncDS4(_Shared, llm.AsyncModel):
    """The same, for an event loop."""

    def execute(
        self, prompt: llm.Prompt, stream: bool, response: Any, conversation: Any
    ) -> AsyncGenerator[StreamEvent, None]:
        """Yield the answer as it comes. Stopping early cancels the work. Raises llm.ModelError."""
        from llm_ds4.session import answer_async

        return answer_async(self.model_id, prompt, response)
