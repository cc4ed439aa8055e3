"""Past assistant turns as the model wrote them: the prompt's token ids, with recorded turns put back exactly.

A client sends history back as text. Three things get lost on the way: how the model spelt its calls, how it cut its
text into tokens, and, often, its reasoning. A `TurnRecord` holds the ids that were sampled; where a message of the
history shows the same turn, these ids stand in for the rendered ones, so the prompt goes on from the state that the
model already has. Knows nothing of where records are kept, nor of weights or state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ds4_backend.cache.keys import PrefixHash
from ds4_backend.chat.record import TurnRecord, can_go_on, is_turn, spelling, split, visible
from ds4_backend.chat.render import AssistantTurn, Rendered, Segment
from ds4_backend.tokenizer import ASSISTANT, EOS, THINK, THINK_END, USER, Tokenizer
from ds4_backend.types import Message

if TYPE_CHECKING:
    from ds4_backend.chat.parse import Parser

OPENER_TOKENS = 2
"""`<｜Assistant｜>` and `<think>` or `</think>`."""

Find = Callable[[Message, bytes], TurnRecord | None]
"""Looks up the record of an assistant message, given the name (`PrefixHash.key`) of all ids before its opener.

It may find by call id under any prefix, else by prefix and `visible`. What it finds is checked against the message
here, so a poor match does no harm.
"""


@dataclass(frozen=True, slots=True)
class TurnSpan:
    """Where message `message` stands in the ids: its opener begins at `start`, its end-of-sentence token is at `end`
    (or the prompt ends there). `replayed` says whether the ids are a record's."""

    message: int
    start: int
    end: int
    replayed: bool


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt as token ids.

    `boundaries` are ascending positions between messages, where a cached state is of use to later prompts: the first
    is the end of the system text and tools, the last the start of the answer's opener. `parent` is the name
    (`PrefixHash.key`) of the ids before that opener. `begun` is what the answer already holds: empty unless a prefix is
    continued, and then with the reasoning that stands in the prompt.
    """

    ids: tuple[int, ...]
    turns: tuple[TurnSpan, ...]
    boundaries: tuple[int, ...]
    parent: bytes
    begun: Message

    @property
    def opener(self) -> int:
        """The position of the `<｜Assistant｜>` that opens the answer."""
        return self.boundaries[-1]


def encode_with_replay(rendered: Rendered, messages: Sequence[Message], tokenizer: Tokenizer, find: Find) -> Encoded:
    """The ids of `rendered`, the prompt of a request with `messages`, with recorded turns replayed.

    A record stands in for a turn if content and calls are equal: text to the letter, calls by name and by arguments
    as JSON values. Where the prompt's rules keep the turn's thinking, the whole span is replaced, opener included,
    and reasoning that the client dropped comes back; reasoning that it changed leaves the turn as rendered. Where the
    rules drop the thinking, only what follows `</think>` is replaced.
    """
    writer = _Writer(tokenizer)
    turns: list[TurnSpan] = []
    begun = Message("assistant")
    position = 0
    for turn in rendered.turns:
        writer.write(rendered.segments[position : turn.start])
        message, start = messages[turn.message], len(writer.ids)
        record = find(message, writer.key())
        ids = None if record is None else _replayed(record, message, turn, rendered, tokenizer)
        if ids is None:
            writer.write(rendered.segments[turn.start : turn.end])
        else:
            writer.replay(ids)
        if message.prefix:
            begun = message if record is None or ids is None else replace(message, reasoning=record.reasoning)
        turns.append(TurnSpan(turn.message, start, len(writer.ids), ids is not None))
        position = turn.end
    writer.write(rendered.segments[position:])
    return Encoded(tuple(writer.ids), tuple(turns), tuple(writer.boundaries), writer.parent, begun)


def record_of(prompt: Encoded, sampled: Sequence[int], parser: Parser, tokenizer: Tokenizer) -> TurnRecord | None:
    """The record of the answer to `prompt`: `sampled` ids, the end-of-sentence token left out, as `parser` read them.

    A prefix that was continued is part of it. An answer that ends before what was sampled, at a stop string or where
    the client left, is cut there; the last token may then be spelt anew. None where there is nothing to replay: the
    client left before the first token, a stop string came after calls, or there are special tokens that an answer
    cannot hold, which must not act in later prompts.
    """
    cut = parser.stop_string is not None or not parser.done
    if cut and (parser.calls or not sampled):
        return None
    thinking = prompt.ids[prompt.opener + 1] == tokenizer.token_id(THINK)
    content = prompt.begun.content + parser.content
    ids = (*prompt.ids[prompt.opener + OPENER_TOKENS :], *sampled)
    if cut:
        thought, rest = split(ids, thinking, tokenizer)
        ids = thought + spelling(rest, content, tokenizer)
    reasoning = (prompt.begun.reasoning or "") + parser.reasoning
    record = TurnRecord(ids, thinking, content, reasoning, parser.calls)
    return record if is_turn(record, tokenizer) else None


class _Writer:
    """Ids as they are put together, the name of all so far, and the boundaries passed."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.ids: list[int] = []
        self.boundaries: list[int] = []
        self.parent = b""  # the key at the latest opener
        self._tokenizer = tokenizer
        self._key = PrefixHash()
        self._hashed = 0

    def write(self, segments: Iterable[Segment]) -> None:
        """Append segments. Every message begins with a control token or follows an end of sentence."""
        for segment in segments:
            if segment.control and segment.text == ASSISTANT:
                self._open()
            elif segment.control and segment.text == USER:
                self._mark()
            self.ids += self._tokenizer.encode(segment.text, segment.control)
            if segment.control and segment.text == EOS:
                self._mark()

    def replay(self, ids: Sequence[int]) -> None:
        """Append a recorded turn, its opener first."""
        self._open()
        self.ids += ids

    def key(self) -> bytes:
        """The name of all ids so far, at the cost of the new ones only."""
        self._key.extend(self.ids[self._hashed :])
        self._hashed = len(self.ids)
        return self._key.key()

    def _open(self) -> None:
        self._mark()
        self.parent = self.key()

    def _mark(self) -> None:
        if self.boundaries[-1:] != [len(self.ids)]:
            self.boundaries.append(len(self.ids))


def _replayed(
    record: TurnRecord, message: Message, turn: AssistantTurn, rendered: Rendered, tokenizer: Tokenizer
) -> tuple[int, ...] | None:
    """The ids that stand in for a rendered turn, opener included; None where the record is not of this turn."""
    if record.visible != visible(message) or not is_turn(record, tokenizer):
        return None
    assistant, think, think_end = map(tokenizer.token_id, (ASSISTANT, THINK, THINK_END))
    is_open = record.thinking and think_end not in record.ids
    if message.prefix and not (is_open == rendered.thinking and can_go_on(record, tokenizer)):
        return None
    if not turn.keeps_thinking:
        if is_open and record.calls:
            return None  # they were made inside the thinking, which is not shown here
        return (assistant, think_end, *split(record.ids, record.thinking, tokenizer)[1])
    if message.reasoning and message.reasoning != record.reasoning:
        return None
    end = (think_end,) if is_open and not message.prefix and not record.calls else ()
    return (assistant, think if record.thinking else think_end, *record.ids, *end)
