"""After a purge neither text nor token ids are in any file, and what was not asked for is still there."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from synthetic import MODEL, open_store, put_state, resumed, some_ids

from ds4_backend.cache import maintenance
from ds4_backend.cache.keys import Chain, PrefixHash, pack_ids, visible_key
from ds4_backend.cache.turns import Turn
from ds4_backend.errors import EngineError

CANARY = [70_001, 70_002, 70_003, 70_004, 70_005]
TEXT = "the canary sings at noon"
SMALL = {"segment_bytes": 20 << 10}


def holding(folder: Path, needle: bytes) -> list[str]:
    return [path.name for path in folder.iterdir() if needle in path.read_bytes()]


def traces(folder: Path) -> list[str]:
    return holding(folder, pack_ids(CANARY)) + holding(folder, TEXT.encode())


def with_canary(count: int, at: int, seed: int = 1) -> Chain:
    ids = some_ids(count, seed)
    return Chain(MODEL, ids[:at] + CANARY + ids[at + len(CANARY) :])


def remember(store, chain: Chain, calls: tuple[str, ...] = ()) -> None:
    note = f'{{"content": "{TEXT}"}}'.encode()
    store.put_turn(MODEL, Turn((*CANARY, 1), 2, PrefixHash([chain.length]).key(), visible_key(TEXT), calls, note))


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "store", **SMALL)
    yield store
    store.close()


@pytest.mark.parametrize("at", [300, 638, 1_400])  # within a block, across two, in the ids after the last block
def test_purging_all_leaves_nothing(store, tmp_path, at):
    chain = with_canary(1_408 + 60, at)
    put_state(store, chain)
    remember(store, chain, ("call_1",))
    store.flush()
    if at % 128 < 120:
        assert traces(tmp_path / "store")
    done = maintenance.purge(store)
    assert (done.blocks, done.tails, done.turns) == (11, 1, 1)
    assert done.nbytes > 0
    assert traces(tmp_path / "store") == []
    assert list((tmp_path / "store").glob("*.seg")) == []
    assert resumed(store, chain) == 0
    assert store.turn_by_call(MODEL, "call_1") is None


@pytest.mark.parametrize("at", [300, 638, 1_404, 1_420])
def test_purging_a_row_of_tokens_takes_all_that_builds_on_it_and_no_more(store, tmp_path, at):
    ids = with_canary(1_408 + 60, at)
    other = Chain(MODEL, some_ids(1_000, 5))
    for chain in (ids, other):
        put_state(store, chain, 256)
        put_state(store, chain)
    remember(store, ids, ("call_1",))
    store.put_turn(MODEL, Turn((5, 6), 0, PrefixHash([5]).key(), visible_key("other"), ("call_2",)))
    store.flush()
    done = maintenance.purge(store, ids=[CANARY])
    assert traces(tmp_path / "store") == []
    assert done.turns == 1
    assert resumed(store, ids, ids.length) == 256
    assert resumed(store, other, other.length) == 1_000
    assert store.turn_by_call(MODEL, "call_1") is None
    assert store.turn_by_call(MODEL, "call_2") is not None
    assert len(store.missing(ids)) == 11 - min(at // 128, 11)


def test_purging_a_text_takes_the_turns_that_hold_it(store, tmp_path):
    remember(store, Chain(MODEL, some_ids(600)))
    store.flush()
    assert holding(tmp_path / "store", TEXT.encode())
    assert maintenance.purge(store, text="canary sings").turns == 1
    assert traces(tmp_path / "store") == []


def test_what_was_evicted_or_torn_before_leaves_no_trace_either(store, tmp_path):
    chain, other = with_canary(1_408, 300), Chain(MODEL, some_ids(2_000, 8))
    put_state(store, chain)
    remember(store, chain)
    store.flush()
    put_state(store, other)
    store.flush()
    store.ask(lambda _, index: [index.run(f"DELETE FROM {table}") for table in ("turns", "calls")])
    gone = chain.keys[1:]
    store.ask(lambda _, index: [index.run("DELETE FROM blocks WHERE id = ?", (key,)) for key in gone])
    (tmp_path / "store" / f"blocks-{'a' * 16}.seg").write_bytes(pack_ids(CANARY))
    (tmp_path / "store" / "index-000000.db").write_bytes(TEXT.encode())
    segment = sorted((tmp_path / "store").glob("blocks-*.seg"))[-1]
    segment.write_bytes(segment.read_bytes() + pack_ids(CANARY))
    maintenance.purge(store, ids=[CANARY])
    assert traces(tmp_path / "store") == []
    assert resumed(store, other, other.length) == 2_000


def test_purging_a_model_leaves_the_others(store):
    mine, theirs = Chain(MODEL, some_ids(800)), Chain(b"n" * 32, some_ids(800))
    for chain in (mine, theirs):
        put_state(store, chain)
        store.put_turn(chain.fingerprint, Turn((1,), 0, PrefixHash().key(), visible_key("x"), ("call",)))
    store.flush()
    maintenance.purge(store, fingerprint=MODEL)
    assert resumed(store, mine, 800) == 0
    assert resumed(store, theirs, 800) == 800
    assert store.turn_by_call(MODEL, "call") is None
    assert store.turn_by_call(b"n" * 32, "call") is not None


def test_purging_by_age_takes_what_was_long_unused(tmp_path):
    now = [1_800_000_000.0]
    store = open_store(tmp_path / "store", clock=lambda: now[0])
    old, grown = Chain(MODEL, some_ids(800, 1)), Chain(MODEL, some_ids(800, 2))
    for chain in (old, grown):
        put_state(store, chain)
    store.flush()
    now[0] += 86_400 * 10
    grown.extend(some_ids(600, 3))
    put_state(store, grown)
    store.flush()
    done = maintenance.purge(store, unused_for=86_400)
    assert (done.blocks, done.tails) == (6, 2)
    assert resumed(store, old, 800) == 0
    assert resumed(store, grown, 1_400) == 1_400
    store.close()


def test_a_purge_takes_the_segment_another_process_is_writing_to(tmp_path):
    folder = tmp_path / "store"
    writer, keeper = open_store(folder), open_store(folder)
    chain = with_canary(1_408, 300)
    put_state(writer, chain)
    writer.flush()
    maintenance.purge(keeper, ids=[CANARY])
    assert traces(folder) == []
    assert resumed(writer, chain) == 0
    # the writer's segment is gone under it: it goes on in another one
    clean = Chain(MODEL, some_ids(900, 4))
    put_state(writer, clean)
    writer.flush()
    assert writer.trouble is None
    assert resumed(keeper, clean, 900) == 900
    for store in (writer, keeper):
        store.close()


def test_what_waits_to_be_written_is_purged_too(store, tmp_path):
    chain = with_canary(1_408, 300)
    put_state(store, chain)
    remember(store, chain)
    maintenance.purge(store)
    store.flush()
    assert traces(tmp_path / "store") == []
    assert store.turn_by_content(MODEL, PrefixHash([chain.length]).key(), visible_key(TEXT)) is None


def test_a_purge_that_cannot_be_finished_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("ds4_backend.cache.purge.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("ds4_backend.cache.schema.BUSY_SECONDS", 0.1)
    store = open_store(tmp_path / "store")
    put_state(store, with_canary(1_408, 300))
    store.flush()
    reader = sqlite3.connect(tmp_path / "store" / "index-000001.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM blocks").fetchone()
    with pytest.raises(EngineError, match="run it again"):
        maintenance.purge(store)
    reader.close()
    maintenance.purge(store)
    assert traces(tmp_path / "store") == []
    store.close()


def test_a_purge_without_a_folder_to_purge_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    store = open_store(tmp_path / "file" / "store")
    with pytest.raises(EngineError, match="cannot be used"):
        maintenance.purge(store)
    assert shutil.disk_usage(tmp_path).free
