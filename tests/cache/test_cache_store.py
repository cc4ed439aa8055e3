"""Put, look up, load: what comes back is exactly what went in, and only for the very same tokens and model."""

from __future__ import annotations

import os
import stat
from itertools import pairwise

import pytest
from synthetic import BLOCK_BYTES, MODEL, TAIL_BYTES, content, open_store, put_state, resumed, some_ids

from ds4_backend.cache import maintenance
from ds4_backend.cache.keys import Chain
from ds4_backend.cache.records import Use

IDS = some_ids(2_300)


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "store")
    yield store
    assert store.trouble is None
    store.close()


def test_state_comes_back_byte_for_byte_and_in_order(store):
    chain = Chain(MODEL, IDS)
    put_state(store, chain, 2_176)
    store.flush()
    hit, loaded = store.resume(chain)
    assert (hit.length, hit.matched, hit.wanted, hit.why) == (2_176, 2_176, 2_300, "")
    assert len(loaded.blocks) == 17
    assert bytes(loaded.pages) == b"".join(content(key, BLOCK_BYTES) for key in chain.keys[1:18])
    assert loaded.nbytes == hit.nbytes == 17 * BLOCK_BYTES + TAIL_BYTES


def test_another_process_finds_what_was_closed(tmp_path):
    chain = Chain(MODEL, IDS)
    first = open_store(tmp_path / "store")
    put_state(first, chain, 2_300)
    first.close()
    second = open_store(tmp_path / "store")
    assert resumed(second, chain, 2_300) == 2_300
    second.close()


def test_the_last_token_is_left_to_compute(store):
    chain = Chain(MODEL, IDS[:1_024])
    put_state(store, chain, 768)
    put_state(store, chain, 1_024)
    store.flush()
    assert resumed(store, chain) == 768
    assert resumed(store, chain, 1_024) == 1_024
    assert resumed(store, Chain(MODEL, IDS[:1_025])) == 1_024


def test_a_tail_between_blocks_serves_only_its_own_tokens(store):
    chain = Chain(MODEL, IDS[:1_000])
    put_state(store, chain, 640)
    put_state(store, chain, 1_000)
    store.flush()
    assert resumed(store, Chain(MODEL, IDS)) == 1_000
    assert resumed(store, Chain(MODEL, [*IDS[:999], 5, *IDS[1_000:]])) == 640


def test_a_prompt_that_parts_shows_where_and_both_sides(store):
    put_state(store, Chain(MODEL, IDS), 1_408)
    put_state(store, Chain(MODEL, IDS), 2_300)
    store.flush()
    hit = store.lookup(Chain(MODEL, [*IDS[:1_500], 7, 8, *IDS[1_502:1_600]]))
    assert (hit.length, hit.why, hit.matched) == (1_408, "diverged-at 1500 of 1600", 1_408)
    assert hit.divergence.stored == tuple(IDS[1_500:1_536])
    assert hit.divergence.wanted == (7, 8, *IDS[1_502:1_536])


def test_a_miss_says_why(store):
    put_state(store, Chain(MODEL, IDS), 2_300)
    store.flush()
    assert store.lookup(Chain(MODEL, some_ids(900, 9))).why == "no-match"
    assert store.lookup(Chain(b"n" * 32, IDS)).why == "fingerprint"
    assert store.lookup(Chain(MODEL, IDS[:900])).why == "no-tail"
    assert store.lookup(Chain(MODEL, IDS[:100])).why == "no-match"
    assert store.lookup(Chain(MODEL)).length == 0


def test_blocks_are_written_once_however_often_they_are_put(store):
    for _ in range(3):
        chain = Chain(MODEL, IDS)
        for index in range(17):
            store.put_block(chain, index, content(chain.keys[index + 1], BLOCK_BYTES))
        put_state(store, chain)
        store.flush()
    stats = maintenance.stats(store)
    assert (stats.blocks, stats.tails) == (17, 1)
    assert stats.written_total < 17 * (BLOCK_BYTES + 700) + TAIL_BYTES + 700


def test_two_conversations_share_their_prefix(store):
    one, two = Chain(MODEL, IDS[:1_024] + some_ids(600, 1)), Chain(MODEL, IDS[:1_024] + some_ids(600, 2))
    put_state(store, one)
    store.flush()
    assert store.missing(two) == tuple(range(8, 12))
    put_state(store, two)
    store.flush()
    assert maintenance.stats(store).blocks == 8 + 4 + 4
    assert resumed(store, one, one.length) == resumed(store, two, two.length) == 1_624


def test_models_do_not_meet(store):
    put_state(store, Chain(MODEL, IDS))
    store.flush()
    other = Chain(b"n" * 32, IDS)
    assert resumed(store, other) == 0
    assert len(store.missing(other)) == 17


def test_short_conversations_are_not_written(store):
    chain = Chain(MODEL, IDS[:511])
    assert store.missing(chain) == ()
    assert not store.put_block(chain, 0, b"x")
    assert not store.put_tail(chain, 384, b"x")
    chain.extend(IDS[511:512])
    assert store.missing(chain) == (0, 1, 2, 3)


def test_a_tail_without_its_blocks_is_passed_over(store):
    chain = Chain(MODEL, IDS)
    store.put_tail(chain, 1_280, b"t" * 100)
    store.put_block(chain, 5, b"b" * 100)
    store.flush()
    stats = maintenance.stats(store)
    assert (stats.blocks, stats.tails) == (0, 0)


def test_tails_close_to_the_last_one_are_not_worth_it(store):
    chain = Chain(MODEL, IDS)
    put_state(store, chain, 1_024)
    store.flush()
    assert not store.wants_tail(chain, 1_152, Use.TURN)
    assert store.wants_tail(chain, 1_152, Use.PROMPT)
    assert store.wants_tail(chain, 1_280, Use.TURN)
    assert not store.wants_tail(chain, 1_920, Use.GRID)
    assert store.wants_tail(chain, 2_048, Use.GRID)
    assert not store.wants_tail(chain, 1_024, Use.PROMPT)
    assert store.wants_tail(chain, 896, Use.PROMPT)
    put_state(store, chain, 1_152, Use.TURN)
    store.flush()
    assert maintenance.stats(store).tails == 1


def test_old_tails_are_thinned_and_branches_kept(store):
    chain = Chain(MODEL, some_ids(40_000))
    put_state(store, chain, 1_280, Use.PREFIX)
    put_state(store, chain, 9_984)
    store.flush()
    branch = Chain(MODEL, some_ids(40_000)[:10_112] + some_ids(512, 3))
    put_state(store, branch)
    for length in range(10_624, 40_000, 640):
        put_state(store, chain, length)
        store.flush()
    positions = sorted(
        tail.position for tail in store.ask(lambda _, index: index.tails(chain.keys)) if tail.position != branch.length
    )
    assert positions[0] == 1_280
    assert 9_984 in positions
    assert positions[-6:] == list(range(39_424 - 5 * 640, 39_425, 640))
    gaps = [b - a for a, b in pairwise(positions)]
    assert all(gap >= 4_096 for gap in gaps[2:-6])
    assert max(gaps[1:]) < 4_096 + 5_000
    assert resumed(store, chain) == 39_424
    assert resumed(store, Chain(MODEL, some_ids(40_000)[:10_112] + some_ids(300, 4))) == 9_984


def test_hits_and_bytes_are_counted(store):
    chain = Chain(MODEL, IDS)
    put_state(store, chain, 2_176)
    store.register(MODEL, "some model")
    store.flush()
    hit, loaded = store.resume(chain)
    store.account(hit, loaded=loaded)
    store.saved(4.5)
    miss = store.lookup(Chain(MODEL, some_ids(700, 5)))
    store.account(miss)
    store.flush()
    stats = maintenance.stats(store)
    assert (stats.requests, stats.tokens_asked, stats.tokens_hit) == (2, 3_000, 2_176)
    assert stats.hit_ratio == pytest.approx(2_176 / 3_000)
    assert (stats.seconds_saved, stats.read_total) == (4.5, loaded.nbytes)
    assert stats.written_today == stats.written_total > 17 * BLOCK_BYTES
    (entry,) = maintenance.entries(store)
    assert (entry.model, entry.tokens, entry.hits, entry.tails) == ("some model", 2_176, 1, 1)
    assert entry.nbytes == stats.written_total


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_nobody_else_can_read_it(tmp_path, umask):
    before = os.umask(umask)
    try:
        store = open_store(tmp_path / "store", segment_bytes=10_000)
        put_state(store, Chain(MODEL, IDS))
        store.flush()
        maintenance.gc(store)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "store").iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert store.trouble is None
    assert any(name.endswith("-wal") for name in modes)
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700


def test_a_folder_open_to_others_is_closed_to_them(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir(mode=0o755)
    open_store(folder).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_loaded_stays_readable_while_its_files_go(store, tmp_path):
    chain = Chain(MODEL, IDS)
    put_state(store, chain)
    store.flush()
    _, loaded = store.resume(chain, 2_300)
    hit = store.lookup(chain, 2_300)
    maintenance.purge(store)
    assert bytes(loaded.blocks[3]) == content(chain.keys[4], BLOCK_BYTES)
    assert store.read(hit) is None
    assert resumed(store, chain) == 0


def test_records_that_moved_after_the_lookup_are_found_again(store):
    chain = Chain(MODEL, IDS)
    put_state(store, chain)
    store.flush()
    hit = store.lookup(chain, 2_300)
    store.ask(lambda writer, index: [writer.seal(), _move_everything(writer, index)])
    assert store.read(hit) is None
    assert resumed(store, chain, 2_300) == 2_300


def _move_everything(writer, index):
    from ds4_backend.cache.tidy import _remove_segment

    for name in list(index.live_bytes()):
        assert _remove_segment(writer, index, name, False) > 0


def test_a_block_or_tail_outside_the_chain_is_an_error_of_the_caller(store):
    chain = Chain(MODEL, IDS)
    with pytest.raises(IndexError):
        store.put_block(chain, 17, b"")
    with pytest.raises(IndexError):
        store.put_tail(chain, 2_301, b"")


def test_a_conversation_whose_last_block_has_no_tail_is_still_listed(store):
    chain = Chain(MODEL, some_ids(2_300))
    put_state(store, chain, 1_024)
    put_state(store, chain, 1_536)
    for index in store.missing(chain):
        store.put_block(chain, index, b"x" * 100)
    store.flush()
    (entry,) = maintenance.entries(store)
    assert entry.tokens == 1_536 and maintenance.stats(store).conversations == 1
