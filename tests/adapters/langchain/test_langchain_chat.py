"""`ChatDS4` over a scripted engine: what reaches the engine, and what LangChain gets back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from itertools import repeat
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ContextOverflowError, ModelRateLimitError, ModelTimeoutError
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ds4 import ChatDS4
from pydantic import BaseModel, ValidationError

from ds4_backend import errors
from ds4_backend.engine.running import offer
from ds4_backend.engine.scripted import ScriptedEngine, scripted
from ds4_backend.types import (
    Alternative,
    End,
    Event,
    Failed,
    JsonSchema,
    Message,
    Progress,
    ReasoningDelta,
    Regex,
    Request,
    Sampling,
    TextDelta,
    Timings,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)

HELLO = (
    Progress(3, 3),
    ReasoningDelta("Be "),
    ReasoningDelta("kind."),
    TextDelta("Hel"),
    TextDelta("lo"),
    End("stop", Usage(12, 8, 5, 3, cached_disk=4), Timings(0.5, 0.25, 0.6), {"model": "tiny-file", "seed": 7}),
)
CALLS = (
    ReasoningDelta("Two sums."),
    TextDelta("Let me see."),
    ToolCallStart(0, "call_a", "add"),
    ToolCallDelta(0, '{"a": 1, '),
    ToolCallStart(1, "call_b", "add"),
    ToolCallDelta(0, '"b": 2}'),
    ToolCallDelta(1, '{"a": 3, "b": 4}'),
    End("tool_calls", Usage(20, 0, 9, 2)),
)


@tool
def add(a: int, b: int) -> int:
    "Add two numbers"
    return a + b


class Joke(BaseModel):
    setup: str
    punchline: str


def sent(model: ChatDS4, **options: Any) -> Request:
    """The request that one call makes."""
    with scripted("ds4-tiny", HELLO) as engine:
        model.invoke("hi", **options)
    return engine.requests[0]


def tiny(**options: Any) -> ChatDS4:
    return ChatDS4(model="ds4-tiny", **options)


def test_an_answer_carries_text_reasoning_usage_and_how_it_ended() -> None:
    with scripted("ds4-tiny", HELLO):
        message = tiny().invoke("hi")
    assert message.content == "Hello"
    assert message.additional_kwargs == {"reasoning_content": "Be kind."}
    assert message.usage_metadata == {
        "input_tokens": 12,
        "output_tokens": 5,
        "total_tokens": 17,
        "input_token_details": {"cache_read": 8},
        "output_token_details": {"reasoning": 3},
    }
    metadata = message.response_metadata
    assert (metadata["model_name"], metadata["model_provider"]) == ("ds4-tiny", "ds4")
    assert (metadata["finish_reason"], metadata["seed"], metadata["model"]) == ("stop", 7, "tiny-file")
    assert metadata["usage"]["cached_disk"] == 4
    assert metadata["timings"]["first_token_seconds"] == 0.6


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_a_stream_adds_up_to_the_whole_answer(version: str) -> None:
    with scripted("ds4-tiny", CALLS, CALLS):
        first, *rest = tiny(output_version=version).stream("sum")
        whole = tiny(output_version=version).invoke("sum")
    streamed: Any = first + rest
    assert isinstance(streamed, AIMessageChunk)
    assert streamed.text == whole.text == "Let me see."
    assert streamed.tool_calls == whole.tool_calls
    assert [(call["id"], call["args"]) for call in whole.tool_calls] == [
        ("call_a", {"a": 1, "b": 2}),
        ("call_b", {"a": 3, "b": 4}),
    ]
    for message in (streamed, whole):
        kinds = [block["type"] for block in message.content_blocks]
        assert kinds == ["reasoning", "text", "tool_call", "tool_call"]
    assert streamed.usage_metadata == whole.usage_metadata


def test_callbacks_see_every_token() -> None:
    class Tokens(BaseCallbackHandler):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def on_llm_new_token(self, token: Any, **_: Any) -> None:
            self.seen.append(token)

    handler = Tokens()
    with scripted("ds4-tiny", HELLO):
        tiny(streaming=True).invoke("hi", config={"callbacks": [handler]})
    assert [token for token in handler.seen if token] == ["Hel", "lo"]


def test_options_of_the_constructor_reach_the_engine() -> None:
    request = sent(
        tiny(
            temperature=0.5, top_p=0.9, top_k=40, min_p=0.1, presence_penalty=0.25, frequency_penalty=0.75,
            logit_bias={5: -1}, seed=3, max_tokens=20, stop=["END"], thinking=False, effort="high",
            max_thinking_tokens=9, private=True, priority=2, keep_alive=60, parallel_tool_calls=False,
        )
    )  # fmt: skip
    assert request == Request(
        messages=(Message("user", "hi"),),
        sampling=Sampling(
            temperature=0.5,
            top_p=0.9,
            top_k=40,
            min_p=0.1,
            presence_penalty=0.25,
            frequency_penalty=0.75,
            logit_bias={5: -1},
            seed=3,
        ),
        max_tokens=20,
        stop=("END",),
        thinking=False,
        effort="high",
        max_thinking_tokens=9,
        private=True,
        priority=2,
        keep_alive=60,
        parallel_tool_calls=False,
    )


def test_without_options_the_model_decides() -> None:
    assert sent(tiny()) == Request(messages=(Message("user", "hi"),))


def test_one_calls_options_win_over_the_models_own() -> None:
    request = sent(tiny(temperature=1, stop=["a"], max_tokens=5), temperature=0, stop=["b"], reasoning=False)
    assert (request.sampling.temperature, request.max_tokens) == (0, 5)
    assert (request.stop, request.thinking) == (("b",), False)


def test_options_have_the_names_of_other_chat_models_too() -> None:
    request = sent(ChatDS4(model_name="ds4-tiny", stop_sequences="x", reasoning=True), reasoning_effort="max")
    assert (request.stop, request.thinking, request.effort) == (("x",), True, "max")


@pytest.mark.parametrize(("option", "value"), [("temperature", 3), ("effort", "huge"), ("bogus", 1), ("stop", 5)])
def test_an_option_that_cannot_be_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=option):
        tiny(**{option: value})
    with scripted("ds4-tiny") as engine, pytest.raises(errors.RequestError, match=option):
        tiny().invoke("hi", **{option: value})
    assert not engine.requests


@pytest.mark.parametrize(
    ("choice", "means"),
    [
        (None, "auto"),
        ("auto", "auto"),
        ("none", "none"),
        ("any", "required"),
        ("required", "required"),
        (True, "required"),
        ("add", "add"),
        ({"type": "function", "function": {"name": "add"}}, "add"),
        ({"type": "tool", "name": "add"}, "add"),
    ],
)
def test_every_spelling_of_a_tool_choice_is_understood(choice: Any, means: str) -> None:
    with scripted("ds4-tiny", HELLO) as engine:
        tiny().bind_tools([add], tool_choice=choice, parallel_tool_calls=False, strict=True).invoke("hi")
    (request,) = engine.requests
    assert (request.tool_choice, request.parallel_tool_calls) == (means, False)


def test_a_function_becomes_the_same_tool_as_in_llm() -> None:
    import llm

    def plain(a: int, b: int) -> int:
        "Add two numbers"
        return a + b

    with scripted("ds4-tiny", HELLO) as engine:
        tiny().bind_tools([plain]).invoke("hi")
    theirs = llm.Tool.function(plain)
    (ours,) = engine.requests[0].tools
    assert ours == Tool(theirs.name, theirs.description or "", theirs.input_schema)
    assert list(ours.parameters) == list(theirs.input_schema)  # the order is in the prompt


def test_an_answer_goes_back_in_as_it_came_out() -> None:
    with scripted("ds4-tiny", CALLS, HELLO) as engine:
        model = tiny().bind_tools([add])
        answer = model.invoke("sum")
        model.invoke([HumanMessage("sum"), answer, *(add.invoke(call) for call in answer.tool_calls)])
    assert engine.requests[1].messages == (
        Message("user", "sum"),
        Message(
            "assistant",
            "Let me see.",
            "Two sums.",
            (ToolCall("call_a", "add", '{"a": 1, "b": 2}'), ToolCall("call_b", "add", '{"a": 3, "b": 4}')),
        ),
        Message("tool", "3", tool_call_id="call_a"),
        Message("tool", "7", tool_call_id="call_b"),
    )


@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("cut", ["", "{", '{"path": "/home', '{"path": "a\\', '{"a": [1, 2', '{"a": {"b": "\\u12'])
def test_a_call_that_was_cut_short_is_not_run(cut: str, version: str) -> None:
    def script() -> Iterator[Event]:
        yield ToolCallStart(0, "call_a", "add")
        yield ToolCallDelta(0, "{}")
        yield ToolCallStart(1, "call_b", "remove")
        if cut:
            yield ToolCallDelta(1, cut)
        yield End("length")

    with scripted("ds4-tiny", list(script()), list(script())):
        whole = tiny(output_version=version).invoke("hi")
        first, *rest = tiny(output_version=version).stream("hi")
    for message in (whole, first + rest):
        assert isinstance(message, AIMessage)
        assert [call["id"] for call in message.tool_calls] == ["call_a"]
        assert [call["id"] for call in message.invalid_tool_calls] == ["call_b"]


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_structured_output_holds_the_answer_to_the_schema(method: Any) -> None:
    answer = (TextDelta('{"setup": "a", '), TextDelta('"punchline": "b"}'), End("stop"))
    with scripted("ds4-tiny", answer, answer) as engine:
        assert tiny().with_structured_output(Joke, method=method).invoke("joke") == Joke(setup="a", punchline="b")
        parsed = tiny().with_structured_output(Joke.model_json_schema(), method=method).invoke("joke")
    assert parsed == {"setup": "a", "punchline": "b"}
    closed = JsonSchema(Joke.model_json_schema() | {"additionalProperties": False})
    assert [request.response_format for request in engine.requests] == [closed] * 2


def test_structured_output_by_a_call_forces_the_call() -> None:
    call = (ToolCallStart(0, "c", "Joke"), ToolCallDelta(0, '{"setup": "a", "punchline": "b"}'), End("tool_calls"))
    with scripted("ds4-tiny", call) as engine:
        model = tiny().with_structured_output(Joke, method="function_calling")
        assert model.invoke("joke") == Joke(setup="a", punchline="b")
    (request,) = engine.requests
    assert (request.tool_choice, [each.name for each in request.tools]) == ("required", ["Joke"])


def test_structured_output_with_the_raw_message_reports_what_cannot_be_read() -> None:
    cut = (TextDelta("nonsense"), End("length"))
    with scripted("ds4-tiny", cut, cut):
        result = tiny().with_structured_output(Joke, include_raw=True).invoke("joke")
        with pytest.raises(ValueError, match="nonsense"):
            tiny().with_structured_output(Joke).invoke("joke")
    assert (result["raw"].content, result["parsed"]) == ("nonsense", None)
    assert isinstance(result["parsing_error"], ValueError)


def test_a_schema_without_a_title_and_a_pattern_are_taken_too() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": True}
    with scripted("ds4-tiny", (TextDelta("{}"), End("stop")), HELLO) as engine:
        assert tiny().with_structured_output(schema).invoke("hi") == {}
        tiny().invoke("hi", response_format={"type": "regex", "pattern": "a+"})
    assert [each.response_format for each in engine.requests] == [JsonSchema(schema), Regex("a+")]


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="method is 'guess'; use json_schema, function_calling, json_mode"):
        tiny().with_structured_output(Joke, method="guess")  # type: ignore[arg-type]


def test_log_probabilities_are_reported_in_openais_form() -> None:
    letter = [
        TokenLogprob(Alternative(i, text, -0.5), (Alternative(9, b"z", -1.0),))
        for i, text in enumerate((b"a", b"\xe4"))
    ]
    answer = (TextDelta("a", (letter[0],)), TextDelta("b", (letter[1],)), End("stop"))
    with scripted("ds4-tiny", answer, answer, answer) as engine:
        message = tiny().invoke("hi", logprobs=True, top_logprobs=1)
        tiny(logprobs=True).invoke("hi")
        first, *rest = tiny().stream("hi", top_logprobs=2)
    assert [request.logprobs for request in engine.requests] == [1, 0, 2]
    listed = message.response_metadata["logprobs"]["content"]
    assert listed == (first + rest).response_metadata["logprobs"]["content"]
    assert listed[0] == {
        "token": "a", "bytes": [97], "logprob": -0.5,
        "top_logprobs": [{"token": "z", "bytes": [122], "logprob": -1.0}],
    }  # fmt: skip
    assert listed[1]["bytes"] == [0xE4]


@pytest.mark.parametrize("early", [True, False], ids=["refused", "failed"])
def test_errors_are_langchains_and_the_cores_at_once(early: bool) -> None:
    def script(error: Exception) -> Any:
        return error if early else [ReasoningDelta("a"), Failed(error)]

    overflow, broken = errors.ContextOverflow("5 tokens too many"), errors.EngineError("it broke")
    with scripted("ds4-tiny", script(overflow), script(overflow), script(broken)):
        with pytest.raises(ContextOverflowError, match=r"^5 tokens too many$"):
            tiny().invoke("hi")
        with pytest.raises(errors.ContextOverflow, match=r"^5 tokens too many$"):
            asyncio.run(tiny().ainvoke("hi"))
        with pytest.raises(errors.EngineError, match=r"^it broke$"):
            tiny().invoke("hi")


def test_a_busy_engine_is_asked_again_as_often_as_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("ds4_backend.engine.ask.time.sleep", pauses.append)
    monkeypatch.setattr("ds4_backend.engine.ask.asyncio.sleep", pause)
    busy = errors.Busy("8 requests wait")
    with scripted("ds4-tiny", busy, [Failed(busy)], HELLO, busy, busy, HELLO, busy):
        assert tiny().invoke("hi").content == "Hello"
        with pytest.raises(ModelRateLimitError, match="8 requests wait"):
            tiny(max_retries=0).invoke("hi")
        assert asyncio.run(tiny(max_retries=1).ainvoke("hi")).content == "Hello"
        with pytest.raises(ModelRateLimitError, match="8 requests wait"):
            asyncio.run(tiny(max_retries=0).ainvoke("hi"))
    assert pauses == [1, 2, 1]


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    def slow(_: Request) -> Iterator[Event]:
        yield TextDelta("a")
        for _ in repeat(None):
            time.sleep(0.01)
            yield Progress(1, 2)

    model = tiny(timeout=0.05)
    for given_up in (model.invoke, lambda text: asyncio.run(model.ainvoke(text))):
        with scripted("ds4-tiny", slow) as engine:
            with pytest.raises(ModelTimeoutError, match=r"no complete answer after 0\.05 seconds") as caught:
                given_up("hi")
            assert isinstance(caught.value, errors.TookTooLong)
            while not engine.closed_early:
                time.sleep(0.005)


def test_leaving_a_stream_cancels_the_work() -> None:
    with scripted("ds4-tiny", HELLO) as engine:
        stream = tiny().stream("hi")
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert engine.closed_early == 1


def test_cancelling_a_task_cancels_the_work() -> None:
    def endless(_: Request) -> Iterator[Event]:
        for _ in repeat(None):
            time.sleep(0.005)
            yield Progress(1, 2, phase="prefill")

    async def ask_and_leave() -> None:
        task = asyncio.create_task(tiny().ainvoke("hi"))
        while not engine.requests:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not engine.closed_early:
            await asyncio.sleep(0.005)

    with scripted("ds4-tiny", endless) as engine:
        asyncio.run(ask_and_leave())


def test_a_cancelled_task_leaves_nothing_running_in_an_engine_with_an_async_twin_of_its_own() -> None:
    class Native(ScriptedEngine):
        written = left = 0

        async def achat(self, request: Request) -> AsyncGenerator[Event, None]:
            try:
                for _ in repeat(None):
                    await asyncio.sleep(0)
                    self.written += 1
                    yield TextDelta("a")
            finally:
                self.left += 1

    async def ask_and_leave() -> int:
        task = asyncio.create_task(tiny().ainvoke("hi"))
        while engine.written < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.left == 1
        return engine.written

    engine = Native()
    with offer("ds4-tiny", engine):
        assert asyncio.run(ask_and_leave()) == engine.written
    assert engine.requests == []  # the sync twin was not asked


def test_the_loop_stays_free_while_the_engine_works() -> None:
    def slow(_: Request) -> Iterator[Event]:
        time.sleep(0.1)
        yield from HELLO

    async def both() -> tuple[int, str]:
        ticks, task = 0, asyncio.create_task(tiny().ainvoke("hi"))
        while not task.done():
            await asyncio.sleep(0.005)
            ticks += 1
        return ticks, (await task).text

    with scripted("ds4-tiny", slow):
        ticks, text = asyncio.run(both())
    assert text == "Hello"
    assert ticks > 3


def test_tokens_are_counted_by_the_engine() -> None:
    history = [HumanMessage("one two"), AIMessage("three"), ToolMessage("four", tool_call_id="x")]
    with scripted("ds4-tiny"):  # which counts words
        assert tiny().get_num_tokens_from_messages(history) == 4
        assert tiny().get_num_tokens_from_messages(history[:2], tools=[add]) == 3  # though nothing asks for an answer
        assert tiny().get_num_tokens_from_messages([]) == 0


def test_text_is_counted_by_the_models_own_vocabulary() -> None:
    ids = tiny().get_token_ids("What is 3 times 12?")
    assert len(ids) == tiny().get_num_tokens("What is 3 times 12?") == 10
    assert tiny(custom_get_token_ids=lambda text: [1]).get_token_ids("What?") == [1]


def test_a_model_that_is_not_here_says_what_to_do() -> None:
    with pytest.raises(errors.ModelError, match="ds4-backend download"):
        ChatDS4().invoke("hi")
    with pytest.raises(errors.UnknownModel, match=r"no model 'ds4-tinny'.* Did you mean ds4-tiny"):
        ChatDS4(model="ds4-tinny").invoke("hi")


def test_a_picture_is_refused_before_anything_is_computed() -> None:
    with scripted("ds4-tiny") as engine, pytest.raises(errors.RequestError, match="reads text only"):
        tiny().invoke([HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}])])
    assert not engine.requests


def test_the_profile_tells_agents_what_the_model_can_do() -> None:
    profile: Any = tiny().profile
    assert profile["structured_output"] and profile["tool_calling"] and profile["reasoning_output"]
    assert not profile["image_inputs"]
    assert profile["max_input_tokens"] == 1 << 15


def test_a_registered_models_own_limit_is_in_its_profile(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[models.mine]\npath = "/nowhere/mine.gguf"\ncontext = 4096\n')
    monkeypatch.setenv("DS4_BACKEND_CONFIG", str(config))
    profile: Any = ChatDS4(model="mine").profile
    assert profile["max_input_tokens"] == 4096


def test_calls_that_differ_are_told_apart_by_langchains_cache() -> None:
    def key(model: ChatDS4) -> str:
        return model._get_llm_string()

    assert key(tiny(temperature=0)) != key(tiny(temperature=1))
    assert key(tiny(effort="max")) != key(tiny())
    assert key(ChatDS4()) != key(tiny())
    assert "secret" not in key(tiny(api_key="secret"))


def test_making_a_model_loads_no_engine_and_no_other_host() -> None:
    code = "import sys\nfrom langchain_ds4 import ChatDS4\nChatDS4(model='ds4-tiny')\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"langchain_core", "langchain_ds4"} <= loaded
    assert not loaded & {"mlx", "tokenizers", "gguf", "deepseek_recipe", "llguidance", "safetensors", "huggingface_hub"}
    assert not loaded & {"llm", "litellm", "langchain", "langgraph", "starlette", "uvicorn"}
