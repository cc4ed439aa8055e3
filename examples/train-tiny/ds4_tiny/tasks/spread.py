# ruff: noqa: E501  (a template is one line, however long)
"""Questions whose evidence is spread over a whole document or a long part of it.

What is commonest, what a part is about, whether the mood is good: here no line says so, and there are more lines that
count than the window holds or the indexer may pick. Only the heavily compressed rows, each of which stands for 128
tokens, take in all of them.
"""

from __future__ import annotations

from collections.abc import Callable

from ds4_tiny import words as w
from ds4_tiny.chat import Talk, Turn, says, user
from ds4_tiny.draw import Draw
from ds4_tiny.tasks.asking import either, joined
from ds4_tiny.tasks.reading import placed

EVENTS = ("INFO", "WARN", "ERROR", "DEBUG")
OBJECTS = [noun for noun in w.NOUNS if noun not in w.ANIMALS]
LEAD = (1.1, 1.2, 1.3, 1.5)
"""How much commoner than the next one the commonest is, in whole documents."""


def spread(d: Draw, tokens: int) -> Talk:
    """One of the tasks below."""
    return d.weighted(TASKS)(d, tokens)


def majority(d: Draw, tokens: int) -> Talk:
    """Which of a few things occurs most."""
    return d.weighted({_levels: 3, _topics: 3, _animals: 2, _votes: 3})(d, tokens)


def uneven(d: Draw, names: list[str], count: int, lead: float) -> tuple[list[str], str]:
    """`count` names in any order, of which the first leads the others by `lead`; and that one."""
    d.rng.shuffle(names)
    weights = [lead, *(d.one((1.0, 0.8, 0.5)) for _ in names[1:])]
    if len(names) > 1:
        weights[1] = 1.0
    many = [max(1, round(count * weight / sum(weights))) for weight in weights]
    many[0] = max(many[0], max(many[1:], default=0) + 1)
    drawn = [name for name, times in zip(names, many, strict=True) for _ in range(times)]
    d.rng.shuffle(drawn)
    return drawn, names[0]


def _levels(d: Draw, tokens: int) -> Talk:
    short = d.chance(0.6)
    drawn, most = uneven(d, d.some(EVENTS, 2, 4), max(5, tokens // (7 if short else 19)), d.one(LEAD))
    lines = [f"{level} {d.one(w.TOOL_NOUNS)} {d.int(1, 99)}" if short else
             f"[{d.int(0, 23):02}:{d.int(0, 59):02}] {level} {d.one(w.TOOL_NOUNS)} {d.one(w.VERBS)} {d.int(1, 99)}" for level in drawn]  # fmt: skip
    question = "Which level is the most common?|Which log level occurs most often?|?the most common level|What kind of line occurs most?|Which level is most frequent in this log?"
    return _asked(d, "\n".join(lines), question, f"Most lines are {most}.", most, drawn)


def _topics(d: Draw, tokens: int) -> Talk:
    drawn, most = uneven(d, d.some(sorted(w.TOPICS), 3, 4), max(5, tokens // 10), d.one(LEAD))
    question = "What is this text mostly about?|What is the main topic of the text?|?the main topic|Which topic does the text mostly deal with?|Summarize the text in one word.|What is it about?"
    return _asked(d, " ".join(about(d, topic) for topic in drawn), question, f"The text is mostly about {most}.", most, drawn)


def _animals(d: Draw, tokens: int) -> Talk:
    drawn, most = uneven(d, d.some(w.ANIMALS, 2, 3), max(5, tokens // 9), d.one(LEAD))
    text = " ".join(f"The {d.one(w.ADJECTIVES)} {animal} {d.one(w.VERBS)} the {d.one(OBJECTS)}." for animal in drawn)
    question = "Which animal occurs most often?|Which animal is mentioned most?|?the animal that the text mentions most|Who is the text mostly about?"
    return _asked(d, text, question, f"The {most} occurs most often.", most, drawn)


def _votes(d: Draw, tokens: int) -> Talk:
    """A bare list of names, where every token or two is a piece of evidence."""
    drawn, most = uneven(d, d.some(d.one((w.COLORS, w.NAMES, w.FOODS[:10], w.DAYS)), 2, 4), max(7, tokens // 3), d.one(LEAD))
    text = d.split_one("Votes: |The votes:\n|Answers: |") + d.one((", ", " ", "\n")).join(drawn)
    question = "Who or what has the most votes?|Which one occurs most often?|?the most frequent entry|Which entry is the commonest?|Which has most votes?|!name the winner of the vote"
    return _asked(d, text, question, f"{most} has the most.", most, drawn)


def mood(d: Draw, tokens: int) -> Talk:
    """Whether most of many opinions are good or bad."""
    drawn, most = uneven(d, ["positive", "negative"], max(5, tokens // 9), d.one(LEAD))
    said = [f"The {d.one(w.NOUNS)} was {d.one(w.GOOD if one == 'positive' else w.BAD)}." for one in drawn]
    question = "Are most of these reviews positive or negative?|?the general mood: positive or negative|Is the text mostly positive or negative?|Overall, positive or negative?"
    return _asked(d, " ".join(said), question, f"Most of it is {most}.", most, [])


PARTS = {2: ("first half", "second half"), 3: ("first third", "middle", "last third")}


def parts(d: Draw, tokens: int) -> Talk:
    """What each half or third of a text is mostly about, without any headings."""
    names = PARTS[d.one((2, 2, 3))]
    text, found = [], {}
    for name in names:
        drawn, found[name] = uneven(d, d.some(sorted(w.TOPICS), 3, 4), max(5, tokens // len(names) // 10), d.one((1.3, 1.6, 2.0)))
        text.append(" ".join(about(d, topic) for topic in drawn))
    turns: list[Turn] = []
    for name in d.some(names, 1, len(names)):
        question = d.split_one(f"What is the {name} about?|?the topic of the {name}|Which topic has the {name} of the text?|What is the {name} of the text mostly about?")
        turns += [user(either(d, question)), says(f"The {name} is mostly about {found[name]}.", f"I look at the {name}.")]
    return placed(d, " ".join(text), turns)


def sections(d: Draw, tokens: int) -> Talk:
    """A text in numbered sections of one topic each; questions about topics by number and back."""
    count = max(2, min(12, tokens // d.one((170, 300, 500))))
    topics = [d.one(sorted(w.TOPICS)) for _ in range(count)]
    head = d.split_one("Section|Section|Chapter|Part")
    text = [f"{head} {number}. {_section(d, topic, tokens // count)}" for number, topic in enumerate(topics, 1)]
    turns: list[Turn] = []
    for _ in range(d.int(1, 4)):
        if d.chance(0.7):
            number = d.int(1, count)
            question = d.split_one(f"What is {head} {number} about?|?the topic of {head} {number}|{head} {number} is about what?|Which topic has {head} {number}?")
            turns += [user(either(d, question)), says(f"{head} {number} is about {topics[number - 1]}.", f"I look at {head} {number}.")]
        else:
            topic = d.one(topics)
            which = [str(i) for i, t in enumerate(topics, 1) if t == topic]
            turns += [user(either(d, f"Which {head.lower()}s are about {topic}?|In which {head.lower()}s is {topic} the topic?|!list the {head.lower()}s about {topic}")), says(joined(which), f"I look for {topic}.")]
    return placed(d, "\n\n".join(text), turns)


def _section(d: Draw, topic: str, tokens: int) -> str:
    """Most lines are about the topic, the others about anything; whatever the draw, the topic is the commonest."""
    others = [name for name in sorted(w.TOPICS) if name != topic]
    count = max(4, tokens // 10)
    drawn = [topic] * -(-count * 5 // 8)
    drawn += [d.one(others) for _ in range(count - len(drawn))]
    d.rng.shuffle(drawn)
    return " ".join(about(d, one) for one in drawn)


def about(d: Draw, topic: str) -> str:
    """A sentence with a word of the topic."""
    thing = d.one(w.TOPICS[topic])
    return d.one((f"{d.one(w.NAMES)} {d.one(w.VERBS)} the {d.one(w.ADJECTIVES)} {thing}.", f"Yesterday the {thing} was {d.one(w.ADJECTIVES)}.",
                  f"There is {thing} in {d.one(w.CITIES)}.", f"Nobody {d.one(w.VERBS)} the {thing} {d.one(w.ADVERBS)}."))  # fmt: skip


def _asked(d: Draw, text: str, question: str, answer: str, most: str, others: list[str]) -> Talk:
    """The question, alone or with comparisons of the commonest with others, in any order."""
    turns = [(either(d, question), answer)]
    for other in d.some(sorted({*others} - {most}), 0, 2):
        one, two = d.rng.sample((most, other), 2)
        asked = d.split_one(f"Is there more {one} or more {two}?|Which is more frequent, {one} or {two}?|{one} or {two}: which occurs more often?|Does {one} or {two} occur more often?")
        turns.append((either(d, asked), f"There is more {most}."))
    d.rng.shuffle(turns)
    thought = f"There is more {most} than anything else."
    return placed(d, text, [turn for asked, said in turns for turn in (user(asked), says(said, thought))])


TASKS: dict[Callable[[Draw, int], Talk], float] = {majority: 6, mood: 1.5, parts: 2, sections: 3}
