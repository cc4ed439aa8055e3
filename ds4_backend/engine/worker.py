"""One thread that does all the work of one model. MLX refuses arrays that another thread has made.

It knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Worker:
    """A thread that lives from the first `call` to `close`."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def call(self, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
        """What `function` returns or raises, run on this thread."""
        return self._pool.submit(function, *args, **options).result()

    def each(self, items: Generator[Item, None, Result]) -> Generator[Item, None, Result]:
        """The items, every step of `items` run on this thread; returns what it returns. Closing this closes `items`."""
        try:
            while True:
                ended, item = self.call(_step, items)
                if ended:
                    return item
                yield item
        finally:
            self._finally(items.close)

    def close(self, last: Callable[[], object] = lambda: None) -> None:
        """Run `last` and end the thread once it is idle. Closing twice is harmless."""
        self._finally(last)
        self._pool.shutdown(wait=False)

    def _finally(self, function: Callable[[], object]) -> None:
        try:
            done = self._pool.submit(function)
        except RuntimeError:  # closed, or the interpreter is ending and has ended this thread: nothing is left to tidy
            return
        done.result()


def _step(items: Generator[Any, None, Any]) -> tuple[bool, Any]:
    try:
        return False, next(items)
    except StopIteration as end:
        return True, end.value
