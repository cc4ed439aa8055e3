"""Keeps a conversation on the host that has its cache, where several hosts serve one model.

litellm's router picks a host at random for each request of a custom provider. This callback narrows its choice to one:
the host that a hash of the conversation's beginning points to. It keeps no state, so any number of proxies agree, and
a host that joins or leaves moves only its own share of the conversations (rendezvous hashing).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from litellm_ds4.models import PROVIDER
from litellm_ds4.requests import is_billing


class ConversationAffinity(CustomLogger):
    """For `litellm_settings: callbacks` of a proxy, or `litellm.callbacks` of a Router that is called by its async
    methods."""

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[dict[str, Any]]:
        """One deployment of several, if all are of this provider; else what was there."""
        request = request_kwargs or {}
        hosts = [_host(deployment) for deployment in healthy_deployments]
        beginning = "\0".join(_beginning(messages or request.get("messages") or request.get("input"), request))
        if len(hosts) < 2 or not beginning or not all(model.startswith(f"{PROVIDER}/") for model, _ in hosts):
            return healthy_deployments
        weights = [hashlib.sha256(f"{host}\0{beginning}".encode("utf-8", "replace")).digest() for host in hosts]
        return [healthy_deployments[weights.index(max(weights))]]


def _host(deployment: Mapping[str, Any]) -> tuple[str, str]:
    params = deployment.get("litellm_params", {})
    return str(params.get("model")), str(params.get("api_base"))


def _beginning(messages: Any, request: Mapping[str, Any]) -> Iterator[str]:
    """The texts up to the first question: they stay the same as long as the conversation does.

    The system text stands in the messages, or beside them: `system` in Anthropic's form, `instructions` in Responses'.
    """
    yield from _texts(request.get("system"))
    yield from _texts(request.get("instructions"))
    for message in [{"role": "user", "content": messages}] if isinstance(messages, str) else messages or []:
        if isinstance(message, Mapping):
            yield from _texts(message.get("content"))
            if message.get("role") == "user":
                return


def _texts(content: Any) -> Iterable[str]:
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts if not is_billing(part)]
    return [text for text in texts if isinstance(text, str)]
