"""From the core's events to what llm wants yielded and set on its response."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import llm
from llm.parts import StreamEvent

from ds4_backend.chat.whole import Whole, arguments_of
from ds4_backend.types import End, Event, ReasoningDelta, TextDelta, Timings, ToolCallDelta, ToolCallStart, Usage


class Answer:
    """Takes the events of one answer in order."""

    def __init__(self, response: Any) -> None:
        self._response, self._whole = response, Whole()

    def take(self, event: Event) -> Iterator[StreamEvent]:
        """What llm is to see of `event`; the last one also completes the response."""
        self._whole.take(event)
        match event:
            case TextDelta(text):
                yield StreamEvent("text", text)
            case ReasoningDelta(text):
                yield StreamEvent("reasoning", text)
            case ToolCallStart(_, id, name):
                yield StreamEvent("tool_call_name", name, tool_call_id=id)
            case ToolCallDelta(index, text):
                yield StreamEvent("tool_call_args", text, tool_call_id=self._whole.call_id(index))
            case End():
                self._complete(event)

    def _complete(self, end: End) -> None:
        for call in self._whole.calls:
            arguments = arguments_of(call)
            if arguments is not None:
                self._response.add_tool_call(llm.ToolCall(call.name, arguments, call.id))
        usage = end.usage
        details = {name: count for name in ("cached", "reasoning") if (count := getattr(usage, name))}
        self._response.set_usage(input=usage.input, output=usage.output, details=details or None)
        self._response.response_json = {
            **end.metadata,
            "finish_reason": end.finish_reason,
            "usage": asdict(usage),
            "timings": asdict(end.timings) | _speeds(usage, end.timings),
            **({"logprobs": self._whole.logprobs} if self._whole.logprobs else {}),
        }
        if model := end.metadata.get("model"):
            self._response.set_resolved_model(model)


def _speeds(usage: Usage, timings: Timings) -> dict[str, float]:
    """Tokens per second, of what was really computed."""
    speeds = {
        "prefill_tokens_per_second": (usage.input - usage.cached, timings.prefill_seconds),
        "decode_tokens_per_second": (usage.output, timings.decode_seconds),
    }
    return {name: round(count / seconds, 1) for name, (count, seconds) in speeds.items() if seconds > 0}
