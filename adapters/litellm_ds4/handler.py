"""The four ways litellm calls a provider, sync and async, whole and streamed: the same mapping around an engine each.

The generators close the engine's when they are closed or cancelled, so a client that leaves stops the work.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import aclosing, closing
from functools import partial
from typing import Any

import litellm
from litellm import CustomLLM, ModelResponse

from ds4_backend.chat.whole import Whole
from ds4_backend.engine.ask import aask, ask
from ds4_backend.engine.engine import Engine
from ds4_backend.types import Request
from litellm_ds4.answers import Chunks, filled
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
        whole = Whole()
        with told_to_litellm(call["model"]):
            with closing(ask(*_asked(call))) as events:
                for event in events:
                    whole.take(event)
            return filled(call["model_response"], call["model"], whole)

    async def acompletion(self, *_: Any, **call: Any) -> ModelResponse:
        """The same for an event loop, which stays free while the model loads and works."""
        whole = Whole()
        with told_to_litellm(call["model"]):
            async with aclosing(aask(*_asked(call))) as events:
                async for event in events:
                    whole.take(event)
            return filled(call["model_response"], call["model"], whole)

    def streaming(self, *_: Any, **call: Any) -> Generator[Any, None, None]:
        """The answer as it comes, in `ModelResponseStream`s: the other chunk type has no place for reasoning."""
        chunks = Chunks(call["model"])
        with told_to_litellm(call["model"]), closing(ask(*_asked(call))) as events:
            for event in events:
                yield from chunks.take(event)

    async def astreaming(self, *_: Any, **call: Any) -> AsyncGenerator[Any, None]:  # type: ignore[override]
        """The same for an event loop, which stays free while the model loads and works."""
        chunks = Chunks(call["model"])
        with told_to_litellm(call["model"]):
            async with aclosing(aask(*_asked(call))) as events:
                async for event in events:
                    for chunk in chunks.take(event):
                        yield chunk


def _asked(call: Mapping[str, Any]) -> tuple[Callable[[], Engine], Request]:
    """How the engine is found that is to answer, and what it is asked."""
    drop = litellm.drop_params or bool((call.get("litellm_params") or {}).get("drop_params"))
    request = to_request(call["model"], call["messages"], call["optional_params"], drop_unknown=drop)
    return partial(engine_for, call["model"], call.get("api_base"), call.get("api_key")), request
