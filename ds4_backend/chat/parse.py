"""The model's token ids as events: thinking, visible text, calls.

Works on ids first: `</think>` and `｜DSML｜` count only as the special tokens, never as the same characters. What is
not well formed is repaired where that is safe, else it comes back as text (docs/chat.md); `warnings` says which.
Knows nothing of sampling or state.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Literal

from ds4_backend.chat.calls import CallBlock
from ds4_backend.chat.candidate import Candidate, in_thinking
from ds4_backend.chat.held import Held
from ds4_backend.chat.markup import BLOCK_OPEN, MARK, literal, overlap
from ds4_backend.chat.openers import Openers
from ds4_backend.chat.signatures import INVALID_ARGUMENTS, UNKNOWN_TOOL, Signatures
from ds4_backend.chat.stops import Stops
from ds4_backend.tokenizer import DSML, THINK, THINK_END, Tokenizer
from ds4_backend.types import Event, ReasoningDelta, TextDelta, TokenLogprob, Tool, ToolCall

PARSE_ERROR, WRAPPER, THINKING = "tool_parse_error", "recovered_wrapper", "recovered_thinking"


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
    visible text only; the text is cut before the one that ends first. `tools` are those that may be called: with none,
    markup is text; None means that they are not known, so any well-formed call is taken. Held back until it is
    certain: an incomplete character, white space and `<` that may open a call block, the beginning of a stop string,
    what may be a quotation of a call.

    The caller pushes every sampled id, the end-of-sentence one too, until `done`, and calls `finish` if it stops
    earlier: a turn that the model ended is read differently from one that was cut short. The merged events do not
    depend on how the text was cut into tokens.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        thinking: bool,
        stop: Sequence[str] = (),
        tools: Sequence[Tool] | None = None,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        """Raises RequestError for an empty stop string."""
        self.reasoning_tokens = 0  # up to and including </think>
        self.stop_string: str | None = None  # the one that ended the turn
        self._texts: dict[type[Event], list[str]] = {ReasoningDelta: [], TextDelta: []}
        self._calls: list[ToolCall] = []
        self._calls_started = 0
        self._invalid: list[int] = []
        self._warnings: dict[str, None] = {}
        self._state = _State.THINK if thinking else _State.TEXT
        self._stops = Stops(stop)
        self._signatures = Signatures(tools)
        self._new_id = new_id
        self._stream = tokenizer.stream()
        self._eos = tokenizer.eos
        self._think, self._think_end = tokenizer.token_id(THINK), tokenizer.token_id(THINK_END)
        self._dsml = tokenizer.token_id(DSML)
        self._held = Held()  # not yet sent
        self._openers = Openers(self._held, self._signatures, self._texts[TextDelta])
        self._candidate: Candidate | None = None
        self._tokens_before = 0  # THINK: pushed before the DSML token that may open a block
        self._block = self._new_block()  # CALLS: the block being read

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

    @property
    def withheld(self) -> bool:
        """Whether something was read that is in no event yet."""
        return bool(self._block.unread if self._state is _State.CALLS else self._held.text) and not self.done

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was repaired or could not be read, in short words (docs/chat.md); each once, in order."""
        return tuple(self._warnings)

    @property
    def invalid_calls(self) -> tuple[int, ...]:
        """Indexes of the calls that fit no declared tool, or were begun and never completed."""
        return tuple(self._invalid)

    @property
    def malformed(self) -> bool:
        """Whether any call markup was not well formed."""
        return not self._warnings.keys() <= {UNKNOWN_TOOL, INVALID_ARGUMENTS}

    def push(self, id: int, logprob: TokenLogprob | None = None) -> list[Event]:
        """The events that are certain after token `id`. `logprob` goes out with the visible text that it ends in."""
        if self.done:
            return []
        if id == self._eos:
            return self._finish(ended=True)
        if self._state is _State.THINK:
            return self._push_thinking(id)
        self._held.add(piece := self._piece(id), logprob, self._stream.inside_character)
        return self._feed_block(piece) if self._state is _State.CALLS else self._read_text()

    def finish(self) -> list[Event]:
        """The turn was cut short: the events that were held back. An incomplete last character is dropped."""
        return self._finish(ended=False)

    def _finish(self, ended: bool) -> list[Event]:
        events: list[Event] = []
        if self._state is _State.CALLS:
            events += self._block.finish(ended)
            events += self._leave_block()
        if self._state is _State.THINK:
            events += self._read_thinking(last=True)
        if self._state is _State.TEXT:
            events += self._read_text(last=True, ended=ended)
        self._state = _State.DONE
        return events

    def _piece(self, id: int) -> str:
        return self._stream.flush() + MARK if id == self._dsml else self._stream.push(id)

    # Thinking

    def _push_thinking(self, id: int) -> list[Event]:
        if id == self._dsml and not self._candidate:
            self._tokens_before = self.reasoning_tokens
        self.reasoning_tokens += 1
        if id == self._think and self.reasoning_tokens == 1:
            return []  # the prompt has opened the thinking already
        if id != self._think_end:
            self._held.add(self._piece(id))
            return self._read_thinking()
        self._held.add(self._stream.flush())
        self._candidate = None  # the thinking was closed: what stands in it is a quotation
        events = self._reason(len(self._held.text))
        self._state, self._openers.searched = _State.TEXT, 0
        return events

    def _read_thinking(self, last: bool = False) -> list[Event]:
        """Send what can be no block, unless the turn is over and ends with one."""
        while self._signatures.any and (candidate := self._candidate or self._block_in_thinking()):
            self._candidate = candidate
            body = self._held.text[candidate.body :]
            if not last and not candidate.is_quotation(body):
                return self._reason(candidate.start)
            if last and (reading := candidate.read(body, True, 0, self._new_id)):
                self.reasoning_tokens = self._tokens_before
                events = self._reason(candidate.start)
                self._take_block(reading.block, THINKING)
                return events + reading.events
            self._candidate, self._openers.searched = None, candidate.start + 1
        begun = 0 if last or not self._signatures.any else overlap(self._held.text, BLOCK_OPEN)
        return self._reason(len(self._held.text) - begun)

    def _block_in_thinking(self) -> Candidate | None:
        start = self._held.text.find(BLOCK_OPEN, self._openers.searched)
        return None if start < 0 else in_thinking(start, self._signatures)

    def _reason(self, count: int) -> list[Event]:
        return self._sent(ReasoningDelta(literal(self._take(count)[0])))

    # Visible text

    def _read_text(self, last: bool = False, ended: bool = False) -> list[Event]:
        """Send what can be no block; go into the block that opens, if one does."""
        while candidate := self._candidate or self._openers.find(last):
            if candidate.prefix == MARK:
                return self._enter_block(candidate)
            self._candidate = candidate
            body = self._held.text[candidate.body :]
            if not last and not candidate.is_quotation(body):
                return self._emit(self._before_space(candidate.start))
            if last and (reading := candidate.read(body, ended, self._calls_started, self._new_id)):
                events = self._emit(self._before_block(candidate.start), last=True)
                if not self.done:
                    self._take_block(reading.block, WRAPPER)
                    events += reading.events
                return events
            if ended and not candidate.is_quotation(body):
                self._warn(PARSE_ERROR)
            self._candidate, self._openers.searched = None, candidate.start + 1
        return self._emit(len(self._held.text) if last else self._before_space(self._openers.searched), last)

    def _before_space(self, end: int) -> int:
        return len(self._held.text[:end].rstrip())

    def _before_block(self, start: int) -> int:
        """Where the text ends that stands before a block: the blank line between belongs to the format."""
        return start - 2 if self._held.text[:start].endswith("\n\n") else self._before_space(start)

    def _emit(self, end: int, last: bool = False) -> list[Event]:
        """Send the held text up to `end`, less what may be the beginning of a stop string, or is one."""
        if match := self._stops.first(self._held.text, end):
            start, self.stop_string = match
            self._state = _State.DONE
        else:
            start = end if last else self._stops.certain(self._held.text, end)
        return self._sent(TextDelta(*self._take(start))) if start else []

    # Calls

    def _new_block(self) -> CallBlock:
        return CallBlock(self._signatures, self._calls_started, self._new_id)

    def _enter_block(self, candidate: Candidate) -> list[Event]:
        end = self._before_block(candidate.start)
        after = self._held.text[candidate.body :]
        self._openers.searched = candidate.start + 1  # if it comes back as text, this opening tag is no more than that
        events = self._emit(end, last=True)
        if not self.done:
            self._state = _State.CALLS
            self._block = self._new_block()
            events += self._feed_block(after)
        return events

    def _feed_block(self, piece: str) -> list[Event]:
        events = self._block.feed(piece)
        if self._block.done or self._block.broken:
            events += self._leave_block()
        return events

    def _leave_block(self) -> list[Event]:
        """Take over a block's calls; one without any goes on as visible text, as far as it was not sent."""
        block = self._block
        self._take_block(block)
        if block.done:
            return []
        self._warn(PARSE_ERROR)
        if block.started:
            unread = len(block.unread) if block.unread.strip() else 0
            self._take(len(self._held.text) - unread)
        self._state = _State.TEXT
        return self._read_text()

    def _take_block(self, block: CallBlock, *warnings: str) -> None:
        self._calls += block.calls
        self._calls_started += block.started
        self._invalid += block.invalid
        for word in (*warnings, *block.warnings):
            self._warn(word)
        if block.done:
            self._take(len(self._held.text))
            self._state = _State.DONE

    def _warn(self, word: str) -> None:
        self._warnings[word] = None

    def _take(self, count: int) -> tuple[str, tuple[TokenLogprob, ...]]:
        """The first `count` held characters; places in the held text move along."""
        self._openers.searched = max(0, self._openers.searched - count)
        if self._candidate:
            self._candidate = self._candidate.moved(-count)
        return self._held.take(count)

    def _sent(self, event: ReasoningDelta | TextDelta) -> list[Event]:
        if not event.text:
            return []
        self._texts[type(event)].append(event.text)
        return [event]
