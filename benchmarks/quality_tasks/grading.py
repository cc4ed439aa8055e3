"""Judges of answers: each makes a function from an `Answer` to right or wrong. They read values, not wording."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from quality_tasks.case import Answer

Judge = Callable[[Answer], bool]


def number(value: int) -> Judge:
    """The last number of the text is `value`; no calls."""
    return lambda answer: not answer.calls and _numbers(answer.text)[-1:] == [value]


def numbers(values: list[int]) -> Judge:
    """The numbers of the text are `values`, in order; no calls."""
    return lambda answer: not answer.calls and _numbers(answer.text) == values


def value(wanted: str, others: Iterable[str] = ()) -> Judge:
    """The text holds `wanted` as whole words and none of the `others`; no calls."""
    refused = [other for other in others if other != wanted]

    def right(answer: Answer) -> bool:
        return not answer.calls and _holds(answer.text, wanted) and not any(_holds(answer.text, o) for o in refused)

    return right


def same_text(text: str) -> Judge:
    """The text word for word, however it is spaced; no calls."""
    return lambda answer: not answer.calls and answer.text.split() == text.split()


def json_object(wanted: dict[str, Any]) -> Judge:
    """The whole text is this JSON object, keys in any order; no calls."""
    return lambda answer: not answer.calls and _parsed(answer.text) == wanted


def calls(*wanted: tuple[str, dict[str, Any]]) -> Judge:
    """Exactly these calls, in any order, arguments compared as JSON values."""

    def right(answer: Answer) -> bool:
        made = [(name, _parsed(arguments)) for name, arguments in answer.calls]
        return len(made) == len(wanted) and all(call in made for call in wanted)

    return right


def _numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"-?\d+", text)]


def _holds(text: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
