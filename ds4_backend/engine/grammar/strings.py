"""The strings that a JSON Schema allows, as a terminal over the bare characters, without quotes and escapes.

A string argument of a call is written so. `format` is taken as a remark here, which JSON Schema permits. Lengths count
characters. Knows nothing of calls.
"""

from __future__ import annotations

from collections.abc import Iterator

from ds4_backend.engine.grammar.lark import quoted, regex
from ds4_backend.engine.grammar.patterns import anchored
from ds4_backend.engine.grammar.schema import Subschema
from ds4_backend.errors import RequestError

ANY = regex("(?s:.*)")
_UNSUPPORTED = ("if", "$dynamicRef", "$recursiveRef")


def strings(sub: Subschema) -> str | None:
    """A terminal expression for the strings that satisfy `sub`; None where no string does.

    Raises RequestError for a keyword that has no such form.
    """
    for name in _UNSUPPORTED:
        if name in sub.schema:
            raise RequestError(f"{sub.where} cannot be held: the keyword {name!r} is not supported")
    types = sub.types()
    if types is not None and "string" not in types:
        return None
    parts = list(_conditions(sub))
    if None in parts:
        return None
    wanted = [part for part in parts if part is not None and part != ANY]
    return "(" + " & ".join(wanted) + ")" if wanted else ANY


def _conditions(sub: Subschema) -> Iterator[str | None]:
    """What must hold at once; None for what no string satisfies."""
    values = sub.values()
    if values is not None:
        yield _either([quoted(value) for value in values if isinstance(value, str)])
    if (pattern := sub.get("pattern", str)) is not None:
        yield regex(anchored(pattern))
    yield _length(sub)
    if target := sub.target():
        yield strings(target)
    yield from map(strings, sub.members("allOf") or ())
    if (alternatives := sub.members("anyOf")) is not None:
        yield _either([found for item in alternatives if (found := strings(item)) is not None])
    if (alternatives := sub.members("oneOf")) is not None:
        yield _just_one([found for item in alternatives if (found := strings(item)) is not None])
    if (excluded := sub.member("not")) and (found := strings(excluded)) is not None:
        yield _without(ANY, found)


def _either(expressions: list[str]) -> str | None:
    return "(" + " | ".join(expressions) + ")" if expressions else None


def _just_one(expressions: list[str]) -> str | None:
    """What exactly one of them matches."""
    if len(expressions) < 2:
        return _either(expressions)
    others = [[e for at, e in enumerate(expressions) if at != index] for index in range(len(expressions))]
    return _either([_without(own, *rest) for own, rest in zip(expressions, others, strict=True)])


def _without(expression: str, *excluded: str) -> str:
    # A complement alone would also match bytes that are not UTF-8.
    return "(" + " & ".join([ANY, expression, *(f"~({other})" for other in excluded)]) + ")"


def _length(sub: Subschema) -> str:
    least, most = sub.get("minLength", int) or 0, sub.get("maxLength", int)
    if most is not None and most < least:
        raise RequestError(f"{sub.where} cannot be held: minLength {least} is above maxLength {most}")
    if not least and most is None:
        return ANY
    return regex(f"(?s:.{{{least},{'' if most is None else most}}})")
