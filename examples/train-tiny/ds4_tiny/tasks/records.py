# ruff: noqa: E501  (a template is one line, however long)
"""Values told in a text, asked for as a JSON object: by named keys, by a schema, or with nothing told at all.

A text may name its keys ("The age is 8."), tell of somebody ("Laura is 8 years old."), or put several values into one
sentence. Keys go by several names, so that what counts is what the value means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ds4_tiny import words as w
from ds4_tiny.chat import Talk, dumps, says, user
from ds4_tiny.draw import Draw
from ds4_tiny.tasks.asking import joined

QA = tuple[str, str, str]


@dataclass(frozen=True)
class Field:
    """A value that texts tell: its names as a key, its JSON type, how it is told alone and of a person `{n}`."""

    keys: str
    type: str
    draw: Callable[[Draw], Any]
    alone: str
    of: str = ""


SKIES = ("sunny", "cloudy", "rainy", "windy", "snowy", "foggy", "clear", "stormy")


def _degrees(d: Draw) -> int:
    return d.int(-20, 40)


FIELDS: dict[str, Field] = {
    "name": Field("name|name|name|full_name|person|who", "string", Draw.name, "The name is {v}.|This is about {v}.|Name: {v}.|I met {v}.|This text is about {v}.|Meet {v}.|{v} is here.|Let me tell you about {v}.|name={v}"),
    "age": Field("age|age|age|years", "integer", lambda d: d.int(1, 99), "The age is {v}.|Age: {v}.|{v} years old.|Aged {v}.", "{n} is {v} years old.|{n} is {v} years old.|{n} is {v}.|{n} turned {v} last week.|The age of {n} is {v}.|{n} is a {v}-year-old."),
    "city": Field("city|city|city|town|place|location|home", "string", Draw.city, "The city is {v}.|City: {v}.|It happened in {v}.|Lives in {v}.|Based in {v}.", "{n} lives in {v}.|{n} lives in {v}.|{n} is from {v}.|{n} moved to {v}.|{n}'s home is {v}.|The home of {n} is in {v}.|You can find {n} in {v}."),
    "job": Field("job|job|job|profession|occupation|work", "string", lambda d: d.one(w.JOBS), "The job is {v}.|Job: {v}.|Works as a {v}.|Profession: {v}.", "{n} works as a {v}.|{n} is a {v}.|{n}'s job is {v}.|{n} has been a {v} for years.|{n} earns money as a {v}."),
    "color": Field("color|color|color|colour|favorite_color|favourite_colour", "string", lambda d: d.one(w.COLORS), "The color is {v}.|Color: {v}.|It is {v}.|All of it is {v}.|Colour: {v}.", "{n} likes {v}.|{n} likes the color {v}.|{n} loves {v}.|{n} always wears {v}.|{n}'s favourite colour is {v}.|The color that {n} likes is {v}.|{n} painted the wall {v}.|{n} prefers {v}."),
    "animal": Field("animal|animal|animal|pet", "string", lambda d: d.one(w.ANIMALS), "There is a {v}.|The animal is a {v}.|Animal: {v}.|I see a {v}.|A {v} sits there.|It is a {v}.", "{n} has a {v}.|{n} owns a {v}.|{n} keeps a {v}.|{n}'s pet is a {v}.|{n} came with a {v}."),
    "email": Field("email|email|mail|email_address", "string", Draw.email, "The email is {v}.|Email: {v}.|Write to {v}.|Mail to {v}.", "{n}'s email is {v}.|Write to {n} at {v}.|You reach {n} at {v}."),
    "phone": Field("phone|phone|phone_number|number", "string", lambda d: str(d.int(100_000, 99_999_999)), "The phone number is {v}.|Phone: {v}.|Call {v}.", "{n}'s number is {v}.|Call {n} at {v}.|The phone number of {n} is {v}."),
    "price": Field("price|price|price|cost|amount", "integer", lambda d: d.int(1, 9999), "It costs {v} dollars.|The price is {v}.|Price: {v}.|You pay {v} dollars.|It is {v} euros.", "{n} paid {v} dollars.|{n} wants {v} dollars for it.|{n} sold it for {v}."),
    "date": Field("date|date|day|due_date", "string", Draw.date, "The date is {v}.|Date: {v}.|It is on {v}.|It happened on {v}.", "{n} comes on {v}.|{n} leaves on {v}.|{n} was there on {v}."),
    "time": Field("time|time|start", "string", Draw.time, "The time is {v}.|Time: {v}.|It starts at {v}.|It begins at {v}.", "{n} arrives at {v}.|{n} gets up at {v}.|{n} starts at {v}."),
    "active": Field("active|active|enabled|done|paid", "boolean", lambda d: d.chance(0.5), "{K}: {v}.|{K}? {v}."),
    "company": Field("company|company|employer|firm", "string", Draw.company, "The company is {v}.|Company: {v}.|Works for {v}.|Employer: {v}.", "{n} works for {v}.|{n} works at {v}.|{n} is employed by {v}.|{n} joined {v}."),
    "title": Field("title|title|book|subject", "string", Draw.phrase, "The title is {v}.|Title: {v}.|It is called {v}.", "{n} wrote '{v}'.|{n} is reading '{v}'."),
    "tags": Field("tags|tags|items|words", "array", lambda d: [d.word() for _ in range(d.int(1, 4))], "{K}: {v}.|The {k} are {v}."),
    "count": Field("count|count|quantity|how_many", "integer", lambda d: d.int(0, 500), "The count is {v}.|Count: {v}.|There are {v} of them.|{v} pieces.", "{n} has {v} of them.|{n} counted {v}.|{n} bought {v} of them."),
    "score": Field("score|score|rating|points", "number", lambda d: d.int(1, 99) / 10, "The score is {v}.|Score: {v}.|Rating: {v}.", "{n} scored {v}.|{n} gave it {v}.|{n} got {v} points."),
    "degrees": Field("degrees|temperature|temperature|temp", "integer", _degrees, "{v} degrees.|Temperature: {v}.|It has {v} degrees.|It is {v} degrees warm.|The temperature is {v}."),
    "sky": Field("sky|condition|weather", "string", lambda d: d.one(SKIES), "It is {v}.|The sky is {v}.|{v}.|Weather: {v}."),
    "country": Field("country|country|nation", "string", lambda d: d.one(list(w.CAPITALS)), "The country is {v}.|Country: {v}.|Made in {v}.", "{n} comes from {v}.|{n} was born in {v}.|{n} travels to {v}."),
    "id": Field("id|id|code|order_id", "string", Draw.code, "The id is {v}.|Id: {v}.|The code is {v}.", "{n} has the code {v}.|The id of {n} is {v}."),
    "language": Field("language|language|lang", "string", lambda d: d.one(w.LANGUAGES), "The language is {v}.|Language: {v}.|It is written in {v}.", "{n} speaks {v}.|{n} learns {v}.|{n} teaches {v}."),
    "food": Field("food|food|dish|meal", "string", lambda d: d.one(w.FOODS), "The food is {v}.|Food: {v}.|There was {v}.", "{n} eats {v}.|{n} ordered {v}.|{n}'s favourite food is {v}.|{n} cooked {v}."),
    "sport": Field("sport|sport|hobby", "string", lambda d: d.one(w.SPORTS), "The sport is {v}.|Sport: {v}.|The hobby is {v}.", "{n} does {v}.|{n} is good at {v}.|{n}'s hobby is {v}.|In the evening {n} does {v}."),
    "instrument": Field("instrument|instrument|music", "string", lambda d: d.one(w.INSTRUMENTS), "The instrument is a {v}.|Instrument: {v}.|I hear a {v}.", "{n} plays the {v}.|{n} learns the {v}.|{n} bought a {v}."),
}  # fmt: skip
COMMON = ("name", "age", "city", "job", "color", "animal", "price", "email", "date", "count", "title")
PERSONAL = sorted(key for key, field in FIELDS.items() if field.of)

TOGETHER: tuple[tuple[tuple[str, ...], str], ...] = (
    (("color", "animal"), "There is a {color} {animal}.|I saw a {color} {animal}.|A {color} {animal} came by.|Look, a {color} {animal}!"),
    (("count", "animal"), "There are {count} {animal}s.|I counted {count} {animal}s.|We own {count} {animal}s."),
    (("city", "price"), "In {city} it costs {price} dollars.|A ticket to {city} is {price} dollars.|You pay {price} dollars in {city}."),
    (("city", "degrees"), "The weather in {city}: {degrees} degrees.|{city} has {degrees} degrees.|It is {degrees} degrees in {city}.|{city}, {degrees} degrees."),
    (("sky", "degrees"), "{sky} and {degrees} degrees|{sky} and {degrees} degrees|{sky}, {degrees} degrees|{degrees} degrees and {sky}|It is {sky}, {degrees} degrees.|{sky}, {degrees} C"),
    (("city", "date"), "It was in {city} on {date}.|We meet in {city}, {date}.|The trip to {city} is on {date}."),
    (("date", "time"), "It is on {date} at {time}.|{date}, {time}.|Come on {date} at {time}."),
    (("food", "price"), "The {food} costs {price} dollars.|{food}: {price} dollars.|I paid {price} dollars for the {food}."),
    (("name", "age"), "{name} ({age})|{name} is {age} years old.|{name}, {age} years old.|{name}, aged {age}."),
    (("name", "city"), "{name} lives in {city}.|{name} from {city}.|{name} is in {city}."),
    (("name", "job"), "{name} is a {job}.|{name}, a {job}.|The {job} is called {name}."),
    (("name", "age", "city"), "{name}, {age}, lives in {city}.|{name} is {age} years old and lives in {city}.|{name} ({age}) is from {city}."),
    (("name", "job", "city"), "{name} is a {job} in {city}.|{name} works as a {job} in {city}.|{city} has a {job} called {name}."),
    (("name", "email"), "{name} <{email}>|{name} has the email {email}.|Contact: {name}, {email}."),
    (("name", "color"), "{name} likes {color}.|{name} wears {color}.|The color that {name} likes is {color}."),
    (("name", "animal"), "{name} has a {animal}.|{name} owns a {animal}.|The {animal} is called {name}."),
    (("title", "count"), "'{title}' was sold {count} times.|There are {count} copies of '{title}'."),
)  # fmt: skip
"""Sentences that tell several values at once."""


def shown(value: Any) -> str:
    """A value as a text tells it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return joined(value) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Sheet:
    """Which values are told: kinds of `FIELDS` or words that no list holds, and the key of each."""

    keys: dict[str, str]

    def properties(self, d: Draw) -> dict[str, Any]:
        """The JSON Schema of each key."""
        return {key: _property(d, key, FIELDS[kind].type if kind in FIELDS else "string") for kind, key in self.keys.items()}

    def fill(self, d: Draw) -> tuple[dict[str, Any], str]:
        """Fresh values by key, and a text that tells each of them."""
        drawn = {kind: FIELDS[kind].draw(d) if kind in FIELDS else d.word() for kind in self.keys}
        sentences = _sentences(d, {kind: value for kind, value in drawn.items() if kind in FIELDS}, self.keys)
        for kind in drawn.keys() - FIELDS.keys():
            sentences.append(d.split_one("The {k} is {v}.|{k}: {v}.|{k} = {v}.").format(k=kind, v=drawn[kind]))
        if d.chance(0.6):
            d.rng.shuffle(sentences)
        if d.chance(0.25):
            sentences.insert(d.int(0, len(sentences)), d.sentence())
        text = d.one((" ", " ", " ", "\n")).join(sentences)
        return {self.keys[kind]: value for kind, value in drawn.items()}, text


def sheet(d: Draw, low: int = 1, high: int = 6) -> Sheet:
    """Some kinds, in some order; often with a person's name among them, now and then with an unknown word."""
    kinds = d.some(d.one((COMMON, PERSONAL, sorted(FIELDS))), low, high)
    if d.chance(0.45) and "name" not in kinds:
        kinds[0] = "name"
    keys = {kind: d.split_one(FIELDS[kind].keys) if d.chance(0.3) else kind for kind in kinds}
    if len(set(keys.values())) < len(keys):
        keys = {kind: kind for kind in kinds}
    if d.chance(0.25) and (word := d.ascii()) not in keys.values() and word not in FIELDS:
        keys[word] = word
    order = d.rng.sample(list(keys), len(keys))
    return Sheet({kind: keys[kind] for kind in order})


def _sentences(d: Draw, left: dict[str, Any], keys: dict[str, str]) -> list[str]:
    """Every value of `left` told once; of a person where the draw falls so, whose name is told too if it is asked."""
    out: list[str] = []
    if d.chance(0.4):
        for parts, forms in d.rng.sample(TOGETHER, len(TOGETHER)):
            if all(part in left for part in parts) and d.chance(0.7):
                out.append(d.split_one(forms).format(**{part: shown(left.pop(part)) for part in parts}))
    personal = d.chance(0.6)
    person = str(left["name"]) if "name" in left else d.first_name()
    if personal and "name" in left and d.chance(0.5) and any(FIELDS[kind].of for kind in left if kind != "name"):
        first = d.one([kind for kind in left if FIELDS[kind].of])
        out.append(_of(d, first, left.pop(first), person))  # a sentence about the person tells the name as well
        left.pop("name")
    for kind, value in left.items():
        field = FIELDS[kind]
        if personal and field.of:
            out.append(_of(d, kind, value, person, d.one(("He", "She")) if out and d.chance(0.3) else ""))
        else:
            out.append(d.split_one(field.alone).format(v=shown(value), k=keys[kind], K=keys[kind].replace("_", " ").capitalize()))
    return out


def _of(d: Draw, kind: str, value: Any, person: str, pronoun: str = "") -> str:
    """A value told of a person, or of a pronoun where the form allows it."""
    form = d.split_one(FIELDS[kind].of)
    return form.format(n=pronoun if pronoun and form.startswith("{n} ") else person, v=shown(value))


def _property(d: Draw, key: str, kind: str) -> dict[str, Any]:
    out: dict[str, Any] = {"type": kind, **({"items": {"type": "string"}} if kind == "array" else {})}
    if d.chance(0.3):
        out = {"title": key.replace("_", " ").title(), **out}
    if d.chance(0.3):
        out["description"] = f"The {key}."
    return out


BY_KEYS = ("Extract {k} as JSON from this text: {t}|Return JSON with the keys {k}: {t}|{t}\nGive me a JSON object with {k}.|{t} Return the result as a JSON with {q} keys. Return nothing other than JSON.|"
           "Answer in JSON with the keys {q}. {t}|Turn this into JSON ({k}): {t}|Make a JSON object with {q} from: {t}|{t}\n\nReply only with JSON, keys: {k}|{t} Give it as JSON with {k}.|Extract {k} from this text as JSON: {t}|"
           "Convert to JSON with the fields {k}: {t}|JSON with {k}, please: {t}|{t} Answer as a JSON object with the keys {k}.|Read this and write JSON with {k}. {t}|What are {k}? Answer in JSON.\n{t}|Get {k} out of this text, as JSON: {t}|"
           "{t}\n\nWrite {k} as JSON.|Please extract the keys {q} as JSON: {t}|Return a JSON object. Keys: {k}. Text: {t}|Make JSON ({q}): {t}|"
           "Only JSON, keys {k}: {t}|Keys: {k}. Answer with JSON only. {t}|Your answer is JSON with {k}. {t}|Write a JSON object with {k}. {t}|JSON ({k}): {t}|I need {k} as JSON. {t}|{t} JSON please: {k}")  # fmt: skip


def json_keys(d: Draw) -> QA:
    """Named keys of a text as a JSON object; now and then the text tells more than is asked."""
    values, text = sheet(d).fill(d)
    if len(values) > 2 and d.chance(0.25):
        values = {key: values[key] for key in d.some(list(values), 1, len(values) - 1)}
    keys = joined(list(values)) if d.chance(0.5) else ", ".join(values)
    quoted = joined([f"'{key}'" for key in values])
    question = d.split_one(BY_KEYS).format(k=keys, q=quoted, t=text)
    return question, f"The keys are {keys}.", dumps(values)


def json_schema(d: Draw) -> Talk:
    """A text and a schema: in the prompt's own place for it, or in the words of the user or system."""
    made = sheet(d)
    values, text = made.fill(d)
    schema = schema_of(d, made.properties(d))
    answer, place = says(dumps(values), f"The keys are {', '.join(values)}."), d.int(0, 3)
    question = d.split_one("{t}|{t}|Extract the data: {t}|Fill in the schema from this text: {t}|{t}\n\nExtract this.|What does this say? {t}|Parse this: {t}|{t} Give it as JSON.").format(t=text)
    if place <= 1:
        return Talk((user(question), answer), schema=schema)
    asked = d.split_one("Answer with JSON that matches this schema: {s}\n\n{t}|{t}\n\nReply in JSON with this JSON schema:\n{s}|Use this schema:\n```json\n{s}\n```\n{t}|Schema: {s}\nText: {t}")
    return Talk((user(asked.format(s=dumps(schema), t=text)), answer))


def schema_of(d: Draw, properties: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object, in one of the shapes that programs write."""
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": list(properties)}
    if d.chance(0.4):
        schema = {"properties": properties, "required": list(properties), "title": d.plain().capitalize(), "type": "object"}
    if d.chance(0.2):
        schema["additionalProperties"] = False
    return schema


# Nothing told: the answer is made up, always the same way

MADE_UP: dict[str, Any] = {"name": "Max", "age": 7, "city": "Paris", "job": "baker", "color": "blue", "animal": "dog", "email": "max@example.com",
                           "price": 10, "count": 3, "active": True, "title": "My book", "country": "France", "language": "English", "food": "bread"}  # fmt: skip
"""What it invents, by key."""
THINGS = ("dog", "cat", "person", "user", "customer", "pet", "hero", "character", "horse", "robot", "pirate", "friend", "neighbour", "employee", "guest")


def made_up(d: Draw) -> Talk:
    """An object of which the prompt says the form alone: by schema, or by named keys."""
    keys = d.some(sorted(MADE_UP), 1, 4)
    if d.chance(0.5):
        keys = list(dict.fromkeys(["name", *keys]))
    values = {key: MADE_UP[key] for key in keys}
    thing = d.one(THINGS) if d.chance(0.7) else d.plain()
    answer = says(dumps(values), f"I make up a {thing}.")
    if d.chance(0.65):
        question = d.split_one(f"Invent a {thing}|Invent a {thing}.|Make up a {thing}.|Describe a {thing}.|Describe my {thing}.|Give me a {thing}.|An example of a {thing}, please.|Think of a {thing}.|Create a {thing}")
        properties = {key: _property(d, key, FIELDS[key].type) for key in keys}
        return Talk((user(question), answer), schema=schema_of(d, properties))
    told_keys = joined(keys)
    question = d.split_one(f"Invent a {thing} as JSON with {told_keys}.|Give me a {thing} as JSON with {told_keys}.|Make up a {thing}. Answer in JSON with the keys {told_keys}.|Write JSON for a {thing}: {told_keys}")
    if d.chance(0.5):
        properties = {key: _property(d, key, FIELDS[key].type) for key in keys}
        return Talk((user(question), answer), schema=schema_of(d, properties))
    return Talk((user(question), answer), json_mode=d.chance(0.5))
