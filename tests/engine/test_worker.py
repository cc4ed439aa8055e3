from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from ds4_backend.engine.worker import Worker


def steps(seen: list[str]) -> Generator[int, None, str]:
    try:
        for number in range(3):
            seen.append(threading.current_thread().name)
            yield number
        return "end"
    finally:
        seen.append("closed on " + threading.current_thread().name)


def test_every_step_runs_on_the_one_thread() -> None:
    worker, seen = Worker("model"), []

    def read() -> Generator[int, None, None]:
        assert (yield from worker.each(steps(seen))) == "end"

    assert list(read()) == [0, 1, 2]
    assert seen == ["model_0"] * 3 + ["closed on model_0"]
    worker.close()


def test_closing_closes_on_the_thread() -> None:
    worker, seen = Worker("model"), []
    items = worker.each(steps(seen))
    next(items)
    items.close()
    assert seen == ["model_0", "closed on model_0"]
    worker.close()
    worker.close()


def test_what_a_call_raises_is_raised_here() -> None:
    worker = Worker("model")
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0)
    worker.close()


def test_items_left_open_when_the_thread_is_gone_close_quietly() -> None:
    worker, seen = Worker("model"), []
    inner = steps(seen)
    items = worker.each(inner)
    next(items)
    worker.close()
    items.close()
    assert seen == ["model_0"]
    inner.close()
