"""Several processes on one folder: what one wrote the others read, and nobody's death hurts the rest."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from synthetic import MODEL, garbage, open_store, put_state, resumed, some_ids

from ds4_backend.cache import maintenance
from ds4_backend.cache.keys import Chain

WORKER = """
import random, sys
from pathlib import Path
from synthetic import MODEL, open_store, put_state, resumed, some_ids
from ds4_backend.cache import maintenance
from ds4_backend.cache.keys import Chain

role, folder, seed, turns = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
chance = random.Random(seed)
store = open_store(folder, segment_bytes=48 << 10, max_bytes=4 << 20, background=role == "writer")
for turn in range(turns):
    number = chance.randrange(6)
    chain = Chain(MODEL, some_ids(800, number) + some_ids(3_000, 100 + number)[: 300 * chance.randrange(10)])
    resumed(store, chain, chain.length)
    if role == "writer":
        put_state(store, chain)
        assert store.flush(60)
        if turn % 20 == 19:
            maintenance.gc(store)
    assert store.trouble is None, store.trouble
    print(turn, flush=True)
store.close()
print("done", flush=True)
"""


def start(role: str, folder: Path, seed: int, turns: int) -> subprocess.Popen:
    here = Path(__file__).resolve()
    path = f"import sys; sys.path[:0] = [{str(here.parent)!r}, {str(here.parents[2])!r}]\n"
    command = [sys.executable, "-c", path + WORKER, role, str(folder), str(seed), str(turns)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(worker: subprocess.Popen) -> None:
    """It ended well, or was killed; an error of its own fails the test with what it said."""
    said = worker.communicate(timeout=300)[0]
    assert worker.returncode in (0, -signal.SIGKILL), said
    assert worker.returncode or said.rstrip().endswith("done"), said


def check(folder: Path) -> None:
    store = open_store(folder)
    assert maintenance.verify(store).bad == ()
    maintenance.gc(store)
    chain = Chain(MODEL, some_ids(900, 77))
    put_state(store, chain)
    store.flush()
    assert resumed(store, chain, 900) == 900
    store.close()
    assert garbage(folder) == []


def test_a_writer_and_two_readers_share_a_folder(tmp_path):
    workers = [start(role, tmp_path / "store", seed, 25) for seed, role in enumerate(("writer", "reader", "reader"))]
    for worker in workers:
        finish(worker)
    check(tmp_path / "store")


@pytest.mark.slow
def test_two_writers_and_four_readers_survive_random_kills(tmp_path):
    chance, roles = random.Random(4), ["writer"] * 2 + ["reader"] * 4
    workers = [(role, start(role, tmp_path / "store", seed, 10_000)) for seed, role in enumerate(roles)]
    for number in range(40):
        time.sleep(chance.random() / 2)
        role, victim = workers.pop(chance.randrange(len(workers)))
        victim.send_signal(signal.SIGKILL)
        finish(victim)
        workers.append((role, start(role, tmp_path / "store", 100 + number, 10_000)))
    for _, worker in workers:
        worker.send_signal(signal.SIGKILL)
        finish(worker)
    check(tmp_path / "store")


def test_two_writers_use_segments_of_their_own_and_the_next_one_takes_them_over(tmp_path):
    one, two = open_store(tmp_path / "store"), open_store(tmp_path / "store")
    chains = [Chain(MODEL, some_ids(1_000, seed)) for seed in range(3)]
    for store, chain in ((one, chains[0]), (two, chains[1])):
        put_state(store, chain)
        store.flush()
    assert len(list((tmp_path / "store").glob("*.seg"))) == 4
    for store in (one, two):
        assert [resumed(store, chain, 1_000) for chain in chains[:2]] == [1_000] * 2
        store.close()
    three = open_store(tmp_path / "store")
    put_state(three, chains[2])
    three.flush()
    assert len(list((tmp_path / "store").glob("*.seg"))) == 4
    assert [resumed(three, chain, 1_000) for chain in chains] == [1_000] * 3
    three.close()


def test_the_same_state_put_by_two_is_stored_once(tmp_path):
    one, two = open_store(tmp_path / "store"), open_store(tmp_path / "store")
    chain = Chain(MODEL, some_ids(1_000))
    for store in (one, two):
        put_state(store, chain)
    for store in (one, two):
        store.flush()
    stats = maintenance.stats(one)
    assert (stats.blocks, stats.tails) == (7, 1)
    for store in (one, two):
        store.close()


def test_a_store_follows_when_another_makes_the_index_anew(tmp_path):
    one, two = open_store(tmp_path / "store"), open_store(tmp_path / "store")
    chains = [Chain(MODEL, some_ids(1_000, seed)) for seed in range(2)]
    put_state(one, chains[0])
    one.flush()
    two.ask(lambda _, index: None)
    two._reads._remake()
    put_state(one, chains[1])
    one.flush()
    for store in (one, two):
        assert [resumed(store, chain, 1_000) for chain in chains] == [1_000] * 2
        assert store.trouble is None
        store.close()
    assert [path.name for path in (tmp_path / "store").glob("index-*.db")] == ["index-000002.db"]
