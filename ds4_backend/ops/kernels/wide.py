"""Products on tensor cores, where the language is CUDA: which matrices they take, `project`, and prefill's tiles.

`text/fragments.msl` and `text/digits.msl` say how. Widths must be whole tiles of 256 values; others stay with the
bodies of both languages. It knows no layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ds4_backend.ops.kernels.kernel import DIGITS, Kernel
from ds4_backend.ops.kernels.projections import GRID, Job

FORMATS = ("F16", "Q8_0", "Q2_K", "Q4_K", "IQ2_XXS", "MXFP4")
THREADS = 256
WARPS = THREADS // 32
TILE = 256
COLUMNS = 8
"""Tokens of a product."""
PAIRS, PAIR_ROWS = 32, 64
"""Pairs and rows of a prefill tile: four simdgroups, because their registers leave room for three threadgroups."""
ENOUGH = 256
"""Threadgroups of a launch that leave few processors idle: about two for each."""
PART = WARPS * 2 * 16 * COLUMNS + COLUMNS
"""Floats of `part`: every simdgroup's sums, and a factor a column."""
THREADGROUP_BYTES = 48 << 10
"""Memory that a threadgroup may declare on CUDA."""
LIBRARIES = ("numbers", "mma", "fragments")
RECORDS = dict(zip(DIGITS, (33, 37, 33), strict=True))
"""Formats that one column is multiplied with as whole numbers; the size of a tile of x then, in sixteens of bytes."""
_FILL = """for (uint i = thread_index_in_threadgroup; i < 4 * 384; i += THREADS) {
  uint4 four;
  four.x = four.y = four.z = four.w = iq2_picks[i / 4];
  *(threadgroup uint4*)(tables + 4 * i) = four;
}
"""
_LAST = "if (thread_index_in_threadgroup == 0) tables[6144] = 0x406b5948u;\n"
"""64 more than each magnitude, by its number."""


def picks(magnitudes: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """What picks IQ2_XXS's values, a nibble each, uint32 [384]: the grid's rows [256, 8], then the 128 sets of signs.

    Magnitudes 8, 25 and 43 are the numbers 0 to 2, a sign is 4 more; the number of signs is even.
    """
    signs = np.arange(128)[:, None] >> np.arange(7) & 1
    signs = np.concatenate([signs, signs.sum(1, keepdims=True) & 1], axis=1) * 4
    nibbles = np.concatenate([magnitudes >> 4 & 3, signs]).astype(np.uint32)
    return (nibbles << np.arange(0, 32, 4, dtype=np.uint32)).sum(1, dtype=np.uint32)


def takes(format: str, columns: int) -> bool:
    """Whether a matrix of that format and width can be multiplied so."""
    return format in FORMATS and columns % TILE == 0


def table_words(formats: Sequence[str], *, digits: bool = False) -> int:
    """Size of `tables`: sixteen copies of IQ2_XXS's 384 words, and what float16, or what digits are picked from."""
    return 16 * (256 + 128) + (512 if digits else 1) if GRID in formats else 1


def tables(formats: Sequence[str], *, digits: bool = False) -> tuple[str, tuple[str, ...]]:
    """The text of `tables`, what IQ2_XXS picks values with (`digits`: bytes instead of float16), and the input to add;
    ends with a barrier."""
    barrier = "threadgroup_barrier(mem_flags::mem_threadgroup);"
    text = f"threadgroup uint tables[{table_words(formats, digits=digits)}];\n"
    if GRID not in formats:
        return text + barrier, ()
    last = "Digit<IQ2_XXS>::fill(tables, thread_index_in_threadgroup, THREADS);\n" if digits else _LAST
    return text + _FILL + last + barrier, ("iq2_picks",)


def stage(formats: Sequence[str]) -> str:
    """The text of `stage`, what rows of Q8_0 come through, and whether they do: IQ2_XXS's tables leave no room.

    A simdgroup has sixteen rows of a tile, 17 sixteens of bytes and one more, as STAGE in `text/fragments.msl`.
    """
    copied = "Q8_0" in formats and GRID not in formats
    size = WARPS * 16 * 18 if copied else 1
    return f"threadgroup uint4 stage[{size}];\nconstexpr bool COPIED = {str(copied).lower()};\n"


def split(columns: int) -> int:
    """Simdgroups that share a row: constant SPLIT of `Shares`."""
    whole = columns // TILE
    return 8 if whole > 4 else 4 if whole > 2 else whole


def rows_of_block(columns: int, sixteens: int = 1) -> int:
    """Rows of a threadgroup whose simdgroups take so many times sixteen of a matrix."""
    return WARPS // split(columns) * 16 * sixteens


def sixteens_down(rows: int, columns: int, tokens: int) -> int:
    """Sixteens of rows of a simdgroup of `wide_down`: two share what is made of x where threadgroups are enough."""
    return 2 if rows // rows_of_block(columns, 2) * tokens >= 2 * ENOUGH else 1


def part_of(format: str) -> str:
    """What multiplies one column with a format's rows, as a type of the texts."""
    return f"{'Digit' if format in RECORDS else 'Fragment'}<{format}>"


def held(format: str, columns: int) -> int:
    """Sixteens of bytes that a token's x takes in `wide_up`: as records, or as float16."""
    return columns // TILE * RECORDS[format] if format in RECORDS else columns // 8


def slots(used: int, blocks: int, format: str, columns: int) -> int:
    """Experts that a threadgroup of `wide_up` goes through, of the token's `used`; `blocks` threadgroups an expert, of
    all tokens: as many as leave about three threadgroups for each processor, and find room for their sums."""
    room = THREADGROUP_BYTES - 16 * held(format, columns) - 4 * table_words([format], digits=True) - 512

    def good(n: int) -> bool:
        return used % n == 0 and 4 * 2 * 16 * WARPS * n <= room and blocks * used // n >= ENOUGH * 3 // 2

    return max(filter(good, range(2, used + 1)), default=1)


def _sixteens(jobs: Sequence[Job]) -> int:
    """Sixteens of rows that a simdgroup takes: two share the loads of x where threadgroups are enough."""
    return 2 if sum(job.rows // rows_of_block(job.columns, 2 - job.paired) for job in jobs) >= ENOUGH else 1


def _rows(job: Job, sixteens: int) -> int:
    """Rows of a threadgroup: of a pair, sixteen of each matrix."""
    return rows_of_block(job.columns, 1 if job.paired else sixteens)


def fits(jobs: Sequence[Job]) -> bool:
    """Whether all of a launch's matrices can be multiplied so. A threadgroup's rows read the x of one group."""
    return all(
        takes(job.format, job.columns) and (job.groups == 1 or job.rows // job.groups % _rows(job, 2) == 0)
        for job in jobs
    )


def blocks_of(jobs: Sequence[Job], among: Sequence[Job] = ()) -> int:
    """Threadgroups of jobs, of a launch of `among`, or of these."""
    sixteens = _sixteens(among or jobs)
    return sum(-(-job.rows // _rows(job, sixteens)) for job in jobs)


def parts_of(jobs: Sequence[Job], out: str, out_stride: str, epsilon: float = 0.0) -> str:
    """The chain of jobs in a body: `block` is the threadgroup's number among theirs; weights are `w0`, `w1`, ..."""
    text, number, previous = "", 0, 0
    for job in jobs:
        blocks = blocks_of([job], jobs)
        condition = f"if (block < {blocks})" if not text else f"else if ((block -= {previous}) < {blocks})"
        text += f"{condition} {{\n{_job(job, number, _sixteens(jobs), out, out_stride, epsilon)}}}\n"
        number, previous = number + job.weights, blocks
    return text


def _job(job: Job, number: int, sixteens: int, out: str, out_stride: str, epsilon: float) -> str:
    rows, stride, kind = _rows(job, sixteens), job.stride or job.columns, f"{job.format}, {job.columns}"
    pairs = [(number, ""), (number + 1, "")] if job.paired else [(number, ""), (number, " + 16")][:sixteens]
    sixteen = ", ".join(f"sixteen<{kind}>(w{n}, {job.rows}, own{more}, lane)" for n, more in pairs)
    text = f"""typedef Shares<{job.columns}, {WARPS}> S;
const uint first = block * {rows}, own = first + warp / S::SPLIT * {16 if job.paired else 16 * sixteens};
const uint token = lane / 4 < tokens ? lane / 4 : tokens - 1;
const Sixteen rows[{len(pairs)}] = {{{sixteen}}};
"""
    group = f" + first / {job.rows // job.groups} * {job.columns}" if job.groups > 1 else ""
    text += f"Held<{job.format}, {'true' if job.normed else 'false'}, false> column;\ncolumn.lane = lane;\n"
    text += f"column.x = {job.x} + ulong(token) * {stride}{group};\n"
    if job.normed:
        scales = f"part + {PART - COLUMNS}"
        text += f"share_scales<{job.columns}>({job.x}, {stride}, tokens, {epsilon!r}f, {scales}, lane, warp);\n"
        text += f"column.norm = norm;\ncolumn.scale = ({scales})[token];\n"
    shape = f"{kind}, {WARPS}, {len(pairs)}, {COLUMNS}, COPIED"
    text += f"share_rows<{shape}>(rows, column, part, lane, warp, stage, tables);\n"
    total = f"sum_shares<S::SPLIT, {COLUMNS}>(part, "
    value = f"{total}r, t)"
    if job.paired:
        value = f"swiglu({total}r / 16 * 32 + r % 16, t), {total}r / 16 * 32 + r % 16 + 16, t), {job.clamp!r}f)"
    return (
        text
        + f"""for (uint i = tid; i < {rows * COLUMNS}; i += THREADS) {{
const uint r = i / {COLUMNS}, t = i % {COLUMNS};
if (t < tokens && first + r < {job.rows}) {out}[ulong(t) * {out_stride} + {job.at} + first + r] = {value};
}}
"""
    )


@cache
def project(jobs: tuple[Job, ...], out_stride: int) -> Kernel:
    """out [T, out_stride] from `x` through the jobs' matrices `w0`, ..."""
    text, extra = tables([job.format for job in jobs])
    weights = tuple(f"w{i}" for i in range(sum(job.weights for job in jobs)))
    parts = {"GRID_TABLE": stage([job.format for job in jobs]) + text, "PARTS": parts_of(jobs, "out", str(out_stride))}
    return Kernel(
        "project", ("step", "x", *weights, *extra), ("out",), THREADS, {"PART": PART, "RESIDENT": 2},
        ("step", *LIBRARIES), parts,
    )  # fmt: skip


@cache
def tiles(format: str, rows: int, columns: int, used: int, clamp: float | None) -> Kernel:
    """(tiles, order, x, w0, w1) -> out: with a clamp swiglu of two matrices, float16; else one matrix, float32."""
    text, extra = tables([format])
    constants: dict[str, int | float | str] = {
        "FORMAT": format, "ROWS": rows, "K": columns, "USED": used, "PAIRED": clamp is not None,
        "CLAMP": float(clamp or 0.0), "OUT": "float" if clamp is None else "half", "RESIDENT": 3,
    }  # fmt: skip
    return Kernel(
        "wide_tiles", ("tiles", "order", "x", "w0", "w1", *extra), ("out",), 2 * PAIR_ROWS, constants,
        (*LIBRARIES, "staged"), {"TABLES": text},
    )  # fmt: skip
