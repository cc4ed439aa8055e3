"""The llm plugin over a scripted engine: what goes in, what comes out."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import llm
import pytest
from click.testing import Result
from llm.parts import ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from llm_ds4.waiting import waiting

from ds4_backend.engine.scripted import scripted
from ds4_backend.errors import ContextOverflow, EngineError
from ds4_backend.options import EFFORTS
from ds4_backend.types import (
    Alternative,
    Effort,
    End,
    Failed,
    JsonObject,
    JsonSchema,
    Message,
    Progress,
    ReasoningDelta,
    Regex,
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

Run = Callable[..., Result]
HELLO = (
    Progress(3, 3),
    ReasoningDelta("Be "),
    ReasoningDelta("kind."),
    TextDelta("Hel"),
    TextDelta("lo"),
    End("stop", Usage(12, 8, 5, 3), Timings(0.5, 0.25, 0.6), {"model": "tiny-file", "seed": 7}),
)
CALL = (
    ToolCallStart(0, "call_a", "add"),
    ToolCallDelta(0, '{"a": 1, '),
    ToolCallStart(1, "call_b", "add"),
    ToolCallDelta(0, '"b": 2}'),
    ToolCallDelta(1, '{"a": 3, "b": 4}'),
    End("tool_calls"),
)


def add(a: int, b: int) -> str:
    "Add two numbers"
    return str(a + b)


def test_the_answer_goes_to_stdout_and_the_reasoning_to_stderr(run: Run) -> None:
    with scripted("ds4-tiny", HELLO):
        result = run("-m", "ds4-tiny", "hi")
    assert (result.exit_code, result.stdout) == (0, "Hello\n")
    assert "Be kind." in result.stderr


def test_reasoning_can_be_hidden_and_is_still_logged(run: Run) -> None:
    with scripted("ds4-tiny", HELLO):
        result = run("-m", "ds4-tiny", "-R", "hi")
    assert "Be kind." not in result.stderr
    assert json.loads(run("logs", "--json").stdout)[0]["reasoning"] == "Be kind."


def test_usage_is_printed_and_the_end_is_logged(run: Run) -> None:
    with scripted("ds4-tiny", HELLO):
        result = run("-m", "ds4-tiny", "-u", "hi")
    assert 'Token usage: 12 input, 5 output, {"cached": 8, "reasoning": 3}' in result.stderr
    log = json.loads(run("logs", "--json").stdout)[0]
    assert log["resolved_model"] == "tiny-file"
    assert log["response_json"]["finish_reason"] == "stop"
    assert log["response_json"]["seed"] == 7
    assert log["response_json"]["usage"] == {"input": 12, "cached": 8, "output": 5, "reasoning": 3, "cached_disk": 0}
    timings = log["response_json"]["timings"]
    assert (timings["prefill_tokens_per_second"], timings["decode_tokens_per_second"]) == (8.0, 20.0)


def test_system_text_and_options_reach_the_engine(run: Run) -> None:
    options = {
        "temperature": "0.5",
        "top_p": "0.9",
        "top_k": "40",
        "min_p": "0.1",
        "seed": "3",
        "max_tokens": "20",
        "thinking": "false",
        "private": "true",
        "effort": "high",
    }
    flags = [word for name, value in options.items() for word in ("-o", name, value)]
    with scripted("ds4-tiny", HELLO) as engine:
        assert run("-m", "ds4-tiny", "-s", "Be brief.", *flags, "hi").exit_code == 0
    (request,) = engine.requests
    assert request.messages == (Message("system", "Be brief."), Message("user", "hi"))
    assert request.sampling == Sampling(0.5, 0.9, 40, 0.1, 3)
    assert (request.max_tokens, request.thinking, request.effort) == (20, False, "high")
    assert request.private


def test_what_the_answer_is_held_to_reaches_the_engine(run: Run) -> None:
    options = {
        "stop": '["END", "\\n\\n"]',
        "logit_bias": '{"42": -100}',
        "presence_penalty": "0.5",
        "frequency_penalty": "-1",
        "max_thinking_tokens": "50",
        "tool_choice": "none",
        "parallel_tool_calls": "false",
        "logprobs": "2",
        "priority": "5",
        "keep_alive": "-1",
    }
    flags = [word for name, value in options.items() for word in ("-o", name, value)]
    with scripted("ds4-tiny", HELLO) as engine:
        result = run("-m", "ds4-tiny", "--schema", "name, age int", *flags, "hi")
    assert result.exit_code == 0, result.output
    (request,) = engine.requests
    assert isinstance(request.response_format, JsonSchema)
    assert request.response_format.schema["properties"]["age"] == {"type": "integer"}  # type: ignore[index]
    assert request.sampling == Sampling(presence_penalty=0.5, frequency_penalty=-1, logit_bias={42: -100})
    assert (request.stop, request.max_thinking_tokens, request.logprobs) == (("END", "\n\n"), 50, 2)
    assert (request.tool_choice, request.parallel_tool_calls) == ("none", False)
    assert (request.priority, request.keep_alive) == (5, -1)


@pytest.mark.parametrize(
    ("option", "value", "form"), [("json_object", "1", JsonObject()), ("regex", "a+", Regex("a+"))]
)
def test_json_mode_and_patterns_are_options(run: Run, option: str, value: str, form: object) -> None:
    with scripted("ds4-tiny", HELLO) as engine:
        assert run("-m", "ds4-tiny", "-o", option, value, "-o", "stop", "END", "hi").exit_code == 0
    assert (engine.requests[0].response_format, engine.requests[0].stop) == (form, ("END",))


def test_two_forms_of_one_answer_are_refused(run: Run) -> None:
    with scripted("ds4-tiny", HELLO) as engine:
        result = run("-m", "ds4-tiny", "--schema", "name, age int", "-o", "regex", "a+", "hi")
    assert (result.exit_code, engine.requests) == (1, [])
    assert "a schema and regex each say what the whole answer is" in result.output


def test_the_levels_of_effort_are_those_of_the_core() -> None:
    assert get_args(Effort) == EFFORTS


def test_log_probabilities_are_logged_in_openais_form(run: Run) -> None:
    taken, other = Alternative(5, b"\xf0\x9f", -0.1), Alternative(6, b"a", -2.5)
    events = [TextDelta("a", (TokenLogprob(taken, (taken, other)),)), End("stop", Usage(1, 0, 1))]
    with scripted("ds4-tiny", events):
        run("-m", "ds4-tiny", "hi")
    (one,) = json.loads(run("logs", "--json").stdout)[0]["response_json"]["logprobs"]
    assert (one["logprob"], one["bytes"]) == (-0.1, [0xF0, 0x9F])
    assert [listed["token"] for listed in one["top_logprobs"]] == ["\ufffd", "a"]


def test_a_person_who_waits_long_sees_why_and_a_pipe_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("llm_ds4.waiting.PATIENCE_SECONDS", -1.0)
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        with waiting() as wait:
            wait.loading(3, 43)
            wait.heard(Progress(0, 9, phase="queued"))
            wait.heard(Progress(2000, 90000, 1000))
            wait.heard(TextDelta("a"))
            wait.heard(TextDelta("b"))
        text = stream.getvalue()
        assert ("reading: 2,000 of 90,000 tokens, 1,000 of them from the cache" in text) == shown
        assert ("layer 3 of 43" in text) == ("waiting for other requests" in text) == shown
        assert not shown or text.endswith("\r\x1b[K")


def test_without_options_the_model_decides(run: Run) -> None:
    with scripted("ds4-tiny", HELLO) as engine:
        run("-m", "ds4-tiny", "hi")
    (request,) = engine.requests
    assert (request.sampling, request.max_tokens, request.thinking, request.effort) == (Sampling(), None, None, None)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("temperature", "3", "less than or equal to 2"),
        ("min_p", "-1", "greater than or equal to 0"),
        ("max_tokens", "0", "greater than or equal to 1"),
        ("effort", "huge", "use one of none, minimal, low"),
        ("logprobs", "21", "less than or equal to 20"),
        ("logit_bias", "{not json}", "valid dictionary"),
        ("bogus", "1", "Extra inputs are not permitted"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(run: Run, option: str, value: str, says: str) -> None:
    with scripted("ds4-tiny") as engine:
        result = run("-m", "ds4-tiny", "-o", option, value, "hi")
    assert result.exit_code == 1
    assert option in result.output
    assert says in result.output
    assert not engine.requests


def test_every_option_shows_its_help(run: Run) -> None:
    shown = run("models", "-m", "ds4-tiny", "--options").output
    for text in ("temperature: float", "0 to 2, 0 is greedy", "thinking: bool", "low, medium, high", "Seed of the"):
        assert text in shown
    assert "streaming" in shown
    assert "tools" in shown
    assert "async" in shown


def test_a_conversation_sends_the_whole_history(run: Run) -> None:
    with scripted("ds4-tiny", HELLO, HELLO) as engine:
        run("-m", "ds4-tiny", "-s", "Be brief.", "hi")
        assert run("-c", "and now?").exit_code == 0
    assert engine.requests[1].messages == (
        Message("system", "Be brief."),
        Message("user", "hi"),
        Message("assistant", "Hello", reasoning="Be kind."),
        Message("user", "and now?"),
    )


def test_calls_are_run_and_their_results_come_back() -> None:
    with scripted("ds4-tiny", CALL, HELLO) as engine:
        chain = llm.get_model("ds4-tiny").chain("sum", tools=[add])
        assert chain.text() == "Hello"
    first, second = engine.requests
    schema = {"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
    assert first.tools == (Tool("add", "Add two numbers", schema | {"type": "object"}),)
    assert second.messages[1:] == (
        Message(
            "assistant",
            tool_calls=(
                ToolCall("call_a", "add", '{"a": 1, "b": 2}'),
                ToolCall("call_b", "add", '{"a": 3, "b": 4}'),
            ),
        ),
        Message("tool", "3", tool_call_id="call_a"),
        Message("tool", "7", tool_call_id="call_b"),
    )


def test_interleaved_calls_keep_their_own_arguments() -> None:
    with scripted("ds4-tiny", CALL):
        response = llm.get_model("ds4-tiny").prompt("sum", tools=[add])
        calls = response.tool_calls()
    assert [(call.tool_call_id, call.arguments) for call in calls] == [
        ("call_a", {"a": 1, "b": 2}),
        ("call_b", {"a": 3, "b": 4}),
    ]
    assert [type(part) for part in response.messages()[0].parts] == [ToolCallPart, ToolCallPart]


def test_a_call_that_was_cut_short_is_not_run() -> None:
    cut = (ToolCallStart(0, "call_a", "add"), ToolCallDelta(0, '{"a": 1, '), End("length"))
    with scripted("ds4-tiny", cut):
        response = llm.get_model("ds4-tiny").prompt("sum", tools=[add])
        assert response.tool_calls() == []


def test_calls_without_ids_meet_their_results_in_order() -> None:
    history = [
        llm.user("sum"),
        llm.assistant(ToolCallPart("add", {"a": 1}), ToolCallPart("add", {"a": 2})),
        llm.tool_message(ToolResultPart("add", "one"), ToolResultPart("add", "two")),
    ]
    with scripted("ds4-tiny", HELLO) as engine:
        llm.get_model("ds4-tiny").prompt(messages=history).text()
    calls, one, two = engine.requests[0].messages[1:]
    assert [call.id for call in calls.tool_calls] == [one.tool_call_id, two.tool_call_id]
    assert (one.content, two.content) == ("one", "two")


def test_the_async_model_answers_alike() -> None:
    async def ask() -> tuple[str, list[object], llm.Usage | None]:
        response = llm.get_async_model("ds4-tiny").prompt("hi")
        text = await response.text()
        return text, (await response.messages())[0].parts, await response.usage()

    with scripted("ds4-tiny", HELLO):
        text, parts, usage = asyncio.run(ask())
    assert text == "Hello"
    assert parts == [ReasoningPart("Be kind."), TextPart("Hello")]
    assert usage == llm.models.Usage(12, 5, {"cached": 8, "reasoning": 3})


def test_the_async_flag_of_the_command_line_works(run: Run) -> None:
    with scripted("ds4-tiny", HELLO):
        assert run("-m", "ds4-tiny", "--async", "hi").stdout == "Hello\n"


def test_leaving_the_stream_cancels_the_engine() -> None:
    with scripted("ds4-tiny", HELLO) as engine:
        chunks = iter(llm.get_model("ds4-tiny").prompt("hi"))
        assert next(chunks) == "Hel"
        chunks.close()  # type: ignore[attr-defined]
        del chunks
    assert engine.closed_early == 1


@pytest.mark.parametrize("flag", [(), ("--async",), ("--no-stream",)])
def test_the_engines_errors_are_one_line(run: Run, flag: tuple[str, ...]) -> None:
    with scripted(
        "ds4-tiny", ContextOverflow("the prompt is too long"), [TextDelta("a"), Failed(EngineError("it broke"))]
    ):
        refused = run("-m", "ds4-tiny", *flag, "hi")
        broken = run("-m", "ds4-tiny", *flag, "hi")
    for result, says in ((refused, "the prompt is too long"), (broken, "it broke")):
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit | llm.ModelError)
        assert says in result.output
        assert "Traceback" not in result.output


def test_an_attachment_is_refused_on_the_command_line(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "dot.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 32)
    with scripted("ds4-tiny", HELLO) as engine:
        result = run("-m", "ds4-tiny", "hi", "-a", str(picture))
    assert result.exit_code == 1
    assert "attachment" in result.output
    assert not engine.requests


def test_an_attachment_in_the_history_is_refused_and_says_what_to_do() -> None:
    picture = llm.Attachment(type="image/png", content=b"\x89PNG")
    from_tool = ToolResultPart("look", "here", attachments=[picture])
    with scripted("ds4-tiny", HELLO) as engine:
        for message in (llm.user("hi", picture), llm.tool_message(from_tool)):
            with pytest.raises(
                llm.ModelError, match=r"reads text only; .* \(image/png\)\. Give text files as fragments"
            ):
                llm.get_model("ds4-tiny").prompt(messages=[message]).text()
    assert not engine.requests


def test_flash_without_weights_names_the_download_command(run: Run) -> None:
    for name in ("ds4-flash", "ds4"):
        result = run("-m", name, "hi")
        assert result.exit_code == 1
        assert "ds4-flash is not installed" in result.output
        assert "ds4-backend download" in result.output


def test_registered_models_appear_under_their_names(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[models.mine]\npath = "/nowhere/mine.gguf"\naliases = ["m"]\n')
    monkeypatch.setenv("DS4_BACKEND_CONFIG", str(config))
    assert "DeepSeek V4: mine (aliases: m)" in run("models").output
    with scripted("mine", HELLO):
        assert run("-m", "m", "hi").stdout == "Hello\n"
    missing = run("-m", "mine", "hi")
    assert missing.exit_code == 1
    assert "there is no such file" in missing.output


def test_a_broken_config_file_is_reported_and_stops_nothing_else(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("models = 3\n")
    monkeypatch.setenv("DS4_BACKEND_CONFIG", str(config))
    result = run("models")
    assert result.exit_code == 0
    assert "DeepSeek V4: ds4-flash (aliases: ds4)" in result.stdout
    assert "models is 3" in result.stderr


def test_llm_ds4_is_the_command_of_the_package(run: Run) -> None:
    result = run("ds4", "--help")
    assert result.exit_code == 0
    for command in ("inspect", "download", "convert"):
        assert command in result.output


HEAVY = (
    "mlx",
    "tokenizers",
    "gguf",
    "deepseek_recipe",
    "huggingface_hub",
    "safetensors",
    "tqdm",
    "litellm",
    "langchain_core",
    "ds4_backend.types",
)


def test_importing_the_plugin_and_listing_its_models_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, llm\n"
        "before = set(sys.modules)\n"
        "import llm_ds4, click\n"
        "llm_ds4.register_models(lambda *models, aliases: None)\n"
        "llm_ds4.register_commands(click.Group())\n"
        "print([name for name in sys.argv[1:] if name in set(sys.modules) - before])\n"
    )
    paths = [str(Path(llm_ds4_file()).parents[1]), str(Path(core_file()).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", code, *HEAVY, "numpy"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(paths), "HOME": str(tmp_path), "LLM_LOAD_PLUGINS": "", "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.strip() == "[]"


def llm_ds4_file() -> str:
    import llm_ds4

    return str(llm_ds4.__file__)


def core_file() -> str:
    import ds4_backend

    return str(ds4_backend.__file__)
