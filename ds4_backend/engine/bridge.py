"""Runs a blocking generator on a thread and hands its items to an event loop. It knows nothing of models or events."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TypeVar

Item = TypeVar("Item")


class _Raised:
    """What the generator ended with: an error, or None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


async def in_thread(start: Callable[[], Generator[Item, None, None]]) -> AsyncGenerator[Item, None]:
    """The items of `start()`, made on a new thread; an error there is raised here.

    When this generator is closed, the other one is closed on its own thread as soon as it yields again.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Item | _Raised] = asyncio.Queue()
    gone = threading.Event()

    def put(item: Item | _Raised) -> None:
        try:
            loop.call_soon_threadsafe(queue.put_nowait, item)
        except RuntimeError:  # the loop was closed: nobody listens any more
            gone.set()

    threading.Thread(target=_work, args=(start, put, gone), name="ds4-answer", daemon=True).start()
    try:
        while True:
            item = await queue.get()
            if not isinstance(item, _Raised):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return
    finally:
        gone.set()


def _work(
    start: Callable[[], Generator[Item, None, None]],
    put: Callable[[Item | _Raised], None],
    gone: threading.Event,
) -> None:
    try:
        items = start()
        try:
            for item in items:
                if gone.is_set():
                    break
                put(item)
        finally:
            items.close()
    except BaseException as error:  # it belongs to the reader, whatever it is
        put(_Raised(error))
    else:
        put(_Raised(None))
