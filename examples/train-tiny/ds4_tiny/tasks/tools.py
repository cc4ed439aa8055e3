# ruff: noqa: E501  (a template is one line, however long)
"""Conversations with tools: one call, several, none, chains, errors, answers from results, and structured answers given
as calls or after them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ds4_tiny import words as w
from ds4_tiny.chat import Call, Talk, Turn, dumps, result, says, user
from ds4_tiny.draw import Draw
from ds4_tiny.tasks import chats, reading, records, skills
from ds4_tiny.tasks.asking import STARTS, ask, either, joined, lower, phrase, upper
from ds4_tiny.tasks.families import FAMILIES
from ds4_tiny.tasks.kits import AS_WRITTEN, Kit, Use, declare, kits, realistic, written

SYSTEMS = ("You are a helpful assistant.", "You are a helpful assistant", "Be brief.", "Answer briefly.", "Answer in one sentence.", "You are ds4-tiny.", "hello",
           "You are a helpful agent. Use the tools when needed.", "you're a good assistant", "Use tools whenever they help.", "You are an expert.", "Be kind.",
           "You have tools. Use them.", "You are a careful assistant.\n\nThink before you act.", "Answer the user.", "You are a coding agent.")  # fmt: skip


# Structured answers, which frameworks ask for as a call of a tool named like a class


def record(d: Draw) -> Kit:
    """A tool that only takes down what a text says, named like a class."""
    made = records.sheet(d, 1, 4)
    name = d.one(("Person", "Answer", "Record", "Result", "Item", "Data", "Event", "Contact", "Entry", d.plain().title(), d.ascii().title()))
    about = d.split_one(f"{name}.|Information about a {name.lower()}.|{name} to give to the user.|")
    tool = declare(d, name, about, made.properties(d), {})

    def use(d: Draw) -> Use:
        drawn, text = made.fill(d)
        return Use(d.split_one("{t}|{t}|Extract the data: {t}|{t} Use the tool.|!take this down: {t}|Fill in {n}: {t}").format(t=text, n=name), drawn, "ok", "Done.")

    return Kit(tool, use)


REPORTED = {"answer": True, "summary": True, "message": True, "text": True, "report": True, "result": False, "output": False}
"""Keys under which a result is given: as a sentence, or as the tool returned it."""


def called_by_format(d: Draw) -> Talk:
    """A call first where a tool is for it; then the answer in the form that the prompt lays down."""
    chosen = kits(d, d.weighted({1: 4, 2: 5, 3: 3}))
    kit = d.one(chosen)
    use = kit.use(d)
    call = (kit.name, use.arguments)
    found, properties, values = _read_out(d, kit) if d.chance(0.5) else _passed_on(d, kit, use)
    turns = [user(_hinted(d, use.request, kit)), says("", thought_of([call]), call), result(found), says(dumps(values), "I have the result. I answer in JSON.")]
    if d.chance(0.2):  # nothing to call for
        question, thought, answer = chats.small_talk(d)
        key = d.one(tuple(REPORTED))
        properties = {key: {"type": "string"}}
        turns = [user(question), says(dumps({key: answer}), f"No tool is needed. {thought}")]
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return Talk(tuple(turns), tuple(kit.tool for kit in chosen), schema=schema)


def _passed_on(d: Draw, kit: Kit, use: Use) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The result, and a form for it as a whole, with some of the arguments."""
    key = d.one(tuple(REPORTED))
    declared = kit.tool["parameters"].get("properties", {})
    kept = [name for name in use.arguments if name in declared and name != key and d.chance(0.5)]
    properties = {name: declared[name] for name in kept} | {key: {"type": "string"}}
    values = {name: use.arguments[name] for name in kept} | {key: use.answer if REPORTED[key] else use.result}
    if d.chance(0.3):
        properties, values = ({name: made[name] for name in (key, *kept)} for made in (properties, values))
    return use.result, properties, values


def _read_out(d: Draw, kit: Kit) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A result that tells several values, and a form for each of them."""
    weather = "weather" in f"{kit.name} {kit.tool['description']}".lower()
    made = records.Sheet({"sky": d.one(("sky", "condition")), "degrees": d.one(("degrees", "temperature"))}) if weather else records.sheet(d, 1, 3)
    values, text = made.fill(d)
    return text, made.properties(d), values


def joke_record(d: Draw) -> Kit:
    """The joke as a structured answer."""
    first, second = d.one((("setup", "punchline"), ("setup", "punchline"), ("question", "answer"), ("setup", "payoff"), ("opening", "ending")))
    name = d.one(("Joke", "Joke", "JokeDict", "TellJoke", "joke", "FunnyStory"))
    properties: dict[str, dict[str, Any]] = {first: {"type": "string"}, second: {"type": "string"}}
    if d.chance(0.7):
        properties = {first: {"type": "string", "description": f"{d.one(('question to set up', 'start of', 'first part of'))} a joke"}, second: {"type": "string", "description": f"answer to {d.one(('resolve', 'end', 'finish'))} the joke"}}
    tool = declare(d, name, d.split_one("Joke to tell user.|A joke.|Tell a joke.|"), properties, {})

    def use(d: Draw) -> Use:
        thing = d.one(w.ANIMALS) if d.chance(0.6) else d.plain()
        setup, end = chats.joke_parts(thing)
        many = thing + ("" if thing.endswith("s") else "s")
        return Use(d.split_one(f"!tell me a joke about {many}|!tell me a joke about a {thing}|?a joke about {many}|!give me a joke about {many}, include the {second}|!make a joke about {many}"), {first: setup, second: end}, "ok", "I told the joke.")

    return Kit(tool, use)


def joke_json(d: Draw) -> tuple[str, str, str]:
    """The joke as JSON with named keys."""
    first, second = d.one((("setup", "punchline"), ("setup", "punchline"), ("question", "answer"), ("joke_start", "joke_end")))
    thing = d.one(w.ANIMALS) if d.chance(0.6) else d.plain()
    setup, end = chats.joke_parts(thing)
    many = thing + ("" if thing.endswith("s") else "s")
    ask_ = d.split_one(f"Tell me a joke about {many}. Return the result as a JSON with '{first}' and '{second}' keys. Return nothing other than JSON.|A joke about {many} as JSON with the keys {first} and {second}, please.|"
                       f"Give me a joke about a {thing} in JSON ({first}, {second}).|Write a joke about {many} as a JSON object with {first} and {second}.|Joke about {many}, JSON only, keys: {first}, {second}")  # fmt: skip
    return ask_, f"A joke about {thing} as JSON.", dumps({first: setup, second: end})


def by_format(d: Draw) -> Talk:
    """An answer whose form the prompt lays down: by a schema, or as any JSON object."""
    kind = d.rng.random()
    if kind < 0.18:
        return called_by_format(d)
    if kind < 0.26:
        return records.made_up(d)
    if kind < 0.62:
        return records.json_schema(d)
    if kind < 0.8:
        kit = joke_record(d) if d.chance(0.45) else record(d)
        use = kit.use(d)
        return Talk((user(ask(d, use.request.replace(" Use the tool.", ""))), says(dumps(use.arguments), "I answer in JSON.")), schema=kit.tool["parameters"])
    question, thought, answer = d.one((records.json_keys, records.json_keys, joke_json))(d)
    return Talk((user(question), says(answer, thought)), json_mode=True)


# Conversations

MODES = {"single": 10, "parallel": 6, "none": 5, "error": 1.3, "chain": 1.6, "record": 1.8, "history": 1}


def tools(d: Draw, mode: str | None = None, count: int | None = None) -> Talk:
    """One to three turns with one to six tools declared."""
    chosen = kits(d, count or d.weighted({1: 4, 2: 5, 3: 4, 4: 2, 5: 1, 6: 1}))
    turns: list[Turn] = []
    modes = [mode] if mode else [d.weighted(MODES) for _ in range(d.weighted({1: 6, 2: 3, 3: 1}))]
    if "record" in modes:
        chosen = [joke_record(d) if d.chance(0.4) else record(d), *chosen[: d.one((0, 0, 1))]]
    for kind in modes:
        turns += TURNS[kind](d, chosen)
        if d.chance(0.08):
            question, thought, answer = chats.small_talk(d)
            turns += [user(question), says(answer, f"No tool is needed. {thought}")]
    if mode is None and d.chance(0.1):  # something told before, asked for after
        (told, first, reply), (asked, then, answer) = skills.remembered(d)
        turns = [user(told), says(reply, f"No tool is needed. {first}"), *turns, user(asked), says(answer, f"No tool is needed. {then}")]
    declared = [written(kit.tool) if d.chance(AS_WRITTEN) else kit.tool for kit in chosen]
    d.rng.shuffle(declared)
    return Talk(tuple(turns), tuple(declared))


def thought_of(calls: list[Call]) -> str:
    """What it thinks before calls."""
    return f"I call {joined([name for name, _ in calls])}."


def _hinted(d: Draw, request: str, kit: Kit) -> str:
    text = ask(d, request)
    if d.chance(0.12):
        end = "" if text[-1] in ".?!" else "."
        text += end + d.split_one(f" Use the tool.| Use {kit.name}.| Use the {kit.name} tool.| Use your tools.| You have a tool for this.")
    elif d.chance(0.04):
        text = d.split_one("Using the tool, |With the tool, |Use the tool: |With your tools, ") + (lower(text) if text.split()[0] in STARTS else text)
    return text


def _single(d: Draw, chosen: list[Kit]) -> list[Turn]:
    kit = d.one(chosen)
    use = kit.use(d)
    call = (kit.name, use.arguments)
    return [user(_hinted(d, use.request, kit)), says("", thought_of([call]), call), result(use.result), says(use.answer, "I have the result.")]


def _error(d: Draw, chosen: list[Kit]) -> list[Turn]:
    kit = d.one(chosen)
    use = kit.use(d)
    call = (kit.name, use.arguments)
    what = d.one(("not found", "timeout", "permission denied", "invalid input", "service unavailable", "No such file or directory", "rate limit exceeded", d.phrase(2, 5), f"Missing required argument '{d.ascii()}'",
                  f"{d.word()} does not exist", "connection refused", "unknown tool", f"{d.path()}: not found"))  # fmt: skip
    text = d.one((f"Error: {what}", f"error: {what}", f"Error: {what}.", dumps({"error": what}), f"ERROR {what}", f"Failed: {what}", f"Error: {upper(what)}"))
    said = what if f"{what}" in text else upper(what)
    return [user(_hinted(d, use.request, kit)), says("", thought_of([call]), call), result(text), says(f"The tool {kit.name} failed: {said.rstrip('.')}.", "The tool failed.")]


JOINERS = (" ", " Also: ", " And: ", "\n", " Then: ", " After that: ", " Also, ", " And then: ", " In addition: ", "\n\n", " Second: ", " Oh, and: ")
GLUE = (" and ", " and then ", ", and ", ", then ", " and also ", "; ", " as well as ", ", and please ")


def _parallel(d: Draw, chosen: list[Kit]) -> list[Turn]:
    sharing = [kit for kit in chosen if kit.shared]
    if sharing and d.chance(0.6):
        kit = d.one(sharing)
        assert kit.shared
        request, uses = kit.shared(d, d.weighted({2: 6, 3: 3, 4: 1}))
        question, calls = _hinted(d, request, kit), [(kit.name, use.arguments) for use in uses]
        if len(uses) < 2:
            return _single(d, chosen)
    else:
        first = d.one(chosen)
        made = [(kit, kit.use(d)) for kit in ([first] * d.int(2, 3) if d.chance(0.4) else [d.one(chosen) for _ in range(d.weighted({2: 5, 3: 2}))])]
        uses, calls = [use for _, use in made], [(kit.name, use.arguments) for kit, use in made]
        question = _combined(d, [use.request for use in uses])
    turns = [user(question), says("", thought_of(calls), *calls), *(result(use.result) for use in uses)]
    return [*turns, says(" ".join(use.answer for use in uses), "I have the results.")]


def _combined(d: Draw, requests: list[str]) -> str:
    """Several requests in one message."""
    if all(r[0] in "!?" for r in requests) and d.chance(0.6):
        bodies = [("tell me " if r[0] == "?" else "") + r[1:] for r in requests]
        if all(r[0] == "?" for r in requests):
            return ask(d, "?" + d.one((" and ", " and also ", " and ")).join(r[1:] for r in requests))
        return ask(d, "!" + d.one(GLUE).join(bodies))
    said = [phrase(d, r) for r in requests]
    if d.chance(0.15):
        return d.one(("\n", " ")).join(d.one((f"{i}. {one}", f"{i}) {one}")) for i, one in enumerate(said, 1))
    if d.chance(0.35):  # run together, as people type
        return d.one((*GLUE, ", ", " ", " ", "\n", " also ", " plus ", " / ")).join(one.rstrip(".?!") if d.chance(0.5) else one for one in said)
    text = d.one(JOINERS).join(one if one[-1:] in ".?!" else one + "." for one in said)
    lead = d.split_one(f"Do both: |Two things: |I need two things. |Please do this: |Do {len(requests)} things: ") if d.chance(0.2) else ""
    return lead + text


SUMS = ("add", "sum", "plus", "minus", "subtract", "multipl", "times", "product", "divide", "calc", "math", "number", "comput", "eval", "expression", "integer")
LETTERS = ("word", "letter", "text", "string", "upper", "reverse", "length", "backwards")
UNASKED: tuple[tuple[Callable[[Draw], tuple[str, str, str]], float, tuple[str, ...]], ...] = (
    (chats.small_talk, 5, ()), (chats.about, 2, ()), (skills.knowledge, 3, ("capital", "countr")), (skills.lists, 4, ("sort", "list", "count", "number", "order")),
    (skills.repeat, 3, ("repeat", "say", "echo", "print", "run", "write")), (skills.edit, 1.5, (*LETTERS, "list", "write")), (skills.letters, 1.5, LETTERS),
    (skills.addition, 2.5, SUMS), (skills.product, 1.5, SUMS), (skills.subtraction, 1, SUMS), (reading.facts, 3, ("person", "phone", "email", "weather", "price")), (records.json_keys, 1.5, ("json",)),
    (chats.story, 1, ("story",)), (skills.sentiment, 1.5, ("sentiment", "classif")), (chats.joke, 1, ("joke", "setup")),
)  # fmt: skip
"""What the model does itself where tools are declared, how often, and words of tools that might do it instead."""


def _none(d: Draw, chosen: list[Kit]) -> list[Turn]:
    """A question that no declared tool is for."""
    declared = " ".join(f"{kit.name} {kit.tool['description']}".lower() for kit in chosen)
    free = {task: share for task, share, words in UNASKED if not any(word in declared for word in words)}
    question, thought, answer = d.weighted(free)(d)
    return [user(question), says(answer, f"No tool is needed. {thought}")]


def _chain(d: Draw, chosen: list[Kit]) -> list[Turn]:
    """Two steps, the second with the first one's result."""
    if d.chance(0.5):
        return _arithmetic_chain(d, chosen)
    family = {f.names.split("|")[0]: f for f in FAMILIES}
    first, second = realistic(d, family[d.one(("recall", "get_phone", "read_file", "run_command", "fetch_url", "retrieve"))]), realistic(d, family[d.one(("upper_text", "add_todo", "get_word_length", "reverse_text"))])
    if any(kit.name in (first.name, second.name) for kit in chosen) or first.name == second.name:
        return _single(d, chosen)
    chosen += [first, second]
    use, then = first.use(d), second.use(d)
    found = d.one((d.word(), d.phrase(1, 4), d.code()))
    key = next(iter(then.arguments))
    calls = ((first.name, use.arguments), (second.name, {key: found}))
    end = d.word()
    ending = d.split_one(f"then use {second.name} on the result|then give the result to {second.name}|and pass the result to {second.name}|then call {second.name} with the result")
    body = use.request[1:] if use.request[0] in "!?" else None
    question = ask(d, f"!{'get ' if use.request[0] == '?' else ''}{body}, {ending}") if body else f"{use.request} {upper(ending)}."
    return [user(question), says("", thought_of([calls[0]]), calls[0]), result(found), says("", thought_of([calls[1]]), calls[1]), result(end), says(f"The result is {end}.", "I have the result.")]


def _arithmetic_chain(d: Draw, chosen: list[Kit]) -> list[Turn]:
    a, b, c = d.number(2), d.number(2), d.int(2, 12)
    adder, multiplier = d.one((("add", "multiply"), ("plus", "times"), ("sum_numbers", "multiply_numbers"), (d.ascii(), d.ascii()), ("add_numbers", "mul")))
    p, q = d.one((("a", "b"), ("x", "y"), ("first", "second"), ("left", "right")))
    if any(kit.name in (adder, multiplier) for kit in chosen) or adder == multiplier:
        return _single(d, chosen)
    for name, about in ((adder, "Add two numbers."), (multiplier, "Multiply two numbers.")):
        tool = declare(d, name, about, {p: {"type": "integer"}, q: {"type": "integer"}}, {})
        chosen.append(Kit(tool, partial(_two, verb=about.split()[0].lower(), p=p, q=q)))
    first, second = (adder, {p: a, q: b}), (multiplier, {p: a + b, q: c})
    question = either(d, f"!add {a} and {b}, then multiply the result by {c}|?({a} + {b}) * {c}|?{a} plus {b}, times {c}|!multiply the sum of {a} and {b} by {c}|Take {a}, add {b}, and multiply by {c}.")
    return [user(question), says("", thought_of([first]), first), result(str(a + b)), says("", thought_of([second]), second), result(str((a + b) * c)), says(f"The result is {(a + b) * c}.", "I have the result.")]


def _two(d: Draw, verb: str, p: str, q: str) -> Use:
    a, b = d.number(), d.number()
    value = a + b if verb == "add" else a * b
    return Use(f"!{verb} {a} {'and' if verb == 'add' else 'by'} {b}", {p: a, q: b}, str(value), f"The result is {value}.")


def _record(d: Draw, chosen: list[Kit]) -> list[Turn]:
    kit = chosen[0]
    use = kit.use(d)
    call = (kit.name, use.arguments)
    turns = [user(ask(d, use.request)), says("", thought_of([call]), call)]
    return [*turns, result(use.result), says(use.answer, "I have the result.")] if d.chance(0.3) else turns


def _history(d: Draw, chosen: list[Kit]) -> list[Turn]:
    """An earlier answer is asked about again: no second call is needed."""
    turns = _single(d, chosen)
    question = d.split_one("What did the tool return?|Say that again.|What was the result?|Repeat your last answer.|Can you repeat that?|What did you say?")
    return [*turns, user(question), says(turns[-1].text, "I said it before.")]


TURNS: dict[str, Callable[[Draw, list[Kit]], list[Turn]]] = {
    "single": _single, "parallel": _parallel, "none": _none, "error": _error, "chain": _chain, "record": _record, "history": _history,
}  # fmt: skip
