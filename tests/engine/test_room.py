from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

import pytest
from engine_fakes import ask, engine_that_writes

from ds4_backend.engine.local import LocalEngine
from ds4_backend.engine.room import SPARE_BYTES, Room, page_bytes, state_bytes
from ds4_backend.errors import Busy, DoesNotFit
from ds4_backend.gguf.geometry import PAGE_TOKENS, Geometry
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.model import load_model
from ds4_backend.ops.numpy.state import NumpyState
from ds4_backend.tokenizer import Tokenizer
from ds4_backend.types import End


@pytest.fixture(scope="module")
def geometry() -> Geometry:
    with open_gguf(str(files("ds4_backend") / "assets" / "ds4-tiny.gguf")) as file:
        return Geometry.from_metadata(file.metadata)


@pytest.mark.parametrize("pages", [1, 3, 40])
def test_the_estimate_is_what_the_state_takes(geometry: Geometry, pages: int) -> None:
    state = NumpyState(geometry)
    state.reserve(pages, 1)
    pools = [array for arrays in state.pools.values() for array in arrays]
    rings = [*state.window, *(array for arrays in state.lanes.values() for array in arrays)]
    used = sum(array[:pages].nbytes for array in pools) + sum(array[:1].nbytes for array in rings)
    assert state_bytes(geometry, pages * PAGE_TOKENS) == used == state.nbytes


def test_an_open_page_counts_whole(geometry: Geometry) -> None:
    assert state_bytes(geometry, 129) == state_bytes(geometry, 256)


def test_what_has_no_room_is_refused_with_both_numbers(geometry: Geometry) -> None:
    large = replace(geometry, embedding_length=4096)
    need = state_bytes(large, 4096 + 1_000_000)
    room = Room(large, "fake", lambda: SPARE_BYTES + need - 1)
    with pytest.raises(DoesNotFit, match=r"fake needs [\d.]+ GiB .* \(1,000,000 prompt tokens\); [\d.]+ GiB is free"):
        room.check(1_000_000, None)
    Room(large, "fake", lambda: SPARE_BYTES + need).check(1_000_000, None)


def test_the_engine_asks_before_it_computes(geometry: Geometry) -> None:
    engine, model = engine_that_writes("ok", room=Room(geometry, "fake", lambda: SPARE_BYTES))
    with pytest.raises(DoesNotFit):
        engine.chat(ask("hi"))
    assert not model.forwarded


def test_what_fits_alone_but_not_beside_others_is_told_to_come_later(geometry: Geometry) -> None:
    need = state_bytes(geometry, 10_000)
    room = Room(geometry, "fake", lambda: SPARE_BYTES + 2 * need)
    room.check(9_000, 1_000, [10_000])
    with pytest.raises(Busy, match=r"fake needs .* \(9,000 prompt tokens\); of .* the 2 requests in progress may take"):
        room.check(9_000, 1_000, [10_000, 10_000])


def test_memory_that_past_conversations_hold_counts_as_free(geometry: Geometry) -> None:
    need = state_bytes(geometry, 10_000)
    full = Room(geometry, "fake", lambda: SPARE_BYTES // 2)
    full.check(9_000, 1_000, pools=need)
    with pytest.raises(Busy):
        full.check(9_000, 1_000, [200], pools=need)
    with pytest.raises(DoesNotFit):
        full.check(9_000, 1_000, pools=need - 1)


def test_more_tokens_have_room_in_free_pages_or_in_free_memory(geometry: Geometry) -> None:
    room = Room(geometry, "fake", lambda: SPARE_BYTES + 2 * page_bytes(geometry))
    assert room.holds(3 * PAGE_TOKENS, 1)
    assert not room.holds(3 * PAGE_TOKENS + 1, 1)
    assert Room(geometry, "fake", lambda: 0).holds(PAGE_TOKENS, 1)


def test_kept_conversations_make_room_for_a_new_one(geometry: Geometry) -> None:
    with open_gguf(str(files("ds4_backend") / "assets" / "ds4-tiny.gguf")) as file:
        model, tokenizer = load_model(file, ops="numpy"), Tokenizer.from_gguf(file.metadata)
    free = [1 << 40]
    room = Room(geometry, "tiny", lambda: free[0])
    with LocalEngine(model, tokenizer, "0731", name="tiny", room=room, owns_model=True) as engine:
        list(engine.chat(ask("one " * 300, max_tokens=1)))
        list(engine.chat(ask("two " * 300, max_tokens=1)))
        assert len(engine.status()["kept_tokens"]) == 4
        free[0] = 0
        *_, end = engine.chat(ask("two " * 300, max_tokens=1))  # goes on from what is kept
        assert isinstance(end, End) and end.usage.cached == end.usage.input - 1
        *_, end = engine.chat(ask("three " * 300, max_tokens=1))
        assert isinstance(end, End)
        assert len(engine.status()["kept_tokens"]) < 6
