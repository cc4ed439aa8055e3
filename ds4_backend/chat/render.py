"""A conversation as the exact prompt the model was trained on, with control text and data kept apart.

The vendor's own encoder (`deepseek_recipe`) writes the prompt and marks which ranges of it are special tokens; what
stands between them came from the caller and must never become one. Four things are arranged differently from its
defaults, each with its reason in docs/chat.md. Knows no tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds4_backend.chat.conversation import (
    check,
    has_tool_traffic,
    is_empty_prefix,
    recipe_format,
    recipe_messages,
    recipe_tools,
)
from ds4_backend.chat.dialects import RecipeEffort, dialect_of, thinks
from ds4_backend.errors import EngineError, RequestError
from ds4_backend.tokenizer import ASSISTANT, EOS, THINK
from ds4_backend.types import Request

if TYPE_CHECKING:
    import deepseek_recipe as recipe

REMINDER = "<｜latest_reminder｜>"


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the prompt. A control segment is one special token; in data no special token is recognised."""

    text: str
    control: bool


@dataclass(frozen=True, slots=True)
class AssistantTurn:
    """Where message `message` of the request stands in the prompt: segments `start` to `end`, not included.

    The first is the control token `<｜Assistant｜>`; at `end` is the control end-of-sentence token, or, for a prefix,
    the end of the prompt. `keeps_thinking` says whether reasoning is written here if there is any.
    """

    message: int
    start: int
    end: int
    keeps_thinking: bool


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt. `effort` is the checkpoint's own level that took effect, None with thinking off."""

    segments: tuple[Segment, ...]
    effort: str | None = None
    turns: tuple[AssistantTurn, ...] = ()

    @property
    def text(self) -> str:
        """The whole prompt as one string."""
        return "".join(segment.text for segment in self.segments)

    @property
    def thinking(self) -> bool:
        """Whether the model goes on inside `<think>`."""
        last = next(segment for segment in reversed(self.segments) if segment.control)
        return last.text == THINK


@dataclass(frozen=True, slots=True)
class _Prompt:
    """The encoder's output: text, and the half-open ranges (in characters) of its special tokens."""

    text: str
    ranges: tuple[tuple[int, int], ...]

    def without(self, start: int, end: int) -> _Prompt:
        """The prompt less `text[start:end]`, which must not cut through a token."""
        kept = [(a, b) for a, b in self.ranges if b <= start]
        moved = [(a - (end - start), b - (end - start)) for a, b in self.ranges if a >= end]
        return _Prompt(self.text[:start] + self.text[end:], (*kept, *moved))

    def segments(self) -> tuple[Segment, ...]:
        """Data and control text in turn. Reminder tokens only held a later system message in place: they go."""
        out: list[Segment] = []
        data, position = "", 0
        for start, end in (*self.ranges, (len(self.text), len(self.text))):
            data += self.text[position:start]
            token, position = self.text[start:end], end
            if token == REMINDER:
                continue
            if data:
                out.append(Segment(data, control=False))
            if token:
                out.append(Segment(token, control=True))
            data = ""
        return tuple(out)


def render(request: Request, dialect: str) -> Rendered:
    """The prompt for the next assistant turn of `request`, in the dialect (`preview`, `0731`) of the checkpoint.

    Raises RequestError for an unknown effort, and for a conversation that cannot be rendered: empty, ended
    by a finished assistant turn, names with a quote, text that is not Unicode. Raises FileError for an unknown
    dialect.
    """
    check(request)
    level = dialect_of(dialect).level(request.effort)
    thinking = thinks(request)
    try:
        prompt = _prompt(request, thinking, level.recipe)
    except UnicodeEncodeError as error:
        raise RequestError(f"a message is not valid Unicode ({error}): remove the lone surrogate") from error
    segments = prompt.segments()
    return Rendered(segments, level.name if thinking else None, _assistant_turns(segments, request))


def _prompt(request: Request, thinking: bool, effort: RecipeEffort) -> _Prompt:
    messages = recipe_messages(request.messages)
    tools, wanted = recipe_tools(request), recipe_format(request)
    if tools or not thinking or not has_tool_traffic(request.messages):
        return _encode(messages, tools, thinking, effort, wanted)
    return _encode_keeping_thinking(messages, effort, wanted)


def _assistant_turns(segments: tuple[Segment, ...], request: Request) -> tuple[AssistantTurn, ...]:
    """The span of each assistant message. The encoder opens every one, and ends every one but a prefix."""
    messages = request.messages
    written = [i for i, m in enumerate(messages) if m.role == "assistant" and not is_empty_prefix(m)]
    starts = [index for index, segment in enumerate(segments) if segment == Segment(ASSISTANT, control=True)]
    ends = [index for index, segment in enumerate(segments) if segment == Segment(EOS, control=True)]
    prefix = written[-1:] == [len(messages) - 1]  # a last assistant message is always one
    if (len(starts), len(ends)) != (len(written) + (not prefix), len(written) - prefix):
        raise EngineError("the prompt encoder opened or ended turns in an unknown way: install deepseek-recipe 0.2")
    keeps = bool(request.tools) or (thinks(request) and has_tool_traffic(messages))
    return tuple(
        AssistantTurn(message, start, end, keeps or messages[message].prefix)
        for message, start, end in zip(written, starts, [*ends, len(segments)], strict=False)
    )


def _encode_keeping_thinking(
    messages: list[recipe.Message], effort: RecipeEffort, wanted: Mapping[str, Any]
) -> _Prompt:
    """A prompt without tools whose past turns keep their reasoning.

    The encoder keeps it only where tools are declared. So one is declared, and its block, known to the letter, is cut
    out of the system text again.
    """
    block = _block_of_a_tool()
    prompt = _encode(messages, [_a_tool()], True, effort, wanted)
    start = prompt.ranges[1][0] - block.ranges[0][0]  # range 0 is the start token, range 1 the block's first
    end = start + len(block.text)
    if prompt.text[start:end] != block.text:
        raise EngineError("the prompt encoder put its tool block in an unknown place: install deepseek-recipe 0.2")
    return prompt.without(start, end)


@functools.cache
def _block_of_a_tool() -> _Prompt:
    """The tool block alone: a prompt with no messages, less its first token and its `<｜Assistant｜></think>`."""
    prompt = _encode([], [_a_tool()], False, "low", {})
    end = prompt.ranges[-2][0]
    start = prompt.ranges[0][1]
    return prompt.without(end, len(prompt.text)).without(0, start)


def _a_tool() -> recipe.ToolDefinition:
    import deepseek_recipe as recipe

    return recipe.ToolDefinition("any", "", {})


def _encode(
    messages: list[recipe.Message],
    tools: list[recipe.ToolDefinition],
    thinking: bool,
    effort: RecipeEffort,
    wanted: Mapping[str, Any],
) -> _Prompt:
    """`wanted` are the keywords of the response format."""
    import deepseek_recipe as recipe

    conversation = recipe.Conversation(
        messages, thinking_mode=thinking, tools=tools or None, reasoning_effort=effort, **wanted
    )
    rendered = recipe.DeepseekV4Encoding().render_conversation(conversation)
    return _Prompt(rendered.prompt, tuple(rendered.special_ranges))
