"""The parameters of a chat completions call (a flat mapping, as in its JSON body) as the fields of a `Request`.

Takes OpenAI's, what servers of open models add (`top_k`, `chat_template_kwargs`), Anthropic's and the Responses API's
ways to ask for reasoning, and our own. Knows no prompt format; ranges are the engine's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ds4_backend.chat.openai import (
    parallel_tool_calls_from_openai,
    response_format_from_openai,
    stop_from_openai,
    tool_choice_from_openai,
    tools_from_openai,
)
from ds4_backend.errors import RequestError
from ds4_backend.options import SAMPLING
from ds4_backend.types import Message, Request, Sampling

KNOWN = (
    *SAMPLING, "logit_bias", "max_tokens", "stop", "n", "logprobs", "top_logprobs", "tools", "tool_choice",
    "parallel_tool_calls", "response_format", "reasoning_effort", "thinking", "chat_template_kwargs",
)  # fmt: skip
OURS = ("thinking", "effort", "max_thinking_tokens", "private", "priority", "keep_alive")
"""What no other API has. What a request says in another's words goes before these, which may be a config file's."""


def request_with(messages: tuple[Message, ...], given: Mapping[str, Any], *, prefix: str = "") -> Request:
    """The request that asks for an answer to `messages` with the parameters `given`; None is left out.

    `prefix` stands before each name of `OURS`, where a caller's parameters are not ours alone. Whatever is no name of
    `KNOWN` or `OURS` is passed over. Raises RequestError for what is not in its form.
    """
    given = {name: value for name, value in given.items() if value is not None}
    ours = {name: (prefix + name, given.get(prefix + name)) for name in OURS}
    sampling = {name: given[name] for name in SAMPLING if name in given}
    return Request(
        messages=messages,
        tools=tools_from_openai(given.get("tools", ())),
        tool_choice=tool_choice_from_openai(given.get("tool_choice")),
        parallel_tool_calls=parallel_tool_calls_from_openai(given.get("parallel_tool_calls")),
        response_format=response_format_from_openai(given.get("response_format")),
        sampling=Sampling(**sampling, logit_bias=_bias(given.get("logit_bias", {}))),
        max_tokens=given.get("max_tokens"),
        stop=stop_from_openai(given.get("stop")),
        logprobs=_logprobs(given),
        n=given.get("n", 1),
        private=_checked(*ours["private"], bool) or False,
        priority=_checked(*ours["priority"], int) or 0,
        keep_alive=_checked(*ours["keep_alive"], int, float),
        **_reasoning(given, {name: value for name, (_, value) in ours.items()}),
    )


def thinking_from_openai(value: Any) -> bool | None:
    """`Request.thinking` from true, false, nothing, or the object of Anthropic and of DeepSeek's own service, `{"type":
    "enabled"}`. Raises RequestError for anything else."""
    if isinstance(value, Mapping):
        said = {"enabled": True, "adaptive": True, "disabled": False}.get(str(value.get("type")))
        if said is None:
            raise RequestError(f"thinking is {value!r}; its type is enabled, adaptive or disabled")
        return said
    return _checked("thinking", value, bool)


def _reasoning(given: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    effort, wanted = given.get("reasoning_effort"), given.get("thinking")
    if isinstance(effort, Mapping):  # the Responses API's `reasoning`
        effort = effort.get("effort")
    if effort == "default":
        effort = None
    template = _checked("chat_template_kwargs", given.get("chat_template_kwargs"), Mapping) or {}
    asked = [
        thinking_from_openai(wanted),
        thinking_from_openai(template.get("enable_thinking", template.get("thinking"))),
        effort != "none" if effort is not None else None,
        thinking_from_openai(ours["thinking"]),
    ]
    budget = wanted.get("budget_tokens") if isinstance(wanted, Mapping) else None
    return {
        "thinking": next((said for said in asked if said is not None), None),
        "effort": effort if effort is not None else ours["effort"],
        "max_thinking_tokens": budget if budget is not None else ours["max_thinking_tokens"],
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


def _checked(name: str, value: Any, *kinds: type) -> Any:
    """`value`, if it is of one of `kinds`, or None."""
    if value is None or (isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))):
        return value
    raise RequestError(f"{name} is {value!r}; it must be {' or '.join(kind.__name__ for kind in kinds)}")
