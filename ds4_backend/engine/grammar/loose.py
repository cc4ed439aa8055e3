"""Where the model may call or not, a declaration that cannot be held must not cost the whole request.

Such a tool is then held by its name and the markup of a call alone; its arguments are free, and the parser says which
calls do not fit. Where a call is demanded, nothing is loosened: the caller counts on its form.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ds4_backend.engine.grammar.compiled import Grammar
from ds4_backend.engine.grammar.constraints import Constraint, Tools, ToolsOrText
from ds4_backend.engine.grammar.recent import recent_grammar
from ds4_backend.errors import RequestError
from ds4_backend.types import Tool

if TYPE_CHECKING:
    from ds4_backend.tokenizer import Tokenizer

ANY_ARGUMENTS = {"type": "object"}


def held_as_far_as_possible(
    constraint: Constraint, tokenizer: Tokenizer, thinking: bool
) -> tuple[Grammar, tuple[str, ...]]:
    """The grammar, and the names of the tools whose arguments it leaves free. Raises RequestError for what cannot be
    held and must be."""
    try:
        return recent_grammar(constraint, tokenizer, thinking), ()
    except RequestError:
        loosened, names = _loosened(constraint, tokenizer)
        if not names:
            raise
        return recent_grammar(loosened, tokenizer, thinking), names


def _loosened(constraint: Constraint, tokenizer: Tokenizer) -> tuple[Constraint, tuple[str, ...]]:
    tools = constraint.tools if isinstance(constraint, ToolsOrText) else constraint
    if not isinstance(tools, Tools) or tools.choice != "auto":
        return constraint, ()
    bad = tuple(tool for tool in tools.tools if not _can_be_held(tool, tokenizer))
    free = replace(tools, tools=tuple(replace(t, parameters=ANY_ARGUMENTS) if t in bad else t for t in tools.tools))
    names = tuple(tool.name for tool in bad)
    return (replace(constraint, tools=free) if isinstance(constraint, ToolsOrText) else free), names


def _can_be_held(tool: Tool, tokenizer: Tokenizer) -> bool:
    try:
        recent_grammar(Tools((tool,)), tokenizer, thinking=False)
    except RequestError:
        return False
    return True
