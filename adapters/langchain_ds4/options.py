"""What may be set on `ChatDS4`, in its constructor or for one call. Knows no LangChain, so that docs can list it."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr

from ds4_backend.catalog import FLASH_NAME
from ds4_backend.options import OPTIONS
from ds4_backend.types import Effort


def _plain(help: str, *names: str, default: Any = None, **limits: Any) -> Any:
    alias = AliasChoices(*names) if names else None
    return Field(default=default, description=help, validation_alias=alias, **limits)


def _option(name: str, *others: str, default: Any = None) -> Any:
    known = OPTIONS[name]
    names = (name, *others) if others else ()
    return _plain(known.text, *names, default=default, ge=known.low, le=known.high)


class Options(BaseModel):
    """Whatever is left out, or None, is the model's own default."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    temperature: float | None = _option("temperature")
    top_p: float | None = _option("top_p")
    top_k: int | None = _option("top_k")
    min_p: float | None = _option("min_p")
    presence_penalty: float | None = _option("presence_penalty")
    frequency_penalty: float | None = _option("frequency_penalty")
    logit_bias: dict[int, float] | None = _option("logit_bias")
    seed: int | None = _option("seed")
    max_tokens: int | None = _option("max_tokens")
    stop: list[str] | str | None = _option("stop", "stop_sequences")
    thinking: bool | None = _option("thinking", "reasoning")
    effort: Effort | None = _option("effort", "reasoning_effort")
    max_thinking_tokens: int | None = _option("max_thinking_tokens")
    parallel_tool_calls: bool | None = _option("parallel_tool_calls")
    logprobs: bool | None = _option("logprobs")
    top_logprobs: int | None = _option("top_logprobs")
    private: bool = _option("private", default=False)
    priority: int = _option("priority", default=0)
    keep_alive: float | None = _option("keep_alive")


class Connection(BaseModel):
    """Which model answers, and how long it is waited for."""

    model: str = _plain("Its name, or the path of a .gguf file", "model", "model_name", default=FLASH_NAME)
    address: str | None = _plain("Of a host elsewhere; None is this machine", "address", "base_url")
    api_key: SecretStr | None = _plain("The token that the host at `address` asks for")
    timeout: float | None = _plain("Most seconds that an answer may take", gt=0)
    max_retries: int = _plain("How often to ask again where too many requests wait", default=2, ge=0)
    streaming: bool = _plain("`invoke` streams too, for callbacks that show tokens", default=False)
