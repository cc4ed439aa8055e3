"""The tags of a call block, and how to recognise them in text that is still arriving.

In this text the special token `｜DSML｜` is written as MARK, a lone surrogate: no decoded text can hold one, so
markup that the model sampled and the same characters inside an argument stay apart. Knows nothing of events.
"""

from __future__ import annotations

import re

from ds4_backend.tokenizer import DSML

MARK = "\ud800"
BLOCK_OPEN = f"<{MARK}tool_calls>"
PARAMETER_CLOSE = f"</{MARK}parameter>"


def literal(text: str) -> str:
    """`text` as a reader sees it."""
    return text.replace(MARK, DSML)


def overlap(text: str, goal: str) -> int:
    """The length of the longest end of `text` that is a proper beginning of `goal`."""
    for length in range(min(len(text), len(goal) - 1), 0, -1):
        if text.endswith(goal[:length]):
            return length
    return 0


class Tag:
    """A tag with quoted attribute values (`*` in its spelling), after any white space."""

    def __init__(self, spelling: str) -> None:
        # Each character that may still be missing opens a group that closes, as optional, at the very end.
        atoms = ['[^"]*' if char == "*" else re.escape(char) for char in spelling]
        self._whole = re.compile(r"\s*" + "".join(f"({atom})" if "*" in atom else atom for atom in atoms))
        self._begun = re.compile(r"\s*" + "".join(f"(?:{atom}" for atom in atoms) + ")?" * len(atoms))

    def match(self, text: str) -> re.Match[str] | None:
        """The whole tag at the start of `text`, attribute values as groups."""
        return self._whole.match(text)

    def begun(self, text: str) -> bool:
        """Whether `text` could become this tag with more characters."""
        return self._begun.fullmatch(text) is not None


INVOKE = Tag(f'<{MARK}invoke name="*">')
INVOKE_CLOSE = Tag(f"</{MARK}invoke>")
PARAMETER = Tag(f'<{MARK}parameter name="*" string="*">')
BLOCK_CLOSE = Tag(f"</{MARK}tool_calls>")
