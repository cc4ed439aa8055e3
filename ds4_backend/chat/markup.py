"""The tags of a call block, and how to recognise them in text that is still arriving.

In this text the special token `｜DSML｜` is written as MARK, a lone surrogate: no decoded text can hold one, so
markup that the model sampled and the same characters inside an argument stay apart. Knows nothing of events.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ds4_backend.tokenizer import DSML

MARK = "\ud800"
BLOCK, INVOKE, PARAMETER = "tool_calls", "invoke", "parameter"
BLOCK_OPEN = f"<{MARK}{BLOCK}>"
BLOCK_CLOSE = f"</{MARK}{BLOCK}>"
CLOSERS = tuple(f"</{MARK}{name}>" for name in (PARAMETER, INVOKE, BLOCK))

_BARS = ("", "｜", "|", "｜｜", "||")
MISSPELT = (
    "",  # a plain <tool_calls>
    *sorted({"".join(parts) for parts in itertools.product(_BARS, ("DSML", MARK), _BARS)} - {DSML, MARK}),
)
"""What models have written in the place of MARK. DSML itself, in ordinary characters, is not among them: that is how
a quotation looks, for text that came from outside never holds the special token."""

_CURLY = "“”„‟″"
_VALUE = rf'"[^"]*"|[{_CURLY}][^"{_CURLY}]*["{_CURLY}]'
_ATTRIBUTES = rf"(?:\s(?:[\s\w=]|{_VALUE})*)?"
_TAG = re.compile(rf"\s*<(/?){MARK}(\w+)({_ATTRIBUTES})>")
_BEGUN = re.compile(rf'\s*(?:<(?:/?(?:{MARK}(?:\w*|\w+{_ATTRIBUTES}(?:"[^"]*|[{_CURLY}][^"{_CURLY}]*)?))?)?)?')
_ATTRIBUTE = re.compile(rf"(\w+)\s*=\s*({_VALUE})")
_ANY_CLOSER = re.compile(rf"</[｜|]{{0,2}}(?:DSML|{MARK})?[｜|]{{0,2}}(?:{PARAMETER}|{INVOKE}|{BLOCK})>")


@dataclass(frozen=True, slots=True)
class Tag:
    """One whole tag. `end` is the position after it; `typographic` says that a value stood in typographic quotes."""

    name: str
    closing: bool
    attributes: Mapping[str, str]
    end: int
    typographic: bool = False

    def opens(self, name: str) -> bool:
        """Whether it is an opening tag of that name."""
        return self.name == name and not self.closing

    def closes(self, name: str) -> bool:
        """Whether it is a closing tag of that name."""
        return self.name == name and self.closing


def read_tag(text: str, start: int = 0) -> Tag | None:
    """The tag at `start`, after any white space; None where there is none, or not yet all of it."""
    if (found := _TAG.match(text, start)) is None:
        return None
    values = _ATTRIBUTE.findall(found[3])
    attributes = {name: literal(value[1:-1]) for name, value in values}
    return Tag(found[2], found[1] == "/", attributes, found.end(), any(value[0] != '"' for _, value in values))


def tag_begun(text: str) -> bool:
    """Whether `text` could become a tag with more characters."""
    return _BEGUN.fullmatch(text) is not None


def opener(prefix: str) -> str:
    """A block's opening tag as one spells it who writes `prefix` for MARK."""
    return f"<{prefix}{BLOCK}>"


def respelt(text: str, prefix: str) -> str:
    """`text` with MARK in every tag that has `prefix` in its place."""
    if prefix == MARK:
        return text
    tag = rf"<(/?){re.escape(prefix)}({BLOCK}|{INVOKE}|{PARAMETER})\b"
    return re.sub(tag, rf"<\1{MARK}\2", text)


def looks_closed(text: str) -> bool:
    """Whether `text`, the value of a parameter that was never closed, holds some spelling of a closing tag."""
    return _ANY_CLOSER.search(text) is not None


def literal(text: str) -> str:
    """`text` as a reader sees it."""
    return text.replace(MARK, DSML)


def overlap(text: str, goal: str) -> int:
    """The length of the longest end of `text` that is a proper beginning of `goal`."""
    for length in range(min(len(text), len(goal) - 1), 0, -1):
        if text.endswith(goal[:length]):
            return length
    return 0
