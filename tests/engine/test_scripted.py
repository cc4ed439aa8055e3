from __future__ import annotations

import pytest
from engine_fakes import ask

from ds4_backend.connect import connect
from ds4_backend.engine.scripted import ScriptedEngine, scripted
from ds4_backend.errors import ContextOverflow, EngineError, UnknownModel
from ds4_backend.types import End, TextDelta

HELLO = (TextDelta("Hel"), TextDelta("lo"), End("stop"))


def test_it_replays_its_scripts_in_order_and_remembers_the_requests() -> None:
    engine = ScriptedEngine(HELLO, lambda request: [TextDelta(request.messages[0].content), End("stop")])
    assert list(engine.chat(ask("a"))) == list(HELLO)
    assert list(engine.chat(ask("b"))) == [TextDelta("b"), End("stop")]
    assert [request.messages[0].content for request in engine.requests] == ["a", "b"]
    with pytest.raises(EngineError, match="has 2 scripts; this is request 3"):
        engine.chat(ask("c"))


def test_it_raises_what_it_is_told_to() -> None:
    with pytest.raises(ContextOverflow, match="too long"):
        ScriptedEngine(ContextOverflow("too long")).chat(ask("a"))


def test_it_notices_an_answer_that_is_closed_early() -> None:
    engine = ScriptedEngine(HELLO)
    events = engine.chat(ask("a"))
    next(events)
    events.close()
    assert engine.closed_early == 1


def test_connect_gives_the_scripted_engine_only_while_it_is_offered() -> None:
    with scripted("no-such-model", HELLO) as engine:
        assert connect("no-such-model") is engine
        with scripted("no-such-model") as inner:
            assert connect("no-such-model") is inner
        assert connect("no-such-model") is engine
    with pytest.raises(UnknownModel):
        connect("no-such-model")


def test_an_engine_is_closed_by_its_context() -> None:
    with ScriptedEngine(HELLO) as engine:
        assert engine.status()["model"] == "scripted"
    assert engine.closed
