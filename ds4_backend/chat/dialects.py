"""What a thinking effort means to each published checkpoint.

The checkpoints share one prompt format and differ in which effort adds which sentence to the start of the prompt.
The vendor's encoder speaks the dialect of the official release, `0731`; the April `preview` is the same one level
lower: its strongest level is word for word `high` of 0731. This module knows only that table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ds4_backend.errors import FileError, RequestError

RecipeEffort = Literal["low", "high", "max"]  # what deepseek_recipe.Conversation takes


@dataclass(frozen=True, slots=True)
class Dialect:
    """`efforts` maps the levels a caller may ask for to the encoder's; `default` is used where the caller says none."""

    name: str
    efforts: Mapping[str, RecipeEffort]
    default: str = "low"

    def recipe_effort(self, effort: str | None) -> RecipeEffort:
        """The encoder's level for `effort`. Raises RequestError for a level this checkpoint does not have."""
        if effort is None:
            effort = self.default
        if not isinstance(effort, str) or effort not in self.efforts:  # a request may hold any JSON
            allowed = ", ".join(self.efforts)
            raise RequestError(f"effort {effort!r} is not known to this model (dialect {self.name}): use {allowed}")
        return self.efforts[effort]


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect("preview", {"low": "low", "medium": "low", "high": "low", "max": "high"}),
        Dialect("0731", {"low": "low", "high": "high", "max": "max"}),
    )
}


def dialect_of(name: str) -> Dialect:
    """The dialect that a model file names in `ds4.dialect`. Raises FileError for one that is not known here."""
    if name not in DIALECTS:
        raise FileError(f"the model's prompt dialect is {name!r}; this version knows {', '.join(DIALECTS)}")
    return DIALECTS[name]
