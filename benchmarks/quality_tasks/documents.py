"""Long texts with facts hidden among sentences that do not matter, and a question about one fact."""

from __future__ import annotations

from random import Random

from quality_tasks import grading
from quality_tasks.case import Case, ask
from quality_tasks.words import CITIES, DAYS, NAMES, NOUNS, sentence

SENTENCE_TOKENS, FACT_TOKENS = 8, 13  # about, in ds4-tiny's vocabulary
KINDS = (
    ("The code for {} is {}.", "What is the code for {}?", NOUNS),
    ("{} lives in {}.", "Where does {} live?", NAMES),
    ("The price of the {} is {} dollars.", "What is the price of the {}?", NOUNS),
    ("The meeting with {} is on {}.", "When is the meeting with {}?", NAMES),
    ("The magic number for {} is {}.", "What is the magic number for {}?", CITIES),
)


def needle_256(rng: Random) -> Case:
    """Four facts in about 256 tokens."""
    return needle(rng, 256, 4)


def needle_1000(rng: Random) -> Case:
    """Eight facts in about 1,000 tokens."""
    return needle(rng, 1000, 8)


def needle(rng: Random, tokens: int, count: int) -> Case:
    """A document of about `tokens` tokens with `count` facts at random places."""
    facts = _facts(rng, count)
    lines = [sentence(rng) for _ in range((tokens - FACT_TOKENS * count) // SENTENCE_TOKENS)]
    for fact, _, _ in facts:
        lines.insert(rng.randint(0, len(lines)), fact)
    fact, question, value = rng.choice(facts)
    judge = grading.value(value, (other for _, _, other in facts))
    return ask(f"{' '.join(lines)}\n\nQuestion: {question}", fact, judge)


def _facts(rng: Random, count: int) -> list[tuple[str, str, str]]:
    """Sentence, question and value of each; no value occurs twice, no thing has two values of a kind."""
    found: dict[str, tuple[str, str, str]] = {}
    values: set[str] = set()
    while len(found) < count:
        kind = rng.randrange(len(KINDS))
        form, question, keys = KINDS[kind]
        key, value = rng.choice(keys), _value(rng, kind)
        if f"{kind} {key}" not in found and value not in values:
            values.add(value)
            found[f"{kind} {key}"] = form.format(key, value), question.format(key), value
    return list(found.values())


def _value(rng: Random, kind: int) -> str:
    return (
        f"{''.join(rng.choice('ABCDEFGHKLMNPRSTUVWX') for _ in range(2))}-{rng.randint(10, 999)}",
        rng.choice(CITIES),
        str(rng.randint(100, 9999)),
        rng.choice(DAYS),
        str(rng.randint(10000, 999999)),
    )[kind]
