"""What every engine offers, wherever it runs: in this process, behind a socket, or replaying a script.

Front ends know this class and `ds4_backend.types`, nothing else.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Generator, Mapping
from types import TracebackType
from typing import Any, Self

from ds4_backend.engine.bridge import in_thread
from ds4_backend.types import Event, Request

Events = Generator[Event, None, None]


class Engine(ABC):
    """Answers requests from one model."""

    @abstractmethod
    def chat(self, request: Request) -> Events:
        """Answer `request`; nothing is computed until the first `next`.

        Yields `Progress` during prefill, then deltas, then one `End` or `Failed`. Closing the generator cancels: the
        work stops where it is. Raises RequestError (its leaves too) at once where the request cannot be served.
        """

    def achat(self, request: Request) -> AsyncGenerator[Event, None]:
        """`chat` for an event loop: the same events, made on a thread of their own.

        Closing it, or cancelling the task that reads it, cancels the work within one prefill chunk or one token.
        """
        return in_thread(lambda: self.chat(request))

    @abstractmethod
    def count_tokens(self, request: Request) -> int:
        """Tokens of the prompt that `request` becomes, the opening of the answer included; also of a history that ends
        with the model's own turn, to which there is no answer."""

    async def acount_tokens(self, request: Request) -> int:
        """`count_tokens` for an event loop."""
        return await asyncio.to_thread(self.count_tokens, request)

    @abstractmethod
    def status(self) -> Mapping[str, Any]:
        """What runs here, for people to read: at least `model`."""

    async def astatus(self) -> Mapping[str, Any]:
        """`status` for an event loop."""
        return await asyncio.to_thread(self.status)

    @abstractmethod
    def close(self) -> None:
        """Free the model, once an answer in progress has ended. Closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
