# ruff: noqa: E501  (tables and prompt text)
"""The mixture: which conversations, how often, how long. It knows no tokens but roughly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from ds4_tiny import words as w
from ds4_tiny.chat import SPECIALS, TOOL_BLOCK, Talk, Turn, says, segments, user
from ds4_tiny.draw import Draw
from ds4_tiny.tasks import chats, reading, records, skills, spread, tools

QA = Callable[[Draw], tuple[str, str, str]]
QUESTIONS: dict[QA, float] = {
    chats.small_talk: 5, chats.about: 8, chats.unknown: 6, chats.story: 1.5, chats.haiku: 1.5, chats.joke: 2,
    skills.addition: 10, skills.subtraction: 4.5, skills.product: 6, skills.word_problem: 2.5, skills.letters: 14, skills.numbers: 3, skills.lists: 13,
    skills.knowledge: 6, skills.sentiment: 2, skills.repeat: 13, skills.edit: 5, skills.choice: 1.5,
    reading.facts: 13, records.json_keys: 12, tools.joke_json: 1.5,
}  # fmt: skip
KINDS = {"tools": 40, "one": 18, "several": 12, "schema": 7, "needles": 14, "spread": 6, "repeat": 3}
LONG_KINDS = {"needles": 56, "spread": 30, "repeat": 2, "tools": 12}
LONG_TOOLS = 500
"""Tokens of a document above which tools stand behind it."""
THINKING = 0.45


def talk(d: Draw, tokens: int = 0, kind: str = "") -> Talk:
    """A conversation, of this kind if one is named; with `tokens`, one that is about so long, most of it a document."""
    kind = kind or d.weighted(LONG_KINDS if tokens else KINDS)
    made = MAKERS[kind](d, tokens)
    while any(turn.role == "user" and turn.text in free_prompts() for turn in made.turns):
        made = MAKERS[kind](d, tokens)
    if not made.system and kind not in ("needles", "spread") and d.chance(0.35):
        made = replace(made, system=d.one(tools.SYSTEMS))
    thinking = d.chance(THINKING)
    effort = d.weighted({"low": 8, "high": 1.6, "max": 0.8}) if thinking else None
    return _forgetful(d, replace(made, thinking=thinking, effort=effort))


@cache
def free_prompts() -> frozenset[str]:
    """What the exam's users say, which is kept apart from the training."""
    lines = (Path(__file__).resolve().parents[1] / "free_prompts.jsonl").read_text("utf-8").splitlines()
    return frozenset(text for line in lines for role, text in json.loads(line)["turns"] if role == "user")


def _forgetful(d: Draw, made: Talk) -> Talk:
    """Now and then past turns have lost their thoughts, as many clients drop them."""
    if not (made.thinking and d.chance(0.25)):
        return made
    last = max(i for i, turn in enumerate(made.turns) if turn.role == "assistant")
    return replace(made, turns=tuple(
        replace(turn, thought="") if turn.role == "assistant" and i != last else turn for i, turn in enumerate(made.turns)
    ))  # fmt: skip


def question(d: Draw) -> tuple[str, str, str]:
    """One question of the mixture."""
    return d.weighted(QUESTIONS)(d)


def _one(d: Draw, tokens: int) -> Talk:
    asked, thought, answer = question(d)
    if d.chance(0.02):  # two messages in a row are one turn
        return Talk((user(asked), user(asked), says(answer, thought)))
    return Talk((user(asked), says(answer, thought)))


def _several(d: Draw, tokens: int) -> Talk:
    turns: list[Turn] = []
    told = None
    for _ in range(d.int(2, 7)):
        if told is None and d.chance(0.3):
            (said, thought, answer), told = skills.remembered(d)
            turns += [user(said), says(answer, thought)]
        elif told and d.chance(0.5):
            asked, thought, answer = told
            turns += [user(asked), says(answer, thought)]
            told = None if d.chance(0.5) else told
        else:
            asked, thought, answer = question(d)
            turns += [user(asked), says(answer, thought)]
    return Talk(tuple(turns))


def _tools(d: Draw, tokens: int) -> Talk:
    """Tools; in a long conversation behind a document in the system message that has nothing to do with them."""
    made = tools.tools(d)
    if not tokens:
        return made
    text, _ = reading.document(d, max(200, tokens - LONG_TOOLS), 2)
    return replace(made, system=d.split_one("|Notes:\n|You are a helpful assistant.\n\n") + text)


def _length(d: Draw, tokens: int, usual: int) -> int:
    return d.int(max(200, tokens // 5), tokens) if tokens else d.int(40, usual)


MAKERS: dict[str, Callable[[Draw, int], Talk]] = {
    "one": _one,
    "several": _several,
    "tools": _tools,
    "schema": lambda d, tokens: tools.by_format(d),
    "needles": lambda d, tokens: reading.needles(
        d, _length(d, tokens, 750), d.int(3, 10) if tokens else None, d.int(4, 30) if tokens else None
    ),
    "spread": lambda d, tokens: spread.spread(d, tokens or d.int(60, 900)),
    "repeat": lambda d, tokens: reading.long_repeat(d, d.int(100, 300)),
}


def texts(seed: int, count: int) -> Iterator[str]:
    """What the vocabulary is learned from: conversations without their fixed frame, and the word lists."""
    d = Draw(seed)
    frame = TOOL_BLOCK.split("%s")[0]
    for _ in range(count):
        for text, _ in segments(talk(d)):
            text = text.replace(frame, "")
            for special in SPECIALS:
                text = text.replace(special, "\n")
            yield text
    listed = [
        *w.COMMON,
        *w.NOUNS,
        *w.ADJECTIVES,
        *w.VERBS,
        *w.NAMES,
        *w.SURNAMES,
        *w.CITIES,
        *w.TOOL_VERBS,
        *w.TOOL_NOUNS,
        *w.PARAMETERS,
    ]
    for _ in range(12):
        yield " ".join(listed)
    for _ in range(400):
        yield TOOL_BLOCK.replace("｜DSML｜", "\n")
