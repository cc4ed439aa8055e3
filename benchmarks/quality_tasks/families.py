"""The families of questions, by name, and the cases that a seed draws from them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from quality_tasks import chats, documents, tools
from quality_tasks.case import Case

TRIES = 50
"""Draws for a case that was not there before; small families repeat themselves after that."""

FAMILIES: dict[str, Callable[[Random], Case]] = {
    "sums": chats.sums,
    "sums, thinking": chats.sums_with_thinking,
    "products": chats.products,
    "capitals": chats.capitals,
    "opposites, sorting": chats.order,
    "repeat a text": chats.repetition,
    "facts in context": chats.facts,
    "JSON, named keys": chats.json_keys,
    "one tool call": tools.one_call,
    "two parallel calls": tools.two_calls,
    "tools, none needed": tools.no_call,
    "answer from a result": tools.tool_result,
    "needle, 256 tokens": documents.needle_256,
    "needle, 1,000 tokens": documents.needle_1000,
}


def cases(seed: int, count: int) -> dict[str, list[Case]]:
    """`count` cases of each family; the same seed gives the same ones."""
    return {name: _draw(Random(f"{name} {seed}"), make, count) for name, make in FAMILIES.items()}


def _draw(rng: Random, make: Callable[[Random], Case], count: int) -> list[Case]:
    found: dict[str, Case] = {}
    for _ in range(count * TRIES):
        case = make(rng)
        found.setdefault(repr(case.request), case)
        if len(found) == count:
            break
    return list(found.values())
