"""The caller never waits for the disk, and a store that fails is a store that is left alone."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from synthetic import MODEL, content, open_store, put_state, resumed, some_ids

from ds4_backend.cache import health, maintenance
from ds4_backend.cache.backlog import LINGER_SECONDS, Backlog
from ds4_backend.cache.files import Files
from ds4_backend.cache.jobs import Errand, Job
from ds4_backend.cache.keys import Chain, PrefixHash, visible_key
from ds4_backend.cache.records import Use
from ds4_backend.cache.turns import Turn
from ds4_backend.errors import EngineError

CHAIN = Chain(MODEL, some_ids(1_408))


class SlowFiles(Files):
    """A disk that writes nothing until it is told to."""

    def __init__(self) -> None:
        self.started, self.go = threading.Event(), threading.Event()

    def write(self, fd, data, offset):
        self.started.set()
        self.go.wait()
        super().write(fd, data, offset)


class FailingFiles(Files):
    """A disk that fails, from some moment on, with an errno of choice."""

    error = 0

    def write(self, fd, data, offset):
        if self.error:
            super().write(fd, memoryview(data)[: len(data) // 2], offset)
            raise OSError(self.error, os.strerror(self.error))
        super().write(fd, data, offset)

    def open_read(self, path):
        if self.error == errno.EIO:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().open_read(path)


def slow_store(folder: Path, **options):
    files = SlowFiles()
    return open_store(folder, background=True, files=files, **options), files


def test_what_is_put_after_the_queue_was_cleared_is_done():
    done: list[Job] = []
    queue = Backlog(done.extend, lambda job: None, max_bytes=1_000)
    before, after = Errand(lambda index: None), Errand(lambda index: None)
    queue.put(before)
    time.sleep(LINGER_SECONDS / 2)
    queue.clear()  # while the writer waits for company
    time.sleep(2 * LINGER_SECONDS)
    queue.put(after)
    assert queue.flush(timeout=30) and done in ([after], [before, after])
    assert queue.close(timeout=30)


def test_putting_returns_while_the_disk_stands_still(tmp_path):
    store, disk = slow_store(tmp_path / "store")
    put_state(store, CHAIN, 640)
    assert disk.started.wait(30)
    put_state(store, CHAIN)
    store.put_turn(MODEL, Turn((1,), 0, PrefixHash().key(), visible_key("x"), ("call",)))
    assert store.turn_by_call(MODEL, "call") is not None
    assert store.missing(CHAIN) == ()
    assert not store.flush(0.01)
    disk.go.set()
    assert store.flush(30)
    assert resumed(store, CHAIN, 1_408) == 1_408
    store.close()


def test_a_full_queue_drops_tails_before_blocks_and_the_cheapest_first(tmp_path):
    store, disk = slow_store(tmp_path / "store", queue_bytes=80_000)
    put_state(store, Chain(MODEL, some_ids(512, 9)))
    assert disk.started.wait(30)
    for use, length in ((Use.GRID, 1_024), (Use.PREFIX, 1_280), (Use.TURN, 1_408)):
        assert store.put_tail(CHAIN, length, bytes(9_000), use)
    assert all(store.put_block(CHAIN, index, bytes(3_000)) for index in range(11))
    assert not store.put_block(Chain(MODEL, some_ids(700, 3)), 0, bytes(40_000))
    assert not store.put_tail(Chain(MODEL, some_ids(700, 3)), 600, bytes(50_000), Use.GRID)
    disk.go.set()
    assert store.flush(30)
    tails = store.ask(lambda _, index: index.tails(CHAIN.keys))
    assert [tail.use for tail in tails] == [Use.PREFIX]
    assert store.missing(CHAIN) == ()
    # what had to give way may be put again
    assert store.wants_tail(CHAIN, 1_408, Use.PROMPT)
    assert store.put_tail(CHAIN, 1_408, bytes(9_000), Use.PROMPT)
    assert store.flush(30)
    assert len(store.ask(lambda _, index: index.tails(CHAIN.keys))) == 2
    store.close()


def test_closing_writes_what_is_queued(tmp_path):
    store = open_store(tmp_path / "store", background=True)
    put_state(store, CHAIN)
    store.close()
    store.close()
    assert not store.put_block(CHAIN, 0, b"late")
    again = open_store(tmp_path / "store")
    assert resumed(again, CHAIN, 1_408) == 1_408
    again.close()


def one_warning(caplog) -> bool:
    return [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]


def use_everything(store) -> None:
    """All that a request calls; nothing may be raised."""
    hit, loaded = store.resume(CHAIN, 1_408)
    store.account(hit, loaded=loaded)
    put_state(store, CHAIN)
    store.wants_tail(CHAIN, 1_408)
    store.put_turn(MODEL, Turn((1,), 0, PrefixHash().key(), visible_key("x"), ("call",)))
    store.turn_by_call(MODEL, "call")
    store.turn_by_content(MODEL, PrefixHash().key(), visible_key("x"))
    store.register(MODEL, "label")
    store.release(hit)
    store.flush()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_disk_stops_writing_and_nothing_else(tmp_path, caplog, monkeypatch, error):
    disk, now = FailingFiles(), [1_000.0]
    store = open_store(tmp_path / "store", files=disk, clock=lambda: now[0])
    put_state(store, CHAIN, 640)
    store.flush()
    disk.error = error
    for _ in range(3):
        use_everything(store)
    assert one_warning(caplog)
    assert os.strerror(error) in store.trouble
    assert resumed(store, CHAIN, 1_408) == 640
    disk.error = 0
    now[0] += health.PAUSE_SECONDS + 1
    use_everything(store)
    assert resumed(store, CHAIN, 1_408) == 1_408
    assert maintenance.verify(store).bad == ()
    store.close()


def test_a_disk_that_cannot_be_read_is_left_alone(tmp_path, caplog):
    disk = FailingFiles()
    store = open_store(tmp_path / "store", files=disk)
    put_state(store, CHAIN)
    store.flush()
    disk.error = errno.EIO
    for _ in range(3):
        use_everything(store)
    assert store.lookup(CHAIN).why == "off"
    assert one_warning(caplog)
    store.close()


def test_a_disk_that_fails_at_the_very_end_harms_nobody(tmp_path, caplog, monkeypatch):
    store = open_store(tmp_path / "store")
    put_state(store, CHAIN)
    monkeypatch.setattr(store._writer, "close", lambda: os.close(-1))
    store.close()
    assert one_warning(caplog)
    again = open_store(tmp_path / "store")
    assert resumed(again, CHAIN, 1_408) == 1_408
    again.close()


def test_a_folder_that_cannot_be_made_means_no_store(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    store = open_store(tmp_path / "file" / "store", background=True)
    use_everything(store)
    assert store.lookup(CHAIN).why == "off"
    assert store.missing(CHAIN) == ()
    assert one_warning(caplog)
    with pytest.raises(EngineError):
        maintenance.stats(store)
    store.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_means_no_store(tmp_path, caplog):
    folder = tmp_path / "store"
    folder.mkdir()
    tmp_path.chmod(0o500)
    folder.chmod(0o500)
    try:
        store = open_store(folder)
        use_everything(store)
        assert one_warning(caplog)
        store.close()
    finally:
        tmp_path.chmod(0o700)


def test_a_database_locked_for_long_costs_writes_only(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("ds4_backend.cache.schema.BUSY_SECONDS", 0.05)
    store = open_store(tmp_path / "store")
    put_state(store, CHAIN, 640)
    store.flush()
    other = sqlite3.connect(tmp_path / "store" / "index-000001.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    put_state(store, CHAIN)
    store.flush()
    assert resumed(store, CHAIN, 1_408) == 640
    assert "locked" in store.trouble
    assert one_warning(caplog)
    other.execute("ROLLBACK")
    other.close()
    store.close()
    again = open_store(tmp_path / "store")
    put_state(again, CHAIN)
    again.flush()
    assert resumed(again, CHAIN, 1_408) == 1_408
    again.close()


def test_memory_that_runs_out_is_a_miss(tmp_path, monkeypatch):
    store = open_store(tmp_path / "store")
    put_state(store, CHAIN)
    store.flush()

    def no_memory(size):
        raise MemoryError

    monkeypatch.setattr("ds4_backend.cache.load._memory", no_memory)
    hit, loaded = store.resume(CHAIN)
    assert (loaded, hit.length) == (None, 0)
    store.close()


def test_several_threads_may_ask_at_once(tmp_path):
    store = open_store(tmp_path / "store", background=True)
    chains = [Chain(MODEL, some_ids(1_000, seed)) for seed in range(8)]
    wrong: list[Exception] = []

    def work(chain: Chain) -> None:
        try:
            for _ in range(10):
                put_state(store, chain)
                resumed(store, chain, chain.length)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(chain,)) for chain in chains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.flush()
    assert wrong == []
    assert [resumed(store, chain, 1_000) for chain in chains] == [1_000] * 8
    store.close()


def test_payloads_may_be_any_contiguous_buffer(tmp_path):
    np = pytest.importorskip("numpy")
    store = open_store(tmp_path / "store")
    rows = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for index in store.missing(CHAIN):
        store.put_block(CHAIN, index, rows)
    store.put_tail(CHAIN, 1_408, bytearray(content(b"t", 30)))
    store.flush()
    _, loaded = store.resume(CHAIN, 1_408)
    assert (np.frombuffer(loaded.pages, np.float32).reshape(11, 2, 3, 4) == rows).all()
    with pytest.raises(TypeError):
        store.put_block(Chain(MODEL, some_ids(700, 2)), 0, rows[:, :, ::2])
    store.close()
