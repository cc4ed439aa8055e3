# ruff: noqa: E501  (a template is one line, however long)
"""Facts in a text and their questions: short contexts, JSON, and documents of up to thousands of tokens.

Three kinds of question keep three parts of the network busy: single facts far back need the indexer; what a text is
mostly about, which event is the commonest and what a section deals with need the heavily compressed rows, because the
evidence is spread over far more rows than the indexer may pick.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ds4_tiny import words as w
from ds4_tiny.chat import Talk, Turn, dumps, says, user
from ds4_tiny.draw import Draw
from ds4_tiny.tasks.asking import either, joined

QA = tuple[str, str, str]
ABSENT = "The text does not say it."

RELATIONS: tuple[tuple[str, str, str, Callable[[Draw], str]], ...] = (
    ("{n} lives in {v}.", "Where does {n} live?|Which city does {n} live in?|?the city where {n} lives", "Who lives in {v}?", Draw.city),
    ("{n} is a {v}.", "What is the job of {n}?|What does {n} do?|?{n}'s job", "Who is a {v}?", lambda d: d.one(w.JOBS)),
    ("{n} is {v} years old.", "How old is {n}?|?the age of {n}", "Who is {v} years old?", lambda d: str(d.int(5, 99))),
    ("{n} likes {v}.", "What does {n} like?|?the thing that {n} likes", "Who likes {v}?", lambda d: d.one((d.one(w.FOODS), d.word()))),
    ("{n} has a {v}.", "Which animal does {n} have?|What does {n} have?", "Who has a {v}?", lambda d: d.one(w.ANIMALS)),
    ("{n} speaks {v}.", "Which language does {n} speak?|What language does {n} speak?", "Who speaks {v}?", lambda d: d.one(w.LANGUAGES)),
    ("{n} works for {v}.", "Who does {n} work for?|Which company does {n} work for?", "Who works for {v}?", Draw.company),
    ("{n} was born on {v}.", "When was {n} born?|?the birthday of {n}", "Who was born on {v}?", lambda d: f"{d.int(1, 28)} {d.one(w.MONTHS)} {d.int(1900, 2015)}"),
    ("The email of {n} is {v}.", "?the email of {n}|?{n}'s email address", "Whose email is {v}?", Draw.email),
    ("The phone number of {n} is {v}.", "?the phone number of {n}|?{n}'s number", "Whose phone number is {v}?", lambda d: str(d.int(100_000, 99_999_999))),
)  # fmt: skip


def facts(d: Draw) -> QA:
    """Two to six people, one thing known of each, one asked."""
    form, question, inverse, draw = d.one(RELATIONS)
    names = list(dict.fromkeys(d.first_name() for _ in range(d.int(2, 6))))
    known = {name: draw(d) for name in names}
    told = [form.format(n=name, v=value) for name, value in known.items()]
    for _ in range(d.int(0, 2)):
        told.insert(d.int(0, len(told)), d.sentence())
    name = d.one(names)
    fact = form.format(n=name, v=known[name])
    text = d.one((" ", " ", "\n")).join(told)
    if d.chance(0.12):
        stranger = d.first_name()
        if stranger not in names:
            return f"{text}\n{either(d, question.format(n=stranger))}", "It is not in the text.", ABSENT
    if d.chance(0.15) and list(known.values()).count(known[name]) == 1:
        return f"{text} {inverse.format(v=known[name])}", fact, fact
    asked = either(d, question.format(n=name))
    joiner = d.one((" ", "\n", "\n\n", "\n\nQuestion: ", "\nQ: "))
    return (f"{asked}\n\n{text}" if d.chance(0.1) else f"{text}{joiner}{asked}"), fact, fact


FIELDS: dict[str, tuple[str, Callable[[Draw], Any], str]] = {
    "name": ("string", Draw.name, "The name is {v}.|This is about {v}.|Name: {v}.|I met {v}."),
    "age": ("integer", lambda d: d.int(1, 99), "The age is {v}.|Age: {v}.|{v} years old."),
    "city": ("string", Draw.city, "The city is {v}.|City: {v}.|It happened in {v}.|Lives in {v}."),
    "job": ("string", lambda d: d.one(w.JOBS), "The job is {v}.|Job: {v}.|Works as a {v}."),
    "color": ("string", lambda d: d.one(w.COLORS), "The color is {v}.|Color: {v}."),
    "email": ("string", Draw.email, "The email is {v}.|Email: {v}.|Write to {v}."),
    "price": ("integer", lambda d: d.int(1, 9999), "It costs {v} dollars.|The price is {v}.|Price: {v}."),
    "animal": ("string", lambda d: d.one(w.ANIMALS), "There is a {v}.|The animal is a {v}.|Animal: {v}."),
    "date": ("string", Draw.date, "The date is {v}.|Date: {v}.|It is on {v}."),
    "active": ("boolean", lambda d: d.chance(0.5), "Active: {v}."),
    "company": ("string", Draw.company, "The company is {v}.|Company: {v}.|Works for {v}."),
    "title": ("string", Draw.phrase, "The title is {v}.|Title: {v}."),
    "tags": ("array", lambda d: [d.word() for _ in range(d.int(1, 4))], "Tags: {v}.|The tags are {v}."),
    "count": ("integer", lambda d: d.int(0, 500), "The count is {v}.|Count: {v}.|There are {v} of them."),
    "score": ("number", lambda d: d.int(1, 99) / 10, "The score is {v}.|Score: {v}."),
    "country": ("string", lambda d: d.one(list(w.CAPITALS)), "The country is {v}.|Country: {v}."),
    "id": ("string", Draw.code, "The id is {v}.|Id: {v}."),
    "language": ("string", lambda d: d.one(w.LANGUAGES), "The language is {v}.|Language: {v}."),
}  # fmt: skip


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return joined(value) if isinstance(value, list) else str(value)


def fields(d: Draw, low: int = 1, high: int = 6) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Values by key, their JSON Schema properties, and a text that tells them in some order."""
    keys = d.some(sorted(FIELDS), low, high)
    values: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    told = []
    for key in keys:
        kind, draw, forms = FIELDS[key]
        if d.chance(0.12):  # a key that no list holds
            key, kind, value = d.ascii(), "string", d.word()
            form = f"The {key} is {{v}}.|{key}: {{v}}."
            if key in values:
                continue
            values[key] = value
            told.append(d.split_one(form).format(v=value))
        else:
            values[key] = draw(d)
            told.append(d.split_one(forms).format(v=_shown(values[key])))
        properties[key] = {"type": kind, **({"items": {"type": "string"}} if kind == "array" else {})}
        if d.chance(0.3):
            properties[key] = {"title": key.replace("_", " ").title(), **properties[key]}
        if d.chance(0.3):
            properties[key]["description"] = f"The {key}."
    d.rng.shuffle(told)
    if d.chance(0.2):
        told.insert(d.int(0, len(told)), d.sentence())
    return values, properties, " ".join(told)


def json_keys(d: Draw) -> QA:
    """Named keys of a text as a JSON object."""
    values, _, text = fields(d)
    keys = joined(list(values)) if d.chance(0.5) else ", ".join(values)
    quoted = joined([f"'{key}'" for key in values])
    question = d.split_one("Extract {k} as JSON from this text: {t}|Return JSON with the keys {k}: {t}|{t}\nGive me a JSON object with {k}.|{t} Return the result as a JSON with {q} keys. Return nothing other than JSON.|"
                           "Answer in JSON with the keys {q}. {t}|Turn this into JSON ({k}): {t}|Make a JSON object with {q} from: {t}|{t}\n\nReply only with JSON, keys: {k}")  # fmt: skip
    return question.format(k=keys, q=quoted, t=text), f"The keys are {keys}.", dumps(values)


def json_schema(d: Draw) -> Talk:
    """A text and a schema: in the prompt's own place for it, or in the words of the user or system."""
    values, properties, text = fields(d)
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": list(values)}
    if d.chance(0.4):
        schema = {"properties": properties, "required": list(values), "title": d.plain().capitalize(), "type": "object"}
    if d.chance(0.2):
        schema["additionalProperties"] = False
    answer, thought = says(dumps(values), f"The keys are {', '.join(values)}."), d.int(0, 3)
    question = d.split_one("{t}|Extract the data: {t}|Fill in the schema from this text: {t}|{t}\n\nExtract this.|What does this say? {t}|Parse this: {t}").format(t=text)
    if thought <= 1:
        return Talk((user(question), answer), schema=schema)
    asked = d.split_one("Answer with JSON that matches this schema: {s}\n\n{t}|{t}\n\nReply in JSON with this JSON schema:\n{s}|Use this schema:\n```json\n{s}\n```\n{t}")
    return Talk((user(asked.format(s=dumps(schema), t=text)), answer))


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
    return f"- {d.phrase(2, 8)}", 9


def document(d: Draw, tokens: int, count: int) -> tuple[str, list[tuple[str, str, str, str]]]:
    """A text of about `tokens` tokens that hides `count` needles, and these."""
    kind = d.weighted({0: 6, 1: 1.5, 2: 2, 3: 1, 4: 1})
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
    return _placed(d, text, turns)


def _placed(d: Draw, text: str, turns: list[Turn]) -> Talk:
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


# What a text is mostly about

EVENTS = ("INFO", "WARN", "ERROR", "DEBUG")


def majority(d: Draw, tokens: int) -> Talk:
    """Which of a few things occurs most, where no single line says so."""
    kind = d.int(0, 2)
    margin = d.one((0.06, 0.1, 0.2, 0.35))
    if kind == 0:
        names = d.some(EVENTS, 2, 3)
        lines = [f"[{d.int(0, 23):02}:{d.int(0, 59):02}] {level} {d.one(w.TOOL_NOUNS)} {d.one(w.VERBS)} {d.int(1, 99)}"
                 for level in _unequal(d, names, max(5, tokens // 19), margin)]  # fmt: skip
        most = _most(lines, names)
        question = d.split_one("Which level is the most common?|Which log level occurs most often?|?the most common level|What kind of line occurs most?|Which level is most frequent in this log?")
        answer = f"Most lines are {most}."
    elif kind == 1:
        names = d.some(sorted(w.TOPICS), 3, 4)
        lines = [_about(d, topic) for topic in _unequal(d, names, max(5, tokens // 11), margin)]
        most = _topic_of(lines, names)
        question = d.split_one("What is this text mostly about?|What is the main topic of the text?|?the main topic|Which topic does the text mostly deal with?|Summarize the text in one word.|What is it about?")
        answer = f"The text is mostly about {most}."
    else:
        names = d.some(w.ANIMALS, 2, 3)
        lines = [f"The {d.one(w.ADJECTIVES)} {animal} {d.one(w.VERBS)} the {d.one(w.NOUNS)}." for animal in _unequal(d, names, max(5, tokens // 9), margin)]
        most = _most(lines, names)
        question = d.split_one("Which animal occurs most often?|Which animal is mentioned most?|?the animal that the text mentions most|Who is the text mostly about?")
        answer = f"The {most} occurs most often."
    return _placed(d, (" " if kind else "\n").join(lines), [user(question), says(answer, f"There is more {most} than anything else.")])


def _unequal(d: Draw, names: list[str], count: int, margin: float) -> list[str]:
    """Names at random, the first the commonest by about `margin` of all."""
    d.rng.shuffle(names)
    weights = [1 + margin * len(names), *[1.0] * (len(names) - 1)]
    return d.rng.choices(names, weights, k=count)


def _most(lines: list[str], names: list[str]) -> str:
    return max(names, key=lambda name: sum(f" {name} " in line for line in lines))


def _topic_of(lines: list[str], names: list[str]) -> str:
    return max(names, key=lambda name: sum(any(thing in line for thing in w.TOPICS[name]) for line in lines))


def _about(d: Draw, topic: str) -> str:
    thing = d.one(w.TOPICS[topic])
    return d.one((f"{d.one(w.NAMES)} {d.one(w.VERBS)} the {d.one(w.ADJECTIVES)} {thing}.", f"Yesterday the {thing} was {d.one(w.ADJECTIVES)}.",
                  f"There is {thing} in {d.one(w.CITIES)}.", f"Nobody {d.one(w.VERBS)} the {thing} {d.one(w.ADVERBS)}."))  # fmt: skip


def sections(d: Draw, tokens: int) -> Talk:
    """A text in numbered sections of one topic each; questions about topics by number and back."""
    count = max(2, min(12, tokens // 170))
    topics = [d.one(sorted(w.TOPICS)) for _ in range(count)]
    parts = []
    for number, topic in enumerate(topics, 1):
        lines = [_about(d, topic if d.chance(0.75) else d.one(sorted(w.TOPICS))) for _ in range(max(4, tokens // count // 11))]
        parts.append(f"{d.split_one('Section|Section|Chapter') if number == 1 else parts[0].split()[0]} {number}. {' '.join(lines)}")
    head = parts[0].split()[0]
    turns: list[Turn] = []
    for _ in range(d.int(1, 4)):
        if d.chance(0.7):
            number = d.int(1, count)
            question = d.split_one(f"What is {head} {number} about?|?the topic of {head} {number}|{head} {number} is about what?|Which topic has {head} {number}?")
            turns += [user(either(d, question)), says(f"{head} {number} is about {topics[number - 1]}.", f"I look at {head} {number}.")]
        else:
            topic = d.one(topics)
            which = [str(i) for i, t in enumerate(topics, 1) if t == topic]
            turns += [user(either(d, f"Which sections are about {topic}?|In which sections is {topic} the topic?|!list the sections about {topic}")), says(joined(which), f"I look for {topic}.")]
    return _placed(d, "\n\n".join(parts), turns)


def long_repeat(d: Draw, tokens: int) -> Talk:
    """A long passage, said again."""
    text = "\n".join(d.one((d.sentence, d.value, d.strange))() for _ in range(max(2, tokens // 16)))
    lead = d.split_one("Repeat this: |Copy this text:\n|Say this again:\n\n|Write out the following text again.\n\n")
    return Talk((user(lead + text), says(text, "I repeat the text.")))
