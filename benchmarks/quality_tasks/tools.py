"""Questions with tools declared: one call, two calls, none, and an answer from a tool's result."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from ds4_backend.types import Message, Request, Tool, ToolCall
from quality_tasks import chats, grading
from quality_tasks.case import Case, ask, reference_turn
from quality_tasks.words import CAPITALS, CITIES, NAMES, NOUNS, words


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a tool: what the user says, the right arguments, what comes back, what to say then, its core."""

    question: str
    arguments: dict[str, Any]
    result: str
    answer: str
    core: str


def _tool(name: str, description: str, /, **types: str) -> Tool:
    properties = {key: {"type": kind} for key, kind in types.items()}
    return Tool(name, description, {"type": "object", "properties": properties, "required": list(types)})


def _weather(rng: Random) -> Use:
    city, sky, degrees = rng.choice(CITIES), rng.choice(("sunny", "cloudy", "rainy", "windy")), rng.randint(1, 38)
    question = rng.choice(("What is the weather in {}?", "How is the weather in {} today?", "weather in {}"))
    result = f"{sky}, {degrees} C"
    return Use(question.format(city), {"city": city}, result, f"The weather in {city}: {result}.", str(degrees))


def _add(rng: Random) -> Use:
    a, b = rng.randint(1, 999), rng.randint(1, 999)
    question = rng.choice(("What is {} plus {}?", "Add {} and {}.", "Compute {} + {}."))
    return Use(question.format(a, b), {"a": a, "b": b}, str(a + b), f"The result is {a + b}.", str(a + b))


def _population(rng: Random) -> Use:
    country, count = rng.choice(sorted(CAPITALS)), rng.randint(1, 900)
    question = rng.choice(("What is the population of {}?", "How many people live in {}?"))
    said = f"{country} has {count} million people."
    return Use(question.format(country), {"country": country}, f"{count} million", said, str(count))


def _phone(rng: Random) -> Use:
    name, digits = rng.choice(NAMES), str(rng.randint(100000, 99999999))
    question = rng.choice(("What is the phone number of {}?", "Phone number of {}?"))
    return Use(question.format(name), {"name": name}, digits, f"The phone number of {name} is {digits}.", digits)


def _order(rng: Random) -> Use:
    order, state = str(rng.randint(100, 99999)), rng.choice(("shipped", "delivered", "pending", "cancelled"))
    question = rng.choice(("Where is my order {}?", "What is the status of order {}?", "Track order {}."))
    return Use(question.format(order), {"order_id": order}, state, f"Order {order} is {state}.", state)


def _todo(rng: Random) -> Use:
    item = words(rng, 2, 4)
    question = rng.choice(("Add {} to my todo list.", "Put {} on my list."))
    return Use(question.format(item), {"item": item}, "added", f"I added {item} to your list.", item)


def _length(rng: Random) -> Use:
    word = rng.choice(NOUNS)
    question = rng.choice(("How long is the word {}?", "How many letters are in the word {}?"))
    size = str(len(word))
    return Use(question.format(word), {"word": word}, size, f"The word {word} has {size} letters.", size)


TOOLS: dict[str, tuple[Tool, Callable[[Random], Use]]] = {
    tool.name: (tool, use)
    for tool, use in (
        (_tool("get_weather", "Get the weather for a city.", city="string"), _weather),
        (_tool("add", "Add two numbers.", a="integer", b="integer"), _add),
        (_tool("get_population", "Get the population of a country.", country="string"), _population),
        (_tool("get_phone", "Find the phone number of a person.", name="string"), _phone),
        (_tool("order_status", "Get the status of an order.", order_id="string"), _order),
        (_tool("add_todo", "Add an item to the todo list.", item="string"), _todo),
        (_tool("word_length", "Returns the length of a word.", word="string"), _length),
    )
}


def one_call(rng: Random) -> Case:
    """One of one to four tools is wanted."""
    names = _some(rng)
    use = TOOLS[names[0]][1](rng)
    judge = grading.calls((names[0], use.arguments))
    return ask(use.question, _made((names[0], use)), judge, tools=_declared(rng, names))


def two_calls(rng: Random) -> Case:
    """Two calls in one turn: the same tool twice, or two tools."""
    names = _some(rng)
    pair = (names[0], names[0] if rng.random() < 0.5 else names[-1])
    uses = [(name, TOOLS[name][1](rng)) for name in pair]
    question = rng.choice((" ", " Also: ", " And: ")).join(use.question for _, use in uses)
    judge = grading.calls(*((name, use.arguments) for name, use in uses))
    return ask(question, _made(*uses), judge, tools=_declared(rng, names))


def no_call(rng: Random) -> Case:
    """A question that no declared tool answers, and the model does."""
    asked = rng.choice((chats.capitals, chats.order, chats.repetition))(rng)
    request = Request(asked.request.messages, _declared(rng, _some(rng)), False)
    return Case(request, asked.reference, asked.right)


def tool_result(rng: Random) -> Case:
    """The tool has answered; the user is told."""
    names = _some(rng)
    use = TOOLS[names[0]][1](rng)
    made = _made((names[0], use))
    past = (Message("user", use.question), reference_turn(made), Message("tool", use.result, tool_call_id=made[0].id))
    return Case(Request(past, _declared(rng, names), False), reference_turn(use.answer), grading.value(use.core))


def _some(rng: Random) -> list[str]:
    return rng.sample(sorted(TOOLS), rng.randint(1, 4))


def _declared(rng: Random, names: list[str]) -> tuple[Tool, ...]:
    return tuple(TOOLS[name][0] for name in rng.sample(names, len(names)))


def _made(*uses: tuple[str, Use]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(f"call_{i}", name, json.dumps(use.arguments)) for i, (name, use) in enumerate(uses))
