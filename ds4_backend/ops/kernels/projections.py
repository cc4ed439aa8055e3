"""The decode kernels that multiply 1 to 8 rows with raw blocks: one launch for several matrices. It knows no layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

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


class Collapse(NamedTuple):
    """That x is made of one token's streams on the way: `n` streams of `width`, and the hyper-connection's numbers."""

    n: int
    width: int
    epsilon: float
    hc_epsilon: float
    rounds: int

    @property
    def blocks(self) -> int:
        """Threadgroups that write what others want: output gates and mixing, and x."""
        return 1 + -(-self.width // (THREADS * 4))


_SLOTS = (1, 1, 2, 4, 4, 8, 8, 8, 8)


def token_slots(tokens: int) -> int:
    """The number of rows that a kernel is compiled for: few variants, each compiled once."""
    return _SLOTS[tokens]


SLICE_ROWS, GATE_ROWS = 16, 8
"""Rows of a threadgroup for one token, of one matrix and of two: they share the loads of x, and 4096 rows (2048 of two)
still give every processor two threadgroups."""


def rows_of_block(job: Job, slots: int) -> int:
    """Rows of a threadgroup. A block of a grouped matrix reads one group's x, so it lies within the group."""
    if slots > 1:
        return WARPS * 4
    if job.paired:
        return GATE_ROWS
    return SLICE_ROWS if job.rows // job.groups % SLICE_ROWS == 0 or job.groups == 1 else SLICE_ROWS // 2


def blocks_of(jobs: Sequence[Job], slots: int) -> int:
    """Threadgroups of all jobs."""
    return sum(-(-job.rows // rows_of_block(job, slots)) for job in jobs)


def libraries_of(jobs: Sequence[Job], slots: int) -> tuple[str, ...]:
    """What the jobs' calls need, after `step` and `numbers`."""
    paired = any(job.paired for job in jobs)
    if slots == 1:
        return ("blocks", "slices", "gate_slices") if paired else ("blocks", "slices")
    return ("blocks", "products", "gates") if paired else ("blocks", "products")


def part_size(slots: int) -> int:
    """Floats of `part`, where the simdgroups' shares of one token's rows meet."""
    return WARPS * max(SLICE_ROWS, 2 * GATE_ROWS) if slots == 1 else 1


def parts_of(
    jobs: Sequence[Job], slots: int, out: str, out_stride: str, epsilon: float = 0.0, collapse: Collapse | None = None
) -> str:
    """The chain of jobs in a body: `block` is the threadgroup's number among theirs; weights are `w0`, `w1`, ..."""
    text, number, previous = _collapsing(collapse) if collapse else "", 0, collapse.blocks if collapse else 0
    for job in jobs:
        blocks = blocks_of([job], slots)
        condition = f"if (block < {blocks})" if not text else f"else if ((block -= {previous}) < {blocks})"
        if slots == 1:
            inner = _slice(job, number, out, epsilon, collapse)
        else:
            inner = _job(job, number, slots, out, out_stride, epsilon)
        text += f"{condition} {{\n{inner}}}\n"
        number, previous = number + job.weights, blocks
    return text


def _collapsing(c: Collapse) -> str:
    """The gates, for every threadgroup; the first ones write what later launches want."""
    numbers = f"{c.epsilon!r}f, {c.hc_epsilon!r}f"
    return (
        f"const InputGates<{c.n}> gates = input_gates<{c.n}, {c.width}>(sums, scales, base, {numbers}, lane);\n"
        f"if (block == 0) {{\nif (warp == 0) write_mixed<{c.n}, {c.width}>(sums, scales, base, mixed, {numbers}, "
        f"{c.rounds}, lane);\n}} else if (block < {c.blocks}) {{\n"
        f"const uint d = (block - 1) * {THREADS * 4} + tid * 4;\nif (d < {c.width}) {{\nfloat four[4];\n"
        f"collapse_four<{c.n}, {c.width}>(x + d, norm + d, gates, four);\n"
        "for (uint i = 0; i < 4; ++i) collapsed[d + i] = four[i];\n}\n}\n"
    )


def _slice(job: Job, number: int, out: str, epsilon: float, collapse: Collapse | None) -> str:
    """One token's rows: every simdgroup multiplies its slice, then a thread a row adds them up."""
    each = rows_of_block(job, 1)
    kind, sizes = f"{job.format}, {job.columns}, {WARPS}", f"{job.format}, {job.columns}, {each}, {WARPS}"
    place = "lane, warp, grid);\nthreadgroup_barrier(mem_flags::mem_threadgroup);\n"
    group = f" + first / {job.rows // job.groups} * {job.columns}" if job.groups > 1 else ""
    text = f"const uint first = block * {each};\nfloat v[Slice<{job.columns}, {WARPS}>::VALUES];\n"
    if collapse:
        text += f"collapse_slice<{kind}, {collapse.n}>({job.x}, norm, gates, v, lane, warp);\n"
    else:
        text += f"load_slice<{kind}>({job.x}{group}, v, lane, warp);\n"
    if job.normed:
        text += f"norm_slice<{kind}>(norm, v, part, {epsilon!r}f, lane, warp);\n"
    value = f"sum_of<{each}, {WARPS}>(part, tid)"
    if job.paired:
        text += f"multiply_two<{sizes}>(w{number}, w{number + 1}, {job.rows}, v, part, first, {place}"
        value = f"swiglu({value}, sum_of<{each}, {WARPS}>(part + {WARPS * each}, tid), {job.clamp!r}f)"
    else:
        text += f"multiply_one<{sizes}>(w{number}, {job.rows}, v, part, first, {place}"
    return text + f"if (tid < {each} && first + tid < {job.rows}) {out}[{job.at} + first + tid] = {value};\n"


def _job(job: Job, number: int, slots: int, out: str, out_stride: str, epsilon: float) -> str:
    """Several tokens' rows: four to a simdgroup, which share the loads of every x."""
    first = f"(block * {WARPS} + warp) * 4"
    common = f"{job.x}, {job.stride or job.columns}, tokens"
    end = f"{out} + {job.at}, {out_stride}, {first}, lane, grid);\n"
    values = ", ".join(["1.0f"] * slots)
    if job.paired:
        sizes = f"{job.format}, {job.columns}, 4, {slots}"
        call = f"gate_rows<{sizes}>(w{number}, w{number + 1}, {job.rows}, {common}, "
        return f"const float scale[{slots}] = {{{values}}};\n{call}{job.clamp!r}f, scale, {end}"
    scale = f"float scale[{slots}];\n"
    if job.normed:
        row = f"{job.x} + (t < tokens ? t : tokens - 1) * {job.stride or job.columns}"
        scale += f"for (uint t = 0; t < {slots}; ++t) scale[t] = rms_scale({row}, {job.columns}, {epsilon!r}f, lane);\n"
    call = (
        f"project_rows<{job.format}, {job.columns}, 4, {slots}, {'true' if job.normed else 'false'}>(w{number}, "
        f"{job.rows}, {max(job.rows // job.groups, 1)}, {common}, {job.x if not job.normed else 'norm'}, scale, "
    )
    return scale + call + end


def grid_table(formats: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The text of `grid`, a zero and behind it the table where a format needs it, and the input to add."""
    reads = GRID in formats
    thread = "thread_index_in_threadgroup"
    text = f"threadgroup uint grid[{514 if reads else 2}];\nif ({thread} < 2) grid[{thread}] = 0;\n"
    if reads:  # 64 more than each magnitude, as its `unpack` wants them
        text += f"for (uint i = {thread}; i < 512; i += THREADS) grid[2 + i] = iq2_grid[i] + 0x40404040u;\n"
    return text + "threadgroup_barrier(mem_flags::mem_threadgroup);", ("iq2_grid",) if reads else ()


@cache
def project(jobs: tuple[Job, ...], slots: int, out_stride: int, collapse: Collapse | None = None) -> Kernel:
    """out [T, out_stride] from `x` through the jobs' matrices `w0`, ...

    With `collapse` x is streams, `sums` what `spread` made of them; (out, mixed, collapsed) are the outputs.
    """
    table, extra = grid_table([job.format for job in jobs])
    weights = tuple(f"w{i}" for i in range(sum(job.weights for job in jobs)))
    more = ("sums", "scales", "base", "norm") if collapse else ()
    text = parts_of(jobs, slots, "out", str(out_stride), collapse=collapse)
    libraries = libraries_of(jobs, slots)
    return Kernel(
        "project",
        ("step", "x", *more, *weights, *extra),
        ("out", "mixed", "collapsed") if collapse else ("out",),
        THREADS,
        {"PART": part_size(slots)},
        libraries=("step", "numbers", *libraries, *(("hyper", "collapse", "collapse_slice") if collapse else ())),
        parts={"GRID_TABLE": table, "PARTS": text},
    )
