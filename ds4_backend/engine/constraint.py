"""What a request asks of its answer's form: from the fields of `Request` to a `Constraint`.

It knows no tokens; the grammar package makes the constraint real.
"""

from __future__ import annotations

from collections import Counter

from ds4_backend.engine.grammar.constraints import Constraint, Tools, ToolsOrText
from ds4_backend.errors import RequestError
from ds4_backend.types import Request


def constraint_of(request: Request) -> Constraint | None:
    """What holds the answer of `request`; None where its text is free and there is nothing to call.

    Raises RequestError where a tool must be called and none is declared, or not the named one.
    """
    if not may_call(request):
        return request.response_format
    tools = Tools(request.tools, request.tool_choice, request.parallel_tool_calls)
    return ToolsOrText(tools, request.response_format) if request.response_format else tools


def may_call(request: Request) -> bool:
    """Whether the answer may hold a call block.

    Raises RequestError for a choice that the declared tools do not allow, and for two tools of one name.
    """
    choice, names = request.tool_choice, [tool.name for tool in request.tools]
    if choice == "none" or (choice == "auto" and not names):
        return False
    if not names:
        raise RequestError(f"tool_choice is {choice!r} and no tools are declared: declare them, or ask for 'auto'")
    if choice not in ("auto", "required") and choice not in names:
        raise RequestError(
            f"tool_choice names the tool {choice!r}, which is not declared; declared are: {', '.join(names)}"
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise RequestError(f"the tool {twice[0]!r} is declared more than once: give each tool a name of its own")
    return True
