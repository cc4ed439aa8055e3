"""From litellm's messages and parameters to a core `Request`.

litellm hands over whatever the caller and the config file set, known to it or not; so this module refuses what it does
not know, and is the one list of what there is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import litellm

from ds4_backend.chat import openai
from ds4_backend.errors import RequestError
from ds4_backend.types import Request, Sampling
from litellm_ds4.models import PROVIDER

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "seed")
OWN = ("ds4_effort", "ds4_thinking", "ds4_max_thinking_tokens", "ds4_private", "ds4_priority", "ds4_keep_alive")
KNOWN = (
    *SAMPLING, "logit_bias", "max_tokens", "stop", "n", "logprobs", "top_logprobs", "tools", "tool_choice",
    "parallel_tool_calls", "response_format", "reasoning_effort", "thinking", "chat_template_kwargs", *OWN,
)  # fmt: skip
IGNORED = (
    "stream", "stream_options", "user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "store", "extra_headers", "max_retries",
)  # fmt: skip
"""They change nothing about the answer: litellm's own business, and settings of hosted services."""

BILLING = "x-anthropic-billing-header"
"""Begins a system part that Claude Code changes with every request; rendered, it would make every prompt a new one."""


def to_request(model: str, messages: list[Any], params: Mapping[str, Any], *, drop_unknown: bool = False) -> Request:
    """The request that a call of litellm means.

    Raises litellm's UnsupportedParamsError for a parameter that nothing here reads, unless `drop_unknown`; RequestError
    and UnsupportedContent as `ds4_backend.chat.openai`.
    """
    given = {name: value for name, value in _flat(params) if value is not None and name not in IGNORED}
    if not drop_unknown:
        _refuse_unknown(model, given)
    return Request(
        messages=openai.messages_from_openai(_cleaned(messages)),
        tools=openai.tools_from_openai(given.get("tools", ())),
        tool_choice=openai.tool_choice_from_openai(given.get("tool_choice")),
        parallel_tool_calls=openai.parallel_tool_calls_from_openai(given.get("parallel_tool_calls")),
        response_format=openai.response_format_from_openai(given.get("response_format")),
        sampling=Sampling(
            **{name: given[name] for name in SAMPLING if name in given}, logit_bias=_bias(given.get("logit_bias", {}))
        ),
        max_tokens=given.get("max_tokens"),
        stop=openai.stop_from_openai(given.get("stop")),
        logprobs=_logprobs(given),
        n=given.get("n", 1),
        private=_is("ds4_private", given.get("ds4_private", False), bool),
        priority=_is("ds4_priority", given.get("ds4_priority", 0), int),
        keep_alive=_is("ds4_keep_alive", given.get("ds4_keep_alive"), int, float, type(None)),
        **_reasoning(given),
    )


def _flat(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """`extra_body` is where SDKs put what is not OpenAI's."""
    for name, value in params.items():
        if name == "extra_body" and isinstance(value, Mapping):
            yield from value.items()
        else:
            yield name, value


def _refuse_unknown(model: str, given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise litellm.UnsupportedParamsError(
                f"ds4 has no parameter {name!r}.{hint} Known: {', '.join(KNOWN)}. With drop_params it is left out.",
                llm_provider=PROVIDER,
                model=model,
                status_code=400,
            )


def _cleaned(messages: list[Any]) -> list[Any]:
    """The messages without billing headers, and with reasoning that came as Anthropic's blocks as `reasoning_content`.

    A system message of nothing but the header goes altogether.
    """
    kept = []
    for message in messages:
        if isinstance(message, Mapping) and message.get("role") == "system":
            content = message.get("content")
            parts = content if isinstance(content, list) else [content]
            left = [part for part in parts if not is_billing(part)]
            if not left and parts:
                continue
            message = {**message, "content": left if isinstance(content, list) else content}
        kept.append(_with_reasoning(message))
    return kept


def is_billing(part: Any) -> bool:
    """Whether a system part, or the text of one, is Claude Code's billing header and nothing else."""
    text = part.get("text") if isinstance(part, Mapping) else part
    return isinstance(text, str) and text.startswith(BILLING) and "\n" not in text.strip()


def _with_reasoning(message: Any) -> Any:
    blocks = message.get("thinking_blocks") if isinstance(message, Mapping) else None
    if not isinstance(blocks, list) or message.get("reasoning_content"):
        return message
    return {**message, "reasoning_content": "".join(b.get("thinking") or "" for b in blocks if isinstance(b, Mapping))}


def _reasoning(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the request says goes before what the config file says (`ds4_...`)."""
    effort, budget = given.get("reasoning_effort"), given.get("ds4_max_thinking_tokens")
    if isinstance(effort, Mapping):  # the Responses API's `reasoning`
        effort = effort.get("effort")
    if effort == "default":
        effort = None
    template = _is("chat_template_kwargs", given.get("chat_template_kwargs", {}), Mapping)
    asked = template.get("enable_thinking", template.get("thinking"))
    wanted = given.get("thinking")
    if isinstance(wanted, Mapping):  # Anthropic's
        asked = {"enabled": True, "adaptive": True, "disabled": False}.get(str(wanted.get("type")))
        if asked is None:
            raise RequestError(f"thinking is {wanted!r}; its type is enabled, adaptive or disabled")
        budget = wanted.get("budget_tokens", budget)
    elif wanted is not None:
        asked = wanted
    if asked is None and effort is not None:
        asked = effort != "none"
    thinking = asked if asked is not None else given.get("ds4_thinking")
    return {
        "thinking": _is("thinking", thinking, bool, type(None)),
        "effort": effort if effort is not None else given.get("ds4_effort"),
        "max_thinking_tokens": budget,
    }


def _logprobs(given: Mapping[str, Any]) -> int | None:
    """OpenAI's switch and number as one number."""
    if given.get("logprobs"):
        return given.get("top_logprobs", 0)
    if given.get("top_logprobs"):
        raise RequestError("top_logprobs needs logprobs: set logprobs to true")
    return None


def _bias(value: Any) -> dict[int, float]:
    """JSON has string keys only."""
    try:
        return {int(token): float(bias) for token, bias in value.items()}
    except (AttributeError, TypeError, ValueError):
        raise RequestError(f"logit_bias is {value!r}; use an object of token ids and numbers") from None


def _is(name: str, value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        words = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in kinds)
        raise RequestError(f"{name} is {value!r}; it must be {words}")
    return value
