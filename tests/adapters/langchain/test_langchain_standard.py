"""LangChain's own tests for chat models, over a scripted engine that does as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_ds4 import ChatDS4
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from obeying_model import obey

from ds4_backend.engine.scripted import scripted


class TestUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatDS4

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "ds4-tiny"}


class TestIntegration(ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def engines(self) -> Iterator[None]:
        with scripted("ds4-tiny", *[obey] * 20), scripted("ds4-flash", obey):
            yield

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatDS4

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "ds4-tiny"}

    @property
    def model_override_value(self) -> str:
        return "ds4-flash"

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "json_schema"}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[str, list[str]]:  # type: ignore[override]
        details = ["reasoning_output", "cache_read_input"]
        return {"invoke": details, "stream": details}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        return _asked("Hello", stream)

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        return _asked("Hello", stream)


def _asked(text: str, stream: bool) -> AIMessage:
    model = ChatDS4(model="ds4-tiny")
    if not stream:
        return model.invoke(text)
    first, *rest = model.stream(text)
    return first + rest  # type: ignore[return-value]
