"""Stages of `model` that say where time goes: every kernel of a step by CUPTI, and each body in a chain of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import bodies
import mlx.core as mx
import results
import tracing

from ds4_backend.measure import frontiers as f
from ds4_backend.measure.synthetic_state import synthetic_sequence
from ds4_backend.model import Model

Work = Callable[[], Any]


class Steps:
    """The steps that are looked at: by name, a function that runs one; `release` gives their conversations back."""

    def __init__(self, model: Model, contexts: tuple[int, ...], crowd: int, chunk: int) -> None:
        self.model, self.held = model, list[Any]()
        self.work: dict[str, Work] = {f"decode 1 at {length}": self._decode(1, length) for length in contexts}
        self.work[f"decode {crowd} at {contexts[0]}"] = self._decode(crowd, contexts[0])
        self.work[f"prefill {chunk} at {contexts[0]}"] = self._read(contexts[0], chunk)

    def _decode(self, count: int, length: int) -> Work:
        crowd = [synthetic_sequence(self.model, length, seed) for seed in range(count)]
        self.held += crowd
        return lambda: self.model.forward([(one, [1 + place]) for place, one in enumerate(crowd)])

    def _read(self, length: int, chunk: int) -> Work:
        sequence = synthetic_sequence(self.model, length)
        self.held.append(sequence)
        ids = [17 * i % self.model.geometry.vocab_size for i in range(chunk)]

        def work() -> None:  # on a fork: every time the same chunk
            fork = sequence.fork()
            self.model.forward([(fork, ids)])
            fork.release()

        return work

    def release(self) -> None:
        """Give everything back."""
        for one in self.held:
            one.release()


def timed(model: Model, work: Work, count: int) -> dict[str, float]:
    """Milliseconds of a step, and how many of them Python takes until it waits for the device."""
    built = [0.0, 0.0]
    graphs = getattr(model.ops, "replay", None)
    holders = [(model.ops, "to_host"), *([(graphs.device, "synchronize")] if graphs else [])]
    plain = [getattr(holder, name) for holder, name in holders]

    def waiting(wait: Work) -> Work:
        def wrapped(*arguments: Any) -> Any:
            built[0] += time.perf_counter() - built[1]
            return wait(*arguments)

        return wrapped

    for _ in range(count):
        work()
    for (holder, name), wait in zip(holders, plain, strict=True):
        setattr(holder, name, waiting(wait))
    try:
        start = time.perf_counter()
        for _ in range(count):
            built[1] = time.perf_counter()
            work()
        seconds = time.perf_counter() - start
    finally:
        for (holder, name), wait in zip(holders, plain, strict=True):
            setattr(holder, name, wait)
    return {"wall_ms": seconds / count * 1e3, "host_ms": built[0] / count * 1e3}


def trace(model: Model, contexts: tuple[int, ...], crowd: int, chunk: int) -> dict[str, Any]:
    """Every step's kernels: `busy_ms` is their sum, `span_ms` from the first one's begin to the last one's end."""
    steps, found = Steps(model, contexts, crowd, chunk), dict[str, Any]()
    used, tracer = model.geometry.expert_used_count, _tracer(model)
    for name, work in steps.work.items():
        count = f.WARM_STEPS if name.startswith("decode") else 2
        found[name] = timed(model, work, count)
        with bodies.without_graphs(model.ops):
            found[name] |= {f"{key}_by_mlx": value for key, value in timed(model, work, count).items()}
        results.partly("trace", found)
        if tracer:
            recorded = bodies.record(model.ops, work)
            for _ in range(4 if name.startswith("decode") else 0):  # every kind of step is known when one is traced
                work()
            launches = tracing.traced(lambda work=work: (work(), mx.synchronize()), tracer)  # type: ignore[misc]
            rows = bodies.table(recorded, launches, used * int(name.split()[1]))
            found[name] |= {"launches": len(recorded), **_span(launches), "rows": rows}
            print(f"-- {name}\n{bodies.printed(rows[:24])}", flush=True)
            results.partly("trace", found)
    steps.release()
    return found


def _tracer(model: Model) -> tracing.Trace | None:
    """None where nothing is launched, or CUPTI is not to be had: then there are wall times, and `replay`."""
    if not hasattr(model.ops, "launcher"):
        return None
    try:
        return tracing.Trace()
    except OSError as error:
        print(f"no trace: {error}", flush=True)
        return None


def _span(launches: list[tracing.Launch]) -> dict[str, float]:
    if not launches:
        return {"kernels": 0}
    busy = sum(launch.end - launch.start for launch in launches)
    span = max(launch.end for launch in launches) - launches[0].start
    return {"kernels": len(launches), "busy_ms": busy / 1e6, "span_ms": span / 1e6}


def replay(model: Model, context: int) -> dict[str, Any]:
    """Each body of one decoded token alone: its launches of all layers in a chain, wall time."""
    if not hasattr(model.ops, "launcher"):
        return {"skipped": f"the {model.ops.name} ops launch nothing"}
    steps = Steps(model, (context,), 1, 1)
    work = steps.work[f"decode 1 at {context}"]
    work()
    used, rows = model.geometry.expert_used_count, list[dict[str, Any]]()
    for key, group in bodies.by_key(bodies.record(model.ops, work)).items():
        each = bodies.chained(model.ops.launcher, group)  # type: ignore[attr-defined]
        alone = max(each["microseconds"] - each["link"], 0.0)
        total = sum(launch.nbytes(used) for launch in group)
        rows.append({"body": key, "launches": len(group), "us": alone * len(group), "bytes": total,
                     "groups": group[0].groups[0] * group[0].groups[1] * group[0].groups[2], **each})  # fmt: skip
        results.partly("replay", {"rows": rows})
    steps.release()
    rows = bodies.finished(rows)
    print(bodies.printed(rows), flush=True)
    return {"rows": rows}
