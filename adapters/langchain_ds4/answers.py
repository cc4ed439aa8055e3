"""From the core's events to LangChain's message chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.utils.json import parse_partial_json

from ds4_backend.chat.whole import Whole, arguments_of, logprob_to_openai
from ds4_backend.types import End, Event, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStart, Usage

FIRST_CALL = 2
"""Index of a turn's first call. Content blocks merge by index, and 0 and 1 are for the reasoning and the text."""

SPOILERS = ("]", "}", '"]', '"}', '""]', '""}')


class Answer:
    """Takes the events of one answer of `model` in order."""

    def __init__(self, model: str) -> None:
        self._model, self._whole = model, Whole()

    def take(self, event: Event) -> Iterator[ChatGenerationChunk]:
        """What LangChain is to see of `event`."""
        match event:
            case TextDelta(text, logprobs):
                listed = {"logprobs": {"content": list(map(logprob_to_openai, logprobs))}}
                yield _chunk(text, response_metadata=listed) if logprobs else _chunk(text)
            case ReasoningDelta(text):
                yield _chunk("", additional_kwargs={"reasoning_content": text})
            case ToolCallStart(index, id, name):
                self._whole.take(event)
                yield _call(index, "", id=id, name=name)
            case ToolCallDelta(index, text):
                self._whole.take(event)
                yield _call(index, text)
            case End():
                yield from self._spoilt()
                yield self._last(event)

    def _spoilt(self) -> Iterator[ChatGenerationChunk]:
        """A call that max_tokens cut short must not be run, and LangChain mends cut JSON: a bracket too many makes it
        one of the `invalid_tool_calls`."""
        for index, call in enumerate(self._whole.calls):
            if arguments_of(call) is None:
                yield _call(index, next(more for more in SPOILERS if not _is_mended(call.arguments + more)))

    def _last(self, end: End) -> ChatGenerationChunk:
        metadata = {
            **end.metadata,
            "model_name": self._model,
            "model_provider": "ds4",
            "finish_reason": end.finish_reason,
            "usage": asdict(end.usage),
            "timings": asdict(end.timings),
        }
        return _chunk("", response_metadata=metadata, usage_metadata=_usage(end.usage), chunk_position="last")


def _chunk(text: str, **rest: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=text, **rest))


def _call(index: int, text: str, id: str | None = None, name: str | None = None) -> ChatGenerationChunk:
    return _chunk("", tool_call_chunks=[tool_call_chunk(name=name, args=text, id=id, index=FIRST_CALL + index)])


def _is_mended(text: str) -> bool:
    """Whether LangChain would make an object of it."""
    try:
        return isinstance(parse_partial_json(text), dict)
    except ValueError:
        return False


def _usage(usage: Usage) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=usage.input,
        output_tokens=usage.output,
        total_tokens=usage.input + usage.output,
        input_token_details={"cache_read": usage.cached},
        output_token_details={"reasoning": usage.reasoning},
    )
