"""`ChatDS4`: LangChain's chat model interface over an engine. The mapping is in the modules beside this one."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel, generate_from_stream
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import ConfigDict, ValidationError

from ds4_backend import catalog
from ds4_backend.chat import openai
from ds4_backend.connect import connect
from ds4_backend.engine.bridge import in_thread
from ds4_backend.engine.engine import Engine
from ds4_backend.errors import Busy, RequestError
from ds4_backend.types import Event, Failed, Message, Request
from langchain_ds4.answers import Answer
from langchain_ds4.errors import TookTooLong, told_to_langchain
from langchain_ds4.messages import to_messages
from langchain_ds4.options import Connection, Options, request_fields

if TYPE_CHECKING:
    from ds4_backend.tokenizer import Tokenizer

CONTEXT = 1 << 20
"""Tokens; what the architecture allows. The engine knows what the file and this machine allow."""

NOT_OPTIONS = ("tools", "tool_choice", "response_format", "strict", "stream")
METHODS = ("json_schema", "function_calling", "json_mode")


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
        return super()._get_ls_params(stop=stop or list(openai.stop_from_openai(self.stop)) or None, **kwargs)

    def _resolve_model_profile(self) -> ModelProfile | None:
        limits = [entry.context for entry in catalog.models() if self.model in (entry.name, *entry.aliases)]
        return ModelProfile(
            name=self.model,
            max_input_tokens=next(filter(None, limits), CONTEXT),
            text_inputs=True,
            text_outputs=True,
            reasoning_output=True,
            reasoning_effort_levels=["none", "low", "high", "max"],
            tool_calling=True,
            tool_choice=True,
            tool_call_streaming=True,
            structured_output=True,
            temperature=True,
            open_weights=True,
            mid_conversation_system_messages=True,
            image_inputs=False,
            audio_inputs=False,
            video_inputs=False,
            pdf_inputs=False,
        )

    def _request(self, messages: list[BaseMessage], stop: list[str] | None, given: dict[str, Any]) -> Request:
        """The request for one call; `given` are the call's own arguments, which win."""
        options = {name: value for name, value in given.items() if name not in NOT_OPTIONS}
        return Request(
            messages=to_messages(messages),
            tools=openai.tools_from_openai(given.get("tools") or ()),
            tool_choice=openai.tool_choice_from_openai(given.get("tool_choice")),
            response_format=openai.response_format_from_openai(given.get("response_format")),
            **request_fields(self._options(options | ({"stop": stop} if stop else {}))),
        )

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        try:
            call = Options.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            raise RequestError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        return {name: getattr(call if name in call.model_fields_set else self, name) for name in Options.model_fields}

    def _engine(self, model: str | None = None) -> Engine:
        token = self.api_key.get_secret_value() if self.api_key else None
        return connect(model or self.model, address=self.address, token=token)

    def _events(self, model: str, request: Request) -> Generator[Event, None, None]:
        """The events of one answer; asks again while too many requests wait. Closing it cancels the work.

        Raises the error of a `Failed`, and TookTooLong.
        """
        began, engine = time.monotonic(), self._engine(model)
        for pause in (*(2**n for n in range(self.max_retries)), None):  # seconds; None after the last try
            try:
                with closing(engine.chat(request)) as events:
                    for event in events:
                        if isinstance(event, Failed):
                            raise event.error
                        self._check_time(began)
                        yield event
                return
            except Busy:
                if pause is None:
                    raise
                time.sleep(pause)

    def _check_time(self, began: float) -> None:
        """Events come on a clock, so this is called often enough."""
        if self.timeout is not None and time.monotonic() - began > self.timeout:
            raise TookTooLong(f"there was no complete answer after {self.timeout:g} seconds: raise `timeout`")

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        model = kwargs.pop("model", self.model)
        answer = Answer(model)
        with told_to_langchain(), closing(self._events(model, self._request(messages, stop, kwargs))) as events:
            for event in events:
                for chunk in answer.take(event):
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
        model = kwargs.pop("model", self.model)
        answer = Answer(model)
        with told_to_langchain():
            request = self._request(messages, stop, kwargs)
            async with aclosing(in_thread(lambda: self._events(model, request))) as events:
                async for event in events:
                    for chunk in answer.take(event):
                        if run_manager:
                            await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                        yield chunk

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        async with aclosing(self._astream(messages, stop, **kwargs)) as stream:
            return generate_from_stream(iter([chunk async for chunk in stream]))

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with `tools`. A forced call, and the arguments of every call, are held by grammar, so `strict`
        changes nothing."""
        given = {"tool_choice": tool_choice, "parallel_tool_calls": parallel_tool_calls}
        set_ = {name: value for name, value in given.items() if value is not None}
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **set_, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Literal["json_schema", "function_calling", "json_mode"] = "json_schema",
        strict: bool | None = None,
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
            return self._engine().count_tokens(replace(request, messages=_countable(request.messages)))

    def get_num_tokens(self, text: str) -> int:
        """Tokens of `text` alone."""
        return len(self.get_token_ids(text))

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids of `text`. Reads the vocabulary from the model's file, which has to be on this machine."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        with told_to_langchain():
            return _tokenizer(catalog.resolve(self.model)).encode(text)


def _json_schema(schema: Any) -> dict[str, Any]:
    """Of a pydantic class (of either version), a TypedDict, a JSON Schema or what OpenAI and Anthropic call a tool."""
    if isinstance(schema, type) and hasattr(schema, "model_json_schema"):
        return schema.model_json_schema()
    is_tool = isinstance(schema, dict) and ("function" in schema or "name" in schema)
    return schema if isinstance(schema, dict) and not is_tool else convert_to_json_schema(schema)


def _countable(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Also where the last message is the model's own: there is nothing to answer, but it can be counted."""
    *before, last = messages
    return (*before, replace(last, prefix=True)) if last.role == "assistant" else messages


@cache
def _tokenizer(path: Path) -> Tokenizer:
    from ds4_backend.gguf.reader import open_gguf
    from ds4_backend.tokenizer import Tokenizer

    return Tokenizer.from_gguf(open_gguf(path).metadata)
