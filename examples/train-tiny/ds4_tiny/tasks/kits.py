# ruff: noqa: E501  (a template is one line, however long)
"""Declared tools and how they are used: realistic ones of the families, and ones of random name and shape.

It makes declarations, requests, arguments and results, and no conversations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ds4_backend.chat.declare import canonical_tool
from ds4_backend.types import Tool
from ds4_tiny import words as w
from ds4_tiny.chat import dumps
from ds4_tiny.draw import Draw, held_out
from ds4_tiny.tasks.asking import AS_IT_IS, joined, phrase, upper
from ds4_tiny.tasks.families import ALIKE, DOCUMENTED, FAMILIES, Family, fill, said


@dataclass(frozen=True)
class Use:
    """One use of a tool: the marked request, the arguments, what comes back, what to say then. `several` are requests
    for more than one value of a parameter, where the family allows that: values to join, and how to ask."""

    request: str
    arguments: dict[str, Any]
    result: str
    answer: str


@dataclass(frozen=True)
class Kit:
    """A declared tool and how it is used; `shared` draws one request that needs several calls."""

    tool: dict[str, Any]
    use: Callable[[Draw], Use]
    shared: Callable[[Draw, int], tuple[str, list[Use]]] | None = None

    @property
    def name(self) -> str:
        """The tool's name."""
        return str(self.tool["name"])


def _format(form: str, tool: str, values: list[Any], d: Draw) -> str:
    if form[:2] in ("!{", "?{"):
        form = form[0] + AS_IT_IS + form[1:]
    return fill(form.replace("{T}", "\1").replace("{W}", "\2"), values).replace("\1", tool).replace("\2", d.word().title())


def declare(d: Draw, name: str, about: str, required: dict[str, dict[str, Any]], optional: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A tool's declaration in one of the shapes that frameworks give it."""
    properties = required | optional
    if d.chance(0.3):
        properties = {key: {"title": key.replace("_", " ").title(), **value} for key, value in properties.items()}
    if d.chance(0.4):
        hint = d.split_one("The {k}.|the {k} to use|{k}|The {k} to use.|")
        properties = {key: value | ({"description": hint.format(k=key.replace("_", " "))} if hint else {}) for key, value in properties.items()}
    if d.chance(0.25):
        properties = {key: dict(sorted(value.items())) for key, value in properties.items()}
    parts: dict[str, Any] = {"type": "object", "properties": properties, "required": list(required)}
    if d.chance(0.4):
        parts = {"properties": properties, "required": list(required), "type": "object"}
    if not required:
        parts = d.one(({"properties": properties, "type": "object"}, {"type": "object", "properties": properties}, {"type": "object", "properties": properties, "required": []}))
    if d.chance(0.1):
        parts["additionalProperties"] = False
    return {"name": name, "description": about, "parameters": parts}


AS_WRITTEN = 0.85
"""Share of tools in the one form that the engine gives every declaration."""


def written(tool: dict[str, Any]) -> dict[str, Any]:
    """A declaration as the engine prints it."""
    made = canonical_tool(Tool(tool["name"], tool["description"], tool["parameters"]))
    return {"name": made.name, "description": made.description, "parameters": dict(made.parameters)}


def _schema(kind: str, choices: tuple[str, ...] | list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {"type": kind}
    if kind == "array":
        out["items"] = {"type": "string"}
    return out | ({"enum": list(choices)} if choices else {})


def realistic(d: Draw, family: Family | None = None) -> Kit:
    """A tool of one of the families."""
    family = family or d.one(FAMILIES if d.chance(0.65) else DOCUMENTED)
    names, about = d.split_one(family.names), d.split_one(family.about)
    name = names if d.chance(0.75) else d.until_mine(lambda: d.one((f"{names}_{d.ascii()}", f"{d.ascii()}_{names}", d.identifier(), f"{names}{d.int(2, 99)}", d.ascii())))
    keys = list(dict.fromkeys(d.split_one(p.names) if d.chance(0.92) else d.ascii() for p in (*family.parameters, *family.optional)))
    if len(keys) < len(family.parameters) + len(family.optional):
        keys = [p.names.split("|")[0] for p in (*family.parameters, *family.optional)]
    count = len(family.parameters)
    with_optional = bool(family.optional) and d.chance(0.35)
    kinds = {p: ("number" if p.type == "integer" and d.chance(0.15) else p.type) for p in (*family.parameters, *family.optional)}
    required = {key: _schema(kinds[p], p.choices) for key, p in zip(keys, family.parameters, strict=False)}
    optional = {key: _schema(kinds[p], p.choices) for key, p in zip(keys[count:], family.optional, strict=True)} if with_optional else {}
    tool = declare(d, name, about, required, optional)

    def values(d: Draw) -> list[Any]:
        return [p.draw(d) for p in family.parameters]

    def made(d: Draw, drawn: list[Any]) -> Use:
        request = _format(d.split_one(family.requests), name, drawn, d)
        arguments = dict(zip(keys, drawn, strict=False))
        if optional and d.chance(0.5):
            extra = family.optional[0].draw(d)
            arguments[keys[count]] = extra
            request = phrase(d, request)
            request += ("" if request[-1] in ".?!" else ".") + " " + d.split_one(family.optional_said[0]).format(o=extra)
        found, answer = family.outcome(d, drawn)
        return Use(request, arguments, found, answer)

    def shared(d: Draw, number: int) -> tuple[str, list[Use]]:
        """One request that names several values of one parameter."""
        assert family.shared is not None
        base = values(d)
        many = list(dict.fromkeys(str(family.parameters[family.shared].draw(d)) for _ in range(number)))
        if family.parameters[family.shared].type != "string":
            many = [str(int(value)) for value in many]
        uses = []
        for value in many:
            drawn = [*base]
            drawn[family.shared] = value if family.parameters[family.shared].type == "string" else int(value)
            uses.append(made(d, drawn)) if not optional else uses.append(Use("", dict(zip(keys, drawn, strict=False)), *family.outcome(d, drawn)))
        form = d.split_one(family.requests)
        told = joined(many, d.one(("and", "and", "and", "and also", "as well as", "&")))
        if f"in {{{family.shared}}}" in form and d.chance(0.4):
            form = form.replace(f"in {{{family.shared}}}", f"{{{family.shared}}}")
            told = joined([f"in {value}" for value in many])
        drawn = [*base]
        drawn[family.shared] = told if d.chance(0.8) else f"both {told}" if len(many) == 2 else told
        return _format(form, name, drawn, d), uses

    return Kit(tool, lambda d: made(d, values(d)), shared if family.shared is not None else None)


TYPES = {"string": 10, "integer": 5, "number": 2, "boolean": 2, "array": 1.5, "enum": 2}


def invented(d: Draw) -> Kit:
    """A tool of random name and parameters."""
    name, human = _named(d)
    while held_out(name) != (d.split == "eval"):
        name, human = _named(d)
    about = d.split_one(f"{upper(human)}.|Tool to {human}.|{upper(human)} with the given values.|Use this to {human}.|{upper(d.phrase(3, 6))}.|")
    kinds: dict[str, tuple[str, list[str]]] = {}
    for _ in range(d.int(0, 4)):
        key = d.one(w.PARAMETERS) if d.chance(0.75) else d.ascii()
        kind = d.weighted(TYPES)
        kinds[key] = (kind, [d.plain() for _ in range(3)] if kind == "enum" else [])
    optional = list(kinds)[-1] if len(kinds) > 1 and d.chance(0.3) else None
    schemas = {key: _schema("string" if kind == "enum" else kind, choices) for key, (kind, choices) in kinds.items()}
    tool = declare(d, name, about, {k: s for k, s in schemas.items() if k != optional}, {k: s for k, s in schemas.items() if k == optional})

    def use(d: Draw) -> Use:
        arguments = {k: _value(d, *kind) for k, kind in kinds.items() if k != optional or d.chance(0.5)}
        found = d.one(("ok", "done", f"{d.one(w.TOOL_NOUNS)} {d.number(4)} saved", dumps({"status": "ok", "id": d.number(4)}), d.sentence(), d.value()))
        return Use(_request(d, name, human, arguments), arguments, found, f"The tool {name} returned: {found}")

    return Kit(tool, use)


def _named(d: Draw) -> tuple[str, str]:
    """A tool's name, and what it does in words."""
    verb, noun = (d.one(w.TOOL_VERBS) if d.chance(0.7) else d.ascii()), (d.one(w.TOOL_NOUNS) if d.chance(0.6) else d.ascii())
    more = d.one(w.TOOL_NOUNS)
    return d.one((
        (f"{verb}_{noun}", f"{verb} {noun}"), (f"{verb}_{noun}_{more}", f"{verb} {noun} {more}"), (f"{verb}{noun.title()}", f"{verb} {noun}"),
        (f"{noun}_{verb}", f"{verb} {noun}"), (f"{verb}-{noun}", f"{verb} {noun}"), (d.identifier(), f"{verb} {noun}"), (noun, f"{verb} {noun}"),
        (f"{verb}_{d.ascii()}", f"{verb} {noun}"),
    ))  # fmt: skip


def _value(d: Draw, kind: str, choices: list[str]) -> Any:
    if kind == "enum":
        return d.one(choices)
    if kind == "integer":
        return d.number(5)
    if kind == "number":
        return d.int(0, 999) / 10
    if kind == "boolean":
        return d.chance(0.5)
    return [d.word() for _ in range(d.int(1, 3))] if kind == "array" else d.value()


def _request(d: Draw, name: str, human: str, arguments: dict[str, Any]) -> str:
    def quoted(value: Any) -> str:
        return d.one(("{}", "{}", "'{}'", '"{}"')).format(said(value)) if isinstance(value, str) else said(value)

    def plain(key: str) -> str:
        return key.replace("_", " ")

    items = list(arguments.items())
    if not items:
        return d.split_one(f"!call {name}|!use the {name} tool|!{human}|!run {name}|{name}()|{upper(human)}!")
    if d.chance(0.3):
        d.rng.shuffle(items)
    forms: tuple[Callable[[], str], ...] = (
        lambda: f"!call {name} with {joined([f'{k} = {quoted(v)}' for k, v in items])}",
        lambda: f"!use {name}: {', '.join(f'{k} {quoted(v)}' for k, v in items)}",
        lambda: f"!{human} with {joined([f'{plain(k)} {quoted(v)}' for k, v in items])}",
        lambda: f"I want to {human}. {' '.join(f'The {plain(k)} is {quoted(v)}.' for k, v in items)}",
        lambda: f"{upper(human)}: {', '.join(f'{plain(k)}={quoted(v)}' for k, v in items)}",
        lambda: f"Can you {human}?\n" + "\n".join(f"{upper(plain(k))}: {said(v)}" for k, v in items),
        lambda: f"!run {name}({', '.join(f'{k}={dumps(v)}' for k, v in items)})",
        lambda: f"!{human}, {', '.join(f'{plain(k)} {quoted(v)}' for k, v in items)}",
        lambda: f"{name} {' '.join(quoted(v) for _, v in items)}" if len(items) == 1 else f"{name}: {dumps(dict(items))}",
    )
    texts = [value for value in arguments.values() if isinstance(value, str)]
    if len(texts) <= 1 and d.chance(0.4):  # the kinds alone say which value is which
        return f"!{human} {' '.join(_unnamed(quoted, plain(k), v) for k, v in sorted(items, key=lambda item: not isinstance(item[1], str)))}"
    return d.one(forms)()


def _unnamed(quoted: Callable[[Any], str], key: str, value: Any) -> str:
    """A value as people say it without its parameter's name, or as little of that as makes it clear."""
    if isinstance(value, bool):
        return f"with {key}" if value else f"without {key}"
    return quoted(value) if isinstance(value, str) else f"{said(value)} {key}"


def kits(d: Draw, count: int) -> list[Kit]:
    """Different tools; now and then all of them easily mistaken for one another."""
    found: dict[str, Kit] = {}
    alike = d.chance(0.15)
    while len(found) < count:
        kit = realistic(d, d.one(ALIKE) if alike else None) if alike or d.chance(0.62) else invented(d)
        about = kit.tool["description"]
        if about and any(about == other.tool["description"] for other in found.values()):
            continue
        found.setdefault(kit.name, kit)
    return list(found.values())
