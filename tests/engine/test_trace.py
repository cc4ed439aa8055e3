"""The trace: what happened, without what was said."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from engine_fakes import ask, engine_that_writes

from ds4_backend.engine.scripted import ScriptedEngine
from ds4_backend.engine.trace import Trace, TracingEngine
from ds4_backend.errors import ContextOverflow, EngineError, SettingsError
from ds4_backend.types import (
    Alternative,
    End,
    Failed,
    Message,
    Progress,
    Request,
    TextDelta,
    TokenLogprob,
    Tool,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)

ASKED = Request(
    (Message("system", "SECRET rules"), Message("user", "SECRET question")),
    tools=(Tool("SECRET_tool", "SECRET use", {"type": "object", "title": "SECRET"}),),
    stop=("SECRET",),
    max_tokens=9,
)
ANSWER = (
    Progress(3, 7, 2),
    TextDelta("SECRET answer", (TokenLogprob(Alternative(5, b"SECRET", -0.5)),)),
    ToolCallStart(0, "call-SECRET", "SECRET_tool"),
    ToolCallDelta(0, '{"a": "SECRET"}'),
    TextDelta("SECRET answer"),
    End("stop", Usage(7, 2, 5), metadata={"cache": {"disk": 2, "diverged": {"prompt": "SECRET"}}}),
)


def traced(path: Path, *scripts: Any, text: bool = False, early: bool = False) -> list[dict[str, Any]]:
    """The lines of a trace of one request."""
    with Trace.open(path, text=text) as trace:
        events = TracingEngine(ScriptedEngine(*scripts), trace).chat(ASKED)
        for _ in events:
            if early:
                events.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_event_is_a_line_with_a_time_and_a_number(tmp_path: Path) -> None:
    lines = traced(tmp_path / "t", ANSWER)
    kinds = ["request", "Progress", "TextDelta", "ToolCallStart", "ToolCallDelta", "TextDelta", "End"]
    assert [line["kind"] for line in lines] == kinds
    assert {line["request"] for line in lines} == {1}
    assert all(line["seconds"] >= 0 and line["time"] > 0 for line in lines)


def test_nothing_that_was_said_is_in_it(tmp_path: Path) -> None:
    traced(tmp_path / "t", ANSWER)
    assert "SECRET" not in (tmp_path / "t").read_text()
    assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == 0o600


def test_what_it_takes_to_understand_the_request_is(tmp_path: Path) -> None:
    lines = traced(tmp_path / "t", ANSWER)
    assert lines[0]["max_tokens"] == 9
    assert lines[0]["messages"][1]["role"] == "user"
    assert lines[0]["messages"][1]["content"]["length"] == len("SECRET question")
    assert lines[-1]["usage"] == {"input": 7, "cached": 2, "output": 5, "reasoning": 0, "cached_disk": 0}
    assert lines[-1]["metadata"]["cache"]["disk"] == 2


def test_equal_texts_are_seen_to_be_equal_within_one_trace_only(tmp_path: Path) -> None:
    one, two = traced(tmp_path / "1", ANSWER), traced(tmp_path / "2", ANSWER)
    assert one[2]["text"] == one[5]["text"]
    assert one[2]["text"] != two[2]["text"]


def test_the_texts_are_there_when_asked_for(tmp_path: Path) -> None:
    lines = traced(tmp_path / "t", ANSWER, text=True)
    assert lines[0]["messages"][1]["content"] == "SECRET question"
    assert lines[2]["text"] == "SECRET answer"


def test_a_refusal_a_failure_and_a_client_that_left_are_told(tmp_path: Path) -> None:
    failed = traced(tmp_path / "failed", (Failed(EngineError("SECRET")),))[-1]
    assert (failed["kind"], failed["type"]) == ("Failed", "EngineError")
    assert traced(tmp_path / "early", ANSWER, early=True)[-1]["kind"] == "closed"
    with pytest.raises(ContextOverflow):
        traced(tmp_path / "raised", ContextOverflow("SECRET"))
    raised = json.loads((tmp_path / "raised").read_text().splitlines()[-1])
    assert (raised["kind"], raised["type"]) == ("raised", "ContextOverflow")
    assert "SECRET" not in (tmp_path / "raised").read_text() + (tmp_path / "failed").read_text()


def test_an_event_loop_gets_the_same_trace(tmp_path: Path) -> None:
    async def read(engine: TracingEngine) -> list[Any]:
        async with aclosing(engine.achat(ASKED)) as events:
            return [event async for event in events]

    with Trace.open(tmp_path / "t") as trace:
        assert asyncio.run(read(TracingEngine(ScriptedEngine(ANSWER), trace))) == list(ANSWER)
    assert len((tmp_path / "t").read_text().splitlines()) == 1 + len(ANSWER)


def test_a_traced_engine_is_the_engine_in_all_else(tmp_path: Path) -> None:
    inner = ScriptedEngine(ANSWER, name="m")
    with Trace.open(tmp_path / "t") as trace, TracingEngine(inner, trace) as engine:
        assert engine.count_tokens(ASKED) == 4
        assert engine.status()["model"] == "m"
    assert inner.closed


def test_prompt_and_tokens_are_in_the_trace_and_not_in_the_answer(tmp_path: Path) -> None:
    engine, _ = engine_that_writes("yes")
    for text in (False, True):
        path = tmp_path / f"{text}.jsonl"
        with Trace.open(path, text=text) as trace:
            events = list(TracingEngine(engine, trace).chat(ask("hi")))
        (end,) = [event for event in events if isinstance(event, End)]
        assert "trace" not in end.metadata
        told = json.loads(path.read_text().splitlines()[-1])["metadata"]["trace"]
        assert (told["prompt_tokens"], told["output_tokens"]) == (end.usage.input, 3)
        assert told["boundaries"][0] == 1  # right after the token that begins every prompt
        ids = " ".join(map(str, engine.tokenizer.encode("yes")))
        assert (told["output"] == ids) if text else (set(told["output"]) == {"length", "hash"})


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_ends_the_trace_and_no_request(caplog: pytest.LogCaptureFixture) -> None:
    with Trace.open(FULL) as trace:
        engine = TracingEngine(ScriptedEngine(ANSWER, ANSWER), trace)
        assert list(engine.chat(ASKED)) == list(engine.chat(ASKED)) == list(ANSWER)
    assert [record.message for record in caplog.records] == [
        "the trace ends here, requests go on without it: [Errno 28] No space left on device"
    ]


def test_a_trace_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="file/trace cannot be written: "), Trace.open(tmp_path / "file" / "trace"):
        pass
