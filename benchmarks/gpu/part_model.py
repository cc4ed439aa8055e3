"""Part `model`: the whole network: load, memory, prefill and decode over context, side by side, restore, unload.

The stages share one loaded model. What is cheap and matters most comes first; each long one stops when its part of the
time is over.
"""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import options
import results
import stages_profile

from ds4_backend.gguf.geometry import PAGE_TOKENS
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.measure import frontiers as f
from ds4_backend.measure.synthetic_state import synthetic_sequence
from ds4_backend.measure.traffic import state_bytes, state_size, weight_bytes
from ds4_backend.model import Model, Snapshot, load_model
from ds4_backend.model.codec import StateCodec
from ds4_backend.ops.device import mlx_device


@dataclass(frozen=True)
class Sizes:
    """Contexts in tokens: read, synthetic, side by side, restored; and tokens decoded at each."""

    read: tuple[int, ...] = (512, 2048, 8192, 32768)
    synthetic: tuple[int, ...] = (128_000, 300_000, 1_048_000)
    batch: int = 2048
    restored: int = 100_000 // 128 * 128
    gen_tokens: int = 64
    profiled: tuple[int, ...] = (2048, 32768)
    crowd: int = 8


TRACE_SECONDS = 90
"""After this the process ends, and the part goes on in another."""
QUICK = Sizes((64, 200), (1000,), 200, 1280, 2, (200, 300), 2)


class Bench:
    """The stages; `model` is there once `load` has run."""

    def __init__(self, told: Any) -> None:
        self.told = told
        self.sizes = QUICK if told.quick else Sizes()
        self.model: Model | None = None
        self.end = time.monotonic() + told.seconds

    def loaded(self) -> Model:
        if self.model is None:
            self.model = load_model(self.told.file, ops=self.told.ops)
        return self.model

    def load(self) -> dict[str, Any]:
        before, start, marks = mlx_device(), time.perf_counter(), []
        with open_gguf(self.told.file) as file:
            weights = sum(tensor.nbytes for tensor in file.tensors.values())
            read = weight_bytes(file.tensors, options.geometry(self.told))
            self.model = load_model(
                file, ops=self.told.ops, progress=lambda done, total: marks.append(time.perf_counter() - start)
            )
        mx.synchronize()
        seconds = time.perf_counter() - start
        return {
            "load_seconds": seconds,
            "bytes_per_second": weights / seconds,
            "file_weight_bytes": weights,
            "read_per_token_bytes": read,
            "layer_seconds": [round(mark, 3) for mark in marks],
            **memory(before.free),
        }

    def first(self) -> dict[str, Any]:
        """The first token and the first chunk, kernels' compilation with them; then decode without much context."""
        model = self.loaded()
        sequence = model.new_sequence()
        times = {}
        for name, count in (("first_token", 1), ("second_token", 1), ("first_chunk", model.prefill_tokens)):
            start = time.perf_counter()
            logits = f.prefill(model, sequence, f.random_ids(model, count))
            times[f"{name}_seconds"] = time.perf_counter() - start
        row = f.decode_row(model, sequence, logits, self.sizes.gen_tokens, None)
        sequence.release()
        start = time.perf_counter()
        self.warm()
        times["rest_seconds"] = time.perf_counter() - start
        finite = bool(np.isfinite(logits).all())
        return times | {"finite": finite, "deviation": float(logits.std()), **asdict(row)}

    def warm(self) -> None:
        """What only long contexts and several conversations launch, so that no row below compiles anything."""
        model = self.loaded()
        for count, tokens in ((1, 9), (1, 1), (2, 1), (4, 1), (8, 1)):
            crowd = [synthetic_sequence(model, self.sizes.read[-1] // 4, seed) for seed in range(count)]
            model.forward([(one, [1] * tokens) for one in crowd])
            for one in crowd:
                one.release()

    def read(self) -> dict[str, Any]:
        """Prefill and decode at contexts that are really read."""
        model, rows, places = self.loaded(), [], self.sizes.read
        for row in f.walk(model, f.random_ids(model, places[-1]), places, self.sizes.gen_tokens, None):
            rows.append(asdict(row) | {"state_read_bytes": state_bytes(model.geometry, row.ctx_tokens)})
            results.partly("read", {"rows": rows})
        return {"rows": rows, "prefill_chunk": model.prefill_tokens} | memory()

    def synthetic(self) -> dict[str, Any]:
        """Decode at contexts whose pages are random."""
        model, rows = self.loaded(), []
        for length in self.sizes.synthetic:
            start = time.perf_counter()
            row = f.synthetic_row(model, length, self.sizes.gen_tokens, None)
            seconds = time.perf_counter() - start
            by_document = state_size(model.geometry, length)
            rows.append(asdict(row) | {"seconds": seconds, "float16_bytes": by_document, "held": model.state.nbytes})
            results.partly("synthetic", {"rows": rows})
        return {"rows": rows} | memory()

    def batch(self) -> dict[str, Any]:
        """Conversations side by side at 2,048 tokens each."""
        rates = f.batch_rates(self.loaded(), (1, 2, 4, 8), self.sizes.batch, self.sizes.gen_tokens)
        return {"tokens_per_second": rates, "gain": rates[8] / rates[1]}

    def trace(self) -> dict[str, Any]:
        """Every kernel of a decoded token, of eight side by side, and of a chunk of prefill."""
        model = self.loaded()
        chunk = min(model.prefill_tokens, self.sizes.profiled[0])
        faulthandler.dump_traceback_later(TRACE_SECONDS, exit=True)  # a tracer that hangs must not take the rest
        try:
            return stages_profile.trace(model, self.sizes.profiled, self.sizes.crowd, chunk)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def replay(self) -> dict[str, Any]:
        """Each body alone, where no trace is to be had."""
        stage = results.load().get("trace", {})
        if any("rows" in step for step in stage.values() if isinstance(step, dict)):
            return {"skipped": "the trace says more"}
        return stages_profile.replay(self.loaded(), self.sizes.profiled[0])

    def restore(self) -> dict[str, Any]:
        """A conversation of 100,000 tokens, its pages as the disk cache stores them."""
        model, length = self.loaded(), self.sizes.restored
        codec = StateCodec(model.geometry, packed=True)
        count = length // PAGE_TOKENS
        data = np.random.default_rng(0).integers(0, 4, count * codec.page_nbytes, np.uint8).tobytes()
        tail = codec.decode_tail(bytes(codec.tail_nbytes(length)), length)
        snapshot, some = Snapshot(length, codec.stored_pages(data), tail), codec.decode_pages(data[: codec.page_nbytes])
        times, launches = [], f.launch_count(model)
        for _ in range(3):
            start = time.perf_counter()
            again = model.import_sequence(snapshot)
            mx.synchronize()
            times.append(time.perf_counter() - start)
            same = all(np.array_equal(again.export_pages([0])[kind], rows) for kind, rows in some.items())
            again.release()
        after = f.launch_count(model)
        each = None if launches is None or after is None else (after - launches) / 3
        return {"tokens": length, "stored_bytes": len(data), "import_seconds": times, "launches": each, "same": same}

    def unload(self) -> dict[str, Any]:
        """Give everything back."""
        held = memory()
        if self.model is not None:
            self.model.release()
            self.model = None
        return {"before": held, "after": memory()}

    def stages(self) -> list[tuple[str, Callable[[], dict[str, Any]], float]]:
        """Name, work, and seconds that must be left to begin it."""
        return [
            ("load", self.load, 20),
            ("first", self.first, 20),
            ("read", self.read, 20),
            ("batch", self.batch, 15),
            ("trace", self.trace, 15),
            ("replay", self.replay, 15),
            ("synthetic", self.synthetic, 30),
            ("restore", self.restore, 20),
            ("unload", self.unload, 2),
        ]


def memory(free_before: int | None = None) -> dict[str, Any]:
    """MLX's own count, and the card's."""
    found = mlx_device()
    values: dict[str, Any] = {
        "mlx_active": mx.get_active_memory(), "mlx_peak": mx.get_peak_memory(), "mlx_cache": mx.get_cache_memory(),
        "card_free": found.free,
    }  # fmt: skip
    if free_before is not None and found.free is not None:
        values["card_taken"] = free_before - found.free
    return values


if __name__ == "__main__":
    bench = Bench(options.read())
    for name, work, least in bench.stages():
        if bench.end - time.monotonic() > least:
            results.attempt(name, work)
