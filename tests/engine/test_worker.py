from __future__ import annotations

import threading

import pytest

from ds4_backend.engine.worker import Worker


def test_everything_runs_on_one_thread_in_order() -> None:
    worker, seen = Worker("model"), []
    for number in range(3):
        worker.submit(lambda number=number: seen.append((number, threading.current_thread().name)))
    assert worker.call(lambda: threading.current_thread().name) == "model"
    assert seen == [(number, "model") for number in range(3)]
    worker.close()


def test_what_a_call_raises_is_raised_here() -> None:
    worker = Worker("model")
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0)
    assert worker.call(lambda: 2) == 2
    worker.close()


def test_closing_ends_the_thread_after_what_was_submitted() -> None:
    worker = Worker("ends-soon")
    go_on = threading.Event()
    worker.submit(go_on.wait)
    last = worker.submit(lambda: "done")
    worker.close()
    worker.close()
    go_on.set()
    assert last.result() == "done"
    with pytest.raises(RuntimeError, match="was closed"):
        worker.submit(lambda: None)
