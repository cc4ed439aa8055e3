"""The options of `llm -m ds4-... -o name value`, with their ranges and help."""

from __future__ import annotations

from typing import Any

import llm
from pydantic import ConfigDict, Field, field_validator

from ds4_backend.engine.ranges import EFFORTS, RANGES, words


def _ranged(name: str, help: str) -> Any:
    low, high, _ = RANGES[name]
    return Field(default=None, ge=low, le=high, description=f"{help}; {words(name)}")


def _field(help: str, **limits: Any) -> Any:
    return Field(default=None, description=help, **limits)


class Options(llm.Model.Options):
    """What a user may set; whatever is left out is the model's own default."""

    model_config = ConfigDict(defer_build=True)  # every llm command imports this, few need it

    temperature: float | None = _ranged("temperature", "How freely the next token is drawn")
    top_p: float | None = _ranged("top_p", "Draw from the likeliest tokens that together have this probability")
    top_k: int | None = _ranged("top_k", "Draw from this many of the likeliest tokens")
    min_p: float | None = _ranged("min_p", "Drop tokens less likely than this share of the likeliest one")
    seed: int | None = _ranged("seed", "Seed of the draws")
    presence_penalty: float | None = _ranged("presence_penalty", "Make tokens that the answer holds less likely")
    frequency_penalty: float | None = _ranged("frequency_penalty", "The same, once for each time they occur")
    logit_bias: dict[int, float] | None = _field('Added to the logits of tokens: JSON such as {"42": -100}')
    max_tokens: int | None = _field("Most tokens to generate, thinking included", ge=1)
    stop: str | list[str] | None = _field("End the visible text before this, or before any of a JSON list")
    thinking: bool | None = _field("Think before answering; on unless set to false")
    effort: str | None = _field(f"How thoroughly to think: {', '.join(EFFORTS)}")
    max_thinking_tokens: int | None = _field("Close the thinking after this many tokens, or soon after", ge=0)
    tool_choice: str | None = _field("auto, none, required, or the name of the tool to call")
    parallel_tool_calls: bool | None = _field("Allow several calls in one turn; yes unless set to false")
    json_object: bool | None = _field("The answer is one JSON object")
    regex: str | None = _field("The whole answer matches this regular expression (Rust syntax)")
    logprobs: int | None = _field("Log the probabilities of tokens, and of that many alternatives", ge=0, le=20)
    priority: int | None = _field("Of requests that wait, the higher goes first")
    keep_alive: float | None = _field("Seconds that the host keeps the model after this; negative is for ever")
    private: bool | None = _field("Keep this prompt's state out of the disk cache")

    @field_validator("effort")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in EFFORTS:
            raise ValueError(f"use one of {', '.join(EFFORTS)}")
        return value

    @field_validator("logit_bias", "stop", mode="before")
    @classmethod
    def _from_json(cls, value: Any) -> Any:
        """On the command line, objects and lists arrive as text."""
        return parsed(value) if isinstance(value, str) and value[:1] in "{[" else value


def parsed(text: str) -> Any:
    """JSON text as a value; text that is none as it is, for pydantic to judge."""
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text
