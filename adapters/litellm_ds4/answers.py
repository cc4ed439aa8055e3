"""From the core's events to litellm's answer: chunk by chunk, or whole."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from litellm import Choices, Message, ModelResponse
from litellm import Usage as LiteLLMUsage
from litellm.types.utils import (
    ChatCompletionTokenLogprob,
    ChoiceLogprobs,
    CompletionTokensDetailsWrapper,
    Delta,
    ModelResponseStream,
    PromptTokensDetailsWrapper,
    StreamingChoices,
    TopLogprob,
)

from ds4_backend.errors import EngineError
from ds4_backend.types import (
    Alternative,
    End,
    Event,
    Failed,
    Progress,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)


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
        then makes up numbers. Raises the error of a `Failed`.
        """
        match event:
            case Progress() if self._nothing is not None:
                yield self._chunk(self._nothing)
            case ReasoningDelta(text):
                self._nothing = None  # on /v1/messages it would end the thinking block and begin an empty text
                yield self._chunk({"reasoning_content": text})
            case TextDelta(text, logprobs):
                self._nothing = {"content": ""}
                yield self._chunk({"content": text}, logprobs=_logprobs(logprobs))
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
            case Failed(error):
                raise error

    def _chunk(self, delta: dict[str, Any], **choice: Any) -> ModelResponseStream:
        role, self._role = self._role, None
        choices = [StreamingChoices(index=0, delta=Delta(role=role, **delta), **choice)]
        return ModelResponseStream(choices=choices, **self._fixed)


class Whole:
    """Takes the events of one answer in order and gives it at once."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[tuple[ToolCallStart, list[str]]] = []
        self._logprobs: list[TokenLogprob] = []
        self._end: End | None = None

    def take(self, event: Event) -> None:
        """Raises the error of a `Failed`."""
        match event:
            case ReasoningDelta(text):
                self._reasoning.append(text)
            case TextDelta(text, logprobs):
                self._text.append(text)
                self._logprobs += logprobs
            case ToolCallStart():
                self._calls.append((event, []))
            case ToolCallDelta(index, text):
                self._calls[index][1].append(text)
            case End():
                self._end = event
            case Failed(error):
                raise error

    def fill(self, response: ModelResponse) -> ModelResponse:
        """`response` with the answer in it. A call that `max_tokens` cut short is left out: it must not be run."""
        end = self._end
        if end is None:
            raise EngineError("the answer ended without its last event")
        calls = [_call(start.id, start.name, "".join(pieces)) for start, pieces in self._calls]
        if end.finish_reason == "length":
            calls = [call for call in calls if _is_json(call["function"]["arguments"])]
        message = Message(
            content="".join(self._text) or (None if calls else ""),
            role="assistant",
            reasoning_content="".join(self._reasoning) or None,
            tool_calls=calls or None,
            provider_specific_fields=_report(end),
        )
        response.choices = [Choices(_finish(end), 0, message, logprobs=_logprobs(self._logprobs))]
        response.model = self._model
        response.usage = _usage(end.usage)  # type: ignore[attr-defined]
        return response


def _call(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _arguments(index: int, text: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


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


def _logprobs(tokens: Iterable[TokenLogprob]) -> ChoiceLogprobs | None:
    content = [
        ChatCompletionTokenLogprob(**_token(each.token), top_logprobs=[TopLogprob(**_token(one)) for one in each.top])
        for each in tokens
    ]
    return ChoiceLogprobs(content=content) if content else None


def _token(token: Alternative) -> dict[str, Any]:
    return {
        "token": token.bytes.decode("utf-8", "replace"),
        "bytes": list(token.bytes),
        "logprob": token.logprob,
    }
