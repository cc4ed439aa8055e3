"""One question, what a right answer looks like, and how an answer is judged. It knows no model and no tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ds4_backend.chat import render
from ds4_backend.tokenizer import EOS
from ds4_backend.types import Message, Request, Tool, ToolCall


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said: the visible text and its calls, each a name and arguments as JSON text."""

    text: str
    calls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """`reference` is a right answer in the words of the training data; `right` judges any other wording too."""

    request: Request
    reference: Message
    right: Callable[[Answer], bool]


def ask(
    question: str,
    reference: str | tuple[ToolCall, ...],
    right: Callable[[Answer], bool],
    *,
    before: tuple[Message, ...] = (),
    tools: tuple[Tool, ...] = (),
    thinking: bool = False,
) -> Case:
    """A case that ends with a user's question. `reference` is a text, or the calls to make."""
    request = Request((*before, Message("user", question)), tools, thinking)
    return Case(request, reference_turn(reference), right)


def reference_turn(reference: str | tuple[ToolCall, ...]) -> Message:
    """The assistant turn that says this, or makes these calls."""
    return Message("assistant", reference) if isinstance(reference, str) else Message("assistant", tool_calls=reference)


def answer_of(message: Message) -> Answer:
    """An assistant turn as an answer."""
    return Answer(message.content, tuple((call.name, call.arguments) for call in message.tool_calls))


def transcript(case: Case, dialect: str) -> tuple[str, str]:
    """The prompt, thinking off, and the reference answer after it, end-of-sentence token included.

    The renderer writes the answer, as a past turn of a longer conversation. Raises ValueError where the longer prompt
    does not start with the shorter one.
    """
    short = replace(case.request, thinking=False)
    closing: tuple[Any, ...] = (case.reference, Message("user", "Thanks!"))
    prompt = render(short, dialect).text
    whole = render(replace(short, messages=(*short.messages, *closing)), dialect).text
    if not whole.startswith(prompt):
        raise ValueError(f"the prompt is not the beginning of the conversation: {prompt[-80:]!r}")
    return prompt, whole[len(prompt) : whole.index(EOS, len(prompt)) + len(EOS)]
