"""One answer: from llm's prompt through an engine to llm's response."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing, closing, contextmanager
from functools import partial
from typing import Any

import llm
from llm.parts import StreamEvent

from ds4_backend.connect import connect
from ds4_backend.engine.ask import aask, ask
from ds4_backend.errors import DS4Error
from llm_ds4.answers import Answer
from llm_ds4.requests import to_request
from llm_ds4.waiting import waiting


def answer(model: str, prompt: llm.Prompt, response: Any) -> Generator[StreamEvent, None, None]:
    """Yield the answer of `model` as it comes, then complete `response`. Raises llm.ModelError."""
    with _told_to_llm():
        request = to_request(prompt)
        taken = Answer(response)
        with waiting() as wait, closing(ask(partial(connect, model, progress=wait.loading), request)) as events:
            for event in events:
                wait.heard(event)
                yield from taken.take(event)


async def answer_async(model: str, prompt: llm.Prompt, response: Any) -> AsyncGenerator[StreamEvent, None]:
    """The same for an event loop, which stays free while the model loads and works."""
    with _told_to_llm():
        request = to_request(prompt)
        taken = Answer(response)
        with waiting() as wait:
            async with aclosing(aask(partial(connect, model, progress=wait.loading), request)) as events:
                async for event in events:
                    wait.heard(event)
                    for shown in taken.take(event):
                        yield shown


@contextmanager
def _told_to_llm() -> Iterator[None]:
    """llm prints its own ModelError as one line."""
    try:
        yield
    except DS4Error as error:
        raise llm.ModelError(str(error)) from error
