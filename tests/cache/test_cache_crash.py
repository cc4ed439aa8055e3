"""A writer that dies anywhere leaves a store that is whole: nothing wrong is loaded, nothing committed is lost."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic import (
    MODEL,
    Crash,
    DyingFiles,
    abandon,
    garbage,
    open_store,
    put_state,
    resumed,
    some_ids,
)

from ds4_backend.cache import maintenance
from ds4_backend.cache.files import Files
from ds4_backend.cache.keys import Chain
from ds4_backend.cache.records import Use

OLD, FIRST, SECOND = (Chain(MODEL, some_ids(count, seed)) for seed, count in ((1, 1_500), (2, 1_100), (3, 900)))
LONGER = Chain(MODEL, some_ids(1_500, 1) + some_ids(700, 4))
SMALL = {"segment_bytes": 16 << 10}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A store that holds one conversation, closed properly."""
    folder = tmp_path_factory.mktemp("base") / "store"
    store = open_store(folder, **SMALL)
    put_state(store, OLD)
    store.close()
    return folder


def work(folder: Path, files: Files, acknowledged: list[Chain], stores: list) -> None:
    """A day in the life of a store; chains are acknowledged when their flush came back."""
    store = open_store(folder, files=files, **SMALL)
    stores.append(store)
    for chain in (LONGER, FIRST):
        put_state(store, chain)
        assert store.flush()
        acknowledged.append(chain)
    store.ask(lambda _, index: index.run("DELETE FROM tails WHERE chain = ?", (OLD.tail(OLD.length)[0],)))
    maintenance.gc(store)
    put_state(store, SECOND, use=Use.TURN)
    store.flush()
    acknowledged.append(SECOND)
    store.close()


def live_and_die(base: Path, folder: Path, die_at: int, lose_power: bool = False) -> int:
    """One round; the number of steps that were made."""
    shutil.copytree(base, folder)
    safe = {path.name: path.stat().st_size for path in folder.glob("*.seg")}
    files, acknowledged, stores = DyingFiles(die_at), [], []
    try:
        work(folder, files, acknowledged, stores)
    except Crash:
        for store in stores:
            abandon(store)
        if lose_power:
            files.lose_unsynced(folder, safe)
    check(folder, acknowledged)
    shutil.rmtree(folder)
    return files.steps


def check(folder: Path, acknowledged: list[Chain]) -> None:
    store = open_store(folder, **SMALL)
    for chain in (OLD, LONGER, FIRST, SECOND):
        got = resumed(store, chain, chain.length)
        assert got == chain.length or chain not in acknowledged
    assert store.trouble is None
    assert maintenance.verify(store).bad == ()
    maintenance.gc(store)
    for chain in acknowledged:
        assert resumed(store, chain, chain.length) == chain.length
    store.close()
    assert garbage(folder) == []


def test_a_writer_that_dies_at_any_step_loses_nothing_committed(base, tmp_path):
    steps = live_and_die(base, tmp_path / "alive", -1)
    assert steps > 60
    for die_at in range(0, steps, 5):
        live_and_die(base, tmp_path / "dead", die_at, lose_power=die_at % 2 == 1)


@pytest.mark.slow
def test_a_thousand_deaths(base, tmp_path):
    steps = live_and_die(base, tmp_path / "alive", -1)
    rounds = 0
    while rounds < 1_000:
        for die_at in range(steps):
            live_and_die(base, tmp_path / "dead", die_at, lose_power=rounds % 2 == 1)
            rounds += 1


WRITER = """
import sys
from pathlib import Path
from synthetic import MODEL, open_store, put_state, some_ids
from ds4_backend.cache.keys import Chain

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
store = open_store(folder, segment_bytes=64 << 10, background=True)
chain = Chain(MODEL, some_ids(600, seed))
print("ready", flush=True)
while chain.length < 60_000:
    put_state(store, chain)
    assert store.flush(30) and store.trouble is None
    print(chain.length, flush=True)
    chain.extend(some_ids(300, seed * 1000 + chain.length))
"""


def start(script: str, *arguments: object) -> subprocess.Popen:
    here = Path(__file__).resolve()
    path = f"import sys; sys.path[:0] = [{str(here.parent)!r}, {str(here.parents[2])!r}]\n"
    command = [sys.executable, "-c", path + script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def grown(seed: int, length: int) -> Chain:
    """The chain that WRITER had at that length."""
    chain = Chain(MODEL, some_ids(600, seed))
    while chain.length < length:
        chain.extend(some_ids(300, seed * 1000 + chain.length))
    return chain


def kill_a_writer(folder: Path, seed: int, rounds: Callable[[], int]) -> None:
    """Let a real process write a few turns, kill it in the middle of one, and look at what it left."""
    writer = start(WRITER, folder, seed)
    wanted, said = rounds(), []
    for line in writer.stdout:
        said.append(line.strip())
        if len(said) > wanted:
            break
    writer.send_signal(signal.SIGKILL)
    said += writer.stdout.read().split()
    writer.wait()
    store = open_store(folder, segment_bytes=64 << 10)
    if len(said) > 1:
        last = grown(seed, int(said[-1]))
        assert resumed(store, last, last.length) == last.length
    assert maintenance.verify(store).bad == ()
    store.close()


def test_a_killed_process_loses_at_most_the_turn_in_flight(tmp_path):
    for seed in (1, 2):
        kill_a_writer(tmp_path / "store", seed, lambda: 4)
    store = open_store(tmp_path / "store")
    maintenance.gc(store)
    store.close()
    assert garbage(tmp_path / "store") == []


@pytest.mark.slow
def test_forty_killed_processes(tmp_path):
    chance = random.Random(5)
    for seed in range(40):
        kill_a_writer(tmp_path / "store", seed, lambda: chance.randrange(12))
    store = open_store(tmp_path / "store")
    maintenance.gc(store)
    store.close()
    assert garbage(tmp_path / "store") == []
