"""What is kept of one assistant turn so that it can be replayed: its sampled ids, and what the client was given.

Also what makes a record usable: the ids belong to one turn only, and what a message shows equals what the record
shows. Knows nothing of whole prompts, nor of where records are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from ds4_backend.tokenizer import DSML, THINK, THINK_END, Tokenizer
from ds4_backend.types import Message, ToolCall

Visible = tuple[str, tuple[tuple[str, str], ...]]
"""Content, and each call as (name, canonical arguments)."""


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One assistant turn.

    `ids` are its tokens from right after the opener to the end-of-sentence token, both left out. `thinking` says
    whether the opener ended in `<think>`; then `ids` hold the thinking, its `</think>` (unless the turn was cut short
    before it) and the rest. `content`, `reasoning` and `calls` are what the client was given.
    """

    ids: tuple[int, ...]
    thinking: bool
    content: str
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()

    @property
    def visible(self) -> Visible:
        """What `visible` gives for the message that a client makes of this turn."""
        return self.content, canonical_calls(self.calls)


def visible(message: Message) -> Visible:
    """What of an assistant message is compared with a record."""
    return message.content, canonical_calls(message.tool_calls)


def canonical_calls(calls: Iterable[ToolCall]) -> tuple[tuple[str, str], ...]:
    """Calls as (name, arguments), equal where the arguments are equal as JSON values."""
    return tuple((call.name, canonical(call.arguments)) for call in calls)


def canonical(arguments: str) -> str:
    """JSON text with sorted keys and whole numbers without a fraction, as some clients send them back. Text that is
    no JSON stays as it is."""
    try:
        return json.dumps(json.loads(arguments, parse_float=_number), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments


def split(ids: tuple[int, ...], thinking: bool, tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The thinking up to and including `</think>`, and what follows."""
    think_end = tokenizer.token_id(THINK_END)
    start = 0
    if thinking:
        start = ids.index(think_end) + 1 if think_end in ids else len(ids)
    return ids[:start], ids[start:]


def can_go_on(record: TurnRecord, tokenizer: Tokenizer) -> bool:
    """Whether the turn is plain text in whole characters, so that a new parser can read on where it ends."""
    end = THINK_END if record.thinking and tokenizer.token_id(THINK_END) in record.ids else ""
    plain = tokenizer.token_id(DSML) not in record.ids
    return plain and tokenizer.decode(record.ids) == record.reasoning + end + record.content


def is_turn(record: TurnRecord, tokenizer: Tokenizer) -> bool:
    """Whether the ids are in the vocabulary and hold no special token that would act outside this one turn."""
    distinct = set(record.ids)
    if distinct and not 0 <= min(distinct) <= max(distinct) < tokenizer.vocab_size:
        return False
    think, think_end, dsml = map(tokenizer.token_id, (THINK, THINK_END, DSML))
    # A model may repeat the `<think>` that the prompt ends with; the parser swallows it.
    body = record.ids[1:] if record.thinking and record.ids[:1] == (think,) else record.ids
    if think in body or body.count(think_end) > record.thinking:
        return False
    return not any(map(tokenizer.is_special, distinct - {think, think_end, dsml}))


def spelling(ids: tuple[int, ...], text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Ids of `text`: the longest beginning of `ids` that spells a beginning of it, then the rest encoded."""
    target = text.encode()
    kept = kept_bytes = position = 0
    for count, id in enumerate(ids, 1):
        piece = tokenizer.token_bytes(id)
        if not target.startswith(piece, position):
            break
        position += len(piece)
        if not _inside_character(target, position):
            kept, kept_bytes = count, position
    return (*ids[:kept], *tokenizer.encode(target[kept_bytes:].decode()))


def _inside_character(text: bytes, position: int) -> bool:
    return position < len(text) and text[position] & 0xC0 == 0x80


def _number(text: str) -> float | int:
    value = float(text)
    return int(value) if value.is_integer() else value
