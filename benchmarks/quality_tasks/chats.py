"""Short questions without tools: sums, products, capitals, order, repetition, facts and JSON."""

from __future__ import annotations

import json
from random import Random

from quality_tasks import grading
from quality_tasks.case import Case, ask
from quality_tasks.words import ANIMALS, CAPITALS, CITIES, COLORS, JOBS, NAMES, OPPOSITES, sentence, words

FACTS = {
    "city": ("{name} lives in {value}.", "Where does {name} live?", CITIES),
    "job": ("{name} is a {value}.", "What is the job of {name}?", JOBS),
    "color": ("{name} likes the color {value}.", "Which color does {name} like?", COLORS),
    "animal": ("{name} has a {value}.", "Which animal does {name} have?", ANIMALS),
}
FIELDS = {
    "name": "This is about {0[name]}.",
    "age": "{0[name]} is {0[age]} years old.",
    "city": "{0[name]} lives in {0[city]}.",
    "job": "{0[name]} works as a {0[job]}.",
    "color": "{0[name]} likes {0[color]}.",
    "animal": "There is a {0[animal]}.",
}


def sums(rng: Random, thinking: bool = False) -> Case:
    """Two numbers of up to three digits."""
    top = rng.choice((99, 999, 999))
    a, b = rng.randint(0, top), rng.randint(0, top)
    question = rng.choice(("What is {} + {}?", "What is {} plus {}?", "Add {} and {}.", "How much is {} + {}?"))
    return ask(question.format(a, b), f"{a} + {b} = {a + b}", grading.number(a + b), thinking=thinking)


def sums_with_thinking(rng: Random) -> Case:
    """The same, worked out digit by digit first."""
    return sums(rng, thinking=True)


def products(rng: Random) -> Case:
    """The table up to twelve times twelve."""
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    question = rng.choice(("What is {} times {}?", "Multiply {} by {}.", "What is {} * {}?"))
    return ask(question.format(a, b), f"{a} * {b} = {a * b}", grading.number(a * b))


def capitals(rng: Random) -> Case:
    """The capital of a country."""
    country, city = rng.choice(sorted(CAPITALS.items()))
    question = rng.choice(("What is the capital of {}?", "Name the capital of {}.", "Tell me the capital of {}."))
    judge = grading.value(city, CAPITALS.values())
    return ask(question.format(country), f"The capital of {country} is {city}.", judge)


def order(rng: Random) -> Case:
    """Opposites, and short lists to sort."""
    if rng.random() < 0.4:
        word, other = rng.choice(sorted(OPPOSITES.items()))
        judge = grading.value(other)
        return ask(f"What is the opposite of {word}?", f"The opposite of {word} is {other}.", judge)
    values = rng.sample(range(1, 100), rng.randint(3, 6))
    listed, down = ", ".join(map(str, values)), rng.random() < 0.3
    wanted = sorted(values, reverse=down)
    question = f"Sort these numbers{' in descending order' if down else ''}: {listed}"
    return ask(question, ", ".join(map(str, wanted)), grading.numbers(wanted))


def repetition(rng: Random) -> Case:
    """A few words or sentences, said again."""
    text = rng.choice((words(rng, 3, 14), " ".join(sentence(rng) for _ in range(rng.randint(1, 4)))))
    lead = rng.choice(("Repeat this: ", "Say exactly: ", "Copy this text: "))
    return ask(lead + text, text, grading.same_text(text))


def facts(rng: Random) -> Case:
    """Three to five facts of one kind, and a question about one of them."""
    form, question, values = FACTS[rng.choice(sorted(FACTS))]
    known = dict(zip(rng.sample(NAMES, count := rng.randint(3, 5)), rng.sample(values, count), strict=True))
    name = rng.choice(sorted(known))
    told = [form.format(name=who, value=what) for who, what in known.items()]
    judge = grading.value(known[name], known.values())
    said = form.format(name=name, value=known[name])
    return ask(f"{' '.join(told)}\n{question.format(name=name)}", said, judge)


def json_keys(rng: Random) -> Case:
    """Named fields of a text as a JSON object."""
    data = {
        "name": rng.choice(NAMES),
        "age": rng.randint(1, 99),
        "city": rng.choice(CITIES),
        "job": rng.choice(JOBS),
        "color": rng.choice(COLORS),
        "animal": rng.choice(ANIMALS),
    }
    keys = ["name", *rng.sample(sorted(FIELDS.keys() - {"name"}), rng.randint(1, 4))]
    text = " ".join(FIELDS[key].format(data) for key in keys)
    rng.shuffle(keys)
    question = rng.choice(("Extract {} as JSON from this text: {}", "Return JSON with the keys {}: {}"))
    wanted = {key: data[key] for key in keys}
    return ask(question.format(", ".join(keys), text), json.dumps(wanted), grading.json_object(wanted))
