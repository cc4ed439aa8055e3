"""From litellm's messages and parameters to a core `Request`.

litellm hands over whatever the caller and the config file set, known to it or not; so this module refuses what nothing
reads.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import litellm

from ds4_backend.chat import parameters
from ds4_backend.chat.openai import messages_from_openai
from ds4_backend.types import Request
from litellm_ds4.models import PROVIDER

OWN = "ds4_"
"""Begins the names of our own parameters, the only ones that a config file may set for every request."""

KNOWN = (*parameters.KNOWN, *(OWN + name for name in parameters.OURS))
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
    and UnsupportedContent as `ds4_backend.chat`.
    """
    given = {name: value for name, value in _flat(params) if value is not None and name not in IGNORED}
    if not drop_unknown:
        _refuse_unknown(model, given)
    return parameters.request_with(messages_from_openai(_cleaned(messages)), given, prefix=OWN)


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
    """The messages without billing headers. A system message of nothing but the header goes altogether."""
    kept = []
    for message in messages:
        if isinstance(message, Mapping) and message.get("role") == "system":
            content = message.get("content")
            parts = content if isinstance(content, list) else [content]
            left = [part for part in parts if not is_billing(part)]
            if not left and parts:
                continue
            message = {**message, "content": left if isinstance(content, list) else content}
        kept.append(message)
    return kept


def is_billing(part: Any) -> bool:
    """Whether a system part, or the text of one, is Claude Code's billing header and nothing else."""
    text = part.get("text") if isinstance(part, Mapping) else part
    return isinstance(text, str) and text.startswith(BILLING) and "\n" not in text.strip()
