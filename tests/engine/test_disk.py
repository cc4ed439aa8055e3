"""State kept on disk: what another process gets of it, and what never reaches it. A closed engine and a new one stand
for two processes here, unless a test starts real ones."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from random_model import random_ids, random_model

from ds4_backend.cache.keys import Chain
from ds4_backend.cache.records import Use
from ds4_backend.cache.store import Store
from ds4_backend.connect import connect
from ds4_backend.engine.disk import DiskCache, stops, tail_places
from ds4_backend.model import Model, load, load_model
from ds4_backend.types import End, Message, Request, Sampling, TextDelta, Tool

WORDS = ["the", "river", "runs", "past", "an", "old", "mill", "and", "people", "meet", "there", "to", "talk"]
LONG = " ".join(np.random.default_rng(5).choice(WORDS, 500))


@pytest.fixture(scope="module", autouse=True)
def decoded_once():
    """The two dozen engines of this file share the weights that the first of them decodes, and nothing else."""
    bind, held = load.bind, {}

    def bind_once(tensors, g, ops, progress):
        if g not in held:
            held[g] = bind(tensors, g, ops, progress)
        return held[g]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "bind", bind_once)
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DS4_BACKEND_CACHE_DIR", str(tmp_path))
    return tmp_path / "prompts"


def ask(*messages: Message, **options) -> tuple[str, End]:
    """One answer of ds4-tiny, from an engine that is closed afterwards."""
    options = {"thinking": False, "sampling": Sampling(temperature=0), **options}
    with connect("ds4-tiny") as engine:
        *events, end = engine.chat(Request(messages, **options))
    return "".join(event.text for event in events if isinstance(event, TextDelta)), end


QUESTION = (Message("system", LONG), Message("user", "What is 3 times 12?"))


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A folder in which QUESTION was asked once, its answer, and its end."""
    folder = tmp_path_factory.mktemp("asked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DS4_BACKEND_CACHE_DIR", str(folder))
        return folder, *ask(*QUESTION)


@pytest.fixture
def before(folder, asked):
    """The answer and the end of QUESTION, asked before: `folder` holds what it left."""
    shutil.copytree(asked[0] / "prompts", folder)
    return asked[1:]


def test_the_same_prompt_is_read_once(before):
    cold, first = before
    warm, second = ask(*QUESTION)
    tokens = first.usage.input
    assert first.usage.cached == 0 and first.metadata["cache"]["reason"] == "no-match"
    assert second.usage.cached >= 128 * ((tokens - 1) // 128)
    assert second.metadata["cache"]["disk"] == second.usage.cached
    assert warm == cold == "3 * 12 = 36"


def test_sampler_and_limits_are_no_part_of_what_is_stored(before):
    _, first = before
    _, second = ask(*QUESTION, sampling=Sampling(temperature=1.2, seed=3), max_tokens=4, stop=("x",))
    assert second.usage.cached >= 128 * ((first.usage.input - 1) // 128)


def test_with_the_folder_emptied_nothing_is_cached(before, folder):
    shutil.rmtree(folder)
    assert ask(*QUESTION)[1].usage.cached == 0


def test_another_question_under_the_same_system_text_resumes_below_it(before):
    _, first = before
    answer, second = ask(QUESTION[0], Message("user", "What is the capital of France?"))
    assert second.usage.cached >= 128 * ((first.usage.input - 40) // 128)
    assert "Paris" in answer


def test_a_conversation_goes_on_from_its_last_page(before):
    answer, first = before
    turns = (*QUESTION, Message("assistant", answer), Message("user", "What's 12 plus 30?"))
    again, second = ask(*turns)
    assert second.usage.cached >= 128 * ((first.usage.input - 1) // 128)
    assert "42" in again


def test_a_turn_is_replayed_as_it_was_sampled_after_a_restart(folder):
    # With tools declared the thinking stays in the prompt. The client drops it, and the stored turn brings it back.
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = (Tool("get_weather", "Get the weather", city),)
    first = (Message("system", LONG[:700]), Message("user", "Hello!"))
    answer, before = ask(*first, tools=tools, thinking=True)
    assert before.usage.reasoning > 0
    told = Request((*first, Message("assistant", answer), Message("user", "Tell me a joke.")), tools, thinking=True)
    with connect("ds4-tiny") as engine:
        replayed = engine.count_tokens(told)
    shutil.rmtree(folder)
    with connect("ds4-tiny") as engine:
        assert replayed - engine.count_tokens(told) == before.usage.reasoning


def test_a_request_cancelled_while_its_prompt_is_read_is_not_read_again(folder):
    with connect("ds4-tiny") as engine:
        events = engine.chat(Request(QUESTION, thinking=False))
        progress = next(event for event in events if event.done >= 256)
        events.close()
    assert 256 <= progress.done < progress.total - 128
    assert ask(*QUESTION)[1].usage.cached >= progress.done


def test_a_private_request_leaves_nothing_on_disk(folder):
    question = (Message("system", LONG[:1000]), QUESTION[1])
    ask(*question, private=True)
    assert sum(path.stat().st_size for path in folder.glob("*.seg")) == 0
    first = ask(*question)[1].usage
    assert first.input > 256 and first.cached == 0


def test_switched_off_it_makes_no_folder(folder, monkeypatch):
    monkeypatch.setenv("DS4_BACKEND_CACHE", "off")
    ask(Message("system", LONG[:700]), QUESTION[1])
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_costs_a_warning_and_no_answer(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DS4_BACKEND_CACHE_DIR", str(tmp_path / "file"))
    answer, end = ask(Message("system", LONG[:700]), QUESTION[1])
    assert answer == "3 * 12 = 36" and end.metadata["cache"]["reason"] == "off"


def test_a_miss_shows_the_first_text_that_differs(folder):
    system, text = Message("system", LONG[:500]), LONG[:1500]  # more than one page, and more than three
    ask(system, Message("user", text + " What is 3 times 12?"), max_tokens=4)
    _, end = ask(system, Message("user", text[:750] + " ZEBRA " + text[750:]), max_tokens=4)
    cache = end.metadata["cache"]
    assert end.usage.cached == 128
    assert cache["reason"] == "no-tail"  # whole pages matched above it, but a tail lies below the message only
    assert end.usage.cached + 256 < cache["diverged"]["at"] < end.usage.input
    assert "Z" in cache["diverged"]["wanted"] and "Z" not in cache["diverged"]["stored"]


SCRIPT = """
import sys
from ds4_backend.connect import connect
from ds4_backend.types import *
engine = connect("ds4-tiny")
for n, question in enumerate(sys.argv[2:]):
    events = engine.chat(Request((Message("system", sys.argv[1]), Message("user", question)), thinking=False,
        sampling=Sampling(temperature=0)))
    end = list(events)[-1]
    print(end.usage.input, end.usage.cached, flush=True)
    if n == 0:
        engine._shelf.disk.store.flush()
print("waiting", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_killed_process_loses_at_most_the_turn_in_flight(folder):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", SCRIPT, LONG, "What is 3 times 12?", "Hello!"]
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGKILL)
    assert lines[-1].strip() == "waiting"
    tokens = int(lines[0].split()[0])
    assert ask(*QUESTION)[1].usage.cached >= 128 * ((tokens - 1) // 128)


def tiny():
    return load_model(str(files("ds4_backend") / "assets" / "ds4-tiny.gguf"))


def simulated():
    return random_model(seed=3, cache_simulation=True)


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiny, simulated])
def test_state_restored_from_disk_continues_exactly_at_every_boundary(make, tmp_path):
    model, other = make(), make()
    ids = tuple(random_ids(2300, model.geometry, seed=12))
    chain = Chain(b"f" * 32, ids)
    sequence = model.new_sequence()
    for at in range(0, 2300, 128):
        if at:  # a folder each: a store thins out the tails of one conversation
            save(model, sequence, chain, tmp_path / str(at))
        expected = model.forward([(sequence, ids[at : at + 128])], every=True)
        if at:
            disk = DiskCache(Store.open(tmp_path / str(at), background=False), b"f" * 32, other, None)
            resumed = disk.resume(ids, 0)
            assert resumed.disk == at
            np.testing.assert_array_equal(other.forward([(resumed.sequence, ids[at : at + 128])], every=True), expected)
            resumed.sequence.release()
            disk.close()


def save(model, sequence, chain, folder):
    """All of a conversation so far, and a tail at its end."""
    disk = DiskCache(Store.open(folder, background=False), b"f" * 32, model, None)
    disk.save_blocks(chain, sequence, sequence.length // 128)
    disk.store.put_tail(chain, sequence.length, disk.encoded_tail(sequence), Use.PROMPT)
    disk.close()


def test_tails_lie_below_message_boundaries_on_a_grid_and_below_the_end():
    assert tail_places(10_000, (700, 1_500, 9_990)) == {
        640: Use.PREFIX,
        1_408: Use.TURN,
        4_096: Use.GRID,
        8_192: Use.GRID,
        9_984: Use.PROMPT,
    }
    assert tail_places(7_700, (640, 7_690)) == {
        640: Use.PREFIX,
        4_096: Use.GRID,
        7_552: Use.TURN,  # where another question could follow, 3,456 tokens above the next tail
        7_680: Use.PROMPT,
    }
    assert tail_places(100, (10, 90)) == {}
    assert tail_places(129, (3,)) == {128: Use.PROMPT}


def test_chunks_are_cut_where_tails_are_saved_but_for_turns_of_long_ago():
    cut = stops(tail_places(20_000, (700, *range(1_500, 19_500, 1_000))))
    ends, turns = {640, 4_096, 8_192, 12_288, 19_968}, {13_440, 14_464, 15_488, 16_384, 17_408, 18_432}
    assert cut == sorted(ends | turns)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [128, 2048])
def test_another_question_about_the_same_text_finds_it_read_where_a_page_ends_in_the_question(
    folder, monkeypatch, chunk
):
    monkeypatch.setattr(Model, "prefill_tokens", chunk)

    def about(words, question):
        return Message("user", f"{LONG} {LONG} {LONG} {LONG} {' '.join(LONG.split()[:words])}\n{question}")

    with connect("ds4-tiny") as engine:
        counted = {
            w: engine.count_tokens(Request((about(w, "What is 3 times 12?"),), thinking=False)) for w in range(100, 230)
        }
    words = next(w for w, tokens in counted.items() if 2 <= tokens % 128 <= 8)
    ask(about(words, "What is 3 times 12?"))
    usage = ask(about(words, "Add 12 and 30"))[1].usage
    assert usage.cached >= usage.input - 64 - 128


@pytest.mark.slow
def test_long_chunks_are_cut_below_the_system_text(folder, monkeypatch):
    monkeypatch.setattr(Model, "prefill_tokens", 2048)
    first = ask(*QUESTION)[1]
    second = ask(QUESTION[0], Message("user", "What is the capital of France?"))[1]
    assert second.usage.cached >= 128 * ((first.usage.input - 40) // 128)
