from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

import pytest
from engine_fakes import ask, engine_that_writes

from ds4_backend.engine.room import SPARE_BYTES, Room, state_bytes
from ds4_backend.errors import DoesNotFit
from ds4_backend.gguf.geometry import PAGE_TOKENS, Geometry
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.ops.numpy.state import NumpyState


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
    assert state_bytes(geometry, pages * PAGE_TOKENS) == used
    assert sum(array.nbytes for array in pools + rings) == state.nbytes


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
