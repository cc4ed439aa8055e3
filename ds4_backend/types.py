"""What goes into the engine and what comes out: frozen values, no I/O, no machinery.

A front end maps its host's messages to a `Request` and maps the `Event` stream back. It needs nothing else from
here. These types know neither tokens nor tensors, and no host framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Effort = Literal["low", "high", "max"]
FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that an assistant turn makes.

    `arguments` is JSON text, as the model wrote it: usually an object, but a caller's history may hold anything.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is its JSON Schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation.

    `reasoning` and `tool_calls` belong to assistant messages, `tool_call_id` to tool results. `prefix` marks a last
    assistant message that is to be continued instead of answered.
    """

    role: Role
    content: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. `None` means: the model's own default.

    Order: softmax at `temperature`, `top_k`, `min_p`, `top_p`, renormalise, draw. Temperature 0 is greedy, and then
    the rest is moot. `seed` fixes the draws of one request.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """Everything one answer depends on.

    `thinking` None means the model's default (on). `effort` is one of low, high, max; what it does depends on the
    checkpoint's dialect (docs/chat.md). `max_tokens` counts generated tokens, thinking included. `private` keeps the
    request out of the disk cache; its state lives in memory only.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    thinking: bool | None = None
    effort: Effort | None = None
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    private: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. `cached` is the part of `input` that was resumed; `reasoning` is the part of `output` up to and
    including `</think>`. `output` leaves out the end-of-sentence token."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds: prefill wall time, decode wall time, and from the request to the first generated token."""

    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    first_token_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Prefill progress in prompt tokens; `done` includes the `cached` ones."""

    done: int
    total: int
    cached: int = 0


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the hidden thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the visible answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """A call begins: `index` counts the calls of this turn from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of the JSON text of call `index`'s arguments."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class End:
    """The answer is complete; always the last event unless the stream ends with `Failed`."""

    finish_reason: FinishReason
    usage: Usage = Usage()
    timings: Timings = Timings()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer cannot be completed; `error` says why."""

    error: Exception


Event = Progress | ReasoningDelta | TextDelta | ToolCallStart | ToolCallDelta | End | Failed
