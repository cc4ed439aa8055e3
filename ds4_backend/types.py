"""What goes into the engine and what comes out: frozen values, no I/O, no machinery.

A front end maps its host's messages to a `Request` and maps the `Event` stream back. It needs nothing else from
here. These types know neither tokens nor tensors, and no host framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]
Phase = Literal["queued", "prefill", "decode"]


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

    Order: `logit_bias` (token id -> added to its logit) and the penalties, softmax at `temperature`, `top_k`, `min_p`,
    `top_p`, renormalise, draw. Temperature 0 is greedy, and then the filters are moot. The penalties are OpenAI's: a
    token that the answer holds n times loses `presence_penalty` + n * `frequency_penalty`. `seed` fixes the draws of
    one request.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The visible text is one JSON value that `schema` (JSON Schema, draft 2020-12) allows."""

    schema: Mapping[str, Any] | bool


@dataclass(frozen=True, slots=True)
class JsonObject:
    """The visible text is one JSON object."""


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole visible text matches `pattern`, in the syntax of Rust's `regex` crate, without look-around."""

    pattern: str


ResponseFormat = JsonSchema | JsonObject | Regex


@dataclass(frozen=True, slots=True)
class Request:
    """Everything one answer depends on.

    `tool_choice` is auto, none, required, or the name of the one tool to call; `parallel_tool_calls` allows several
    calls in one turn. `response_format` holds the visible text; with tools and `auto`, the model chooses between a
    call and such text.

    `thinking` None means the model's default (on). What `effort` does depends on the checkpoint's dialect
    (docs/chat.md); `none` switches the thinking off. `max_thinking_tokens` closes the thinking after that many tokens,
    or soon after.

    `max_tokens` counts generated tokens, thinking included; 0 only reads the prompt, so that its state is there
    later. `stop` strings end the visible text. `logprobs` asks for the log-probabilities of the visible text's tokens
    and of that many alternatives (0 to 20). `n` is there to be refused when it is not 1.

    `private` keeps the request out of the disk cache; its state lives in memory only. Of requests that wait, the
    higher `priority` goes first. `keep_alive` is for the resident host: the seconds that the model stays loaded
    after this request; None is the host's own, a negative number is for ever.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    thinking: bool | None = None
    effort: Effort | None = None
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    private: bool = False
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    max_thinking_tokens: int | None = None
    logprobs: int | None = None
    n: int = 1
    priority: int = 0
    keep_alive: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. `cached` is the part of `input` that was resumed, `cached_disk` what of it came from the disk;
    `reasoning` is the part of `output` up to and including `</think>`. `output` leaves out the end-of-sentence
    token."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    cached_disk: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds: prefill wall time, decode wall time, and from the request to the first generated token."""

    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    first_token_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The request is alive. Comes on a clock whenever nothing else does, and may stand still.

    `phase`: queued behind others, prefill (reading the prompt), or decode (writing what is not certain yet). `done`
    of `total` prompt tokens are read, the `cached` ones included; `output` tokens are generated.
    """

    done: int
    total: int
    cached: int = 0
    phase: Phase = "prefill"
    output: int = 0


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the hidden thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """One token that could stand here: its bytes, and the natural log of its probability before any filter."""

    id: int
    bytes: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The token that was taken, and the likeliest ones in its place, best first."""

    token: Alternative
    top: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the visible answer. `logprobs`, if asked for, are those of the tokens that ended in this piece."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


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
