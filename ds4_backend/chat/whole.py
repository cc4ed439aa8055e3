"""The events of one answer put together: text, reasoning, calls, and how it ended. Knows no prompt format."""

from __future__ import annotations

import json
from typing import Any

from ds4_backend.errors import EngineError
from ds4_backend.types import (
    Alternative,
    End,
    Event,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
)


class Whole:
    """What the events amount to that were taken so far. `logprobs` are in OpenAI's form."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[tuple[ToolCallStart, list[str]]] = []
        self._end: End | None = None
        self.logprobs: list[dict[str, Any]] = []

    def take(self, event: Event) -> None:
        """The next event of the answer."""
        match event:
            case TextDelta(text, logprobs):
                self._text.append(text)
                self.logprobs += map(logprob_to_openai, logprobs)
            case ReasoningDelta(text):
                self._reasoning.append(text)
            case ToolCallStart():
                self._calls.append((event, []))
            case ToolCallDelta(index, text):
                self._calls[index][1].append(text)
            case End():
                self._end = event

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        return "".join(self._reasoning)

    @property
    def calls(self) -> list[ToolCall]:
        """In the order of their indexes, the one that `max_tokens` cut short included."""
        return [ToolCall(start.id, start.name, "".join(pieces)) for start, pieces in self._calls]

    @property
    def end(self) -> End:
        """Raises EngineError where there was none."""
        if self._end is None:
            raise EngineError("the answer ended without its last event")
        return self._end

    def call_id(self, index: int) -> str:
        """Of a call that has begun."""
        return self._calls[index][0].id


def arguments_of(call: ToolCall) -> dict[str, Any] | None:
    """The call's arguments; None where they are no JSON object. Such a call was cut short, and must not be run."""
    try:
        value = json.loads(call.arguments)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def logprob_to_openai(one: TokenLogprob) -> dict[str, Any]:
    """As it stands in the `content` of OpenAI's `logprobs`."""
    return {**_alternative(one.token), "top_logprobs": list(map(_alternative, one.top))}


def _alternative(one: Alternative) -> dict[str, Any]:
    return {"token": one.bytes.decode(errors="replace"), "bytes": list(one.bytes), "logprob": one.logprob}
