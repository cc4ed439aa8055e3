"""What a long agent session costs the disk: the store's real write path with V4-Flash's state sizes, and the resume.

    python benchmarks/kv_session.py                 a table
    python benchmarks/kv_session.py --json          a list of variants, for machines
    python benchmarks/kv_session.py --fingerprint   what naming a model of 1,328 tensors and 81 GiB costs

The session: a prefix of 25,000 tokens (system prompt and tools), then 60 turns of 1,500 tokens, 115,000 in all.
Variants: undisturbed; a side request (a title, a sub-agent) after every third turn; after every turn. A side request is
a fixed prefix of 1,500 tokens and 500 new ones. Each turn offers two tails, at the prompt's end and at the turn's, both
at the nearest full block below; the store passes over a turn's end less than 256 tokens above the last tail. Rows are
random bytes. `bytes_written` is what the store counts, held against the growth of its files; `resume_seconds` has
opening, lookup, reading, checksums and assembly; `plain_read_seconds` reads the same bytes from the same files into the
same kind of memory, one file after another. `ds4_bytes_written` is what ds4's published policy writes for the same
trace, by its own sizes: an 81,920-token state of it has 1,098 MiB.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ds4_backend.cache import maintenance
from ds4_backend.cache.fingerprint import WeightFile, fingerprint
from ds4_backend.cache.keys import BLOCK_TOKENS, Chain
from ds4_backend.cache.records import Use
from ds4_backend.cache.store import Store

PREFIX, TURNS, TURN = 25_000, 60, 1_500
ANSWER = 500
"""The last tokens of a turn: what was generated. The rest is the user's, or a tool's."""
SIDE_PREFIX, SIDE_NEW, SIDE_ANSWER = 1_500, 500, 100
GRID = 4_096
VARIANTS = {"undisturbed": 0, "side request every third turn": 3, "side request every turn": 1}

LAYERS, CSA, HCA, HEAD, INDEXER, WINDOW = 43, 21, 20, 512, 128, 128


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of a row of 512 and of an indexer row of 128, as the engine exports them."""

    row: int
    indexer: int

    @property
    def block(self) -> int:
        """128 tokens: 32 rows and indexer rows in each CSA layer, one row in each HCA layer."""
        return CSA * (BLOCK_TOKENS // 4) * (self.row + self.indexer) + HCA * self.row

    @property
    def tail(self) -> int:
        """At a full block: the window's rows, and (value, gate) of the last four tokens in float32."""
        return LAYERS * WINDOW * self.row + CSA * 4 * (HEAD + INDEXER) * 2 * 4


SIZES = {
    "packed": Sizes(448 + 8 + 2 * 64, 64 + 4),  # the cache simulation's codes, their exponents, rotary part in 2 bytes
    "half": Sizes(2 * HEAD, 2 * INDEXER),
}


@dataclass(frozen=True, slots=True)
class Variant:
    """What one variant cost. Bytes and seconds."""

    name: str
    bytes_written: int
    bytes_on_disk: int
    resume_seconds: float
    plain_read_seconds: float
    ds4_bytes_written: int
    bytes_grown: int
    resumed_tokens: int
    resumed_bytes: int
    tails_offered: int
    tails_stored: int


class Session:
    """One variant at work on a store."""

    def __init__(self, store: Store, sizes: Sizes, seed: int) -> None:
        self._store, self._sizes = store, sizes
        self._chance = random.Random(seed)
        self._noise = memoryview(os.urandom((8 << 20) + sizes.tail))
        self.chain = Chain(b"V4-Flash" * 4)
        self._side = self._ids(SIDE_PREFIX)
        self.offered = 0

    def run(self, side_every: int) -> Iterator[None]:
        """Yields after every request, when all of it is written."""
        self._request(self.chain, PREFIX + TURN - ANSWER, ANSWER, PREFIX)
        yield
        for turn in range(1, TURNS):
            if side_every and turn % side_every == 0:
                yield self._side_request()
            self._request(self.chain, TURN - ANSWER, ANSWER, 0)
            yield
        if side_every:
            yield self._side_request()

    def _side_request(self) -> None:
        chain = Chain(self.chain.fingerprint, self._side)
        self._request(chain, SIDE_NEW - SIDE_ANSWER, SIDE_ANSWER, SIDE_PREFIX)

    def _request(self, chain: Chain, prompt: int, answer: int, prefix: int) -> None:
        """Prefill `prompt` more tokens and generate `answer`; the first `prefix` tokens are the shared ones."""
        chain.extend(self._ids(prompt))
        hit = self._store.lookup(chain)
        self._save(chain)
        if prefix:
            self._tail(chain, prefix, Use.PREFIX)
        for at in range(GRID * (hit.length // GRID + 1), chain.length - GRID // 4, GRID):
            self._tail(chain, at, Use.GRID)
        self._tail(chain, chain.length, Use.PROMPT)
        chain.extend(self._ids(answer))
        self._save(chain)
        self._tail(chain, chain.length, Use.TURN)
        self._store.account(hit)
        self._store.release(hit)
        assert self._store.flush() and self._store.trouble is None, self._store.trouble

    def _save(self, chain: Chain) -> None:
        for index in self._store.missing(chain):
            assert self._store.put_block(chain, index, self._rows(self._sizes.block))

    def _tail(self, chain: Chain, length: int, use: Use) -> None:
        aligned = length // BLOCK_TOKENS * BLOCK_TOKENS
        self.offered += 1
        if self._store.wants_tail(chain, aligned, use):
            self._store.put_tail(chain, aligned, self._rows(self._sizes.tail), use)

    def _rows(self, size: int) -> memoryview:
        start = self._chance.randrange(len(self._noise) - size)
        return self._noise[start : start + size]

    def _ids(self, count: int) -> list[int]:
        return self._chance.choices(range(129_280), k=count)


def measure(name: str, side_every: int, sizes: Sizes, folder: Path, repeat: int) -> Variant:
    """One variant in a folder of its own, which is gone afterwards."""
    store = Store.open(folder / "store", max_bytes=64 << 30, free_floor=0, daily_bytes=1 << 40)
    session = Session(store, sizes, seed=7)
    seen: dict[str, int] = {}
    for _ in session.run(side_every):
        for path in (folder / "store").glob("*.seg"):
            seen[path.name] = max(seen.get(path.name, 0), path.stat().st_size)
    stats = maintenance.stats(store)
    store.close()
    grown = sum(seen.values())
    if abs(grown - stats.written_total) > grown / 100:
        raise SystemExit(f"the store says it wrote {stats.written_total:,} bytes; its files grew by {grown:,}")
    resume, plain, tokens, nbytes = resume_times(folder / "store", session.chain, repeat)
    shutil.rmtree(folder / "store")
    return Variant(
        name, stats.written_total, stats.bytes_on_disk, resume, plain, ds4_bytes(side_every), grown,
        tokens, nbytes, session.offered, stats.tails,
    )  # fmt: skip


def resume_times(folder: Path, chain: Chain, repeat: int) -> tuple[float, float, int, int]:
    """Median seconds of a resume in a store just opened, and of plainly reading the same files; tokens and bytes."""
    resumes, plains, tokens, nbytes = [], [], 0, 0
    for _ in range(repeat + 1):  # the first round warms the page cache for both
        began = time.perf_counter()
        store = Store.open(folder, max_bytes=64 << 30, free_floor=0)
        hit, loaded = store.resume(chain)
        resumes.append(time.perf_counter() - began)
        assert loaded is not None and hit.tail is not None, hit.why
        tokens, nbytes = loaded.length, loaded.nbytes
        places = [*(block.place for block in hit.blocks), hit.tail.place]
        del loaded
        store.close()
        plains.append(plain_read(folder, [(place.name, place.offset, place.nbytes) for place in places]))
    return statistics.median(resumes[1:]), statistics.median(plains[1:]), tokens, nbytes


def plain_read(folder: Path, places: list[tuple[str, int, int]]) -> float:
    """Seconds to read these records' bytes, neighbours in one go, into fresh memory."""
    runs: list[tuple[str, int, int]] = []
    for name, offset, nbytes in places:
        if runs and runs[-1][0] == name and runs[-1][1] + runs[-1][2] == offset:
            runs[-1] = (name, runs[-1][1], runs[-1][2] + nbytes)
        else:
            runs.append((name, offset, nbytes))
    began = time.perf_counter()
    area = mmap.mmap(-1, sum(nbytes for _, _, nbytes in runs))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        area.madvise(mmap.MADV_HUGEPAGE)
    view, at = memoryview(area), 0
    for name, offset, nbytes in runs:
        with (folder / name).open("rb", buffering=0) as file:
            file.seek(offset)
            while nbytes:
                got = file.readinto(view[at : at + min(nbytes, 16 << 20)])
                at, nbytes = at + got, nbytes - got
    return time.perf_counter() - began


def ds4_state(tokens: int) -> int:
    """Bytes of one ds4 checkpoint: float32 rows, window, open windows always whole, last logits, token ids."""
    rows = CSA * (tokens // 4) * (HEAD + INDEXER) + HCA * (tokens // 128) * HEAD + LAYERS * min(tokens, WINDOW) * HEAD
    open_windows = CSA * (65_536 + 16_384) + HCA * 524_288
    return 4 * rows + open_windows + 4 * 129_280 + 4 * tokens + 13 * 4 + LAYERS * 12


def ds4_bytes(side_every: int) -> int:
    """What ds4's published policy writes: a state at every 10,240 tokens, a cold anchor, the whole live state whenever
    another request takes its place, and at the end; for each side request its anchor and its state."""
    end = PREFIX + TURNS * TURN
    total = ds4_state(PREFIX // 2_048 * 2_048) + ds4_state(end)
    total += sum(ds4_state(at) for at in range(10_240, end + 1, 10_240))
    if side_every:
        side = SIDE_PREFIX + SIDE_NEW
        total += sum(ds4_state(PREFIX + turn * TURN) + 2 * ds4_state(side) for turn in range(1, TURNS)
                     if turn % side_every == 0)  # fmt: skip
        total += 2 * ds4_state(side)
    return total


def fingerprint_seconds(folder: Path) -> float:
    """Seconds to name a model of V4-Flash's shape: 1,328 tensors in a sparse file of 81 GiB, a header of 8 MiB."""
    path, size, count, header = folder / "weights", 81 << 30, 1_328, 8 << 20
    with path.open("wb") as file:
        file.truncate(size)
    step = (size - header) // count
    file_ = WeightFile(path, header, tuple((header + i * step, step) for i in range(count)))
    began = time.perf_counter()
    fingerprint([file_], dialect="0731", cache_simulation=True, layout="1")
    return time.perf_counter() - began


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print a list of variants")
    parser.add_argument("--rows", choices=SIZES, default="packed", help="how the engine exports rows")
    parser.add_argument("--repeat", type=int, default=5, help="resumes to take the median of")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; 3 GB free")
    parser.add_argument("--fingerprint", action="store_true", help="measure naming a model, and nothing else")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        if options.fingerprint:
            print(f"fingerprint of 1,328 tensors in 81 GiB: {fingerprint_seconds(Path(name)):.3f} s")
            return
        sizes = SIZES[options.rows]
        found = [measure(n, every, sizes, Path(name), options.repeat) for n, every in VARIANTS.items()]
    print(json.dumps([asdict(variant) for variant in found], indent=1) if options.json else as_table(found))


def as_table(variants: list[Variant]) -> str:
    """For people."""
    lines = [f"{'':30} {'written':>9} {'on disk':>9} {'ds4 writes':>11} {'resume':>8} {'plain read':>11} {'ratio':>6}"]
    for v in variants:
        lines.append(
            f"{v.name:30} {v.bytes_written / 1e9:6.2f} GB {v.bytes_on_disk / 1e9:6.2f} GB"
            f" {v.ds4_bytes_written / 1e9:8.1f} GB {v.resume_seconds:6.2f} s {v.plain_read_seconds:9.2f} s"
            f" {v.resume_seconds / v.plain_read_seconds:6.2f}"
        )
    last = variants[-1]
    lines.append(f"resumed: {last.resumed_tokens:,} tokens, {last.resumed_bytes / 1e9:.2f} GB")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
