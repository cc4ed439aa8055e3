"""From a name to an engine, with the model that is part of the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ds4_backend import catalog
from ds4_backend.engine import running as module
from ds4_backend.engine.engine import Engine
from ds4_backend.engine.running import check_memory, running
from ds4_backend.errors import DoesNotFit, EngineError, NotInstalled, UnknownModel
from ds4_backend.machine import GIB, Machine
from ds4_backend.types import (
    End,
    Event,
    Message,
    Request,
    Sampling,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
)

GREEDY = Sampling(temperature=0)
WEATHER = Tool(
    "get_weather",
    "Get the current weather",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the user's."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


@pytest.fixture
def tiny(home: Path) -> Iterator[Engine]:
    with running("ds4-tiny") as engine:
        yield engine


def answer(engine: Engine, *messages: Message, tools: tuple[Tool, ...] = ()) -> tuple[str, list[Event]]:
    request = Request(messages, tools=tools, thinking=False, sampling=GREEDY)
    events = list(engine.chat(request))
    assert isinstance(events[-1], End), events[-1]
    return "".join(event.text for event in events if isinstance(event, TextDelta)), events


def test_one_file_has_one_named_engine_whatever_name_it_is_called_by(tiny: Engine) -> None:
    assert tiny.status()["model"] == "ds4-tiny" and tiny.status()["context"] > 4096
    assert running("ds4-tiny") is tiny
    assert running(str(catalog.resolve("ds4-tiny"))) is tiny


def test_a_closed_engine_is_loaded_afresh(tiny: Engine) -> None:
    tiny.close()
    with pytest.raises(EngineError, match="was closed; connect to it again"):
        tiny.chat(Request((Message("user", "hi"),)))
    again = running("ds4-tiny")
    assert again is not tiny
    again.close()


def test_a_long_prompt_resumed_in_the_middle_answers_as_if_read_at_once(tiny: Engine) -> None:
    question = Message("user", "what is the weather in sf")
    _, events = answer(tiny, question, tools=(WEATHER,))
    call = next(event for event in events if isinstance(event, ToolCallStart))
    arguments = "".join(event.text for event in events if isinstance(event, ToolCallDelta))
    assert (call.name, arguments.lower()) == ("get_weather", '{"city": "sf"}')
    turn = Message("assistant", tool_calls=(ToolCall(call.id, call.name, arguments),))
    result = Message("tool", "sunny and 18 degrees", tool_call_id=call.id)
    text, events = answer(tiny, question, turn, result, tools=(WEATHER,))
    resumed = events[-1]
    assert isinstance(resumed, End)
    assert resumed.usage.cached > 256
    tiny.close()
    fresh_text, fresh_events = answer(running("ds4-tiny"), question, turn, result, tools=(WEATHER,))
    fresh = fresh_events[-1]
    assert isinstance(fresh, End)
    assert fresh.usage.cached == 0
    assert text == fresh_text
    assert text == "The weather in sf: sunny and 18 degrees."
    running("ds4-tiny").close()


def test_a_registered_context_limits_the_engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = home / "config.toml"
    config.write_text(f'[models.short]\npath = "{catalog.resolve("ds4-tiny")}"\ncontext = 64\n')
    monkeypatch.setenv("DS4_BACKEND_CONFIG", str(config))
    with running("short") as engine:
        assert engine.status()["context"] == 64


def test_what_is_not_there_is_refused_with_a_way_out(home: Path) -> None:
    with pytest.raises(NotInstalled, match="ds4-backend download"):
        running("ds4-flash")
    with pytest.raises(UnknownModel, match="ds4-tiny"):
        running("ds4-tyni")


def test_a_file_larger_than_the_memory_is_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Machine("Linux", "x86_64", 32 * GIB, 30 * GIB, (2, 39))
    monkeypatch.setattr("ds4_backend.machine.this_machine", lambda: small)
    with pytest.raises(DoesNotFit, match=r"needs 80\.0 GiB for its weights and 4\.0 GiB to work in; .* 32\.0 GiB"):
        check_memory(80 * GIB, "big")
    check_memory(20 * GIB, "small")


def test_what_loaded_models_hold_counts_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Machine("Linux", "x86_64", 32 * GIB, 30 * GIB, (2, 39))
    monkeypatch.setattr("ds4_backend.machine.this_machine", lambda: small)
    with pytest.raises(DoesNotFit, match=r"32\.0 GiB of memory, of which loaded models hold 10\.0 GiB"):
        check_memory(20 * GIB, "second", held=10 * GIB)
    check_memory(18 * GIB, "second", held=10 * GIB)


def test_room_is_asked_for_before_anything_is_loaded() -> None:
    asked: list[tuple[int, str]] = []

    def refuse(nbytes: int, name: str) -> None:
        asked.append((nbytes, name))
        raise DoesNotFit("no room")

    with pytest.raises(DoesNotFit, match="no room"):
        running("ds4-tiny", make_room=refuse)
    assert asked == [(catalog.resolve("ds4-tiny").stat().st_size, "ds4-tiny")]


def test_what_this_process_has_loaded_counts_until_it_is_released(
    tiny: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Machine("Linux", "x86_64", 32 * GIB, 30 * GIB, (2, 39))
    monkeypatch.setattr("ds4_backend.machine.this_machine", lambda: small)
    monkeypatch.setitem(module._loaded, tiny, 10 * GIB)
    with pytest.raises(DoesNotFit, match=r"32\.0 GiB of memory, of which loaded models hold 10\.0 GiB"):
        module._check_beside_others(20 * GIB, "second")
    tiny.close()
    module._check_beside_others(20 * GIB, "second")


def test_an_engine_that_was_closed_in_the_middle_of_an_answer_ends_with_the_process(tiny: Engine) -> None:
    events = tiny.chat(Request((Message("user", "tell me a story"),), sampling=GREEDY))
    next(events)
    tiny.close()
    module.close_all()  # as at exit
    assert tiny.released  # type: ignore[attr-defined]


def test_nothing_is_left_running_by_these_tests() -> None:
    assert not module._running
    assert all(engine.released for engine in module._loaded)
