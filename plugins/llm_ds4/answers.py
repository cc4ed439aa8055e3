"""From the core's events to what llm wants yielded and set on its response."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import llm
from llm.parts import StreamEvent

from ds4_backend.types import (
    Alternative,
    End,
    Event,
    Failed,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)


class Answer:
    """Takes the events of one answer in order."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._calls: list[tuple[ToolCallStart, list[str]]] = []
        self._logprobs: list[dict[str, Any]] = []

    def take(self, event: Event) -> Iterator[StreamEvent]:
        """What llm is to see of `event`; the last one also completes the response.

        Raises the error of a `Failed`.
        """
        match event:
            case TextDelta(text, logprobs):
                self._logprobs += map(_logprob, logprobs)
                yield StreamEvent("text", text)
            case ReasoningDelta(text):
                yield StreamEvent("reasoning", text)
            case ToolCallStart(_, id, name):
                self._calls.append((event, []))
                yield StreamEvent("tool_call_name", name, tool_call_id=id)
            case ToolCallDelta(index, text):
                start, pieces = self._calls[index]
                pieces.append(text)
                yield StreamEvent("tool_call_args", text, tool_call_id=start.id)
            case End():
                self._complete(event)
            case Failed(error):
                raise error

    def _complete(self, end: End) -> None:
        for start, pieces in self._calls:
            arguments = _object("".join(pieces))
            if arguments is not None:  # a call that max_tokens cut short must not be run
                self._response.add_tool_call(llm.ToolCall(start.name, arguments, start.id))
        usage = end.usage
        details = {name: count for name in ("cached", "reasoning") if (count := getattr(usage, name))}
        self._response.set_usage(input=usage.input, output=usage.output, details=details or None)
        self._response.response_json = {
            **end.metadata,
            "finish_reason": end.finish_reason,
            "usage": asdict(usage),
            "timings": asdict(end.timings) | _speeds(usage, end.timings),
            **({"logprobs": self._logprobs} if self._logprobs else {}),
        }
        if model := end.metadata.get("model"):
            self._response.set_resolved_model(model)


def _logprob(one: TokenLogprob) -> dict[str, Any]:
    """In OpenAI's form."""
    listed = [_alternative(other) for other in one.top]
    return _alternative(one.token) | ({"top_logprobs": listed} if listed else {})


def _alternative(one: Alternative) -> dict[str, Any]:
    return {"token": one.bytes.decode(errors="replace"), "logprob": round(one.logprob, 6), "bytes": list(one.bytes)}


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _speeds(usage: Usage, timings: Timings) -> dict[str, float]:
    """Tokens per second, of what was really computed."""
    speeds = {
        "prefill_tokens_per_second": (usage.input - usage.cached, timings.prefill_seconds),
        "decode_tokens_per_second": (usage.output, timings.decode_seconds),
    }
    return {name: round(count / seconds, 1) for name, (count, seconds) in speeds.items() if seconds > 0}
