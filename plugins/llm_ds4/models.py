"""The models that llm sees: one class to answer, one to answer without blocking an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, closing, contextmanager
from typing import Any

import click
import llm
from llm.parts import StreamEvent

from ds4_backend import catalog
from ds4_backend.engine.connect import connect
from ds4_backend.errors import DS4Error
from llm_ds4.answers import Answer
from llm_ds4.options import Options
from llm_ds4.requests import to_request


def names() -> list[tuple[str, tuple[str, ...]]]:
    """Every model name of the catalogue with its aliases.

    A config file that cannot be read must not stop llm's other models: then it is reported on stderr, and the names
    that are always there remain.
    """
    try:
        return [(entry.name, entry.aliases) for entry in catalog.models()]
    except DS4Error as error:
        click.echo(f"ds4-backend: {error}", err=True)
        return [(catalog.TINY, ()), (catalog.FLASH_NAME, (catalog.FLASH_ALIAS,))]


@contextmanager
def _told_to_llm() -> Iterator[None]:
    """llm prints its own ModelError as one line."""
    try:
        yield
    except DS4Error as error:
        raise llm.ModelError(str(error)) from error


class _Shared:
    can_stream = True
    supports_tools = True
    supports_schema = False
    Options = Options

    def __init__(self, name: str) -> None:
        self.model_id = name

    def __str__(self) -> str:
        return f"DeepSeek V4: {self.model_id}"


class DS4(_Shared, llm.Model):
    """A model of the catalogue, answering in this process."""

    def execute(self, prompt: llm.Prompt, stream: bool, response: Any, conversation: Any) -> Iterator[StreamEvent]:
        """Yield the answer as it comes. Stopping early cancels the work. Raises llm.ModelError."""
        with _told_to_llm():
            request = to_request(prompt)
            answer = Answer(response)
            with closing(connect(self.model_id).chat(request)) as events:
                for event in events:
                    yield from answer.take(event)


class AsyncDS4(_Shared, llm.AsyncModel):
    """The same, for an event loop."""

    async def execute(
        self, prompt: llm.Prompt, stream: bool, response: Any, conversation: Any
    ) -> AsyncGenerator[StreamEvent, None]:
        """Yield the answer as it comes. Stopping early cancels the work. Raises llm.ModelError."""
        with _told_to_llm():
            request = to_request(prompt)
            answer = Answer(response)
            engine = await asyncio.to_thread(connect, self.model_id)
            async with aclosing(engine.achat(request)) as events:
                async for event in events:
                    for shown in answer.take(event):
                        yield shown
