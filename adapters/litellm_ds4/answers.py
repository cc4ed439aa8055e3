"""From the core's events to litellm's answer: chunk by chunk, or whole."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from litellm import Choices, Message, ModelResponse
from litellm import Usage as LiteLLMUsage
from litellm.types.utils import (
    ChoiceLogprobs,
    CompletionTokensDetailsWrapper,
    Delta,
    ModelResponseStream,
    PromptTokensDetailsWrapper,
    StreamingChoices,
)

from ds4_backend.chat.whole import Whole, arguments_of, logprob_to_openai
from ds4_backend.errors import EngineError
from ds4_backend.types import End, Event, Progress, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStart, Usage


class Chunks:
    """Takes the events of one answer in order and gives what litellm streams."""

    def __init__(self, model: str) -> None:
        self._fixed: dict[str, Any] = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }
        self._role: str | None = "assistant"  # said once, by the first chunk
        self._nothing: dict[str, Any] | None = {}  # an empty delta of the kind that is being streamed, if there is one

    def take(self, event: Event) -> Iterator[ModelResponseStream]:
        """The chunks for `event`; an empty one for `Progress`, so that a slow answer is seen to be alive.

        The usage has an empty chunk of its own before the finish chunk: litellm drops it from any later place, and
        then makes up numbers.
        """
        match event:
            case Progress() if self._nothing is not None:
                yield self._chunk(self._nothing)
            case ReasoningDelta(text):
                self._nothing = None  # on /v1/messages it would end the thinking block and begin an empty text
                yield self._chunk({"reasoning_content": text})
            case TextDelta(text, logprobs):
                self._nothing = {"content": ""}
                yield self._chunk({"content": text}, logprobs=_logprobs(list(map(logprob_to_openai, logprobs))))
            case ToolCallStart(index, id, name):
                self._nothing = _arguments(index, "")
                yield self._chunk({"tool_calls": [_call(id, name, "") | {"index": index}]})
            case ToolCallDelta(index, text):
                yield self._chunk(_arguments(index, text))
            case End():
                chunk = self._chunk((self._nothing or {"content": ""}) | {"provider_specific_fields": _report(event)})
                chunk.usage = _usage(event.usage)
                yield chunk
                yield self._chunk({}, finish_reason=_finish(event))

    def _chunk(self, delta: dict[str, Any], **choice: Any) -> ModelResponseStream:
        role, self._role = self._role, None
        choices = [StreamingChoices(index=0, delta=Delta(role=role, **delta), **choice)]
        return ModelResponseStream(choices=choices, **self._fixed)


def filled(response: ModelResponse, model: str, whole: Whole) -> ModelResponse:
    """`response` with the whole answer of `model` in it."""
    end = whole.end
    calls = [_call(call.id, call.name, call.arguments) for call in whole.calls if arguments_of(call) is not None]
    message = Message(
        content=whole.text or (None if calls else ""),
        role="assistant",
        reasoning_content=whole.reasoning or None,
        tool_calls=calls or None,
        provider_specific_fields=_report(end),
    )
    response.choices = [Choices(_finish(end), 0, message, logprobs=_logprobs(whole.logprobs))]
    response.model = model
    response.usage = _usage(end.usage)  # type: ignore[attr-defined]
    return response


def _call(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _arguments(index: int, text: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def _finish(end: End) -> str:
    if end.finish_reason == "cancelled":
        raise EngineError("the answer was cancelled where the model runs, before it was complete")
    return end.finish_reason


def _usage(usage: Usage) -> LiteLLMUsage:
    """All four numbers: what is missing, litellm would guess."""
    return LiteLLMUsage(
        prompt_tokens=usage.input,
        completion_tokens=usage.output,
        total_tokens=usage.input + usage.output,
        prompt_tokens_details=PromptTokensDetailsWrapper(cached_tokens=usage.cached),
        completion_tokens_details=CompletionTokensDetailsWrapper(reasoning_tokens=usage.reasoning),
    )


def _report(end: End) -> dict[str, Any]:
    """What there is beyond OpenAI's fields: seed, cause of the end, timings in seconds, where the cache was found."""
    return {"ds4": {**end.metadata, "timings": asdict(end.timings), "cached_disk": end.usage.cached_disk}}


def _logprobs(listed: list[dict[str, Any]]) -> ChoiceLogprobs | None:
    return ChoiceLogprobs.model_validate({"content": listed}) if listed else None
