from __future__ import annotations

from ds4_backend.chat.record import TurnRecord
from ds4_backend.engine.turns import Turns
from ds4_backend.types import Message, ToolCall

HERE, THERE = b"here", b"there"


def calls(*ids: str) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(id, "f", '{"n": 1.0, "m": "é"}') for id in ids)


def test_a_turn_is_found_by_what_was_visible_under_the_same_prefix() -> None:
    turns = Turns()
    record = TurnRecord((7, 8), True, "yes", "because")
    turns.add(record, HERE)
    assert turns.find(Message("assistant", "yes"), HERE) is record
    assert turns.find(Message("assistant", "yes"), THERE) is None
    assert turns.find(Message("assistant", "yes "), HERE) is None
    assert turns.find(Message("assistant", "yes", tool_calls=calls("a")), HERE) is None


def test_a_turn_with_calls_is_found_by_id_under_any_prefix() -> None:
    turns = Turns()
    record = TurnRecord((7,), False, "", "", calls("a", "b"))
    turns.add(record, HERE)
    printed_anew = tuple(ToolCall(id, "f", '{"m":"\\u00e9","n":1}') for id in ("a", "b"))
    assert turns.find(Message("assistant", tool_calls=printed_anew), THERE) is record
    assert turns.find(Message("assistant", tool_calls=calls("x", "y")), HERE) is record
    assert turns.find(Message("assistant", tool_calls=calls("x", "y")), THERE) is None
    assert turns.find(Message("assistant", "edited", tool_calls=calls("a", "b")), HERE) is None


def test_the_latest_turn_comes_first_unless_the_reasoning_is_anothers() -> None:
    turns = Turns()
    first, second = TurnRecord((1,), True, "yes", "one"), TurnRecord((2,), True, "yes", "two")
    turns.add(first, HERE)
    turns.add(second, HERE)
    assert turns.find(Message("assistant", "yes"), HERE) is second
    assert turns.find(Message("assistant", "yes", "one"), HERE) is first
    assert turns.find(Message("assistant", "yes", "mine"), HERE) is second


def test_the_same_turn_again_takes_no_more_room() -> None:
    turns = Turns()
    for _ in range(3):
        turns.add(TurnRecord((1, 2), True, "yes", "one", calls("a")), HERE)
    assert len(turns) == 1


def test_what_is_kept_is_bounded_in_tokens_and_the_least_used_goes_first() -> None:
    turns = Turns(bound=10)
    for number in range(3):
        turns.add(TurnRecord((1, 2, 3), False, str(number), "", calls(f"id{number}")), HERE)
    assert turns.find(Message("assistant", "0", tool_calls=calls("id0")), HERE)  # used: 1 is now the oldest
    turns.add(TurnRecord((1, 2, 3, 4), False, "3"), HERE)
    kept = [number for number in range(3) if turns.find(Message("assistant", str(number), None, calls("?")), HERE)]
    assert (kept, len(turns)) == ([0, 2], 3)
    assert turns.find(Message("assistant", "1", tool_calls=calls("id1")), HERE) is None
    turns.add(TurnRecord((9,) * 11, False, "too long"), HERE)
    assert len(turns) == 0
