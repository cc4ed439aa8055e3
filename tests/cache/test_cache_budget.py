"""Limits: the size, the day's writes, the free disk; and what is given up first."""

from __future__ import annotations

import logging
import random
import shutil

import pytest
from synthetic import BLOCK_BYTES, MODEL, TAIL_BYTES, open_store, put_state, resumed, some_ids

from ds4_backend.cache import evict, maintenance
from ds4_backend.cache.keys import Chain
from ds4_backend.cache.records import Use
from ds4_backend.cache.tidy import folder_bytes

PREFIX = some_ids(2_048, 99)
SEGMENT = 16 << 10


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def segment_bytes_of(folder) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.seg"))


def converse(store, conversations: list[Chain], turns: int, chance: random.Random, clock: Clock, check) -> int:
    """Interleaved turns of 512 new tokens; the bytes of state that were new, each counted once."""
    new = 0
    for turn in range(turns):
        chain = conversations[turn % len(conversations)]
        before = chain.length
        chain.extend(some_ids(512, chance.randrange(1 << 40)))
        hit, loaded = store.resume(chain)
        store.account(hit, loaded=loaded)
        put_state(store, chain, len(PREFIX), Use.PREFIX)
        put_state(store, chain)
        store.release(hit)
        store.flush()
        new += (chain.length - before) // 128 * (BLOCK_BYTES + 700) + TAIL_BYTES + 700
        clock.now += 30
        check()
    return new


@pytest.mark.slow
def test_with_a_third_of_the_room_the_shared_prefix_stays_and_writes_stay_linear(tmp_path):
    clock, chance = Clock(), random.Random(1)
    budget = 700 << 10
    store = open_store(tmp_path / "store", max_bytes=budget, segment_bytes=SEGMENT, clock=clock)
    conversations = [Chain(MODEL, PREFIX + some_ids(128, seed)) for seed in range(8)]
    lengths: list[int] = []

    def check() -> None:
        assert segment_bytes_of(tmp_path / "store") <= budget + 2 * SEGMENT
        lengths.append(store.lookup(Chain(MODEL, [*PREFIX, 1])).length)

    new = converse(store, conversations, 120, chance, clock, check)
    stats = maintenance.stats(store)
    assert store.trouble is None
    assert new > 2.5 * budget
    assert min(lengths) == len(PREFIX)
    assert stats.written_total < 2 * new + budget
    # the rule that keeps it linear: nothing is written again for good, nothing is copied without end
    assert stats.copied_total < stats.written_total / 2
    assert maintenance.verify(store).bad == ()
    assert sum(resumed(store, chain) > len(PREFIX) for chain in conversations) >= 2
    store.close()


@pytest.mark.slow
def test_writes_grow_with_the_new_tokens_and_not_with_their_square(tmp_path):
    written = []
    for turns in (60, 120, 240):
        clock = Clock()
        store = open_store(tmp_path / str(turns), max_bytes=700 << 10, segment_bytes=SEGMENT, clock=clock)
        conversations = [Chain(MODEL, PREFIX + some_ids(128, seed)) for seed in range(8)]
        converse(store, conversations, turns, random.Random(1), clock, lambda: None)
        written.append(maintenance.stats(store).written_total)
        store.close()
    assert written[1] < 2.6 * written[0]
    assert written[2] < 2.6 * written[1]


def test_the_least_used_conversation_goes_first(tmp_path):
    clock = Clock()
    store = open_store(tmp_path / "store", max_bytes=200 << 10, segment_bytes=SEGMENT, clock=clock)
    old, used, new = (Chain(MODEL, some_ids(1_664, seed)) for seed in (1, 2, 3))
    for chain in (old, used):
        put_state(store, chain)
        store.flush()
    clock.now += 3_600 * 24
    assert resumed(store, used, used.length)
    hit, loaded = store.resume(used, used.length)
    store.account(hit, loaded=loaded)
    store.release(hit)
    for chain in (new, *(Chain(MODEL, some_ids(900, seed)) for seed in (4, 5))):
        put_state(store, chain)
        store.flush()
    assert resumed(store, used, used.length) == used.length
    assert resumed(store, old, old.length) == 0
    store.close()


def test_what_a_running_request_stands_on_is_not_evicted(tmp_path):
    clock = Clock()
    store = open_store(tmp_path / "store", max_bytes=200 << 10, segment_bytes=SEGMENT, clock=clock)
    held = Chain(MODEL, some_ids(1_664, 1))
    put_state(store, held)
    store.flush()
    hit = store.lookup(held, held.length)
    clock.now += 600
    for seed in range(2, 8):
        put_state(store, Chain(MODEL, some_ids(1_664, seed)))
        store.flush()
        clock.now += 30
    assert resumed(store, held, held.length) == held.length  # that gave its own lease back
    store.release(hit)
    clock.now += 3_600
    for seed in range(8, 12):
        put_state(store, Chain(MODEL, some_ids(1_664, seed)))
        store.flush()
    assert resumed(store, held, held.length) == 0
    store.close()


def test_a_batch_larger_than_the_store_is_passed_over(tmp_path):
    store = open_store(tmp_path / "store", max_bytes=20 << 10, segment_bytes=8 << 10)
    put_state(store, Chain(MODEL, some_ids(4_000)))
    store.flush()
    assert store.trouble is None
    assert segment_bytes_of(tmp_path / "store") <= 28 << 10
    store.close()


def test_the_daily_cap_stops_writing_until_tomorrow_and_says_so_once(tmp_path, caplog):
    clock = Clock()
    store = open_store(tmp_path / "store", daily_bytes=100_000, clock=clock)
    with caplog.at_level(logging.WARNING):
        for seed in range(5):
            put_state(store, Chain(MODEL, some_ids(1_280, seed)))
            store.flush()
    stats = maintenance.stats(store)
    assert 50_000 < stats.written_total <= 100_000
    assert [record.message for record in caplog.records if "today" in record.message] == [
        "the prompt cache has written 0.0001 GB today, its daily cap; it writes no more until tomorrow"
    ]
    clock.now += 86_400
    chain = Chain(MODEL, some_ids(1_280, 77))
    put_state(store, chain)
    store.flush()
    assert resumed(store, chain, chain.length) == 1_280
    store.close()


def test_a_nearly_full_disk_makes_the_store_smaller(tmp_path, monkeypatch):
    free = [1 << 30]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free[0]))
    clock = Clock()
    store = open_store(tmp_path / "store", free_floor=1 << 20, segment_bytes=SEGMENT, clock=clock)
    for seed in range(6):
        put_state(store, Chain(MODEL, some_ids(1_280, seed)))
        store.flush()
        clock.now += 60
    before = segment_bytes_of(tmp_path / "store")
    free[0] = (1 << 20) - (100 << 10)
    clock.now += 3_600
    put_state(store, Chain(MODEL, some_ids(1_280, 9)))
    store.flush()
    assert segment_bytes_of(tmp_path / "store") < before - (50 << 10)
    assert store.trouble is None
    store.close()


def test_blocks_that_never_got_a_tail_go_before_anything_else(tmp_path):
    clock = Clock()
    store = open_store(tmp_path / "store", max_bytes=260 << 10, segment_bytes=SEGMENT, clock=clock)
    whole, cut_short = (Chain(MODEL, some_ids(1_664, seed)) for seed in (1, 2))
    put_state(store, whole)
    for index in store.missing(cut_short):
        store.put_block(cut_short, index, bytes(BLOCK_BYTES))
    store.flush()
    clock.now += evict.GRACE + 1
    for seed in (3, 4, 5, 6):
        put_state(store, Chain(MODEL, some_ids(1_280, seed)))
        store.flush()
    assert len(store.missing(cut_short)) == 13
    assert resumed(store, whole, whole.length) == whole.length
    store.close()


def test_the_default_size_is_a_tenth_of_the_free_disk(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    for free, wanted in ((100 << 30, 10 << 30), (4 << 40, 64 << 30)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        store = open_store(tmp_path / "store", max_bytes=None)
        assert maintenance.stats(store).max_bytes == wanted
        store.close()


def test_gc_gives_back_what_thinning_and_eviction_left(tmp_path):
    store = open_store(tmp_path / "store", segment_bytes=64 << 10)
    chain = Chain(MODEL, some_ids(9_000))
    for length in range(640, 9_000, 640):
        put_state(store, chain, length)
    store.flush()
    before = folder_bytes(tmp_path / "store")
    freed = maintenance.gc(store)
    assert freed > 0
    assert folder_bytes(tmp_path / "store") == before - freed
    assert all(size == live + 16 for size, live in store.ask(lambda _, index: index.live_bytes()).values())
    assert resumed(store, chain) == 8_960
    store.close()
