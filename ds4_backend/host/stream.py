"""One answer of the host: lines of JSON as they come, ended by a lost client, or by the host's own end.

It knows no engine; the lines come from elsewhere.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Item = TypeVar("Item")
LAST_SECONDS = 0.5
"""For the last line of an answer that is cut short."""


def line(value: dict[str, Any]) -> bytes:
    """One line. Everything beyond ASCII is escaped, so nothing but the last byte ends a line."""
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


class LineStream(Response):
    """Sends `lines`, and closes them as soon as the client is gone.

    While it sends, its task is in `tasks`; cancelling that task ends the answer with the line `last`.
    """

    media_type = "application/x-ndjson"

    def __init__(self, lines: AsyncGenerator[bytes, None], tasks: set[asyncio.Task[None]], last: bytes) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._lines, self._tasks, self._last = lines, tasks, last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI side."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_gone(receive))
        self._tasks.add(sending)
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.cancelled() and not leaving.done():
                with suppress(TimeoutError):  # a client that does not read keeps nobody from ending
                    async with asyncio.timeout(LAST_SECONDS):
                        await send({"type": "http.response.body", "body": self._last, "more_body": True})
                        await send({"type": "http.response.body", "body": b""})
        finally:
            for task in (sending, leaving):
                task.cancel()
            ended = await asyncio.gather(sending, leaving, return_exceptions=True)
            self._tasks.discard(sending)
        if isinstance(ended[0], Exception):
            raise ended[0]

    async def _send(self, send: Send) -> None:
        async with aclosing(self._lines) as lines:
            async for one in lines:
                await send({"type": "http.response.body", "body": one, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def with_beats(items: AsyncGenerator[Item, None], seconds: float) -> AsyncGenerator[Item | None, None]:
    """The items, and None whenever `seconds` have passed without one. Closing this closes `items`."""
    step: asyncio.Future[Item] | None = None
    try:
        while True:
            step = asyncio.ensure_future(anext(items))
            while not step.done():
                await asyncio.wait({step}, timeout=seconds)
                if not step.done():
                    yield None
            try:
                item = step.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        if step is not None and not step.done():
            step.cancel()
            await asyncio.wait({step})
        await items.aclose()


async def _gone(receive: Receive) -> None:
    """Ends when the client has."""
    while (await receive())["type"] != "http.disconnect":
        pass
