"""The kernels of one network, from its geometry: constants and array names of every body. It launches nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Concatenate, ParamSpec

from ds4_backend.gguf.geometry import CSA, HCA, PAGE_TOKENS, SLIDING, Geometry
from ds4_backend.ops.kernels import wide
from ds4_backend.ops.kernels.generator import compact, source
from ds4_backend.ops.kernels.kernel import Kernel
from ds4_backend.ops.kernels.projections import (
    GATE_ROWS,
    THREADS,
    WARPS,
    Job,
    grid_table,
    libraries_of,
    part_size,
    parts_of,
)

HYPER_THREADS, SORT_THREADS, TILE_THREADS = 256, 512, 256
"""CUDA gives a thread up to 255 registers: of those, 256 threads always fit on a processor."""
HYPER_ALONE = 128
"""Tokens that go alone through `hyper`, one a threadgroup."""
TILE = 64
"""Pairs of a prefill tile."""
LATE = 8
"""Tokens that a span may append before anybody reads: rings are longer by as many."""
CSA_RING, HCA_RING = 8 + LATE, 128 + LATE
MOST_SPLITS = 48
"""Splits of decode attention at most: with four head tiles more threadgroups than any GPU has processors."""

P = ParamSpec("P")


def geometry_cache(make: Callable[Concatenate[Geometry, P], Kernel]) -> Callable[Concatenate[Geometry, P], Kernel]:
    """Keeps kernels by the geometry's identity: hashing its fifty fields at every launch would cost more than one."""
    kept: dict[tuple[Any, ...], tuple[Geometry, Kernel]] = {}

    def cached(g: Geometry, *args: P.args, **kwargs: P.kwargs) -> Kernel:
        key = (id(g), *args, *sorted(kwargs.items()))
        found = kept.get(key)
        if found is None:
            found = kept[key] = (g, make(g, *args, **kwargs))
        return found[1]

    return cached


def ring_size(g: Geometry) -> int:
    """Rows of a window ring."""
    return g.attention_sliding_window + LATE


def heads_up(g: Geometry) -> int:
    """Attention heads, rounded up to whole tiles."""
    return -(-g.attention_head_count // 16) * 16


@geometry_cache
def hyper(
    g: Geometry, fn_type: str, post: bool, head: bool, together: int, y_type: str, narrow: bool, threads: int
) -> Kernel:
    """(step, streams, y, mix, fn, scales, base, norm) -> (next streams, mix, x), a threadgroup `together` tokens.

    With `narrow` x comes as float16, too. GROUP rows of fn are on their way at once: as many as 255 registers allow.
    """
    n, group = g.hyper_connection_count, (12 if threads == HYPER_THREADS else 6 if together == 1 else 4)
    group //= 2 if fn_type == "float" else 1
    constants: dict[str, int | float | str] = {
        "D": g.embedding_length, "N": n, "MIXES": n if head else n * (n + 2), "POST": post, "HEAD": head, "FN": fn_type,
        "EPSILON": g.attention_layer_norm_rms_epsilon, "HC_EPSILON": g.hyper_connection_epsilon,
        "ROUNDS": g.hyper_connection_sinkhorn_iterations, "TOKENS": together, "GROUP": group, "Y": y_type,
        "RESIDENT": 1,
    }  # fmt: skip
    inputs = ("step", "streams", "y", "mix", "fn", "scales", "base", "norm")
    libraries = ("step", "numbers", "fours", "hyper")
    outputs = ("next", "mixed", "x", *(("narrow",) if narrow else ()))
    parts = {"NARROW": "store_four(n, narrow + token * D + d);" if narrow else ""}
    return Kernel("hyper", inputs, outputs, threads, constants, libraries, parts)


def hyper_threads(language: str, together: int) -> int:
    """Threads of `hyper`: Metal may refuse more than 256 of a body that needs so many registers."""
    return HYPER_THREADS // 2 if together > 1 else 2 * HYPER_THREADS if language == "cuda" else HYPER_THREADS


def hyper_together(tokens: int) -> int:
    """Tokens of a threadgroup of `hyper`: one where every token can have a processor of its own."""
    return 1 if tokens <= HYPER_ALONE else 4


@geometry_cache
def spread(g: Geometry, fn_type: str, post: bool, finish: bool = False) -> Kernel:
    """(streams, y, mix, fn) -> (next streams, sums), of one token; `project` with `collapse` goes on from there.

    With `finish` also of several, and (..., scales, base, norm, counters) -> (..., mix, x): CUDA's alone.
    """
    n = g.hyper_connection_count
    constants: dict[str, int | float | str] = {
        "D": g.embedding_length, "N": n, "MIXES": n * (n + 2), "POST": post, "FN": fn_type
    }  # fmt: skip
    inputs, outputs, libraries = ("streams", "y", "mix", "fn"), ("next", "sums"), ("numbers", "hyper")
    if not finish:
        return Kernel("spread", inputs, outputs, THREADS, constants, libraries, {"FINISH": ""})
    constants |= {
        "EPSILON": g.attention_layer_norm_rms_epsilon, "HC_EPSILON": g.hyper_connection_epsilon,
        "ROUNDS": g.hyper_connection_sinkhorn_iterations,
    }  # fmt: skip
    return Kernel(
        "spread", (*inputs, "scales", "base", "norm", "counters"), (*outputs, "mixed", "x"), THREADS, constants,
        (*libraries, "fours", "collapse"), {"FINISH": compact(source("part_finish.msl"))},
    )  # fmt: skip


def spread_shape(g: Geometry) -> tuple[int, int]:
    """Shape of a token's `sums`; the second is how many threadgroups `spread` has."""
    n = g.hyper_connection_count
    return n * (n + 2) + n * (n + 1) // 2, -(-g.embedding_length // 128)


@geometry_cache
def embed(g: Geometry, format: str) -> Kernel:
    """(step, table) -> streams."""
    table, extra = grid_table([format])
    constants: dict[str, int | float | str] = {
        "D": g.embedding_length, "N": g.hyper_connection_count, "FORMAT": format
    }  # fmt: skip
    return Kernel(
        "embed", ("step", "table", *extra), ("streams",), 32, constants, ("step", "blocks"), {"GRID_TABLE": table}
    )


@cache
def decode(parts: tuple[tuple[str, int], ...], columns: int) -> Kernel:
    """(w0, w1, ...) -> float16 [rows, columns]; `parts` are (format, rows) of the matrices that are stacked."""
    table, extra = grid_table([format for format, _ in parts])
    chain = ""
    for i, (format, rows) in enumerate(parts):
        test = f"if (row < {rows})" if not chain else f"else if ((row -= {parts[i - 1][1]}) < {rows})"
        row = f"w{i} + ulong(row) * {format}::bytes({columns})"
        chain += f"{test} decode_row<{format}, {columns}>({row}, to, lane, grid);\n"
    constants: dict[str, int | float | str] = {"ROWS": sum(rows for _, rows in parts), "K": columns}
    weights = tuple(f"w{i}" for i in range(len(parts)))
    return Kernel("decode", (*weights, *extra), ("out",), THREADS, constants, ("blocks", "decoding"),
                  {"GRID_TABLE": table, "PARTS": chain})  # fmt: skip


# State and attention ----------------------------------------------------------------------------------------------


def _row_constants(g: Geometry, ratio: int, simulated: bool) -> dict[str, int | float | str]:
    return {
        "KIND": ratio, "KIND_NUMBER": (SLIDING, CSA, HCA).index(ratio), "WIDTH": g.attention_key_length,
        "INDEX_WIDTH": g.attention_indexer_key_length, "ROTARY": g.rope_dimension_count, "SIMULATED": simulated,
        "EPSILON": g.attention_layer_norm_rms_epsilon, "RING": ring_size(g), "CSA_RING": CSA_RING, "HCA_RING": HCA_RING,
        "WINDOW": g.attention_sliding_window,
    }  # fmt: skip


@cache
def _lane_texts(columns: tuple[int, ...], stride: int, ratio: int) -> dict[str, str]:
    """The compressors' `Lanes`, and their calls. `columns` are those of (value, gate) pairs in the projections."""
    if ratio == SLIDING:
        return {}

    def lanes(prefix: str, values: int, gates: int) -> str:
        return f"Lanes<P>{{p, {stride}, {values}, {gates}, {prefix}_ape, {prefix}_lane}}"

    if ratio == CSA:
        return {"CSA_LANES": lanes("csa", *columns[:2]), "INDEX_LANES": lanes("index", *columns[2:4])}
    return {"HCA_LANES": lanes("hca", *columns[:2])}


def _keep_calls(texts: dict[str, str], ratio: int, token: str, late: str = "") -> str:
    """Calls that put a token's values and gates into the rings; `late` is a condition on the ring's length."""

    def call(template: str, lanes: str, ring: str) -> str:
        test = late.replace("LENGTH", ring)
        position = f"position_of(step, {token})"
        return f"{test} keep_lanes<{template}>({texts[lanes]}, span, {position}, {token}, tid, THREADS);\n"

    if ratio == CSA:
        return call("4, 2, WIDTH, CSA_RING", "CSA_LANES", "CSA_RING") + call(
            "4, 2, INDEX_WIDTH, CSA_RING", "INDEX_LANES", "CSA_RING"
        )
    return call("128, 1, WIDTH, HCA_RING", "HCA_LANES", "HCA_RING") if ratio == HCA else ""


def lane_inputs(ratio: int) -> tuple[str, ...]:
    """Names of the compressors' arrays, in the order of the ops."""
    if ratio == CSA:
        return ("csa_ape", "csa_norm", "csa_lane", "csa_pool", "index_ape", "index_norm", "index_lane", "index_pool")
    return ("hca_ape", "hca_norm", "hca_lane", "hca_pool") if ratio == HCA else ()


@geometry_cache
def append(
    g: Geometry,
    ratio: int,
    simulated: bool,
    columns: tuple[int, ...],
    stride: int,
    jobs: tuple[Job, ...],
    slots: int,
    p_type: str,
    widely: bool = False,
) -> Kernel:
    """(step, p, kv_norm, window, after, lanes..., [norm, weights]) -> (rows, done, [out]): rows into rings and pools,
    and in decode the query projections in the same launch, `widely` on tensor cores. `columns` holds the window row's
    column first."""
    texts = _lane_texts(columns[1:], stride, ratio)
    close = {CSA: "part_close_csa.msl", HCA: "part_close_hca.msl"}.get(ratio)
    formats = [job.format for job in jobs]
    table, extra = (wide.tables if widely else grid_table)(formats)
    table = wide.stage(formats) + table if widely else table
    text = compact(source("part_append.msl"))
    text = text.replace("CLOSE_ROWS", compact(source(close)) if close else "").replace("GRID_TABLE", table)
    text = text.replace("KEEP_LANES", _keep_calls(texts, ratio, "token"))
    for name, lanes in texts.items():
        text = text.replace(name, lanes)
    weights: tuple[str, ...] = ()
    if jobs:
        weights = ("norm", *(f"w{i}" for i in range(len(jobs))), *extra)
        text += (
            "if (block >= append_blocks) {\nuint query_block = block - append_blocks;\n{\nuint block = query_block;\n"
        )
        out, epsilon = ("out", str(sum(job.rows for job in jobs))), g.attention_layer_norm_rms_epsilon
        text += wide.parts_of(jobs, *out, epsilon) if widely else parts_of(jobs, slots, *out, epsilon)
        text += "}\n}\n"
    constants = _row_constants(g, ratio, simulated) | {
        "P_STRIDE": stride, "P": p_type, "KV_AT": columns[0],
        "PART": wide.PART if widely else part_size(slots) if jobs else 1, **({"RESIDENT": 2} if widely else {}),
    }  # fmt: skip
    return Kernel(
        "append",
        ("step", "p", "kv_norm", "window", "after", *lane_inputs(ratio), *weights),
        ("rows", "done", *(("out",) if jobs else ())),
        wide.THREADS if widely else THREADS,
        constants,
        ("step", *_append_libraries(jobs, slots, widely)),
        {"BODY": text},
    )


def _append_libraries(jobs: tuple[Job, ...], slots: int, widely: bool) -> tuple[str, ...]:
    if widely:
        return (*wide.LIBRARIES, "rows")
    return ("numbers", "rows", *(libraries_of(jobs, slots) if jobs else ()))


@geometry_cache
def keep(g: Geometry, ratio: int, columns: tuple[int, ...], stride: int, p_type: str) -> Kernel:
    """(step, p, rows, window, after, lanes...) -> done: the ends of long spans into the rings."""
    texts = _lane_texts(columns[1:], stride, ratio)
    calls = _keep_calls(texts, ratio, "token", "if (left <= LENGTH)")
    for name, lanes in texts.items():
        calls = calls.replace(name, lanes)
    return Kernel(
        "keep", ("step", "p", "rows", "window", "after", *lane_inputs(ratio)), ("done",), THREADS,
        _row_constants(g, ratio, False) | {"P": p_type}, ("step", "numbers", "rows"), {"KEEP_LANES": calls},
    )  # fmt: skip


@geometry_cache
def score(
    g: Geometry, simulated: bool, weights_at: int, stride: int, iq_at: int, iq_stride: int, p_type: str, iq_type: str
) -> Kernel:
    """(step, iq, p, pool, after) -> scores. Index queries begin at column `iq_at` of rows of `iq_stride`."""
    constants = _row_constants(g, CSA, simulated) | {
        "HEADS": g.attention_indexer_head_count, "WEIGHTS_AT": weights_at, "P_STRIDE": stride,
        "IQ_AT": iq_at, "IQ_STRIDE": iq_stride, "P": p_type, "IQ": iq_type,
    }  # fmt: skip
    return Kernel(
        "score", ("step", "iq", "p", "pool", "after"), ("scores",), TILE_THREADS, constants,
        ("step", "numbers", "rows", "tiles"),
    )  # fmt: skip


@geometry_cache
def top_k(g: Geometry) -> Kernel:
    """(step, scores) -> chosen."""
    constants: dict[str, int | float | str] = {"K": g.attention_indexer_top_k}
    return Kernel("top_k", ("step", "scores"), ("chosen",), SORT_THREADS, constants, ("step", "sorting", "selecting"))


@geometry_cache
def attend(g: Geometry, ratio: int, stride: int, q_type: str) -> Kernel:
    """(step, q, rows, window, pool, chosen, after) -> (parts, stats); rows of queries are `stride` apart."""
    constants = _row_constants(g, ratio, False) | {
        "HEADS": g.attention_head_count, "HEADS_UP": heads_up(g), "TOP_K": g.attention_indexer_top_k,
        "PER_PAGE": 1 if ratio == HCA else 32, "SCALE": float(g.attention_key_length**-0.5),
        "Q_STRIDE": stride, "Q": q_type,
    }  # fmt: skip
    inputs = ("step", "q", "rows", "window", "pool", "chosen", "after")
    return Kernel("attend", inputs, ("parts", "stats"), TILE_THREADS, constants, ("step", "numbers", "tiles"))


@geometry_cache
def combine(g: Geometry, ratio: int, out_type: str, groups: int) -> Kernel:
    """(step, parts, stats, sinks) -> heads [groups, T, H / groups, d]."""
    constants = _row_constants(g, ratio, False) | {
        "HEADS": g.attention_head_count, "HEADS_UP": heads_up(g), "OUT": out_type, "GROUPS": groups,
        "MOST_SPLITS": MOST_SPLITS,
    }  # fmt: skip
    return Kernel("combine", ("step", "parts", "stats", "sinks"), ("heads",), THREADS, constants, ("step", "fours"))


@cache
def move() -> Kernel:
    """(target, source, list) -> done: whole units copied in place."""
    return Kernel("move", ("target", "source", "list"), ("done",), TILE_THREADS)


@geometry_cache
def unpack(g: Geometry, ratio: int, page_nbytes: int, row_nbytes: int, index_nbytes: int) -> Kernel:
    """(raw, list, pool, of CSA layers index_pool) -> done: pages as the cache stores them into one layer's pools."""
    indexed = ratio == CSA
    constants: dict[str, int | float | str] = {
        "D": g.attention_key_length, "ROTARY": g.rope_dimension_count, "ROWS": PAGE_TOKENS // ratio,
        "PAGE_BYTES": page_nbytes, "ROW_BYTES": row_nbytes, "INDEXED": indexed, "INDEX_BYTES": index_nbytes,
        "INDEX_WIDTH": g.attention_indexer_key_length,
    }  # fmt: skip
    pools = ("pool", "index_pool") if indexed else ("pool",)
    threads = TILE_THREADS if indexed else 32
    return Kernel(
        "unpack", ("raw", "list", *pools), ("done",), threads, constants, ("stored",), {"INDEX_POOL": pools[-1]}
    )


# Experts ----------------------------------------------------------------------------------------------------------


def _expert_constants(g: Geometry) -> dict[str, int | float | str]:
    return {
        "D": g.embedding_length,
        "F": g.expert_feed_forward_length,
        "E": g.expert_count,
        "USED": g.expert_used_count,
    }


@geometry_cache
def experts_up(g: Geometry, format: str, hashed: bool, clamp: float, logits_stride: int) -> Kernel:
    """(step, x, logits, bias, table, gate, up) -> (mid, chosen, shares)."""
    grid, extra = grid_table([format])
    constants = _expert_constants(g) | {
        "FORMAT": format, "HASHED": hashed, "CLAMP": float(clamp), "SCALE": float(g.expert_weights_scale),
        "LOGITS_STRIDE": logits_stride, "ROWS": GATE_ROWS, "WARPS": WARPS,
    }  # fmt: skip
    return Kernel(
        "experts_up", ("step", "x", "logits", "bias", "table", "gate", "up", *extra), ("mid", "chosen", "shares"),
        THREADS, constants, ("step", "numbers", "blocks", "slices", "gate_slices", "sorting", "routing"),
        {"GRID_TABLE": grid},
    )  # fmt: skip


@geometry_cache
def experts_down(g: Geometry, format: str, shared: str, shared_stride: int, shared_at: int) -> Kernel:
    """(mid, chosen, down, shared_mid, shared_down) -> y."""
    grid, extra = grid_table([format, shared])
    constants = _expert_constants(g) | {
        "FORMAT": format,
        "SHARED": shared,
        "SHARED_STRIDE": shared_stride,
        "R": 4,
        "SHARED_AT": shared_at,
    }
    return Kernel(
        "experts_down", ("mid", "chosen", "down", "shared_mid", "shared_down", *extra), ("y",),
        32 * (g.expert_used_count + 1), constants, ("numbers", "blocks", "products"), {"GRID_TABLE": grid},
    )  # fmt: skip


@geometry_cache
def wide_up(g: Geometry, format: str, hashed: bool, clamp: float, logits_stride: int, slots: int) -> Kernel:
    """(step, x, logits, bias, table, gate, up) -> (mid, chosen, shares), a threadgroup `slots` experts of a token."""
    digits, part = format in wide.RECORDS, wide.part_of(format)
    text, extra = wide.tables([format], digits=digits)
    constants = _expert_constants(g) | {
        "FORMAT": format, "HASHED": hashed, "CLAMP": float(clamp), "SCALE": float(g.expert_weights_scale),
        "LOGITS_STRIDE": logits_stride, "WARPS": wide.WARPS, "SLOTS": slots, "RESIDENT": 3 if digits else 2,
        "HELD": wide.held(format, g.embedding_length),
        "PART": part, "COLUMN": f"Kept<{part}>" if digits else "Column",
    }  # fmt: skip
    fill = "fill_digits<PART, D, WARPS, HELD>" if digits else "fill_column<FORMAT, D>"
    fill += f"(x + ulong(token) * D, xs, {'lane, warp' if digits else 'tid, THREADS'});"
    libraries = ("step", *wide.LIBRARIES, "digits" if digits else "column", "sorting", "routing")
    return Kernel(
        "wide_up", ("step", "x", "logits", "bias", "table", "gate", "up", *extra), ("mid", "chosen", "shares"),
        wide.THREADS, constants, libraries, {"TABLES": text, "FILL": fill},
    )  # fmt: skip


@geometry_cache
def wide_down(g: Geometry, format: str, shared: str, shared_stride: int, shared_at: int, sixteens: int) -> Kernel:
    """(mid, chosen, down, shared_mid, shared_down) -> y, a simdgroup `sixteens` times sixteen rows."""
    part, beside = (wide.part_of(f) for f in (format, shared))

    def column(format: str, part: str) -> str:
        return f"Own<{part}, HELD>" if format in wide.RECORDS else f"Held<{format}, false, true>"

    text, extra = wide.tables([format, shared], digits=True)
    constants = _expert_constants(g) | {
        "FORMAT": format, "SHARED": shared, "SHARED_STRIDE": shared_stride, "SHARED_AT": shared_at, "WARPS": wide.WARPS,
        "RESIDENT": 2, "SIXTEENS": sixteens, "HELD": max(wide.RECORDS.get(f, 1) for f in (format, shared)),
        "PART": part, "COLUMN": column(format, part), "SHARED_PART": beside, "BESIDE": column(shared, beside),
    }  # fmt: skip
    return Kernel(
        "wide_down", ("mid", "chosen", "down", "shared_mid", "shared_down", *extra), ("y",), wide.THREADS, constants,
        (*wide.LIBRARIES, "digits"), {"TABLES": wide.stage([format, shared]) + text},
    )  # fmt: skip


@geometry_cache
def plan(g: Geometry, tile: int = TILE) -> Kernel:
    """(step, chosen) -> (order, place, tiles)."""
    constants = {**_expert_constants(g), "TILE": tile}
    outputs = ("order", "place", "tiles")
    return Kernel("plan", ("step", "chosen"), outputs, SORT_THREADS, constants, ("step", "selecting"))


@cache
def tiles(format: str, rows: int, columns: int, used: int, clamp: float | None) -> Kernel:
    """(tiles, order, x, w0, w1) -> out: with a clamp swiglu of two matrices, float16; else one matrix, float32."""
    grid, extra = grid_table([format])
    constants: dict[str, int | float | str] = {
        "FORMAT": format, "ROWS": rows, "K": columns, "USED": used, "PAIRED": clamp is not None,
        "CLAMP": float(clamp or 0.0), "OUT": "float" if clamp is None else "half",
    }  # fmt: skip
    return Kernel(
        "tiles", ("tiles", "order", "x", "w0", "w1", *extra), ("out",), TILE_THREADS, constants,
        ("numbers", "blocks", "tiles"), {"GRID_TABLE": grid},
    )  # fmt: skip


@cache
def swiglu(width: int, stride: int, clamp: float) -> Kernel:
    """both [T, stride], gate and up side by side -> out [T, width]; float16 both."""
    constants: dict[str, int | float | str] = {"F": width, "STRIDE": stride, "CLAMP": clamp}
    return Kernel("swiglu", ("both",), ("out",), TILE_THREADS, constants, ("numbers",))


@geometry_cache
def gather(g: Geometry, shared_type: str) -> Kernel:
    """(pairs, place, shares, shared) -> y."""
    constants = _expert_constants(g) | {"SHARED": shared_type}
    return Kernel("gather", ("pairs", "place", "shares", "shared"), ("y",), TILE_THREADS, constants)
