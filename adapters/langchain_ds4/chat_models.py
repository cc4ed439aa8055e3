"""`ChatDS4`: LangChain's chat model interface over an engine. The mapping is in the modules beside this one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from functools import partial
from operator import itemgetter
from typing import Any, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel, agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import ConfigDict, ValidationError

from ds4_backend import catalog
from ds4_backend.catalog.vocabulary import tokenizer_of
from ds4_backend.chat.openai import stop_from_openai
from ds4_backend.chat.parameters import request_with
from ds4_backend.connect import connect
from ds4_backend.engine.ask import aask, ask
from ds4_backend.engine.engine import Engine
from ds4_backend.errors import RequestError
from ds4_backend.types import Request
from langchain_ds4.answers import Answer
from langchain_ds4.errors import told_to_langchain
from langchain_ds4.messages import to_messages
from langchain_ds4.options import Connection, Options

NOT_OPTIONS = ("tools", "tool_choice", "response_format", "strict", "stream")
METHODS = ("json_schema", "function_calling", "json_mode")
CAN = (
    "text_inputs", "text_outputs", "reasoning_output", "tool_calling", "tool_choice", "tool_call_streaming",
    "structured_output", "temperature", "open_weights", "mid_conversation_system_messages",
)  # fmt: skip
CANNOT = ("image_inputs", "audio_inputs", "video_inputs", "pdf_inputs")


class ChatDS4(Connection, Options, BaseChatModel):
    """DeepSeek V4 on this machine, or on the host at `address`.

    The options of `Options` hold for every call, and may be given again for one: `model.invoke(..., temperature=0)`.
    The model is loaded by the first call, not here. Raises pydantic's ValidationError for an option out of range.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True, arbitrary_types_allowed=True)

    @property
    def _llm_type(self) -> str:
        return "ds4-chat"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        given = self.model_dump(include=set(Options.model_fields), exclude_defaults=True)
        return {"model": self.model, "address": self.address, **given}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return super()._get_ls_params(stop=stop or list(stop_from_openai(self.stop)) or None, **kwargs)

    def _resolve_model_profile(self) -> ModelProfile | None:
        limits = (entry.longest for entry in catalog.models() if self.model in entry.names)
        profile = {
            "name": self.model,
            "max_input_tokens": next(limits, catalog.CONTEXT),
            "reasoning_effort_levels": ["none", "low", "high", "max"],
            **dict.fromkeys(CAN, True),
            **dict.fromkeys(CANNOT, False),
        }
        return cast(ModelProfile, profile)

    def _engine(self, model: str) -> Engine:
        token = self.api_key.get_secret_value() if self.api_key else None
        return connect(model, address=self.address, token=token)

    def _request(self, messages: list[BaseMessage], stop: list[str] | None, given: dict[str, Any]) -> Request:
        """The request for one call; `given` are the call's own arguments, which win."""
        others = {name: given.pop(name, None) for name in NOT_OPTIONS}
        try:
            call = Options.model_validate(given | ({"stop": stop} if stop else {}))
        except ValidationError as error:
            first = error.errors()[0]
            raise RequestError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        chosen = {n: getattr(call if n in call.model_fields_set else self, n) for n in Options.model_fields}
        if chosen["top_logprobs"] is not None:
            chosen["logprobs"] = True
        return request_with(to_messages(messages), chosen | others)

    def _asked(
        self, how: Callable[..., Any], messages: list[BaseMessage], stop: list[str] | None, given: dict[str, Any]
    ) -> tuple[Answer, Any]:
        """What takes the events of one call, and these, by `ask` or by `aask`."""
        model = given.pop("model", self.model)
        request = self._request(messages, stop, given)
        return Answer(model), how(partial(self._engine, model), request, timeout=self.timeout, retries=self.max_retries)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with told_to_langchain():
            answer, events = self._asked(ask, messages, stop, kwargs)
            with closing(events):
                for chunk in (chunk for event in events for chunk in answer.take(event)):
                    if run_manager:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        with told_to_langchain():
            answer, events = self._asked(aask, messages, stop, kwargs)
            async with aclosing(events):
                async for event in events:
                    for chunk in answer.take(event):
                        if run_manager:
                            await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                        yield chunk

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, **kwargs))

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        async with aclosing(self._astream(messages, stop, **kwargs)) as stream:
            return await agenerate_from_stream(stream)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with `tools`. A forced call, and the arguments of every call, are held by grammar, so `strict`
        changes nothing."""
        return self.bind(tools=list(map(convert_to_openai_tool, tools)), tool_choice=tool_choice, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Literal["json_schema", "function_calling", "json_mode"] = "json_schema",
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Answers that `schema` allows, parsed: a pydantic object for a pydantic class, else a dict.

        The grammar holds the schema with every method, so `json_mode` is `json_schema`, and `strict` changes nothing.
        """
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; use {', '.join(METHODS)}")
        if method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        answer = self.bind(
            response_format={"type": "json_schema", "json_schema": {"schema": _json_schema(schema)}},
            ls_structured_output_format={"kwargs": {"method": method}, "schema": schema},
            **kwargs,
        )
        parser: Any = JsonOutputParser()
        if isinstance(schema, type) and is_basemodel_subclass(schema):
            parser = PydanticOutputParser(pydantic_object=schema)
        if not include_raw:
            return answer | parser
        parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=answer) | parsed.with_fallbacks([failed], exception_key="parsing_error")

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Tokens of the prompt that these messages become."""
        if not messages:
            return 0
        with told_to_langchain():
            request = self._request(messages, None, {"tools": list(map(convert_to_openai_tool, tools or ()))})
            return self._engine(self.model).count_tokens(request)

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids of `text`. Reads the vocabulary from the model's file, which has to be on this machine."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        with told_to_langchain():
            return tokenizer_of(self.model).encode(text)


def _json_schema(schema: Any) -> dict[str, Any]:
    """Of a pydantic class (of either version), a TypedDict, a JSON Schema or what OpenAI and Anthropic call a tool."""
    if isinstance(schema, type) and hasattr(schema, "model_json_schema"):
        return schema.model_json_schema()
    is_tool = isinstance(schema, dict) and ("function" in schema or "name" in schema)
    return schema if isinstance(schema, dict) and not is_tool else convert_to_json_schema(schema)
