"""LiteLLM's SDK on our provider, sync and async, whole and streamed, with scripted engines."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import pytest

from ds4_backend import errors
from ds4_backend.engine.scripted import ScriptedEngine, scripted
from ds4_backend.types import (
    Alternative,
    End,
    Event,
    Failed,
    Progress,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)

pytestmark = pytest.mark.slow  # importing litellm takes ten seconds

USAGE = Usage(input=100, cached=64, output=20, reasoning=7, cached_disk=32)
END = End("stop", USAGE, Timings(0.5, 0.25, 0.6), {"model": "scripted", "seed": 5})
CALLS = End("tool_calls", USAGE, Timings(), {"model": "scripted"})
ANSWER = (
    Progress(0, 100),
    Progress(64, 100, cached=64),
    ReasoningDelta("Let me "),
    Progress(100, 100, phase="decode", output=2),
    ReasoningDelta("think."),
    TextDelta("It is "),
    TextDelta("36."),
    END,
)
TOOLS = (
    TextDelta("I look."),
    ToolCallStart(0, "call_0", "weather"),
    ToolCallDelta(0, '{"city": '),
    ToolCallDelta(0, '"Paris"}'),
    ToolCallStart(1, "call_1", "weather"),
    ToolCallDelta(1, '{"city": "Rome"}'),
    CALLS,
)
ASKED = [{"role": "user", "content": "What is 3 times 12?"}]

Ask = Callable[..., list[Any]]
"""Answers with one response, or with all chunks if `stream` is set."""


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, litellm: ModuleType) -> Ask:
    async def all_of(**given: Any) -> list[Any]:
        answer = await litellm.acompletion(**given)
        return [chunk async for chunk in answer] if given.get("stream") else [answer]

    def call(**given: Any) -> list[Any]:
        given = {"model": "ds4/script", "messages": ASKED} | given
        if request.param == "async":
            return asyncio.run(all_of(**given))
        answer = litellm.completion(**given)
        return list(answer) if given.get("stream") else [answer]

    return call


def script(*answers: Iterable[Event] | Exception) -> AbstractContextManager[ScriptedEngine]:
    return scripted("script", *answers)


def plain(answer: Any) -> dict[str, Any]:
    return dict(answer.model_dump(exclude_none=True))


def test_an_answer_arrives_with_every_field(ask: Ask) -> None:
    with script(ANSWER):
        (answer,) = ask()
    found = plain(answer)
    assert (found["model"], found["object"]) == ("script", "chat.completion")
    (choice,) = found["choices"]
    assert (choice["finish_reason"], choice["index"]) == ("stop", 0)
    assert choice["message"]["content"] == "It is 36."
    assert choice["message"]["reasoning_content"] == "Let me think."
    assert "tool_calls" not in choice["message"]
    report = choice["message"]["provider_specific_fields"]["ds4"]
    assert (report["seed"], report["cached_disk"], report["timings"]["prefill_seconds"]) == (5, 32, 0.5)
    assert found["usage"] == {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 7},
    }


def test_a_stream_has_one_id_and_ends_with_finish_and_then_usage(ask: Ask) -> None:
    with script(ANSWER):
        chunks = ask(stream=True, stream_options={"include_usage": True})
    assert len({chunk.id for chunk in chunks}) == 1
    deltas = [plain(chunk)["choices"][0]["delta"] for chunk in chunks]
    assert deltas[:2] == [{"role": "assistant"}, {}]  # the two signs of life before anything is known
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == ["Let me ", "think."]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["It is ", "36."]
    reports = [delta["provider_specific_fields"] for delta in deltas if "provider_specific_fields" in delta]
    assert [report["ds4"]["seed"] for report in reports] == [5]
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == ["stop", None]
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (100, 20, 120)
    assert usage.prompt_tokens_details.cached_tokens == 64
    assert usage.completion_tokens_details.reasoning_tokens == 7


def test_parallel_calls_arrive_whole(ask: Ask) -> None:
    with script(TOOLS):
        (answer,) = ask()
    (choice,) = plain(answer)["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "I look.")
    assert choice["message"]["tool_calls"] == [
        {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}},
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
    ]


def test_an_answer_of_calls_alone_has_no_content(ask: Ask) -> None:
    with script(TOOLS[1:]):
        (answer,) = ask()
    assert answer.choices[0].message.content is None


def test_parallel_calls_stream_name_first_and_then_fragments(ask: Ask, litellm: ModuleType) -> None:
    with script(TOOLS):
        chunks = ask(stream=True, stream_options={"include_usage": True})
    calls = [call for chunk in chunks for call in plain(chunk)["choices"][0]["delta"].get("tool_calls", ())]
    parts = [(c["index"], c.get("id"), c["function"].get("name"), c["function"]["arguments"]) for c in calls]
    assert [part for part in parts if part[1] or part[3]] == [
        (0, "call_0", "weather", ""),
        (0, None, None, '{"city": '),
        (0, None, None, '"Paris"}'),
        (1, "call_1", "weather", ""),
        (1, None, None, '{"city": "Rome"}'),
    ]
    rebuilt = litellm.stream_chunk_builder(chunks, messages=ASKED)
    arguments = [call.function.arguments for call in rebuilt.choices[0].message.tool_calls]
    assert arguments == ['{"city": "Paris"}', '{"city": "Rome"}']
    assert rebuilt.usage.prompt_tokens_details.cached_tokens == 64


def test_a_call_that_max_tokens_cut_is_left_out_of_a_whole_answer(ask: Ask) -> None:
    cut = (ToolCallStart(0, "call_0", "weather"), ToolCallDelta(0, '{"city": "Pa'), End("length", USAGE))
    with script(cut):
        (answer,) = ask()
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].message.content == ""


def test_logprobs_have_openais_shape_whole_and_streamed(ask: Ask) -> None:
    yes, half = Alternative(7, b"Yes", -0.125), Alternative(8, b"\xc3", -2.5)
    events = (TextDelta("Yes", (TokenLogprob(yes, (yes, half)),)), TextDelta("!"), END)
    with script(events, events) as engine:
        (answer,) = ask(logprobs=True, top_logprobs=2)
        chunks = ask(logprobs=True, top_logprobs=2, stream=True)
    expected = [
        {
            "token": "Yes",
            "bytes": [89, 101, 115],
            "logprob": -0.125,
            "top_logprobs": [
                {"token": "Yes", "bytes": [89, 101, 115], "logprob": -0.125},
                {"token": "\ufffd", "bytes": [0xC3], "logprob": -2.5},
            ],
        }
    ]
    assert plain(answer)["choices"][0]["logprobs"]["content"] == expected
    streamed = [plain(chunk)["choices"][0].get("logprobs") for chunk in chunks]
    assert [found["content"] for found in streamed if found] == [expected]
    assert [request.logprobs for request in engine.requests] == [2, 2]


ERRORS = [
    (errors.RequestError("temperature is 9"), "BadRequestError", 400),
    (errors.UnsupportedContent("message 1 is an image"), "BadRequestError", 400),
    (errors.ContextOverflow("the prompt has 9,000 tokens and the context is 4,096"), "ContextWindowExceededError", 400),
    (errors.UnknownModel("there is no model x"), "NotFoundError", 404),
    (errors.NotInstalled("ds4-flash is not installed"), "NotFoundError", 404),
    (errors.Busy("8 requests wait already"), "RateLimitError", 429),
    (errors.DoesNotFit("81 GiB are needed"), "ServiceUnavailableError", 503),
    (errors.HostError("the host cannot be reached"), "ServiceUnavailableError", 503),
    (errors.FileError("the file is damaged"), "InternalServerError", 500),
    (errors.EngineError("the engine failed"), "InternalServerError", 500),
]


@pytest.mark.parametrize(("error", "kind", "status"), ERRORS, ids=[type(error).__name__ for error, _, _ in ERRORS])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_every_error_keeps_its_words_and_has_its_status(
    ask: Ask, litellm: ModuleType, error: Exception, kind: str, status: int, stream: bool
) -> None:
    with script(error), pytest.raises((getattr(litellm, kind), litellm.exceptions.MidStreamFallbackError)) as caught:
        ask(stream=stream, num_retries=0)
    found = getattr(caught.value, "original_exception", caught.value)  # in a stream, litellm wraps what may be retried
    assert type(found) is getattr(litellm, kind)
    assert found.status_code == status
    assert str(error) in str(found)


def test_an_answer_that_fails_or_is_cancelled_on_the_way_is_an_error(ask: Ask, litellm: ModuleType) -> None:
    failed = (TextDelta("It "), Failed(errors.EngineError("out of memory")))
    with script(failed, failed), pytest.raises(litellm.InternalServerError, match="out of memory"):
        ask(num_retries=0)
    with script((TextDelta("It "), End("cancelled"))), pytest.raises(litellm.InternalServerError, match="cancelled"):
        ask(num_retries=0)
    with script(failed), pytest.raises(Exception, match="out of memory"):
        ask(stream=True)


def test_leaving_a_stream_early_closes_the_engines(litellm: ModuleType) -> None:
    with script(TextDelta(str(number)) for number in range(1000)) as engine:
        stream = litellm.completion(model="ds4/script", messages=ASKED, stream=True)
        next(iter(stream))
        stream.completion_stream.close()
    assert engine.closed_early == 1


def test_cancelling_a_task_closes_the_engines(litellm: ModuleType) -> None:
    def slowly() -> Iterable[Event]:
        import time

        while True:
            time.sleep(0.02)
            yield TextDelta("a")

    async def leave(engine: ScriptedEngine) -> None:
        task = asyncio.create_task(litellm.acompletion(model="ds4/script", messages=ASKED))
        while not engine.requests:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not engine.closed_early:
            await asyncio.sleep(0.02)

    with script(slowly()) as engine:
        asyncio.run(leave(engine))
    assert engine.closed_early == 1


def test_the_event_loop_stays_free_while_an_engine_works(litellm: ModuleType) -> None:
    import time

    def slow() -> Iterable[Event]:
        time.sleep(0.5)
        yield END

    async def count() -> int:
        ticks = 0
        task = asyncio.create_task(litellm.acompletion(model="ds4/script", messages=ASKED))
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    with script(slow()):
        assert asyncio.run(count()) > 5


def test_a_host_elsewhere_is_reached_by_api_base_and_api_key(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    import litellm_ds4.models

    seen: list[tuple[Any, ...]] = []
    engine = ScriptedEngine([END])

    def connect(model: str, *, address: str | None, token: str | None) -> ScriptedEngine:
        seen.append((model, address, token))
        return engine

    monkeypatch.setattr(litellm_ds4.models, "connect", connect)
    ask(model="ds4/flash", api_base="http://127.0.0.1:9", api_key="secret")
    assert seen == [("ds4-flash", "http://127.0.0.1:9", "secret")]


def test_short_names_are_ours_and_other_names_are_taken_as_they_are(ask: Ask) -> None:
    with scripted("ds4-tiny", [END], [END]) as tiny, scripted("mine", [END]) as mine:
        ask(model="ds4/tiny")
        ask(model="ds4/ds4-tiny")
        ask(model="ds4/mine")
    assert (len(tiny.requests), len(mine.requests)) == (2, 1)


def test_models_cost_nothing_and_say_what_they_can(litellm: ModuleType) -> None:
    for name in ("ds4/flash", "ds4/tiny", "ds4/ds4-flash", "ds4/ds4-tiny"):
        info = litellm.get_model_info(name)
        assert (info["input_cost_per_token"], info["output_cost_per_token"]) == (0, 0)
        assert info["max_input_tokens"] == (1 << 15 if "tiny" in name else 1 << 20)
        assert litellm.supports_function_calling(name)
        assert litellm.supports_parallel_function_calling(name)
        assert litellm.supports_reasoning(name)
        assert litellm.supports_response_schema(name)
    with script([END]):
        answer = litellm.completion(model="ds4/tiny", mock_response="x", messages=ASKED)
    assert litellm.completion_cost(answer, model="ds4/tiny") == 0


def test_registering_keeps_other_providers_and_does_it_once(litellm: ModuleType, monkeypatch: Any) -> None:
    import litellm_ds4

    other = {"provider": "another", "custom_handler": litellm_ds4.handler}
    monkeypatch.setattr(litellm, "custom_provider_map", [other])
    litellm_ds4.register()
    litellm_ds4.register()
    assert [entry["provider"] for entry in litellm.custom_provider_map] == ["another", "ds4"]


def test_a_config_file_of_ours_that_cannot_be_read_does_not_stop_litellm(
    litellm: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from litellm_ds4.models import model_info

    monkeypatch.setenv("DS4_BACKEND_CONFIG", "nowhere.toml")
    assert {"ds4/flash", "ds4/tiny"} <= set(model_info())
    assert "nowhere.toml" in caplog.text


def test_importing_it_asks_no_network_for_prices_and_loads_no_model_code() -> None:
    code = (
        "import os, sys, litellm_ds4; print(os.environ['LITELLM_LOCAL_MODEL_COST_MAP'], "
        "*sorted({'mlx', 'llm', 'langchain_core', 'llguidance', 'deepseek_recipe'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
