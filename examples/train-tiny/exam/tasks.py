# ruff: noqa: E501  (one task set after another)
"""Held-out task sets: fresh seeds, and words and tool names of the eighth that training never used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ds4_tiny.chat import Talk, says, user
from ds4_tiny.corpus import MAKERS
from ds4_tiny.draw import Draw
from ds4_tiny.tasks import chats, reading, records, skills, spread, tools

from exam.pupil import Pupil

Maker = Callable[[Draw], Talk]


def one(task: Callable[[Draw], tuple[str, str, str]], thinking: bool = False) -> Maker:
    """A conversation of one question."""

    def make(d: Draw) -> Talk:
        question, thought, answer = task(d)
        return Talk((user(question), says(answer, thought)), thinking=thinking)

    return make


def with_tools(mode: str, thinking: bool = False) -> Maker:
    """A conversation with one to five tools."""
    return lambda d: replace(tools.tools(d, mode, d.int(1, 5)), thinking=thinking)


def sums(d: Draw) -> tuple[str, str, str]:
    """Addition, subtraction, products and small stories."""
    return d.one((skills.addition, skills.addition, skills.subtraction, skills.product, skills.word_problem))(d)


def short_chat(d: Draw) -> tuple[str, str, str]:
    """Greetings, capitals, opposites, sentiment."""
    return d.one((chats.small_talk, skills.knowledge, skills.sentiment))(d)


def needle_at(tokens: int) -> Maker:
    """One question whose answer stands about `tokens` tokens before the end, among seven other facts."""

    def make(d: Draw) -> Talk:
        facts = {fact[1]: fact for fact in (reading.needle(d) for _ in range(9))}
        (wanted, _, question, _), *others = facts.values()
        after = [d.sentence() for _ in range(max(1, int(tokens / 10.6)))]
        before = [d.sentence() for _ in range(8)]
        for fact, *_ in others:
            place = d.one((after, after, before))
            place.insert(d.int(0, len(place)), fact)
        text = " ".join([*before, wanted, *after])
        asked = d.split_one(question)
        asked = f"What is {asked[1:]}?" if asked[0] == "?" else asked
        return Talk((user(f"{text}\n\n{asked}"), says(wanted)))

    return make


SETS: dict[str, Maker] = {
    "sums": one(sums), "sums, thinking": one(sums, True), "letters": one(skills.letters), "letters, thinking": one(skills.letters, True),
    "greetings, capitals, sentiment": one(short_chat), "itself and its package": one(chats.about), "what it cannot know": one(chats.unknown),
    "lists, sorting": one(skills.lists), "repeat a text": one(skills.repeat), "edit a text": one(skills.edit),
    "facts in context": one(reading.facts), "JSON, named keys": one(records.json_keys), "JSON by a schema": tools.by_format,
    "one tool": with_tools("single"), "one tool, thinking": with_tools("single", True),
    "parallel calls": with_tools("parallel"), "parallel, thinking": with_tools("parallel", True),
    "tool error": with_tools("error"), "two-step chain": with_tools("chain"), "no tool needed": with_tools("none"),
    "structured answers": with_tools("record"), "several turns": lambda d: MAKERS["several"](d, 0),
    "needle 256": needle_at(256), "needle 1,000": needle_at(1000), "needle 2,000": needle_at(2000), "needle 3,600": needle_at(3600),
    "mostly about, 1,000": lambda d: spread.majority(d, 1000), "sections, 1,000": lambda d: spread.sections(d, 1000),
}  # fmt: skip


def task_sets(pupil: Pupil, cases: int, only: list[str] | None = None) -> dict[str, float]:
    """Share of assistant turns written exactly, by set."""
    return {name: score(pupil, name, make, cases) for name, make in SETS.items() if not only or name in only}


def score(pupil: Pupil, name: str, make: Maker, cases: int) -> float:
    """Share of turns right over `cases` conversations of a set."""
    d = Draw(f"exam {name}", "eval")
    turns = [right for _ in range(cases) for right in pupil.knows(make(d))]
    return sum(turns) / len(turns)


def rights(pupil: Pupil, name: str, make: Maker, start: int, end: int) -> list[bool]:
    """Whether all turns are right of each of the conversations of `score` from `start` to `end`."""
    d = Draw(f"exam {name}", "eval")
    talks = [make(d) for _ in range(end)]
    return [all(pupil.knows(talk)) for talk in talks[start:]]
