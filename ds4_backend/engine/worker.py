"""One thread that does all the work of one model. MLX refuses arrays that another thread has made.

It knows nothing of models.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class Worker:
    """A thread that lives from the first `submit` to `close`.

    It is a daemon: a process may end while it works. Whoever has state to save waits for it (`running.close_all`).
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = self._closed = False
        self._ident: int | None = None

    @property
    def here(self) -> bool:
        """Whether the caller runs on this thread."""
        return self._ident == threading.get_ident()

    def submit(self, function: Callable[..., Result], *args: Any, **options: Any) -> Future[Result]:
        """Have `function` run on this thread, after all that was submitted before. RuntimeError once closed."""
        future: Future[Result] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the thread of {self._name} was closed")
            self._start()
            self._tasks.put(lambda: _settle(future, function, *args, **options))
        return future

    def call(self, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
        """What `function` returns or raises, run on this thread."""
        return self.submit(function, *args, **options).result()

    def close(self) -> None:
        """End the thread after what was submitted. Closing twice is harmless."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._tasks.put(None)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        self._ident = threading.get_ident()
        while (task := self._tasks.get()) is not None:
            task()


def _settle(future: Future[Any], function: Callable[..., Any], *args: Any, **options: Any) -> None:
    try:
        future.set_result(function(*args, **options))
    except BaseException as error:  # it belongs to whoever waits for the result
        future.set_exception(error)
