"""The decode kernels that multiply 1 to 8 rows with raw blocks: one launch for several matrices. It knows no layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from ds4_backend.ops.kernels.kernel import Kernel

THREADS = 128
WARPS = THREADS // 32
MOST_TOKENS = 8
"""Rows that a decode kernel takes; more go the way of prefill."""
GRID = "IQ2_XXS"
"""The format whose decoder reads a table: the kernel then takes `iq2_grid`, uint32 [512], as its last input."""


@dataclass(frozen=True, slots=True)
class Job:
    """One matrix [rows, columns] times x: columns `at` onward of the output.

    `x` names its input (x rows are `stride` apart). A `paired` job multiplies with a second matrix, too, and gives
    swiglu of both. Rows of a grouped matrix (`groups` > 1) read the x of their group.
    """

    format: str
    rows: int
    columns: int
    at: int
    x: str = "x"
    stride: int = 0
    paired: bool = False
    clamp: float = 0.0
    groups: int = 1
    normed: bool = False

    @property
    def formats(self) -> tuple[str, ...]:
        return (self.format,)

    @property
    def weights(self) -> int:
        """How many matrices it takes."""
        return 2 if self.paired else 1


_SLOTS = (1, 1, 2, 4, 4, 8, 8, 8, 8)


def token_slots(tokens: int) -> int:
    """The number of rows that a kernel is compiled for: few variants, each compiled once."""
    return _SLOTS[tokens]


def rows_each(slots: int) -> int:
    """Rows of a simdgroup: more share the loads of x, fewer keep more loads in flight."""
    return 2 if slots == 1 else 4


def blocks_of(jobs: Sequence[Job], slots: int) -> int:
    """Threadgroups of all jobs."""
    return sum(-(-job.rows // (WARPS * rows_each(slots))) for job in jobs)


def parts_of(jobs: Sequence[Job], slots: int, out: str, out_stride: str, epsilon: float = 0.0) -> str:
    """The chain of jobs in a body: `block` is the threadgroup's number among theirs; weights are `w0`, `w1`, ..."""
    text, number, previous, each = "", 0, 0, rows_each(slots)
    for job in jobs:
        blocks = -(-job.rows // (WARPS * each))
        condition = f"if (block < {blocks})" if not text else f"else if ((block -= {previous}) < {blocks})"
        text += f"{condition} {{\n{_job(job, number, slots, out, out_stride, epsilon)}}}\n"
        number, previous = number + job.weights, blocks
    return text


def _job(job: Job, number: int, slots: int, out: str, out_stride: str, epsilon: float) -> str:
    each = rows_each(slots)
    first = f"(block * {WARPS} + warp) * {each}"
    common = f"{job.x}, {job.stride or job.columns}, tokens"
    end = f"{out} + {job.at}, {out_stride}, {first}, lane, grid);\n"
    values = ", ".join(["1.0f"] * slots)
    if job.paired:
        sizes = f"{job.format}, {job.columns}, {each}, {slots}"
        call = f"gate_rows<{sizes}>(w{number}, w{number + 1}, {job.rows}, {common}, "
        return f"const float scale[{slots}] = {{{values}}};\n{call}{job.clamp!r}f, scale, {end}"
    scale = f"float scale[{slots}];\n"
    if job.normed:
        row = f"{job.x} + (t < tokens ? t : tokens - 1) * {job.stride or job.columns}"
        scale += f"for (uint t = 0; t < {slots}; ++t) scale[t] = rms_scale({row}, {job.columns}, {epsilon!r}f, lane);\n"
    call = (
        f"project_rows<{job.format}, {job.columns}, {each}, {slots}, {'true' if job.normed else 'false'}>(w{number}, "
        f"{job.rows}, {max(job.rows // job.groups, 1)}, {common}, {job.x if not job.normed else 'norm'}, scale, "
    )
    return scale + call + end


def grid_table(formats: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The text that gets the table where a format needs it, and the input to add."""
    if GRID not in formats:
        return "threadgroup uint grid[1];", ()
    return (
        "threadgroup uint grid[512];\n"
        "for (uint i = thread_index_in_threadgroup; i < 512; i += THREADS) grid[i] = iq2_grid[i];\n"
        "threadgroup_barrier(mem_flags::mem_threadgroup);"
    ), ("iq2_grid",)


@cache
def project(jobs: tuple[Job, ...], slots: int, out_stride: int, epsilon: float = 0.0) -> Kernel:
    """out [T, out_stride] from `x` through the jobs' matrices `w0`, ...; `norm` is an input where a job is normed."""
    table, extra = grid_table([job.format for job in jobs])
    weights = tuple(f"w{i}" for i in range(sum(job.weights for job in jobs)))
    norm = ("norm",) if any(job.normed for job in jobs) else ()
    return Kernel(
        "project",
        ("step", "x", *norm, *weights, *extra),
        ("out",),
        THREADS,
        libraries=("step", "numbers", "blocks", "products"),
        parts={"GRID_TABLE": table, "PARTS": parts_of(jobs, slots, "out", str(out_stride), epsilon)},
    )
