"""Where a step's time goes, body by body: from a trace of its kernels, or by each launch again in a chain of its own.

A recorder stands in for the launcher during one step and keeps every launch with its arrays. Launches of one body are
grouped by their kernel and shape; a group's weights are those of all layers, so no cache holds them. It knows no model.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from tracing import Launch

MOST = 48
"""Launches of a chain at most."""
STATE = {"window", "pool", "csa_pool", "index_pool", "hca_pool", "csa_lane", "index_lane", "hca_lane"}
"""Inputs of which a launch reads a few rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """One launch as the ops asked for it."""

    kernel: Any
    inputs: Sequence[Any]
    outputs: Sequence[tuple[tuple[int, ...], str]]
    groups: tuple[int, int, int]

    @property
    def key(self) -> str:
        """The body, and what tells launches of the same body apart: the widest matrix that it reads."""
        shapes = [tuple(a.shape) for a in self.inputs if a.dtype == mx.uint8]
        widest = max(shapes, key=lambda shape: shape[-1] * shape[-2], default=())
        return f"{self.kernel.body} {'x'.join(map(str, widest))}".strip()

    def nbytes(self, used: int) -> int:
        """Bytes that it must read: of stacked experts `used` of each stack, of the state nothing (rows differ)."""
        total = 0
        for name, array in zip(self.kernel.inputs, self.inputs, strict=True):
            if name not in STATE:
                total += array.nbytes * min(used, array.shape[0]) // array.shape[0] if array.ndim == 3 and (
                    array.dtype == mx.uint8
                ) else array.nbytes  # fmt: skip
        return total


class Recorder:
    """Launches through another launcher and remembers."""

    def __init__(self, launcher: Any) -> None:
        self.launcher, self.language, self.recorded = launcher, launcher.language, list[Recorded]()

    @property
    def launches(self) -> int:
        """As the launcher underneath counts."""
        return int(self.launcher.launches)

    def run(self, kernel: Any, inputs: Sequence[Any], outputs: Any, groups: tuple[int, int, int]) -> list[Any]:
        """One launch."""
        self.recorded.append(Recorded(kernel, list(inputs), outputs, groups))
        return self.launcher.run(kernel, inputs, outputs, groups)


def record(ops: Any, work: Callable[[], Any]) -> list[Recorded]:
    """The launches of some work through `ops`, one by one."""
    holders, recorder = [ops, ops.products, ops.attention, ops.mixture], Recorder(ops.launcher)
    plain = ops.launcher
    for holder in holders:
        holder.launcher = recorder
    try:
        with without_graphs(ops):
            work()
    finally:
        for holder in holders:
            holder.launcher = plain
    return recorder.recorded


@contextmanager
def without_graphs(ops: Any) -> Iterator[None]:
    """Every launch goes through MLX, where the ops would play graphs."""
    graphs = getattr(ops, "replay", None)
    if graphs:
        ops.replay = None
    try:
        yield
    finally:
        if graphs:
            ops.replay = graphs


def by_key(recorded: Iterable[Recorded]) -> dict[str, list[Recorded]]:
    """Groups in order of first use."""
    groups: dict[str, list[Recorded]] = defaultdict(list)
    for launch in recorded:
        groups[launch.key].append(launch)
    return dict(groups)


def chain(launcher: Any, group: Sequence[Recorded]) -> None:
    """Run launches one after another: the smallest input of each is made of the output of the one before."""
    before = mx.zeros((1,))
    for launch in group:
        inputs = list(launch.inputs)
        sizes = [a.size if a.dtype in (mx.float32, mx.int32) else 1 << 40 for a in inputs]
        at = sizes.index(min(sizes))
        inputs[at] = linked(inputs[at], before)
        before = launcher.run(launch.kernel, inputs, launch.outputs, launch.groups)[0].reshape(-1)[:1]
    mx.eval(before)


def _linked(array: mx.array, before: mx.array) -> mx.array:
    return array + (before * 0).astype(array.dtype)


_fused = mx.compile(_linked)


def linked(array: mx.array, before: mx.array) -> mx.array:
    """The same values, but only after `before` was made: one launch on a GPU."""
    return _fused(array, before) if mx.default_device() == mx.gpu else _linked(array, before)


def chained(launcher: Any, group: Sequence[Recorded], repeat: int = 3) -> dict[str, float]:
    """Microseconds a launch, of which building and handing over took the host `host` and the links `link`."""
    group = list(group)[:MOST]
    chain(launcher, group)
    best = link = float("inf")
    for _ in range(repeat):
        start = time.perf_counter()
        chain(launcher, group)
        best = min(best, time.perf_counter() - start)
        start, before = time.perf_counter(), mx.zeros((1,))
        for launch in group:
            before = linked(min(launch.inputs, key=lambda a: a.size).astype(mx.float32), before).reshape(-1)[:1]
        mx.eval(before)
        link = min(link, time.perf_counter() - start)
    return {"microseconds": best / len(group) * 1e6, "link": link / len(group) * 1e6}


# From a trace -------------------------------------------------------------------------------------------------------


def table(recorded: Sequence[Recorded], launches: Sequence[Launch], used: int) -> list[dict[str, Any]]:
    """A row for each group, the longest first: launches, microseconds in all and each, GB/s, share of the busy time.

    Traced kernels are matched to recorded ones by their name, in order; what MLX launches itself is a row by its name.
    """
    names = {launch.kernel.name for launch in recorded}
    waiting: dict[str, list[Recorded]] = defaultdict(list)
    for launch in recorded:
        waiting[launch.kernel.name].append(launch)
    rows: dict[str, dict[str, Any]] = {}
    for traced in launches:
        name = next((n for n in names if n in traced.name), "")
        asked = waiting[name].pop(0) if waiting[name] else None
        key = asked.key if asked else re.sub(r"<.*|\(.*|_[0-9a-f]{8,}.*", "", traced.name)[-60:]
        row = rows.setdefault(key, {"body": key, "launches": 0, "us": 0.0, "bytes": 0, "groups": traced.groups,
                                    "registers": traced.registers, "spilled": traced.local_bytes})  # fmt: skip
        row["launches"] += 1
        row["us"] += (traced.end - traced.start) / 1e3
        row["bytes"] += asked.nbytes(used) if asked else 0
    return finished(list(rows.values()))


def finished(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rates and shares filled in, the longest first."""
    whole = sum(row["us"] for row in rows) or 1.0
    for row in rows:
        row["us_each"] = row["us"] / row["launches"]
        row["gb_per_second"] = row.pop("bytes") / row["us"] / 1e3 if row["us"] else 0.0
        row["share"] = row["us"] / whole
    return sorted(rows, key=lambda row: -row["us"])


def printed(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [f"{'body':<42}{'launches':>9}{'us each':>9}{'us':>9}{'GB/s':>8}{'share':>7}{'regs':>6}{'groups':>8}"]
    for row in rows:
        lines.append(
            f"{row['body']:<42}{row['launches']:>9}{row['us_each']:>9.1f}{row['us']:>9.0f}{row['gb_per_second']:>8.0f}"
            f"{row['share']:>7.1%}{row.get('registers', 0):>6}{row.get('groups', 0):>8}"
        )
    return "\n".join(lines)
