"""Engines that answer by script inside the proxy's own process: its config file names `callback` here.

What the last message says picks the script, so that a test, which only has HTTP, can ask for anything.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from ds4_backend import errors
from ds4_backend.engine.running import offer
from ds4_backend.engine.scripted import ScriptedEngine
from ds4_backend.types import (
    Alternative,
    End,
    Event,
    Failed,
    Progress,
    ReasoningDelta,
    Request,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)

USAGE = Usage(input=100, cached=64, output=20, reasoning=7, cached_disk=64)
METADATA = {"model": "scripted", "seed": 5, "finish_cause": "eos"}
ERRORS = {
    "busy": errors.Busy("8 requests wait already; ask again later"),
    "does not fit": errors.DoesNotFit("81 GiB are needed; this machine has 16 GiB"),
    "bug": errors.EngineError("the engine failed"),
}


def end(reason: str = "stop") -> End:
    return End(reason, USAGE, Timings(0.5, 0.25, 0.6), METADATA)  # type: ignore[arg-type]


def thinking() -> Iterator[Event]:
    yield Progress(0, 100)
    yield Progress(64, 100, cached=64)
    yield ReasoningDelta("Let me ")
    yield Progress(100, 100, cached=64, phase="decode")
    yield ReasoningDelta("think.")
    yield TextDelta("It ")
    yield TextDelta("is 36.")
    yield end()


def parallel() -> Iterator[Event]:
    yield Progress(0, 100)
    yield ReasoningDelta("Two calls.")
    yield TextDelta("I look.")
    for index, city in enumerate(("Paris", "Rome")):
        yield ToolCallStart(index, f"call_{index}", "get_weather")
        yield ToolCallDelta(index, '{"city": ')
        yield ToolCallDelta(index, f'"{city}"}}')
    yield end("tool_calls")


def cut() -> Iterator[Event]:
    yield ToolCallStart(0, "call_0", "get_weather")
    yield ToolCallDelta(0, '{"city": "Pa')
    yield end("length")


def logprobs() -> Iterator[Event]:
    taken, other = Alternative(7, b"Yes", -0.125), Alternative(8, b"\xff", -2.5)
    yield TextDelta("Yes", (TokenLogprob(taken, (taken, other)),))
    yield end()


def late_failure() -> Iterator[Event]:
    yield TextDelta("It ")
    yield Failed(errors.EngineError("the engine failed in the middle"))


class Scripts(ScriptedEngine):
    """Answers for ever. `closed?` tells how many answers were left early, and any other text gives the request back."""

    def chat(self, request: Request) -> Iterator[Event]:  # type: ignore[override]
        asked = request.messages[-1].content if request.messages else ""
        if asked in ERRORS:
            raise ERRORS[asked]
        scripts = {"think": thinking, "parallel": parallel, "cut": cut, "logprobs": logprobs, "late": late_failure}
        if asked == "closed?":
            return self._play([TextDelta(str(ENGINES["scripted"].closed_early)), end()])
        if asked == "for ever":
            return self._play(self._for_ever())
        return self._play(scripts[asked]() if asked in scripts else self._echo(request))

    def _for_ever(self) -> Iterator[Event]:
        for number in itertools.count():
            time.sleep(0.05)
            yield TextDelta(f"{number} ")

    def _echo(self, request: Request) -> Iterator[Event]:
        plain = asdict(replace(request, response_format=None))
        plain["response_format"] = repr(request.response_format)
        yield TextDelta(json.dumps({"engine": self._name, **plain}, ensure_ascii=False))
        yield end()


ENGINES = {name: Scripts(name=name) for name in ("scripted", "host-a", "host-b", "host-c")}
OFFERS = [offer(name, engine) for name, engine in ENGINES.items()]
for each in OFFERS:
    each.__enter__()


class Nothing(CustomLogger):
    """litellm wants a callback; loading this module is what is wanted."""


callback = Nothing()
LAST: dict[str, Any] = {}
