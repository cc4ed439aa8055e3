"""What changes in the course of a run, by the part of its time that is gone. It knows no network and no data."""

from __future__ import annotations

from typing import TypeVar

from ds4_tiny.batches import SPREAD_ROW
from ds4_tiny.network import Sight

T = TypeVar("T")
WARM_STEPS, WARM_PART, FLAT_UNTIL, FLOOR = 100, 0.04, 0.45, 0.02
"""The rate rises over so many steps or so much of the time, whichever is shorter; stays; falls in a straight line."""
ALL_UNTIL = 0.1
"""Until then attention sees every CSA row: the indexer has nothing to say yet."""
HIDDEN, HIDDEN_UNTIL = 0.6, 0.85
"""Share of the steps of `SPREAD_ROW` that see no CSA row, so that the heavily compressed rows have to answer alone."""
SHARES: tuple[tuple[float, dict[int, float]], ...] = (
    (0.1, {1024: 0.94, SPREAD_ROW: 0.06}),
    (0.4, {1024: 0.66, SPREAD_ROW: 0.1, 4096: 0.24}),
    (1.01, {1024: 0.5, SPREAD_ROW: 0.07, 4096: 0.26, 8192: 0.17}),
)
"""How often each row length is drawn, up to a part of the time; every step has as many tokens."""
PROMPT_WEIGHTS = ((0.3, 0.1), (1.01, 0.02))
"""What a prompt's token counts for beside an answer's: its entropy never falls and would drown the rest."""


def rate(steps: int, gone: float, part: float) -> float:
    """What the rates are multiplied by, `steps` and a part `gone` after the beginning of this command."""
    return min(1, max((steps + 1) / WARM_STEPS, gone / WARM_PART)) * decay(part)


def decay(part: float) -> float:
    """Flat, then straight down to the floor."""
    return 1.0 if part < FLAT_UNTIL else max(FLOOR, 1 - (part - FLAT_UNTIL) / (1 - FLAT_UNTIL))


def shares(part: float) -> dict[int, float]:
    """How often each row length is drawn."""
    return upto(SHARES, part)


def sights(length: int, part: float) -> tuple[Sight, ...]:
    """What steps of this length may see from this part of a run on."""
    early: tuple[Sight, ...] = ("all",) if part < ALL_UNTIL and length in shares(0) else ()
    return (*early, "chosen", "none") if length == SPREAD_ROW else (*early, "chosen")


def sight(length: int, part: float, chance: float) -> Sight:
    """What the next step of this length sees; `chance` is a draw from 0 to 1."""
    if length == SPREAD_ROW and part < HIDDEN_UNTIL and chance < HIDDEN:
        return "none"
    return "all" if part < ALL_UNTIL else "chosen"


def upto(table: tuple[tuple[float, T], ...], part: float) -> T:
    """The value of the first row whose end is not reached."""
    return next(value for end, value in table if part < end)
