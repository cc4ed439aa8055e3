"""A decode step as one CUDA graph: recorded once for its kind, then launched with other numbers. It knows no formulas.

Python and MLX take 15 ms to build and hand over the 518 launches of a Flash token, the kernels themselves 7.5 ms
(docs/decisions.md). All that differs from token to token lies in the step's array and in the state, at addresses that
stay; so the launches of one kind of step can be kept as a graph.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ds4_backend.errors import EngineError
from ds4_backend.ops.cuda.driver import Call
from ds4_backend.ops.cuda.landing import Landing
from ds4_backend.ops.cuda.launcher import CudaLauncher
from ds4_backend.ops.cuda.programs import Signature
from ds4_backend.ops.cuda.tape import Made, Tape
from ds4_backend.ops.kernels.state import KernelState
from ds4_backend.ops.kernels.steps import Plan

MOST_GRAPHS = 64
"""Kinds of steps that are kept; eight conversations have about 30 in use, by the rows that close."""
LEAST_INTS = 4096
"""Room for a step's array at first: page tables of 400,000 tokens, and some hundred numbers beside them."""


class RecordingFailed(EngineError):
    """A kind of step could not be made a graph; its launches have not run."""


class Device(Protocol):
    """What `driver.Driver` is to this module."""

    def alone(self) -> AbstractContextManager[None]: ...
    def function(self, program: bytes, name: str) -> int: ...
    def allocate(self, nbytes: int) -> int: ...
    def free(self, address: int) -> None: ...
    def pinned(self, nbytes: int) -> int: ...
    def unpin(self, address: int) -> None: ...
    def upload(self, address: int, host: int, nbytes: int) -> None: ...
    def download(self, host: int, address: int, nbytes: int) -> None: ...
    def synchronize(self) -> None: ...
    def graph(self, calls: Sequence[Call]) -> int: ...
    def launch(self, graph: int) -> None: ...
    def drop(self, graph: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Graph:
    """`output` is the offset of the logits, `shape` theirs."""

    handle: int
    launches: int
    output: int
    shape: tuple[int, ...]


class Replay:
    """The graphs of one model's steps, and the memory that they share.

    `settle` waits for what MLX was given; `addresses` says where its arrays lie.
    """

    def __init__(
        self, device: Device, launcher: CudaLauncher, addresses: Callable[[Sequence[Any]], list[int]],
        settle: Callable[[KernelState], None],
    ) -> None:  # fmt: skip
        self.device, self.launcher, self.addresses, self.settle = device, launcher, addresses, settle
        self.plan: Plan | None = None
        self.step: Made | None = None
        self._graphs: OrderedDict[tuple[Any, ...], Graph] = OrderedDict()
        self._functions: dict[str, int] = {}
        self._weights: dict[int, tuple[Any, int]] = {}
        self._state: dict[int, int] = {}
        self._generation: tuple[KernelState | None, int, int] = (None, 0, 0)
        self._seen = -1
        self._ints, self._room = LEAST_INTS, 0
        self._arena = self._host = self._host_bytes = 0
        self._landing = Landing(device)

    def run(self, plan: Plan, state: KernelState, work: Callable[[], Any]) -> NDArray[np.float32]:
        """The host's copy of what `work` gives, float32; `work` is called only where this kind of step is new."""
        with self.device.alone():
            return self._run(plan, state, work)

    def _run(self, plan: Plan, state: KernelState, work: Callable[[], Any]) -> NDArray[np.float32]:
        if self._seen != self.launcher.by_mlx:
            self.settle(state)
            self._seen = self.launcher.by_mlx
        if self._generation != (state, state.pages, state.slots):
            self._forget()
            self._generation = (state, state.pages, state.slots)
        if len(plan.array) > self._ints:
            self._forget()
            self._ints = 2 ** (len(plan.array) - 1).bit_length()
        key = _kind(plan)
        graph = self._graphs.get(key) or self._recorded(key, plan, state, work)
        self._graphs.move_to_end(key)
        self.launcher.launches += graph.launches
        return self._launched(graph, plan)

    def close(self) -> None:
        """Give the memory back."""
        with self.device.alone():
            self._forget()
            arena, host, self._arena, self._host, self._room, self._host_bytes = self._arena, self._host, 0, 0, 0, 0
            for give, address in ((self.device.free, arena), (self.device.unpin, host)):
                if address:
                    give(address)
            self._landing.close()
        self._weights.clear()
        self._generation = (None, 0, 0)

    # One step

    def _launched(self, graph: Graph, plan: Plan) -> NDArray[np.float32]:
        self._hold(4 * self._ints)
        ctypes.memmove(self._host, plan.array.ctypes.data, plan.array.nbytes)
        found, address = self._landing.array(graph.shape)
        self.device.upload(self._arena, self._host, plan.array.nbytes)
        self.device.launch(graph.handle)
        self.device.download(address, self._arena + graph.output, found.nbytes)
        self.device.synchronize()
        return found

    def _hold(self, nbytes: int) -> None:
        """At least so much pinned host memory."""
        if nbytes > self._host_bytes:
            old, self._host, self._host_bytes = self._host, 0, 0
            if old:
                self.device.unpin(old)
            self._host = self.device.pinned(nbytes)
            self._host_bytes = nbytes

    # Recording

    def _recorded(self, key: tuple[Any, ...], plan: Plan, state: KernelState, work: Callable[[], Any]) -> Graph:
        try:
            return self._record(key, plan, state, work)
        except EngineError as error:
            raise RecordingFailed(f"a step could not be recorded: {error}") from error

    def _record(self, key: tuple[Any, ...], plan: Plan, state: KernelState, work: Callable[[], Any]) -> Graph:
        step, order = Made((self._ints,), "int32"), Made((8,), "int32")
        instead: list[Any] = [order] * len(state.after)  # the stream is the order
        tape, after = Tape((step, order)), list(state.after)
        self.plan, self.step, self.launcher.tape = plan, step, tape
        state.after[:] = instead
        try:
            output = work()
        finally:
            state.after[:] = after
            self.plan = self.step = self.launcher.tape = None
        places, nbytes = tape.places(output)
        self._make_room(nbytes)
        calls = self._calls(tape, places, state)
        graph = Graph(self.device.graph(calls), len(calls), places[id(output.whole)], output.shape)
        while len(self._graphs) >= MOST_GRAPHS:
            self.device.drop(self._graphs.popitem(last=False)[1].handle)
        self._graphs[key] = graph
        return graph

    def _calls(self, tape: Tape, places: dict[int, int], state: KernelState) -> list[Call]:
        self._load([(asked.kernel, asked.dtypes) for asked in tape.asked])
        self._find([a for asked in tape.asked for a in asked.inputs if not isinstance(a, Made)], state)

        def address(a: Any) -> int:
            if isinstance(a, Made):
                return self._arena + places[id(a.whole)]
            return self._state[id(a)] if id(a) in self._state else self._weights[id(a)][1]

        return [
            Call(
                self._functions[asked.kernel.name], asked.groups, asked.kernel.threads,
                tuple(address(a) for a in (*asked.inputs, *asked.outputs)),
            )
            for asked in tape.asked
        ]  # fmt: skip

    def _load(self, signatures: Sequence[Signature]) -> None:
        new = {kernel.name: (kernel, dtypes) for kernel, dtypes in signatures if kernel.name not in self._functions}
        self.launcher.programs.prepare(new.values())
        for name, signature in new.items():
            self._functions[name] = self.device.function(self.launcher.programs.get(signature), name)

    def _find(self, arrays: Sequence[Any], state: KernelState) -> None:
        """Addresses of arrays: weights are kept alive with theirs, the state's hold for its generation."""
        own = {id(a) for a in state.arrays}
        new = {id(a): a for a in arrays if id(a) not in self._state and id(a) not in self._weights}
        for (key, array), found in zip(new.items(), self.addresses(list(new.values())), strict=True):
            if key in own:
                self._state[key] = found
            else:
                self._weights[key] = (array, found)

    def _make_room(self, nbytes: int) -> None:
        if nbytes > self._room:
            self._forget()
            old, self._arena, self._room = self._arena, 0, 0
            if old:
                self.device.free(old)
            room = nbytes + nbytes // 2
            self._arena = self.device.allocate(room)
            self._room = room

    def _forget(self) -> None:
        """Drop all graphs: what they point to moves."""
        for graph in self._graphs.values():
            self.device.drop(graph.handle)
        self._graphs.clear()
        self._state.clear()


def _kind(plan: Plan) -> tuple[Any, ...]:
    """What shapes and grids of a step depend on; everything else is read from its array."""
    splits = tuple((ratio, s.count) for ratio, s in plan.splits.items())
    closing = tuple(plan.closing.items())
    scores = (plan.score_stride, plan.score_blocks) if plan.selecting else ()
    return plan.tokens, plan.late, scores, closing, splits
