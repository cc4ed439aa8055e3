"""Time to the first token of an answer: cold, with the prompt's state in memory, and with it on disk.

Whole requests through the engine, as a front end makes them: rendering, tokenizing, the cache, the first event.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

from ds4_backend.engine.engine import Engine
from ds4_backend.errors import EngineError
from ds4_backend.types import End, Failed, Message, Progress, Request, Sampling

WARM_UP = "Say one word."

Answer = tuple[float, End]
"""Seconds to the first event, and the last one."""


@dataclass(frozen=True, slots=True)
class FirstToken:
    """Seconds from asking to the first token. `tokens` is the prompt's length; `from_memory` and `from_disk` are the
    tokens of it that were not read again."""

    tokens: int
    cold: float
    memory: float
    disk: float
    from_memory: int
    from_disk: int


def first_token(connect: Callable[[], Engine], tokens: int) -> FirstToken:
    """Measure a prompt of about `tokens` tokens.

    `connect` gives an engine with an empty disk cache; it is closed and asked for again between memory and disk. Raises
    EngineError where a request fails.
    """
    text, cold, memory = _cold_and_memory(connect, tokens)
    gc.collect()  # the first engine's weights must be gone before they are loaded again
    disk = _disk(connect, text)
    length, cached, stored = cold[1].usage.input, memory[1].usage.cached, disk[1].usage.cached_disk
    return FirstToken(length, cold[0], memory[0], disk[0], cached, stored)


def _cold_and_memory(connect: Callable[[], Engine], tokens: int) -> tuple[str, Answer, Answer]:
    with connect() as engine:
        _ask(engine, WARM_UP)
        text = prompt_of(engine, tokens)
        return text, _ask(engine, text), _ask(engine, text)


def _disk(connect: Callable[[], Engine], text: str) -> Answer:
    with connect() as engine:
        _ask(engine, f"{WARM_UP} Any.")
        return _ask(engine, text)


def prompt_of(engine: Engine, tokens: int) -> str:
    """Numbered lines that make a prompt of at least `tokens` tokens, or a little more."""
    lines = 1 + tokens // 40
    while engine.count_tokens(request(text := _lines(lines))) < tokens:
        lines += 1 + lines // 4
    return text


def request(text: str) -> Request:
    """One question, greedy, without thinking; two tokens, so that a second turn's state is not in the way."""
    return Request((Message("user", text),), thinking=False, sampling=Sampling(temperature=0.0), max_tokens=2)


def _lines(count: int) -> str:
    return "\n".join(f"Entry {n}: the sum of {n} and {n * 7 % 1000} is {n + n * 7 % 1000}." for n in range(count))


def _ask(engine: Engine, text: str) -> Answer:
    """Seconds to the first event of the answer, and its end."""
    start, first = time.perf_counter(), 0.0
    for event in engine.chat(request(text)):
        if isinstance(event, Failed):
            raise EngineError(f"a request of the measurement failed: {event.error}")
        if not first and not isinstance(event, Progress):
            first = time.perf_counter() - start
        if isinstance(event, End):
            return first, event
    raise EngineError("a request of the measurement had no end")
