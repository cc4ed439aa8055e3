"""Reads one call block as it arrives, and turns it into call events.

A string argument streams as JSON-escaped pieces. Any other argument is held until it is whole and known to be JSON,
because a half-sent bad literal cannot be recalled. What is not well formed is repaired where that is safe
(docs/chat.md), and `warnings` says so. Knows text with MARK in it (chat/markup.py), not tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from ds4_backend.chat.loose import read_loose
from ds4_backend.chat.markup import (
    BLOCK,
    CLOSERS,
    INVOKE,
    MARK,
    PARAMETER,
    Tag,
    literal,
    looks_closed,
    overlap,
    read_tag,
    tag_begun,
)
from ds4_backend.chat.signatures import Signatures, as_json, json_text
from ds4_backend.types import Event, ToolCall, ToolCallDelta, ToolCallStart

QUOTES, ATTRIBUTE, NESTED = "recovered_quotes", "recovered_string_attribute", "recovered_nested"
UNCLOSED, CUT, UNFINISHED = "recovered_unclosed", "cut_after_last_call", "unfinished_call"


class CallBlock:
    """Everything after a block's opening tag.

    `first_index` is the index of the block's first call within the turn. When `done`, `calls` are the block's calls.
    When `broken`, nothing more may be fed: there is no complete call, and `unread` is text. `invalid` are the indexes
    of calls that fit no declaration, or were begun and never completed.
    """

    def __init__(self, signatures: Signatures, first_index: int, new_id: Callable[[], str]) -> None:
        self.calls: list[ToolCall] = []
        self.started = 0
        self.done = False
        self.broken = False
        self.invalid: list[int] = []
        self.warnings: list[str] = []
        self.unread = ""
        self._looked = 0  # no closing tag of a parameter begins before here in `unread`
        self._signatures = signatures
        self._first_index = first_index
        self._new_id = new_id
        self._step = self._between_calls
        self._events: list[Event] = []
        self._open: tuple[str, str] = ("", "")  # id and name of the call being read
        self._keys: list[str] = []  # its arguments so far
        self._arguments: list[str] = []

    def feed(self, text: str) -> list[Event]:
        """The events that are certain after `text`."""
        self.unread += text
        while not (self.done or self.broken) and self._step():
            pass
        return self._taken_events()

    def finish(self, ended: bool) -> list[Event]:
        """Nothing more comes. If the model itself `ended` the turn, an open call is closed where it has all that its
        tool requires; if it was cut short, an argument may be cut short as well, and the call stays open."""
        if not (self.done or self.broken):
            if self._step == self._in_string:
                self._finish_string(ended)
            elif self._step == self._in_call and ended:
                self._finish_call()
            if not self._between():
                self._stray()
            elif self.calls:
                self._warn(UNCLOSED if ended and not self.unread.strip() else CUT)
                self.done = True
            else:
                self.broken = True
        return self._taken_events()

    # Each step reads one thing off the front of the text, and says whether it did; if not, more text is needed.

    def _between_calls(self) -> bool:
        tag = read_tag(self.unread)
        if tag is None:
            return self._wait_for_tag()
        if tag.opens(INVOKE) and tag.attributes.get("name"):
            return self._start_call(tag)
        if tag.closes(BLOCK) and self.calls:
            self.done = True
            return self._read(tag.end)
        return self._stray()

    def _in_call(self) -> bool:
        tag = read_tag(self.unread)
        if tag is None:
            return self._wait_for_tag()
        if tag.closes(INVOKE):
            return self._end_call(tag.end)
        if tag.closing and tag.name != PARAMETER and self._complete():
            self._warn(UNCLOSED)
            return self._end_call(0 if tag.name == BLOCK else tag.end)
        if tag.opens(PARAMETER) and "name" in tag.attributes:
            return self._parameter(tag)
        return self._stray()

    def _parameter(self, tag: Tag) -> bool:
        name = tag.attributes["name"]
        kind = tag.attributes.get("string")
        if kind == "true":
            self._seen(tag)
            self._send(f'{self._key(name)}"')
            self._step = self._in_string
            return self._read(tag.end)
        return self._json_parameter(tag, name) if kind == "false" else self._loose_parameter(tag, name)

    def _in_string(self) -> bool:
        found = self._first_closer(0)
        if found is None:
            certain = len(self.unread) - max(overlap(self.unread, closer) for closer in CLOSERS)
            self._send(_escaped(self.unread[:certain]))
            self._read(certain)
            return False
        at, closer = found
        self._send(_escaped(self.unread[:at]) + '"')
        self._step = self._in_call
        return self._close_parameter(at, closer)

    def _json_parameter(self, tag: Tag, name: str) -> bool:
        found = self._first_closer(tag.end)
        if found is None:
            return False
        at, closer = found
        value = literal(self.unread[tag.end : at])
        whole = json_text(value)
        if whole is None and closer != CLOSERS[0]:
            return self._stray()
        self._seen(tag)
        self._send(self._key(name) + (whole or _quoted(value)))
        return self._close_parameter(at, closer)

    def _loose_parameter(self, tag: Tag, name: str) -> bool:
        """A parameter that does not say whether it is a string: held until it is closed."""
        found = self._first_closer(tag.end)
        if found is None:
            return False
        if found[1] != CLOSERS[0]:
            return self._stray()
        loose = read_loose(self.unread, tag.end, self._signatures.parameter(self._open[1], name))
        if loose is None:
            return _has_outer_closer(self.unread, tag.end) and self._stray()
        self._seen(tag)
        self._warn(NESTED if loose.nested else ATTRIBUTE)
        self._send(self._key(name) + loose.json)
        return self._read(loose.end)

    def _first_closer(self, start: int) -> tuple[int, str] | None:
        """Where the first closing tag stands after `start`, of the parameter or of what is around it."""
        at = self.unread.find(CLOSERS[0][:3], max(start, self._looked))
        while at >= 0:
            if closer := next((tag for tag in CLOSERS if self.unread.startswith(tag, at)), None):
                return at, closer
            at = self.unread.find(CLOSERS[0][:3], at + 1)
        self._looked = max(0, len(self.unread) - max(map(len, CLOSERS)))
        return None

    def _close_parameter(self, at: int, closer: str) -> bool:
        """Go on after a parameter's own closing tag, or at the tag of what is around it."""
        if closer == CLOSERS[0]:
            return self._read(at + len(closer))
        self._warn(UNCLOSED)
        return self._read(at) if self._complete() else self._stray()

    def _start_call(self, tag: Tag) -> bool:
        self._seen(tag)
        self._open = (self._new_id(), tag.attributes["name"])
        self._keys, self._arguments = [], []
        self._events.append(ToolCallStart(self._first_index + self.started, *self._open))
        self.started += 1
        self._step = self._in_call
        return self._read(tag.end)

    def _end_call(self, end: int) -> bool:
        self._send("}" if self._keys else "{}")
        call = ToolCall(*self._open, "".join(self._arguments))
        self.calls.append(call)
        if problem := self._signatures.problem(call.name, call.arguments):
            self._warn(problem)
            self.invalid.append(self._index)
        self._step = self._between_calls
        return self._read(end)

    def _finish_string(self, ended: bool) -> None:
        """Send what is left of the string; end it, and the call, if nothing in it looks like a closing tag."""
        begun = max(overlap(self.unread, closer) for closer in CLOSERS)
        text = self.unread[: len(self.unread) - begun]
        if MARK not in self.unread[len(text) :]:
            text = self.unread  # "<" and "</" are text as well
        self._send(_escaped(text))
        self._read(len(self.unread))
        whole = "".join(self._arguments)
        if ended and self._complete() and not looks_closed(whole[whole.rfind('": "') :]):
            self._warn(UNCLOSED)
            self._send('"')
            self._end_call(0)

    def _finish_call(self) -> None:
        """Take an argument that lacks only its closing tag, and end the call if it has all it needs."""
        tag = read_tag(self.unread)
        if tag and tag.opens(PARAMETER) and "name" in tag.attributes:
            value = self._unclosed_value(tag)
            if value is None:
                return
            self._seen(tag)
            self._send(self._key(tag.attributes["name"]) + value)
            self._read(len(self.unread))
        if self._complete() and tag_begun(self.unread):
            self._warn(UNCLOSED)
            self._end_call(len(self.unread))

    def _unclosed_value(self, tag: Tag) -> str | None:
        body = self.unread[tag.end :]
        body = literal(body[: len(body) - overlap(body, CLOSERS[0])])
        if tag.attributes.get("string") == "false":
            return json_text(body)
        if looks_closed(body) or read_tag(self.unread, tag.end):
            return None
        self._warn(ATTRIBUTE)
        return as_json(body, self._signatures.parameter(self._open[1], tag.attributes["name"]))

    def _wait_for_tag(self) -> bool:
        return False if tag_begun(self.unread) else self._stray()

    def _stray(self) -> bool:
        """What stands here belongs in no call: the block ends after its last complete one, or is broken."""
        if self._step != self._between_calls:
            self._warn(UNFINISHED)
            self.invalid.append(self._index)
        if self.calls:
            self._warn(CUT)
        self.done, self.broken = bool(self.calls), not self.calls
        return False

    def _between(self) -> bool:
        return self._step == self._between_calls

    def _complete(self) -> bool:
        return self._signatures.complete(self._open[1], self._keys)

    @property
    def _index(self) -> int:
        """Of the latest call."""
        return self._first_index + self.started - 1

    def _key(self, name: str) -> str:
        separator = ", " if self._keys else "{"
        self._keys.append(name)
        return f"{separator}{_quoted(name)}: "

    def _seen(self, tag: Tag) -> None:
        if tag.typographic:
            self._warn(QUOTES)

    def _warn(self, word: str) -> None:
        if word not in self.warnings:
            self.warnings.append(word)

    def _send(self, text: str) -> None:
        if text:
            self._arguments.append(text)
            self._events.append(ToolCallDelta(self._index, text))

    def _read(self, end: int) -> bool:
        self.unread = self.unread[end:]
        self._looked = 0
        return True

    def _taken_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events


def _has_outer_closer(text: str, start: int) -> bool:
    return any(text.find(closer, start) >= 0 for closer in CLOSERS[1:])


def _quoted(text: str) -> str:
    return json.dumps(literal(text), ensure_ascii=False)


def _escaped(text: str) -> str:
    """The inside of a JSON string; character by character, so pieces may be joined."""
    return _quoted(text)[1:-1]
