"""The options of `llm -m ds4-... -o name value`, with their ranges and help."""

from __future__ import annotations

from typing import Any

import llm
from pydantic import ConfigDict, Field, field_validator

from ds4_backend.options import EFFORTS, OPTIONS


def _option(name: str, help: str = "", **limits: Any) -> Any:
    known = OPTIONS[name]
    return Field(default=None, description=help or known.text, **{"ge": known.low, "le": known.high} | limits)


class Options(llm.Model.Options):
    """What a user may set; whatever is left out is the model's own default."""

    model_config = ConfigDict(defer_build=True)  # every llm command imports this, few need it

    temperature: float | None = _option("temperature")
    top_p: float | None = _option("top_p")
    top_k: int | None = _option("top_k")
    min_p: float | None = _option("min_p")
    seed: int | None = _option("seed")
    presence_penalty: float | None = _option("presence_penalty")
    frequency_penalty: float | None = _option("frequency_penalty")
    logit_bias: dict[int, float] | None = _option("logit_bias")
    max_tokens: int | None = _option("max_tokens", OPTIONS["max_tokens"].help, ge=1)
    stop: str | list[str] | None = _option("stop", "End the visible text before this, or before any of a JSON list")
    thinking: bool | None = _option("thinking")
    effort: str | None = _option("effort")
    max_thinking_tokens: int | None = _option("max_thinking_tokens")
    tool_choice: str | None = _option("tool_choice")
    parallel_tool_calls: bool | None = _option("parallel_tool_calls")
    json_object: bool | None = Field(default=None, description="The answer is one JSON object")
    regex: str | None = Field(default=None, description="The whole answer matches this regex (Rust syntax)")
    logprobs: int | None = _option("top_logprobs", "Log the probabilities of tokens, and of that many alternatives")
    priority: int | None = _option("priority")
    keep_alive: float | None = _option("keep_alive")
    private: bool | None = _option("private")

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
