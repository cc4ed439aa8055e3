"""What a thinking effort means to each published checkpoint.

The checkpoints share one prompt format and differ in which effort adds which sentence to the start of the prompt.
The vendor's encoder speaks the dialect of the official release, `0731`; the April `preview` is the same one level
lower: its strongest level is word for word `high` of 0731. This module knows only that table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ds4_backend.errors import FileError, RequestError
from ds4_backend.types import Request

RecipeEffort = Literal["low", "high", "max"]  # what deepseek_recipe.Conversation takes
NONE = "none"  # the effort that is thinking off


@dataclass(frozen=True, slots=True)
class Level:
    """A thinking level of a checkpoint: its own `name`, and the encoder's level that writes its sentence."""

    name: str
    recipe: RecipeEffort


@dataclass(frozen=True, slots=True)
class Dialect:
    """`efforts` maps what a caller may ask for to the checkpoint's levels; `default` is for a caller who says none."""

    name: str
    efforts: Mapping[str, Level]
    default: Level

    def level(self, effort: Any) -> Level:
        """The level for `effort`, the default for None and `none`. Raises RequestError for an unknown effort."""
        if effort is None or effort == NONE:
            return self.default
        if not isinstance(effort, str) or effort not in self.efforts:  # a request may hold any JSON
            allowed = ", ".join((NONE, *self.efforts))
            raise RequestError(f"effort {effort!r} is not known to this model (dialect {self.name}): use {allowed}")
        return self.efforts[effort]


def thinks(request: Request) -> bool:
    """Whether the answer begins with thinking: on unless `thinking` is False or `effort` is `none`."""
    return request.thinking is not False and request.effort != NONE


def _dialect(name: str, default: Level, **efforts: Level) -> Dialect:
    return Dialect(name, efforts, default)


_PLAIN, _STRONG = Level("high", "low"), Level("max", "high")  # preview: `high` adds nothing
_LOW, _HIGH, _MAX = Level("low", "low"), Level("high", "high"), Level("max", "max")  # 0731: `low` adds nothing

DIALECTS = {
    dialect.name: dialect
    for dialect in (
        _dialect("preview", _PLAIN, minimal=_PLAIN, low=_PLAIN, medium=_PLAIN, high=_PLAIN, xhigh=_PLAIN, max=_STRONG),
        _dialect("0731", _LOW, minimal=_LOW, low=_LOW, medium=_LOW, high=_HIGH, xhigh=_HIGH, max=_MAX),
    )
}


def dialect_of(name: str) -> Dialect:
    """The dialect that a model file names in `ds4.dialect`. Raises FileError for one that is not known here."""
    if name not in DIALECTS:
        raise FileError(f"the model's prompt dialect is {name!r}; this version knows {', '.join(DIALECTS)}")
    return DIALECTS[name]
