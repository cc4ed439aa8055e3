"""Whether this machine computes what it should, and what fits it: the checks of `ds4-backend doctor`.

Each check is a function that returns plain `Check`s; none raises, none changes a setting. Settings that would help are
named with the command that sets them, for the user to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ds4_backend.errors import DS4Error
from ds4_backend.gguf.shapes import TINY
from ds4_backend.measure.compare import KINDS, Case, Result, cases, compare
from ds4_backend.ops.device import Device

SMALL = replace(
    TINY,
    embedding_length=256,
    attention_head_count=4,
    attention_key_length=128,
    attention_output_lora_rank=64,
    attention_indexer_head_count=4,
    attention_indexer_key_length=64,
)
"""What a processor compares in seconds; a GPU takes `TINY`, with Flash's own head and row widths."""
KEPT_BYTES = 1 << 20
"""Of device memory, what may stay after a model is gone: tables of constants."""


REPORT = "please report this with the output of `ds4-backend doctor --json`"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `ok` False makes the doctor's verdict bad; None is for information. `advice` says what to do."""

    name: str
    ok: bool | None
    text: str
    advice: str = ""


def ops_here(device: Device) -> list[str]:
    """The ops that can run on this device beside numpy, the fastest first."""
    return [device.kind, "mlx"] if device.kind in ("metal", "cuda") else ["mlx"]


def arithmetic(
    ops: str, device: Device, thorough: bool = False, report: Callable[[int, int], None] = lambda done, total: None
) -> Check:
    """Small random networks of every kind of layer, through these ops and through numpy."""
    chosen, base = _cases(device, thorough), SMALL if device.kind == "cpu" else TINY
    results: list[Result] = []
    for number, case in enumerate(chosen):
        results += compare(case, ops, base)
        report(number + 1, len(chosen))
    bad = [result for result in results if not result.ok]
    if bad:
        text = f"{len(bad)} of {len(results)} comparisons with numpy fail: {_worst(bad)}"
        return Check(f"{ops} ops", False, text, f"set `ops` to {'numpy' if ops == 'mlx' else 'mlx'}; {REPORT}")
    largest = max(results, key=lambda result: result.error)
    text = f"agree with numpy in {len(results)} comparisons; largest relative error {largest.error:.1e}"
    return Check(f"{ops} ops", True, f"{text} ({largest.case}, {largest.phase})")


def bodies(ops: str) -> Check | None:
    """Each kernel against the numpy op, where these ops have kernels of their own that can be asked."""
    import ds4_backend.ops

    self_tests = getattr(ds4_backend.ops, "self_tests", None)
    if self_tests is None or ops == "mlx":
        return None
    results = list(self_tests(ops))
    if not results:
        return None
    bad = [f"{body} (error {error:.1e})" for body, error, ok in results if not ok]
    if bad:
        text = f"{len(bad)} of {len(results)} differ from numpy: {', '.join(bad)}"
        return Check(f"{ops} kernels", False, text, f"the mlx ops take their place, slower; {REPORT}")
    return Check(f"{ops} kernels", True, f"all {len(results)} agree with numpy")


def unloading(path: Path, ops: str) -> Check:
    """Whether a model's memory comes back when it is unloaded."""
    import gc

    import mlx.core as mx

    from ds4_backend.model import load_model

    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    model = load_model(path, ops=ops)
    sequence = model.new_sequence()
    model.forward([(sequence, [1, 2, 3])])
    held = mx.get_active_memory() - before
    sequence.release()
    del sequence
    model.release()
    left = mx.get_active_memory() - before
    text = f"a loaded model took {held / 1e6:.1f} MB; {max(left, 0) / 1e6:.1f} MB are left after unloading it"
    return Check("unloading", left <= KEPT_BYTES, text, "" if left <= KEPT_BYTES else "end the process to free memory")


def sharing(device: Device) -> Check | None:
    """On Metal: whether weights are read from the file's own pages, or from a copy."""
    if device.kind != "metal":
        return None
    import mmap

    import mlx.core as mx
    import numpy as np

    memory = mmap.mmap(-1, 4 * mmap.PAGESIZE)
    try:
        mx.eval(mx.asarray(np.frombuffer(memory, np.uint8), copy=False) + 1)
    except (ValueError, RuntimeError) as error:
        return Check("weights", None, f"are copied into MLX's memory: {error}", "a newer MLX may share pages")
    return Check("weights", True, "are read from the file's own pages, without a copy")


def prompt_cache(folder: Path, max_bytes: int | None) -> Check:
    """Whether the prompt cache can be opened, and what it found broken before. Reads no records."""
    from ds4_backend.cache import maintenance
    from ds4_backend.cache.store import Store

    if not folder.exists():
        return Check("prompt cache", None, f"{folder} is not there yet: nothing was cached")
    try:
        store = Store.open(folder, max_bytes=max_bytes, background=False)
        try:
            found = maintenance.stats(store)
        finally:
            store.close()
    except (DS4Error, OSError) as error:
        return Check("prompt cache", False, f"cannot be used: {error}", "`ds4-backend cache purge` starts it afresh")
    text = (
        f"{found.tokens:,} tokens of {found.conversations:,} conversations in {found.bytes_on_disk / 1e6:,.0f} MB of "
        f"at most {found.max_bytes / 1e6:,.0f} MB; {found.hit_ratio:.0%} of prompt tokens came from it"
    )
    if found.bad_records:
        text += f"; {found.bad_records:,} records were found bad and set aside"
        return Check("prompt cache", None, text, "`ds4-backend cache verify` reads everything kept, to find more")
    return Check("prompt cache", True, text)


def guarded(name: str, check: Callable[[], Check | None]) -> Iterator[Check]:
    """The check's finding; what it raises is one, too."""
    try:
        found = check()
    except Exception as error:  # the doctor reports what breaks, whatever it is
        found = Check(name, False, f"{type(error).__name__}: {error}", REPORT)
    if found is not None:
        yield found


def _cases(device: Device, thorough: bool) -> list[Case]:
    if thorough:
        return list(cases())
    recipes: Sequence[str] = ("q2",) if device.kind == "cpu" else ("q2", "q4", "mxfp4")
    return [Case(kind, recipe, True, forced=True) for recipe in recipes for kind in KINDS]


def _worst(bad: Sequence[Result]) -> str:
    worst = max(bad, key=lambda result: result.error)
    if worst.trouble:
        return f"{worst.case}: {worst.trouble}"
    return f"{worst.case}, {worst.phase}: relative error {worst.error:.1e}, allowed {2 * worst.half_error:.1e}"
