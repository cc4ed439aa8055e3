"""What may be set on `ChatDS4`, in its constructor or for one call. Knows no LangChain, so that docs can list it."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr

from ds4_backend.catalog import FLASH_NAME
from ds4_backend.chat.openai import stop_from_openai
from ds4_backend.engine.ranges import RANGES, words
from ds4_backend.types import Effort, Sampling


def _ranged(name: str, help: str) -> Any:
    low, high, _ = RANGES[name]
    return Field(default=None, ge=low, le=high, description=f"{help}; {words(name)}")


def _plain(help: str, *aliases: str, default: Any = None, **limits: Any) -> Any:
    return Field(
        default=default, description=help, validation_alias=AliasChoices(*aliases) if aliases else None, **limits
    )


class Options(BaseModel):
    """Whatever is left out, or None, is the model's own default."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    temperature: float | None = _ranged("temperature", "How freely the next token is drawn")
    top_p: float | None = _ranged("top_p", "Draw from the likeliest tokens that together have this probability")
    top_k: int | None = _ranged("top_k", "Draw from this many of the likeliest tokens")
    min_p: float | None = _ranged("min_p", "Drop tokens less likely than this share of the likeliest one")
    presence_penalty: float | None = _ranged("presence_penalty", "Taken off tokens that the answer holds")
    frequency_penalty: float | None = _ranged("frequency_penalty", "The same, for each time it holds them")
    logit_bias: dict[int, float] | None = _plain("Added to the logits of these token ids")
    seed: int | None = _ranged("seed", "Seed of the draws")
    max_tokens: int | None = _plain("Most tokens to generate, thinking included; 0 only reads the prompt", ge=0)
    stop: list[str] | str | None = _plain("Texts that end the visible answer", "stop", "stop_sequences")
    thinking: bool | None = _plain("Think before answering; on unless set to False", "thinking", "reasoning")
    effort: Effort | None = _plain("How thoroughly to think; none is off", "effort", "reasoning_effort")
    max_thinking_tokens: int | None = _plain("Close the thinking after that many tokens", ge=0)
    parallel_tool_calls: bool = _plain("Allow several calls in one turn", default=True)
    logprobs: bool | None = _plain("Report the log-probabilities of the visible tokens")
    top_logprobs: int | None = _plain("And of that many alternatives to each", ge=0, le=20)
    private: bool = _plain("Keep this prompt's state out of the disk cache", default=False)
    priority: int = _plain("Of requests that wait, the higher goes first", default=0)
    keep_alive: float | None = _plain("Seconds that the host keeps the model loaded afterwards; negative is for ever")


class Connection(BaseModel):
    """Which model answers, and how long it is waited for."""

    model: str = _plain("Its name, or the path of a .gguf file", "model", "model_name", default=FLASH_NAME)
    address: str | None = _plain("Of a host elsewhere; None is this machine", "address", "base_url")
    api_key: SecretStr | None = _plain("The token that the host at `address` asks for")
    timeout: float | None = _plain("Most seconds that an answer may take", gt=0)
    max_retries: int = _plain("How often to ask again where too many requests wait", default=2, ge=0)
    streaming: bool = _plain("`invoke` streams too, for callbacks that show tokens", default=False)


def request_fields(options: dict[str, Any]) -> dict[str, Any]:
    """The `Request` fields that `options`, the values of all of `Options`, amount to."""
    rest = dict(options)
    wants_logprobs, top = rest.pop("logprobs"), rest.pop("top_logprobs")
    sampling = {name: rest.pop(name) for name in Sampling.__dataclass_fields__}
    return {
        **rest,
        "sampling": Sampling(**{**sampling, "logit_bias": sampling["logit_bias"] or {}}),
        "stop": stop_from_openai(rest.pop("stop")),
        "logprobs": (top or 0) if wants_logprobs or top is not None else None,
    }
