"""The options of `llm -m ds4-... -o name value`, with their ranges and help."""

from __future__ import annotations

from typing import Any, Literal

import llm
from pydantic import Field

from ds4_backend.engine.ranges import RANGES, words


def _ranged(name: str, help: str) -> Any:
    low, high, _ = RANGES[name]
    return Field(default=None, ge=low, le=high, description=f"{help}; {words(name)}")


class Options(llm.Model.Options):
    """What a user may set; whatever is left out is the model's own default."""

    temperature: float | None = _ranged("temperature", "How freely the next token is drawn")
    top_p: float | None = _ranged("top_p", "Draw from the likeliest tokens that together have this probability")
    top_k: int | None = _ranged("top_k", "Draw from this many of the likeliest tokens")
    min_p: float | None = _ranged("min_p", "Drop tokens less likely than this share of the likeliest one")
    seed: int | None = _ranged("seed", "Seed of the draws")
    max_tokens: int | None = Field(default=None, ge=1, description="Most tokens to generate, thinking included")
    thinking: bool | None = Field(default=None, description="Think before answering; on unless set to false")
    effort: Literal["low", "high", "max"] | None = Field(
        default=None, description="How thoroughly to think: low, high or max"
    )
    private: bool | None = Field(default=None, description="Keep this prompt's state out of the disk cache")
