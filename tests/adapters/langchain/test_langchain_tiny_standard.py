"""LangChain's own tests for chat models, with the model that is part of the package, at temperature 0."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_ds4 import ChatDS4
from langchain_tests.integration_tests import ChatModelIntegrationTests

pytestmark = pytest.mark.slow


class TestTiny(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatDS4

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "ds4-tiny", "temperature": 0, "max_tokens": 200, "parallel_tool_calls": False}

    @property
    def model_override_value(self) -> str:
        return str(resources.files("ds4_backend") / "assets" / "ds4-tiny.gguf")

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
        message = _asked("What is 3 times 12?", stream)
        assert message.usage_metadata and message.usage_metadata["output_token_details"]["reasoning"] > 0
        return message

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        _asked("What is 3 times 12?", stream)
        message = _asked("What is 3 times 12?", stream)
        assert message.usage_metadata and message.usage_metadata["input_token_details"]["cache_read"] > 0
        return message


def _asked(text: str, stream: bool) -> AIMessage:
    model = ChatDS4(model="ds4-tiny", temperature=0)
    if not stream:
        return model.invoke(text)
    first, *rest = model.stream(text)
    return first + rest  # type: ignore[return-value]
