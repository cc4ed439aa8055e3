"""Turn records: sampled ids found by call or by content, at once and after a restart, and never a wrong one."""

from __future__ import annotations

import pytest
from synthetic import MODEL, open_store, some_ids

from ds4_backend.cache import turns
from ds4_backend.cache.keys import PrefixHash, visible_key
from ds4_backend.cache.turns import Turn

PREFIX = PrefixHash(some_ids(40)).key()


def turn(text: str = "hello", calls: tuple[str, ...] = (), seed: int = 1, prefix: bytes = PREFIX) -> Turn:
    return Turn(tuple(some_ids(30, seed)), 12, prefix, visible_key(text), calls, b"dialect")


def same(found: Turn | None, wanted: Turn) -> bool:
    return found is not None and (found.ids, found.thinking, found.note) == (wanted.ids, wanted.thinking, wanted.note)


def test_a_turn_is_found_at_once_and_after_a_restart(tmp_path):
    store = open_store(tmp_path / "store")
    kept = turn(calls=("call_a", "call_b"))
    assert store.put_turn(MODEL, kept)
    for _ in range(2):
        assert same(store.turn_by_call(MODEL, "call_b"), kept)
        assert same(store.turn_by_content(MODEL, PREFIX, visible_key("hello")), kept)
        assert store.turn_by_call(MODEL, "call_c") is None
        assert store.turn_by_call(b"n" * 32, "call_a") is None
        assert store.turn_by_content(MODEL, PREFIX, visible_key("other")) is None
        assert store.turn_by_content(MODEL, PrefixHash([1]).key(), visible_key("hello")) is None
        store.close()
        store = open_store(tmp_path / "store")
    store.close()


def test_a_turn_sampled_again_takes_the_place_of_the_old_one(tmp_path):
    store = open_store(tmp_path / "store")
    store.put_turn(MODEL, turn(calls=("call_a",), seed=1))
    store.flush()
    store.put_turn(MODEL, turn(calls=("call_a",), seed=2))
    assert same(store.turn_by_call(MODEL, "call_a"), turn(seed=2))
    store.flush()
    assert same(store.turn_by_call(MODEL, "call_a"), turn(seed=2))
    assert store.ask(lambda _, index: index.rows("SELECT COUNT(*) FROM turns")) == [(1,)]
    store.close()


def test_turns_of_any_length_are_kept_however_short_the_conversation(tmp_path):
    store = open_store(tmp_path / "store")
    assert store.put_turn(MODEL, Turn((), 0, PREFIX, visible_key("")))
    store.flush()
    assert store.turn_by_content(MODEL, PREFIX, visible_key("")).ids == ()
    store.close()


@pytest.mark.parametrize(
    "wrong",
    [
        Turn((1, 2), 3, PREFIX, PREFIX),
        Turn((1,), 0, b"short", PREFIX),
        Turn((1,), 0, PREFIX, PREFIX, (), b"x" * (turns.MAX_NOTE + 1)),
        Turn((1,), 0, PREFIX, PREFIX, ("c",) * (turns.MAX_CALLS + 1)),
    ],
)
def test_turns_out_of_bounds_are_not_taken(tmp_path, wrong):
    store = open_store(tmp_path / "store")
    assert not store.put_turn(MODEL, wrong)
    store.close()


def test_the_longest_unused_turns_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "MAX_TOTAL", 4_000)
    clock = iter(range(1, 10_000))
    store = open_store(tmp_path / "store", clock=lambda: float(next(clock)))
    for number in range(40):
        store.put_turn(MODEL, turn(f"turn {number}", (f"call_{number}",)))
    store.flush()
    assert same(store.turn_by_call(MODEL, "call_39"), turn())
    assert store.turn_by_call(MODEL, "call_0") is None
    assert store.ask(lambda _, index: index.rows("SELECT SUM(bytes) FROM turns"))[0][0] <= 4_000
    orphans = "SELECT COUNT(*) FROM calls WHERE turn NOT IN (SELECT id FROM turns)"
    assert store.ask(lambda _, index: index.rows(orphans)) == [(0,)]
    store.close()


def test_a_call_led_to_another_turn_is_a_miss(tmp_path):
    store = open_store(tmp_path / "store")
    store.put_turn(MODEL, turn("one", ("call_1",), 1))
    store.put_turn(MODEL, turn("two", ("call_2",), 2))
    store.flush()
    store.ask(lambda _, index: index.run("UPDATE calls SET turn = 3 - turn"))
    assert store.turn_by_call(MODEL, "call_1") is None
    store.ask(lambda _, index: index.run("UPDATE turns SET thinking = thinking + 1"))
    assert store.turn_by_content(MODEL, PREFIX, visible_key("one")) is None
    store.close()


def test_a_turn_that_is_still_used_outlives_younger_ones(tmp_path, monkeypatch):
    now = [1000.0]
    store = open_store(tmp_path / "store", clock=lambda: now[0])
    for number in range(3):
        now[0] += 1
        store.put_turn(MODEL, turn(f"text {number}", (f"call_{number}",), seed=number))
    store.flush()
    now[0] += 1
    assert store.turn_by_call(MODEL, "call_0")
    store.flush()
    monkeypatch.setattr(turns, "MAX_TOTAL", 1000)  # room for about three
    now[0] += 1
    store.put_turn(MODEL, turn("text 3", ("call_3",), seed=3))
    store.flush()
    held = [number for number in range(4) if store.turn_by_call(MODEL, f"call_{number}")]
    assert 0 in held and 3 in held and 1 not in held
    store.close()


def test_turns_that_are_not_written_are_not_gathered_for_ever(tmp_path, monkeypatch):
    store = open_store(tmp_path / "store")
    monkeypatch.setattr(turns, "put", lambda *_: 1 / 0)
    store.put_turn(MODEL, turn(calls=("call_a",)))
    assert store.turn_by_call(MODEL, "call_a")
    store.flush()
    assert store.trouble
    assert store._turns == []
    store.close()


def test_a_turn_that_is_not_taken_is_not_gathered(tmp_path):
    store = open_store(tmp_path / "store", background=True, queue_bytes=16)
    for seed in range(3):
        store.put_turn(MODEL, turn(seed=seed))
    store.close()
    assert not store.put_turn(MODEL, turn(seed=9))
    assert store._turns == []
