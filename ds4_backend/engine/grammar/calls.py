"""The call block as a grammar: the one format of docs/chat.md, with names and values held to the declarations.

    block     = "\\n\\n<" DSML "tool_calls>\\n" invoke *("\\n" invoke) "\\n</" DSML "tool_calls>"
    invoke    = "<" DSML 'invoke name="' NAME '">' *("\\n" parameter) "\\n</" DSML "invoke>"
    parameter = "<" DSML 'parameter name="' KEY '" string="' ("true" | "false") '">' VALUE "</" DSML "parameter>"

DSML is the special token, so a string may hold the same characters as text. A call without parameters has an empty
line. Parameters come in the order of their declaration. Knows nothing of thinking or of text around the block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ds4_backend.engine.grammar.constraints import Tools
from ds4_backend.engine.grammar.lark import Lark, quoted
from ds4_backend.engine.grammar.schema import Subschema, allows_others, others_only
from ds4_backend.engine.grammar.strings import strings
from ds4_backend.errors import RequestError
from ds4_backend.types import Tool

FREE_NAME = r"/[A-Za-z_][A-Za-z0-9_.\-]{0,63}/"
"""The name of a parameter that is allowed but not declared."""
# Conditions across parameters, which a grammar in a fixed order does not hold.
_UNSUPPORTED = (
    "allOf", "anyOf", "oneOf", "not", "if", "enum", "const", "patternProperties", "propertyNames", "minProperties",
    "maxProperties", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "$dynamicRef",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Link:
    """One place in a call's chain of parameters."""

    rule: str
    required: bool


def chosen(tools: Tools) -> tuple[Tool, ...]:
    """The tools that may be called. Raises RequestError where there are none, or not the named one."""
    if not tools.tools:
        raise RequestError(f"tool choice {tools.choice!r} needs tools, and none is declared")
    if tools.choice in ("auto", "required"):
        return tools.tools
    named = tuple(tool for tool in tools.tools if tool.name == tools.choice)
    if not named:
        known = ", ".join(tool.name for tool in tools.tools)
        raise RequestError(f"tool choice names {tools.choice!r}, which is not declared; declared are: {known}")
    return named


class CallGrammar:
    """Writes the rules of a call block into `lark`; `dsml` spells the special token there.

    The library's lexer takes the longest literal and never goes back: so a line end and the "<" after it are one
    literal wherever "</" might follow instead.
    """

    def __init__(self, lark: Lark, dsml: str) -> None:
        self._lark, self._dsml = lark, dsml

    def block(self, tools: Tools) -> str:
        """The rule of everything after the block's first DSML token.

        Raises RequestError for a declaration that the format or the grammar cannot hold, by tool and parameter.
        """
        invokes = [self._invoke(index, tool) for index, tool in enumerate(chosen(tools))]
        self._lark.rule("invoke", *invokes)
        more = rf'("\n<" {self._dsml} invoke)*' if tools.parallel else ""
        return self._lark.rule(
            "calls", rf'"tool_calls>\n<" {self._dsml} invoke {more} "\n</" {self._dsml} "tool_calls>"'
        )

    def _invoke(self, index: int, tool: Tool) -> str:
        where = f"tool {tool.name!r}"
        opening = quoted(f'invoke name="{_checked(tool.name, where)}">')
        body = self._body(f"tool_{index}", _Object.of(tool, where))
        return self._lark.rule(f"tool_{index}", rf'{opening} {body} "\n</" {self._dsml} "invoke>"')

    def _body(self, prefix: str, declared: _Object) -> str:
        """The rule of all parameters of one tool, each with the line end before it."""
        links = [
            _Link(self._parameter(f"{prefix}_{index}", quoted(_checked(name, sub.where)), sub), required)
            for index, (name, sub, required) in enumerate(declared.parameters)
        ]
        bodies = []
        if declared.extra is not None:
            bodies.append(self._chain(prefix, links, self._extra(prefix, declared, declared.extra)))
        elif links:
            bodies.append(self._chain(prefix, links, None))
        if not any(link.required for link in links):
            bodies.append(r'"\n"')
        return self._lark.rule(f"{prefix}_body", *bodies)

    def _chain(self, prefix: str, links: Sequence[_Link], extra: str | None) -> str:
        """The rule of at least one parameter: the links in order, less some optional ones, then any extra ones."""
        rest = self._lark.rule(f"{prefix}_rest_{len(links)}", f"{extra}*" if extra else '""')
        some = self._lark.rule(f"{prefix}_some_{len(links)}", f"{extra}+") if extra else None
        for index in range(len(links) - 1, -1, -1):
            link = f"{links[index].rule} {rest}"
            skipped = some if not links[index].required else None
            some = self._lark.rule(f"{prefix}_some_{index}", link, *([skipped] if skipped else []))
            rest = self._lark.rule(f"{prefix}_rest_{index}", link, *([] if links[index].required else [rest]))
        assert some is not None, "a chain has a link or an extra parameter"
        return some

    def _extra(self, prefix: str, declared: _Object, schema: Mapping[str, Any] | bool) -> str:
        where = f"{declared.where}, undeclared parameters,"
        known = " | ".join(quoted(name) for name, _, _ in declared.parameters)
        name = self._lark.terminal(f"{FREE_NAME} & ~({known})" if known else FREE_NAME, where)
        return self._parameter(f"{prefix}_extra", name, Subschema(schema, declared.root, where))

    def _parameter(self, rule: str, name: str, sub: Subschema) -> str:
        """A line end and a parameter: bare text where the schema allows a string, JSON where it allows others."""
        values = []
        if (text := strings(sub)) is not None:
            # One terminal with the "</" after it: the text goes on until the special token follows.
            body = self._lark.terminal(f'{text} "</"', sub.where)
            values.append(rf'"true\">" {body}')
        if allows_others(sub):
            values.append(rf'"false\">" {self._lark.json(others_only(sub), sub.where)} "</"')
        if not values:
            raise RequestError(f"{sub.where} cannot be held: no value satisfies its schema")
        opening = rf'"\n<" {self._dsml} "parameter name=\"" {name} "\" string=\""'
        return self._lark.rule(rule, f'{opening} ({" | ".join(values)}) {self._dsml} "parameter>"')


@dataclass(frozen=True, slots=True)
class _Object:
    """A tool's `parameters`: name, schema and whether it is required, in order; `extra` is the schema of any others."""

    where: str
    root: Mapping[str, Any]
    parameters: tuple[tuple[str, Subschema, bool], ...]
    extra: Mapping[str, Any] | bool | None

    @classmethod
    def of(cls, tool: Tool, where: str) -> _Object:
        """Raises RequestError for parameters that are not an object's, or that depend on one another."""
        sub = Subschema(tool.parameters, tool.parameters, where)
        if target := sub.target():
            if found := [name for name in ("properties", "required", "additionalProperties") if name in sub.schema]:
                raise RequestError(f"{where} cannot be held: its parameters have both '$ref' and {found[0]!r}")
            sub = target
        if (types := sub.types()) is not None and "object" not in types:
            raise RequestError(f"{where} cannot be held: its parameters are of type {sorted(types)}, not an object")
        if found := [name for name in _UNSUPPORTED if name in sub.schema]:
            raise RequestError(f"{where} cannot be held: the keyword {found[0]!r} over all parameters is not supported")
        return cls(where, sub.root, tuple(_parameters(sub)), _undeclared(sub))


def _undeclared(sub: Subschema) -> Mapping[str, Any] | bool | None:
    """The schema of parameters beyond the declared ones, None where there are to be none. A declaration that says
    nothing means none: hosts leave the keyword out."""
    return sub.get("additionalProperties", (Mapping, bool)) or None


def _parameters(sub: Subschema) -> list[tuple[str, Subschema, bool]]:
    properties = sub.get("properties", Mapping) or {}
    required = sub.required()
    others = sub.get("additionalProperties", (Mapping, bool))
    for name in required:
        if name not in properties and others is False:
            raise RequestError(f"{sub.where} cannot be held: {name!r} is required but not among its properties")
    fallback = True if others is None else others
    schemas = dict(properties) | {name: fallback for name in required if name not in properties}
    return [
        (name, Subschema(schema, sub.root, f"{sub.where}, parameter {name!r},"), name in required)
        for name, schema in schemas.items()
        if schema is not False or name in required
    ]


def _checked(name: str, where: str) -> str:
    """Names stand between quotes, and nothing is escaped there."""
    if not isinstance(name, str) or not name or '"' in name or not name.isprintable():
        raise RequestError(f"{where} cannot be called: a name is printable text without double quotes")
    return name
