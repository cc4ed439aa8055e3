"""Damaged and hostile files: a miss or a clean rebuild, never a wrong state, never an error for the request."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from synthetic import MODEL, content, open_store, put_state, resumed, some_ids

from ds4_backend.cache import maintenance, schema
from ds4_backend.cache.keys import Chain, PrefixHash, block_key, root_key, visible_key
from ds4_backend.cache.records import BadRecord, Header, Kind, Use, checksum, decode, encode
from ds4_backend.cache.segments import SEGMENT_MAGIC
from ds4_backend.cache.turns import Turn

CHAIN = Chain(MODEL, some_ids(2_000))
TURN = Turn(tuple(some_ids(50)), 10, PrefixHash([1]).key(), visible_key("seen"), ("call_1",), b"note")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A closed store: one conversation with three tails, one turn record."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    store = open_store(folder, segment_bytes=24 << 10)
    for length in (700, 1_408, 2_000):
        put_state(store, CHAIN, length)
    store.put_turn(MODEL, TURN)
    store.close()
    return folder


@pytest.fixture(scope="module")
def with_log(tmp_path_factory, whole) -> Path:
    """The same, as it lies on the disk while a process has it open: with a write-ahead log."""
    folder = tmp_path_factory.mktemp("log") / "store"
    store = open_store(folder, segment_bytes=24 << 10)
    put_state(store, CHAIN, 1_408)
    put_state(store, CHAIN, 2_000)
    store.put_turn(MODEL, TURN)
    store.flush()
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    store.close()
    assert (copy / "index-000001.db-wal").stat().st_size > 0
    return copy


def flip(path: Path, chance: random.Random) -> None:
    """Turn one bit somewhere in a file."""
    at, bit = chance.randrange(path.stat().st_size), 1 << chance.randrange(8)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ bit]))


def survives(folder: Path) -> None:
    """Requests get right state or none, nothing is raised, and afterwards the store works again."""
    store = open_store(folder, segment_bytes=24 << 10)
    assert resumed(store, CHAIN, 2_000) in (0, 700, 1_408, 2_000)
    for found in (
        store.turn_by_call(MODEL, "call_1"),
        store.turn_by_content(MODEL, TURN.prefix, TURN.visible),
    ):
        assert found is None or (found.ids, found.thinking, found.note) == (TURN.ids, TURN.thinking, TURN.note)
    put_state(store, CHAIN, 2_000)
    store.flush()
    assert store.trouble is None
    assert resumed(store, CHAIN, 2_000) == 2_000
    maintenance.gc(store)
    maintenance.verify(store)
    assert resumed(store, CHAIN, 2_000) in (0, 700, 1_408, 2_000)
    put_state(store, CHAIN, 2_000)
    store.flush()
    assert resumed(store, CHAIN, 2_000) == 2_000
    store.close()


def flip_many(source: Path, folder: Path, pattern: str, rounds: int, bits: int = 1) -> None:
    chance = random.Random(rounds)
    for _ in range(rounds):
        shutil.copytree(source, folder)
        victim = chance.choice(sorted(folder.glob(pattern)))
        for _ in range(bits):
            flip(victim, chance)
        survives(folder)
        shutil.rmtree(folder)


@pytest.mark.parametrize("pattern", ["*.seg", "*.db"])
def test_a_flipped_bit_is_a_miss_or_a_rebuild(whole, tmp_path, pattern):
    flip_many(whole, tmp_path / "flipped", pattern, 30)


def test_a_flipped_bit_in_the_log_is_a_miss_or_a_rebuild(with_log, tmp_path):
    flip_many(with_log, tmp_path / "flipped", "*.db-wal", 20)


@pytest.mark.slow
@pytest.mark.parametrize(("pattern", "bits"), [("*.seg", 1), ("*.db", 1), ("*.db", 40)])
def test_many_flipped_bits(whole, tmp_path, pattern, bits):
    flip_many(whole, tmp_path / "flipped", pattern, 250, bits)


def test_every_bit_of_a_record_counts(whole, tmp_path):
    """Bits that a load reads: each one flipped is noticed."""
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    victim = sorted(folder.glob("blocks-*.seg"))[0]
    clean = victim.read_bytes()
    for at in [*range(len(SEGMENT_MAGIC), len(SEGMENT_MAGIC) + 650, 7), len(SEGMENT_MAGIC) + 3_000]:
        damaged = bytearray(clean)
        damaged[at] ^= 1
        victim.write_bytes(damaged)
        store = open_store(folder)
        places = store.ask(lambda _, index: index.blocks(CHAIN.keys[1:]))
        first = min(places.values(), key=lambda block: (block.place.name != victim.name, block.place.offset))
        hit, loaded = store.resume(CHAIN, 2_000)
        assert loaded is None or hit.length < first.position
        assert hit.reason == "checksum"
        store.close()
        for path in folder.iterdir():
            path.unlink()
        shutil.copytree(whole, folder, dirs_exist_ok=True)


@pytest.mark.parametrize("size", [0, 100, 5_000])
def test_a_cut_database_is_made_anew(whole, tmp_path, size):
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    os.truncate(folder / "index-000001.db", size)
    store = open_store(folder)
    assert resumed(store, CHAIN, 2_000) == 2_000
    assert store.trouble is None
    store.close()
    assert [path.name for path in schema.generations(folder)] == ["index-000002.db"]


def test_without_a_database_the_segments_tell_all(whole, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    for path in folder.glob("index-*"):
        path.unlink()
    store = open_store(folder)
    assert resumed(store, CHAIN, 2_000) == 2_000
    store.close()


def test_a_database_with_a_trigger_of_its_own_is_not_used(whole, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    database = sqlite3.connect(folder / "index-000001.db")
    database.execute("CREATE TRIGGER evil AFTER INSERT ON counters BEGIN DELETE FROM blocks; END")
    database.commit()
    database.close()
    store = open_store(folder)
    assert resumed(store, CHAIN, 2_000) == 2_000
    assert schema.generations(folder)[-1].name == "index-000002.db"
    store.close()


def test_an_index_that_points_to_another_record_loads_nothing_wrong(whole, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    database = sqlite3.connect(folder / "index-000001.db")
    one, other = database.execute("SELECT id, segment, offset FROM blocks ORDER BY position LIMIT 2").fetchall()
    database.execute("UPDATE blocks SET segment = ?, offset = ? WHERE id = ?", (other[1], other[2], one[0]))
    database.commit()
    database.close()
    store = open_store(folder)
    hit, loaded = store.resume(CHAIN, 2_000)
    assert (loaded, hit.length, hit.reason) == (None, 0, "checksum")
    store.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE blocks SET payload = 1 << 40",
        "UPDATE blocks SET offset = -5",
        "UPDATE blocks SET bytes = 'many'",
        "UPDATE tails SET position = x'00ff'",
        "UPDATE tails SET used = 'never'",
        "UPDATE segments SET name = '../../secret' WHERE id = 1",
        "UPDATE segments SET bytes = x'ffff'",
        "UPDATE counters SET value = 'all'",
        "UPDATE turns SET ids = 5, thinking = 'x'",
        "DELETE FROM segments",
    ],
)
def test_rows_made_to_mislead_do_no_harm(whole, tmp_path, change):
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    database = sqlite3.connect(folder / "index-000001.db")
    database.execute(change)
    database.commit()
    database.close()
    survives(folder)


def forged(payload: int = 10, position: int = 128, tokens: bytes = bytes(512), use: Use = Use.NONE) -> Header:
    return Header(Kind.BLOCK, use, MODEL, root_key(MODEL), tokens, position, payload, checksum(bytes(10)), 0)


@pytest.mark.parametrize(
    "header",
    [forged(payload=1 << 62), forged(position=1 << 60), forged(position=129), forged(tokens=bytes(508))],
)
def test_headers_with_impossible_values_are_refused(header):
    with pytest.raises(BadRecord):
        decode(encode(header))


def test_a_header_is_read_as_it_was_written():
    assert decode(encode(forged())) == forged()
    assert forged().key == block_key(root_key(MODEL), bytes(512))


def test_a_segment_full_of_nonsense_is_scanned_and_left_out(whole, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    for path in folder.glob("index-*"):
        path.unlink()
    chance = random.Random(3)
    magic = encode(forged())[:8]
    noise = b"".join(chance.randbytes(900) + magic for _ in range(200))
    (folder / f"blocks-{'0' * 16}.seg").write_bytes(SEGMENT_MAGIC + noise)
    (folder / f"blocks-{'1' * 16}.seg").write_bytes(SEGMENT_MAGIC + encode(forged(payload=1 << 29)))
    (folder / f"blocks-{'2' * 16}.seg").write_bytes(b"")
    os.mkfifo(folder / f"tails-{'3' * 16}.seg")
    (folder / f"tails-{'4' * 16}.seg").symlink_to(folder / "store.lock")
    store = open_store(folder)
    assert resumed(store, CHAIN, 2_000) == 2_000
    store.close()


def test_a_forged_chain_that_reaches_no_root_is_left_out(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    payload = content(b"x", 10)
    stranger = Header(Kind.BLOCK, Use.NONE, MODEL, b"p" * 32, bytes(512), 256, 10, checksum(payload), 0)
    (folder / f"blocks-{'0' * 16}.seg").write_bytes(SEGMENT_MAGIC + encode(stranger) + payload)
    store = open_store(folder)
    assert maintenance.stats(store).blocks == 0
    store.close()
