"""The model's token ids as events: thinking, visible text, calls.

Works on ids first: `</think>` and `｜DSML｜` count only as the special tokens, never as the same characters. Plain and
clean output is read here; markup that is not well formed comes back as text, so nothing the model wrote is lost.
Knows nothing of sampling or state.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Literal

from ds4_backend.chat.calls import CallBlock
from ds4_backend.chat.markup import BLOCK_OPEN, MARK, literal, overlap
from ds4_backend.errors import RequestError
from ds4_backend.tokenizer import DSML, THINK, THINK_END, Tokenizer
from ds4_backend.types import Event, ReasoningDelta, TextDelta, ToolCall


def new_call_id() -> str:
    """A call id that is not guessed and not repeated: 128 random bits."""
    return f"call_{secrets.token_hex(16)}"


class _State(Enum):
    THINK = "inside the thinking"
    TEXT = "in the visible answer"
    CALLS = "inside a call block"
    DONE = "finished"


class Parser:
    """Reads one assistant turn, token by token.

    `thinking` says whether the prompt ended inside `<think>` (`Rendered.thinking`). `stop` strings are looked for in
    visible text only; the text is cut before the one that ends first. Held back until it is certain: an incomplete
    character, white space and `<` that may open a call block, the beginning of a stop string.

    The caller pushes every sampled id, the end-of-sentence one too, until `done`, and calls `finish` if it stops
    earlier. The merged events do not depend on how the text was cut into tokens.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        thinking: bool,
        stop: Sequence[str] = (),
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        """Raises RequestError for an empty stop string."""
        if "" in stop:
            raise RequestError("a stop string is empty: leave it out")
        self.reasoning_tokens = 0  # up to and including </think>
        self.stop_string: str | None = None  # the one that ended the turn
        self.malformed = False  # a call block could not be read to its end
        self._texts: dict[type[Event], list[str]] = {ReasoningDelta: [], TextDelta: []}
        self._calls: list[ToolCall] = []
        self._calls_started = 0
        self._state = _State.THINK if thinking else _State.TEXT
        self._stop = tuple(stop)
        self._new_id = new_id
        self._stream = tokenizer.stream()
        self._eos = tokenizer.eos
        self._think, self._think_end = tokenizer.token_id(THINK), tokenizer.token_id(THINK_END)
        self._dsml = tokenizer.token_id(DSML)
        self._held = ""  # TEXT: not yet certain
        self._block = CallBlock("", 0, new_id)  # CALLS: the block being read

    @property
    def done(self) -> bool:
        """Whether the turn is complete; further ids are ignored."""
        return self._state is _State.DONE

    @property
    def reasoning(self) -> str:
        """The thinking so far, as its events give it."""
        return "".join(self._texts[ReasoningDelta])

    @property
    def content(self) -> str:
        """The visible text so far, as its events give it."""
        return "".join(self._texts[TextDelta])

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls that are complete so far."""
        return tuple(self._calls)

    @property
    def finish_reason(self) -> Literal["stop", "tool_calls"]:
        """What the text says about its end; whether it was cut short, only the caller knows."""
        return "tool_calls" if self._calls and self.stop_string is None else "stop"

    def push(self, id: int) -> list[Event]:
        """The events that are certain after token `id`."""
        return self._noted([] if self.done else self._push(id))

    def finish(self) -> list[Event]:
        """The events that were held back; the turn is done. An incomplete last character is dropped."""
        return self._noted(self._finish())

    def _noted(self, events: list[Event]) -> list[Event]:
        for event in events:
            if isinstance(event, ReasoningDelta | TextDelta):
                self._texts[type(event)].append(event.text)
        return events

    def _push(self, id: int) -> list[Event]:
        if id == self._eos:
            return self._finish()
        if self._state is _State.THINK:
            return self._push_thinking(id)
        return self._read(self._piece(id))

    def _finish(self) -> list[Event]:
        events: list[Event] = []
        if self._state is _State.CALLS:
            events += self._block.finish()
            events += self._leave_block()
        if self._state is _State.TEXT:
            events += self._read_text("", last=True)
        self._state = _State.DONE
        return events

    def _push_thinking(self, id: int) -> list[Event]:
        self.reasoning_tokens += 1
        if id == self._think and self.reasoning_tokens == 1:
            return []  # the prompt has opened the thinking already
        if id == self._think_end:
            self._state = _State.TEXT
            text = self._stream.flush()
        else:
            text = self._stream.push(id)
        return [ReasoningDelta(text)] if text else []

    def _piece(self, id: int) -> str:
        return self._stream.flush() + MARK if id == self._dsml else self._stream.push(id)

    def _read(self, piece: str) -> list[Event]:
        if self._state is _State.TEXT:
            return self._read_text(piece)
        events = self._block.feed(piece)
        if self._block.done or self._block.broken:
            events += self._leave_block()
        return events

    def _leave_block(self) -> list[Event]:
        """Take over a block's calls; what it could not read goes on as visible text."""
        self._calls += self._block.calls
        self._calls_started += self._block.started
        if self._block.done:
            self._state = _State.DONE
            return []
        self.malformed = True
        self._state = _State.TEXT
        return self._read_text(self._block.rest)

    def _read_text(self, piece: str, last: bool = False) -> list[Event]:
        self._held += piece
        start = self._find_block()
        if start is not None:
            return self._enter_block(start)
        if last:
            self._held = literal(self._held)
        return self._emit(len(self._held) if last else self._visible_end(), last)

    def _enter_block(self, start: int) -> list[Event]:
        """A call block opens at `start`. The blank line before it belongs to the format, not to the text."""
        text = self._held[:start]
        end = start - 2 if text.endswith("\n\n") else len(text.rstrip())
        after = self._held[start + len(BLOCK_OPEN) :]
        opener = self._held[end : start + len(BLOCK_OPEN)]
        self._held = self._held[:end]
        events = self._emit(end, last=True)
        if not self.done:
            self._state = _State.CALLS
            self._block = CallBlock(opener, self._calls_started, self._new_id)
            events += self._read(after)
        return events

    def _find_block(self) -> int | None:
        """Where a block opens. A DSML token that cannot open one becomes its characters."""
        searched = 0
        while (mark := self._held.find(MARK, searched)) >= 0:
            start = mark - 1
            begun = self._held[start:] if mark and self._held[start] == "<" else MARK
            if begun.startswith(BLOCK_OPEN):
                return start
            if BLOCK_OPEN.startswith(begun):
                return None
            self._held = self._held[:mark] + DSML + self._held[mark + 1 :]
            searched = mark
        return None

    def _visible_end(self) -> int:
        """Where the text ends that no call block can swallow: before white space, then before a begun tag."""
        return len(self._held[: len(self._held) - overlap(self._held, BLOCK_OPEN)].rstrip())

    def _emit(self, end: int, last: bool) -> list[Event]:
        """Send the held text up to `end`, less what may be the beginning of a stop string, or is one."""
        if match := self._first_stop(end):
            start, self.stop_string = match
            self._state = _State.DONE
        else:
            start = end if last else min([end, *map(self._stop_start, self._stop)])
        text, self._held = self._held[:start], self._held[start:]
        return [TextDelta(text)] if text else []

    def _first_stop(self, end: int) -> tuple[int, str] | None:
        """The stop string that ends first within the first `end` characters, the longest if several do."""
        found = [(at + len(stop), at, stop) for stop in self._stop if (at := self._held.find(stop, 0, end)) >= 0]
        return min(found)[1:] if found else None

    def _stop_start(self, stop: str) -> int:
        """Where `stop` is, or may be, in the held text."""
        at = self._held.find(stop)
        return at if at >= 0 else len(self._held) - overlap(self._held, stop)
