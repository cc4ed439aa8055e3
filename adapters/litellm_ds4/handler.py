"""The four ways litellm calls a provider, sync and async, whole and streamed: the same mapping around an engine each.

The generators close the engine's when they are closed or cancelled, so a client that leaves stops the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, closing
from typing import Any

import litellm
from litellm import CustomLLM, ModelResponse

from ds4_backend.engine.engine import Engine
from ds4_backend.types import Request
from litellm_ds4.answers import Chunks, Whole
from litellm_ds4.errors import told_to_litellm
from litellm_ds4.models import engine_for
from litellm_ds4.requests import to_request


class DS4(CustomLLM):
    """Answers `ds4/...`. `api_base` and `api_key` are the address and the token of a host on another machine.

    litellm passes keywords only: `model`, `messages`, `optional_params` (all that the caller and the config file set),
    `model_response` (to fill), `litellm_params`, and some that are not needed here.
    """

    def completion(self, *_: Any, **call: Any) -> ModelResponse:
        """The whole answer."""
        with told_to_litellm(call["model"]):
            request, answer = _request(call), Whole(call["model"])
            with closing(_engine(call).chat(request)) as events:
                for event in events:
                    answer.take(event)
            return answer.fill(call["model_response"])

    async def acompletion(self, *_: Any, **call: Any) -> ModelResponse:
        """The same for an event loop, which stays free while the model loads and works."""
        with told_to_litellm(call["model"]):
            request, answer = _request(call), Whole(call["model"])
            engine = await asyncio.to_thread(_engine, call)
            async with aclosing(engine.achat(request)) as events:
                async for event in events:
                    answer.take(event)
            return answer.fill(call["model_response"])

    def streaming(self, *_: Any, **call: Any) -> Generator[Any, None, None]:
        """The answer as it comes, in `ModelResponseStream`s: the other chunk type has no place for reasoning."""
        with told_to_litellm(call["model"]):
            request, chunks = _request(call), Chunks(call["model"])
            with closing(_engine(call).chat(request)) as events:
                for event in events:
                    yield from chunks.take(event)

    async def astreaming(self, *_: Any, **call: Any) -> AsyncGenerator[Any, None]:  # type: ignore[override]
        """The same for an event loop, which stays free while the model loads and works."""
        with told_to_litellm(call["model"]):
            request, chunks = _request(call), Chunks(call["model"])
            engine = await asyncio.to_thread(_engine, call)
            async with aclosing(engine.achat(request)) as events:
                async for event in events:
                    for chunk in chunks.take(event):
                        yield chunk


def _request(call: Mapping[str, Any]) -> Request:
    drop = litellm.drop_params or bool((call.get("litellm_params") or {}).get("drop_params"))
    return to_request(call["model"], call["messages"], call["optional_params"], drop_unknown=drop)


def _engine(call: Mapping[str, Any]) -> Engine:
    return engine_for(call["model"], call.get("api_base"), call.get("api_key"))
