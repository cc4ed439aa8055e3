# ruff: noqa: E501  (a template is one line, however long)
"""Facts in a text and their questions: short contexts, and documents of up to thousands of tokens.

Single facts far back are what the indexer is for. Questions about a whole text are `spread`'s, values as JSON `records`'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ds4_tiny import words as w
from ds4_tiny.chat import Talk, Turn, says, user
from ds4_tiny.draw import Draw
from ds4_tiny.tasks.asking import either

QA = tuple[str, str, str]
ABSENT = "The text does not say it."


@dataclass(frozen=True)
class Relation:
    """What is told of `{n}`: the sentence, the questions for the value `{v}`, the question back for who or what it is."""

    told: str
    asked: str
    back: str
    value: Callable[[Draw], str]
    of: Callable[[Draw], str] = Draw.first_name


RELATIONS: tuple[Relation, ...] = (
    Relation("{n} lives in {v}.|{n} lives in {v}.|{n}'s home is {v}.|{n} is from {v}.|{n} has a house in {v}.", "Where does {n} live?|Which city does {n} live in?|?the city where {n} lives|In which city does {n} live?|Where is {n}'s home?", "Who lives in {v}?", Draw.city),
    Relation("{n} is a {v}.|{n} is a {v}.|{n} works as a {v}.|{n}'s job is {v}.", "?the job of {n}|What is the job of {n}?|What does {n} do?|?{n}'s job|Which job does {n} have?|What does {n} work as?", "Who is a {v}?", lambda d: d.one(w.JOBS) if d.chance(0.8) else d.plain()),
    Relation("{n} likes the color {v}.|{n} likes the color {v}.|{n} likes {v}.|{n}'s favourite color is {v}.|The color that {n} likes is {v}.", "Which color does {n} like?|What color does {n} like?|?the color that {n} likes|?{n}'s favourite color|Which colour does {n} like?", "Who likes {v}?", lambda d: d.one(w.COLORS)),
    Relation("{n} wears a {v} hat.|{n} has a {v} coat.|{n} drives a {v} car.", "Which color does {n} have?|?the color of {n}'s things|Which color goes with {n}?", "", lambda d: d.one(w.COLORS)),
    Relation("{n} is {v} years old.|{n} is {v} years old.|{n} is {v}.|The age of {n} is {v}.", "How old is {n}?|?the age of {n}|?{n}'s age|Which age has {n}?", "Who is {v} years old?", lambda d: str(d.int(5, 99))),
    Relation("{n} likes {v}.|{n} loves {v}.", "What does {n} like?|?the thing that {n} likes|What is it that {n} likes?", "Who likes {v}?", lambda d: d.one((d.one(w.FOODS), d.word()))),
    Relation("{n} has a {v}.|{n} has a {v}.|{n} owns a {v}.|{n} keeps a {v}.|{n}'s pet is a {v}.", "Which animal does {n} have?|What does {n} have?|What kind of animal does {n} have?|?the animal of {n}|Which pet does {n} have?", "Who has a {v}?", lambda d: d.one(w.ANIMALS)),
    Relation("{n} speaks {v}.|{n} learns {v}.", "Which language does {n} speak?|What language does {n} speak?|?{n}'s language", "Who speaks {v}?", lambda d: d.one(w.LANGUAGES)),
    Relation("{n} works for {v}.|{n} works at {v}.", "Who does {n} work for?|Which company does {n} work for?|Where does {n} work?|?{n}'s employer", "Who works for {v}?", Draw.company),
    Relation("{n} was born on {v}.", "When was {n} born?|?the birthday of {n}", "Who was born on {v}?", lambda d: f"{d.int(1, 28)} {d.one(w.MONTHS)} {d.int(1900, 2015)}"),
    Relation("The email of {n} is {v}.|{n}'s email is {v}.", "?the email of {n}|?{n}'s email address", "Whose email is {v}?", Draw.email),
    Relation("The phone number of {n} is {v}.|{n}'s number is {v}.", "?the phone number of {n}|?{n}'s number", "Whose phone number is {v}?", lambda d: str(d.int(100_000, 99_999_999))),
    Relation("{n} plays the {v}.|{n} plays {v}.", "What does {n} play?|Which instrument does {n} play?|?{n}'s instrument", "Who plays the {v}?", lambda d: d.one(w.INSTRUMENTS)),
    Relation("{n} eats {v}.|{n} ordered {v}.", "What does {n} eat?|What did {n} order?|?{n}'s meal", "Who gets {v}?", lambda d: d.one(w.FOODS)),
    Relation("The bus to {n} leaves at {v}.|The ferry to {n} goes at {v}.|The plane to {n} starts at {v}.", "When can I leave for {n}?|At what time does it go to {n}?|?the time for {n}", "Where can I go at {v}?", Draw.time, Draw.city),
    Relation("The price of the {n} is {v} dollars.|The {n} costs {v} dollars.|You pay {v} dollars for the {n}.", "?the price of the {n}|How much is the {n}?|What does the {n} cost?", "What costs {v} dollars?", lambda d: str(d.int(1, 9999)), Draw.word),
    Relation("The {n} is in the {v}.|The {n} is under the {v}.|The {n} is behind the {v}.|You find the {n} on the {v}.", "Where is the {n}?|Where do I find the {n}?|?the place of the {n}", "", Draw.plain, Draw.word),
    Relation("The code of the {n} is {v}.|The number of the {n} is {v}.", "?the code of the {n}|?the number of the {n}|Which code has the {n}?", "", Draw.code, Draw.word),
    Relation("{n}: {v}|{n}: {v}|{n} - {v}|{n} = {v}", "?the entry for {n}|What stands after {n}?|?{n}|What does it say for {n}?", "Which entry is {v}?", Draw.value, lambda d: d.one((d.first_name(), d.word(), d.city()))),
)  # fmt: skip


def facts(d: Draw) -> QA:
    """Two to six things, one fact of each, told in one way or in several, and one asked."""
    relation = d.one(RELATIONS)
    names = list(dict.fromkeys(relation.of(d) for _ in range(d.int(2, 6))))
    known = {name: relation.value(d) for name in names}
    forms = [d.split_one(relation.told)] * len(names) if d.chance(0.75) else [d.split_one(relation.told) for _ in names]
    said = {name: form.format(n=name, v=known[name]) for name, form in zip(names, forms, strict=True)}
    told = list(said.values())
    for _ in range(d.int(0, 2)):
        told.insert(d.int(0, len(told)), d.sentence())
    name = d.one(names)
    text = d.one((" ", " ", "\n") if said[name].endswith(".") else ("\n", ", ", "; ")).join(told)
    if d.chance(0.15):
        text = d.split_one("Read this: |Text: |Here are some facts: |Facts:\n|What I know: |List:\n|Look at this text. |Context: ") + text
    if d.chance(0.12):
        stranger = relation.of(d)
        if stranger not in text:
            return f"{text}\n{either(d, relation.asked.format(n=stranger))}", "It is not in the text.", ABSENT
    if relation.back and d.chance(0.15) and list(known.values()).count(known[name]) == 1:
        return f"{text}{d.one((' ', chr(10)))}{relation.back.format(v=known[name])}", said[name], said[name]
    asked = either(d, relation.asked.format(n=name))
    joiner = d.one((" ", "\n", "\n", "\n\n", "\n\nQuestion: ", "\nQ: "))
    return (f"{asked}{d.one((' ', chr(10) * 2))}{text}" if d.chance(0.12) else f"{text}{joiner}{asked}"), said[name], said[name]


# Documents

NEEDLES: tuple[tuple[str, str, Callable[[Draw], str], Callable[[Draw], str]], ...] = (
    ("The code for {k} is {v}.", "?the code for {k}", Draw.word, Draw.code),
    ("The password of {k} is {v}.", "?the password of {k}", Draw.name, Draw.code),
    ("{k} lives in {v}.", "Where does {k} live?", Draw.name, Draw.city),
    ("The price of the {k} is {v} dollars.", "?the price of the {k}", Draw.word, lambda d: str(d.int(100, 9999))),
    ("The meeting with {k} is on {v}.", "When is the meeting with {k}?", Draw.name, lambda d: d.one(w.DAYS)),
    ("The magic number for {k} is {v}.", "?the magic number for {k}", Draw.city, lambda d: str(d.int(10_000, 9_999_999))),
    ("The secret word for {k} is {v}.", "?the secret word for {k}", lambda d: d.phrase(1, 2), Draw.word),
    ("The favourite food of {k} is {v}.", "?the favourite food of {k}", Draw.name, lambda d: d.one(w.FOODS)),
    ("The file for {k} is {v}.", "?the file for {k}|Which file is for {k}?", Draw.word, Draw.path),
    ("The value of {k} is {v}.", "?the value of {k}", Draw.identifier, Draw.value),
    ("The email of {k} is {v}.", "?the email of {k}", Draw.name, Draw.email),
    ("The key to the {k} is under the {v}.", "Where is the key to the {k}?", Draw.plain, Draw.plain),
)  # fmt: skip
FACT_TOKENS = 15


def needle(d: Draw) -> tuple[str, str, str, str]:
    """A fact, its key, the question for it, and its value."""
    form, question, draw_key, draw_value = d.one(NEEDLES)
    key, value = draw_key(d), draw_value(d)
    return form.format(k=key, v=value), key, question.format(k=key), value


def filler(d: Draw, kind: int) -> tuple[str, float]:
    """A line that does not matter, and about how many tokens it takes."""
    if kind == 0:
        return d.sentence(), 11
    if kind == 1:
        level = d.one(("INFO", "INFO", "WARN", "DEBUG", "ERROR"))
        return f"[{d.int(0, 23):02}:{d.int(0, 59):02}:{d.int(0, 59):02}] {level} {d.one(w.TOOL_NOUNS)} {d.identifier()} {d.one(w.VERBS)} {d.int(1, 999)}", 25
    if kind == 2:
        return f"{d.plain().capitalize()}: {d.phrase(3, 9)}.", 13
    if kind == 3:
        return f"{d.one(w.NOUNS)} = {d.one((d.identifier(), str(d.number(4)), repr(d.word())))}  # {d.phrase(2, 5)}", 16
    if kind == 5:
        a, b = d.number(), d.number()
        return f"{d.split_one('Entry|Line|Note')} {d.int(1, 999)}: the sum of {a} and {b} is {a + b}.", 21
    return f"- {d.phrase(2, 8)}", 9


def document(d: Draw, tokens: int, count: int) -> tuple[str, list[tuple[str, str, str, str]]]:
    """A text of about `tokens` tokens that hides `count` needles, and these."""
    kind = d.weighted({0: 6, 1: 1.5, 2: 2, 3: 1, 4: 1, 5: 1})
    found: dict[str, tuple[str, str, str, str]] = {}
    while len(found) < count:
        fact = needle(d)
        found.setdefault(fact[1], fact)
    lines: list[str] = []
    left = tokens - FACT_TOKENS * count
    while left > 0 or not lines:
        line, size = filler(d, kind)
        lines.append(line)
        left -= int(size)
    for fact, *_ in found.values():
        lines.insert(d.int(0, len(lines)), fact)
    if kind not in (0, 2) or d.chance(0.2):
        return "\n".join(lines), list(found.values())
    text = "".join(line + ("\n\n" if d.chance(0.12) else " ") for line in lines).strip()
    return text, list(found.values())


def needles(d: Draw, tokens: int, questions: int | None = None, count: int | None = None) -> Talk:
    """A document and questions about its needles, some of which it does not answer."""
    text, found = document(d, tokens, count or d.int(1, 3 + tokens // 120))
    asked = found[: questions or d.int(1, 5)]
    d.rng.shuffle(asked)
    turns: list[Turn] = []
    for fact, _, question, _ in asked:
        turns.append(user(either(d, question)))
        if d.chance(0.08):
            _, key, question, _ = needle(d)
            if key not in text:
                turns[-1] = user(either(d, question))
                turns.append(says(ABSENT, "It is not in the text."))
                continue
        turns.append(says(fact, f"The text says: {fact}" if d.chance(0.5) else "It is in the text."))
    return placed(d, text, turns)


def placed(d: Draw, text: str, turns: list[Turn]) -> Talk:
    """The text before the questions: in the system message, in a turn of its own, or in the first question."""
    place = d.int(0, 3)
    if place == 0:
        lead = d.split_one("Answer from this text.\n\n|Context:\n|You are a helpful assistant. Use this text:\n\n|Document:\n\n|")
        return Talk(tuple(turns), system=lead + text)
    if place == 1:
        lead = d.split_one("Read this text: |Remember this text:\n\n|Here is a text.\n\n|Here is my file:\n")
        return Talk((user(lead + text), says("OK, I have read it.", "The user gives me a text."), *turns))
    first = turns[0].text
    if place == 2:
        first = text + d.one(("\n\n", "\n\nQuestion: ", "\n\n---\n\n")) + first
    else:
        first = d.split_one("Text:\n|Read the text and answer.\n\n|") + text + "\n\n" + d.split_one("|Answer from the text: |") + first
    return Talk((user(first), *turns[1:]))


def long_repeat(d: Draw, tokens: int) -> Talk:
    """A long passage, said again."""
    text = "\n".join(d.one((d.sentence, d.value, d.strange))() for _ in range(max(2, tokens // 16)))
    lead = d.split_one("Repeat this: |Copy this text:\n|Say this again:\n\n|Write out the following text again.\n\n")
    return Talk((user(lead + text), says(text, "I repeat the text.")))
