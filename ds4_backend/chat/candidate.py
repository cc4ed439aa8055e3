"""Text that is a call block if the turn ends with it, and a quotation of one if anything follows.

Two things are read so: a block inside the thinking, and a block whose opening tag is misspelt. Nothing of it is sent
before that is known. Knows text with MARK in it (chat/markup.py), not tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ds4_backend.chat.calls import CallBlock
from ds4_backend.chat.markup import BLOCK_CLOSE, INVOKE, MARK, opener, read_tag, respelt, tag_begun
from ds4_backend.chat.signatures import Signatures
from ds4_backend.types import Event, ToolCallDelta, ToolCallStart


@dataclass(frozen=True, slots=True)
class Reading:
    """A block that was read as a whole: the events of its complete calls, and the block itself."""

    events: list[Event]
    block: CallBlock


@dataclass(frozen=True, slots=True)
class Candidate:
    """A block that begins at `start` of the held text; `prefix` is what its tags have in the place of MARK.

    A `strict` one must be well formed. `body` is always the text after its opening tag.
    """

    start: int
    prefix: str
    strict: bool
    signatures: Signatures

    @property
    def body(self) -> int:
        """Where the text after the opening tag begins."""
        return self.start + len(opener(self.prefix))

    def moved(self, by: int) -> Candidate:
        """The same block where the held text has moved."""
        return replace(self, start=self.start + by)

    def is_quotation(self, body: str) -> bool:
        """Whether it cannot be a block any more: it does not begin with a call of a known tool, or text follows it."""
        text = respelt(body, self.prefix)
        if tag := read_tag(text):
            if not (tag.opens(INVOKE) and self.signatures.knows(tag.attributes.get("name", ""))):
                return True
        elif not (tag_begun(text) or f"<{self.prefix}{INVOKE}".startswith(body.lstrip())):
            return True
        end = text.find(BLOCK_CLOSE)
        return end >= 0 and text[end + len(BLOCK_CLOSE) :].strip() != ""

    def read(self, body: str, ended: bool, first_index: int, new_id: Callable[[], str]) -> Reading | None:
        """The block, now that nothing more comes; None where it is none. One that the model did not close counts only
        if the model `ended` the turn itself."""
        text = respelt(body, self.prefix)
        if self.is_quotation(body) or (BLOCK_CLOSE not in text and (self.strict or not ended)):
            return None
        block = CallBlock(self.signatures, first_index, new_id)
        events = [*block.feed(text), *block.finish(ended)]
        if not block.done or (self.strict and (block.warnings or not self._knows_all(block))):
            return None
        end = first_index + len(block.calls)  # of an incomplete call nothing was sent, so nothing is told
        block.started, block.invalid = len(block.calls), [index for index in block.invalid if index < end]
        return Reading(_of_complete_calls(events, end), block)

    def _knows_all(self, block: CallBlock) -> bool:
        return all(self.signatures.knows(call.name) for call in block.calls)


def in_thinking(start: int, signatures: Signatures) -> Candidate:
    """A block of special tokens inside the thinking."""
    return Candidate(start, MARK, True, signatures)


def _of_complete_calls(events: list[Event], end: int) -> list[Event]:
    return [event for event in events if isinstance(event, ToolCallStart | ToolCallDelta) and event.index < end]
