"""Reads one call block as it arrives and turns it into call events.

A string argument streams as JSON-escaped pieces. Any other argument is held until it is whole and known to be JSON,
because a half-sent bad literal cannot be recalled. Knows text with MARK in it (chat/markup.py), not tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NoReturn

from ds4_backend.chat.markup import (
    BLOCK_CLOSE,
    INVOKE,
    INVOKE_CLOSE,
    PARAMETER,
    PARAMETER_CLOSE,
    literal,
    overlap,
)
from ds4_backend.types import Event, ToolCall, ToolCallDelta, ToolCallStart


class CallBlock:
    """Everything after a block's opening tag.

    `first_index` is the index of the block's first call within the turn. `opener` is the text of the opening tag with
    the white space before it: it goes back to the reader if no call follows. When `broken` is set, `rest` is the text
    that could not be read as calls, and nothing more may be fed.
    """

    def __init__(self, opener: str, first_index: int, new_id: Callable[[], str]) -> None:
        self.calls: list[ToolCall] = []
        self.started = 0
        self.done = False
        self.broken = False
        self._opener = opener
        self._first_index = first_index
        self._new_id = new_id
        self._text = ""
        self._step = self._between_calls
        self._events: list[Event] = []
        self._open: tuple[str, str] = ("", "")  # id and name of the call being read
        self._arguments: list[str] = []

    def feed(self, text: str) -> list[Event]:
        """The events that are certain after `text`."""
        self._text += text
        while not (self.done or self.broken) and self._step():
            pass
        return self._taken_events()

    def finish(self) -> list[Event]:
        """The model stopped inside the block: what is left belongs to an open string argument, or is broken."""
        if self._step == self._in_string:
            self._send(_escaped(self._text))
            self._text = ""
        self.broken = not self.done
        return self._taken_events()

    @property
    def rest(self) -> str:
        """The text that was not read as calls; white space between tags counts as read."""
        unread = self._text if self._text.strip() else ""
        return literal(unread if self.started else self._opener + unread)

    # Each step reads one thing off the front of the text, and says whether it did; if not, more text is needed.

    def _between_calls(self) -> bool:
        if tag := INVOKE.match(self._text):
            return self._start_call(tag.end(), tag[1])
        if tag := BLOCK_CLOSE.match(self._text):
            self.done, self.broken = self.started > 0, self.started == 0
            return not self.broken and self._read(tag.end())
        self.broken = not (INVOKE.begun(self._text) or BLOCK_CLOSE.begun(self._text))
        return False

    def _in_call(self) -> bool:
        if tag := INVOKE_CLOSE.match(self._text):
            return self._end_call(tag.end())
        if tag := PARAMETER.match(self._text):
            if tag[2] == "true":
                self._send(f'{self._separator()}{_quoted(tag[1])}: "')
                self._step = self._in_string
                return self._read(tag.end())
            if tag[2] == "false":
                return self._json_parameter(tag.end(), tag[1])
            self.broken = True
            return False
        self.broken = not (INVOKE_CLOSE.begun(self._text) or PARAMETER.begun(self._text))
        return False

    def _in_string(self) -> bool:
        end = self._text.find(PARAMETER_CLOSE)
        if end < 0:
            certain = len(self._text) - overlap(self._text, PARAMETER_CLOSE)
            self._send(_escaped(self._text[:certain]))
            self._read(certain)
            return False
        self._send(_escaped(self._text[:end]) + '"')
        self._step = self._in_call
        return self._read(end + len(PARAMETER_CLOSE))

    def _json_parameter(self, start: int, name: str) -> bool:
        end = self._text.find(PARAMETER_CLOSE, start)
        if end < 0:
            return False
        value = literal(self._text[start:end])
        self._send(f"{self._separator()}{_quoted(name)}: {value.strip() if _is_json(value) else _quoted(value)}")
        return self._read(end + len(PARAMETER_CLOSE))

    def _start_call(self, end: int, name: str) -> bool:
        if not name:
            self.broken = True
            return False
        self._open = (self._new_id(), literal(name))
        self._arguments = []
        self._events.append(ToolCallStart(self._index, *self._open))
        self.started += 1
        self._step = self._in_call
        return self._read(end)

    def _end_call(self, end: int) -> bool:
        self._send("}" if self._arguments else "{}")
        self.calls.append(ToolCall(*self._open, "".join(self._arguments)))
        self._step = self._between_calls
        return self._read(end)

    @property
    def _index(self) -> int:
        return self._first_index + self.started

    def _separator(self) -> str:
        return ", " if self._arguments else "{"

    def _send(self, text: str) -> None:
        if text:
            self._arguments.append(text)
            self._events.append(ToolCallDelta(self._index - 1, text))

    def _read(self, end: int) -> bool:
        self._text = self._text[end:]
        return True

    def _taken_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events


def _quoted(text: str) -> str:
    return json.dumps(literal(text), ensure_ascii=False)


def _escaped(text: str) -> str:
    """The inside of a JSON string; character by character, so pieces may be joined."""
    return _quoted(text)[1:-1]


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
