"""A GGUF file described: as a JSON-safe dictionary, and as text to read. It knows tensors' names, not their values."""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from ds4_backend.gguf.reader import GGUF, Tensor

LONG_ARRAY = 64
"""Arrays with more elements are shortened to their first `SHOWN`; lists of one number per layer stay whole."""
SHOWN = 8
_WIDEST = 96
"""Characters of a metadata value in the text."""

GROUPS: tuple[tuple[str, str], ...] = (
    ("MTP", r"mtp\.|blk\.\d+\.nextn\."),
    ("token embedding", r"token_embd\."),
    ("hyper-connections", r"(blk\.\d+\.|output_)hc_"),
    ("norms and sinks", r"output_norm\.|blk\.\d+\.(attn_norm|ffn_norm|attn_q_a_norm|attn_kv_a_norm|attn_sinks)\."),
    ("output head", r"output\."),
    ("attention compressors", r"blk\.\d+\.attn_compressor_"),
    ("indexer", r"blk\.\d+\.indexer[._]"),
    ("attention projections", r"blk\.\d+\.attn_"),
    ("router", r"blk\.\d+\.(ffn_gate_inp|exp_probs_b|ffn_gate_tid2eid)\."),
    ("shared experts", r"blk\.\d+\.ffn_(gate|up|down)_shexp\."),
    ("routed experts", r"blk\.\d+\.ffn_(gate|up|down)_exps\."),
)
"""Names of the parts of the network and the tensors that belong to each; the first that matches counts."""

_PATTERNS = tuple((group, re.compile(pattern)) for group, pattern in GROUPS)
_LAYER = re.compile(r"\bblk\.(\d+)\.")


def header_digest(file: GGUF) -> str:
    """SHA-256 (hex) of all bytes before the tensor data, of each part in order. It tells builds apart fast."""
    digest = hashlib.sha256()
    for part in file.parts:
        with memoryview(part.map) as view:
            digest.update(view[: part.header.data_start])
    return digest.hexdigest()


def group_of(name: str) -> str:
    """The part of the network that a tensor belongs to, by its name; `other` where none is known."""
    return next((group for group, pattern in _PATTERNS if pattern.match(name)), "other")


def describe(file: GGUF) -> dict[str, Any]:
    """The file as values that `json.dumps` takes: paths, header, metadata, tensors, and bytes by type and by group.

    Arrays longer than `LONG_ARRAY` become `{"type", "length", "first"}`. Numbers that JSON lacks become strings.
    """
    tensors = file.tensors.values()
    first = file.parts[0].header
    return {
        "paths": [str(path) for path in file.paths],
        "bytes": file.nbytes,
        "version": first.version,
        "alignment": first.alignment,
        "header": {"bytes": sum(p.header.data_start for p in file.parts), "sha256": header_digest(file)},
        "metadata": {key: _value(value, file.value_types[key]) for key, value in file.metadata.items()},
        "tensors": [_tensor(tensor) for tensor in tensors],
        "types": _sums(tensors, lambda t: t.format.name),
        "groups": _sums(tensors, lambda t: group_of(t.name)),
        "totals": _sum(tensors),
    }


def _value(value: Any, kind: str) -> Any:
    if isinstance(value, np.ndarray | list):
        short = len(value) > LONG_ARRAY
        shown = value[:SHOWN] if short else value
        items = [_plain(v) for v in (shown.tolist() if isinstance(shown, np.ndarray) else shown)]
        return {"type": kind, "length": len(value), "first": items} if short else items
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | list):
        return _value(value, "array")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "type": tensor.format.name,
        "bytes": tensor.nbytes,
        "group": group_of(tensor.name),
    }


def _sum(tensors: Iterable[Tensor]) -> dict[str, int]:
    chosen = list(tensors)
    values = sum(math.prod(t.shape) for t in chosen)
    return {"tensors": len(chosen), "values": values, "bytes": sum(t.nbytes for t in chosen)}


def _sums(tensors: Iterable[Tensor], key: Callable[[Tensor], str]) -> dict[str, dict[str, int]]:
    chosen: dict[str, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        chosen[key(tensor)].append(tensor)
    return {name: _sum(members) for name, members in chosen.items()}


def as_text(description: dict[str, Any]) -> str:
    """`describe`'s dictionary as text: the file, its metadata, and its tensors by group; one line for layers alike."""
    return "\n".join([*_file_lines(description), "", *_metadata_lines(description), *_tensor_lines(description)]) + "\n"


def _file_lines(description: dict[str, Any]) -> list[str]:
    totals, header = description["totals"], description["header"]
    types = description["types"].items()
    return [
        *(_printable(path) for path in description["paths"]),
        f"GGUF version {description['version']}, {_size(description['bytes'])}, "
        f"{_tensors(totals['tensors'])}, {totals['values']:,} values in {_size(totals['bytes'])}",
        f"header: {header['bytes']:,} bytes, sha256 {header['sha256']}",
        *(f"{name:<8} {_tensors(n['tensors']):>13} {_size(n['bytes']):>12}" for name, n in types),
    ]


def _metadata_lines(description: dict[str, Any]) -> list[str]:
    metadata = description["metadata"]
    if not metadata:
        return ["no metadata"]
    keys = {key: _printable(key) for key in metadata}
    width = min(max(map(len, keys.values())), 64)
    return [f"{keys[key]:<{width}}  {_shortened(value)}" for key, value in metadata.items()]


def _shortened(value: Any) -> str:
    if isinstance(value, dict):
        items = ", ".join(_printable(repr(item)) for item in value["first"])
        return f"{value['type']}, {value['length']:,}: {_cut(items)}"
    return _cut(_printable(value if isinstance(value, str) else str(value)))


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[:_WIDEST]}... ({len(text):,} characters)"


def _printable(text: str) -> str:
    # A name from a file may hold the terminal's control sequences.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _tensor_lines(description: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for group, sums in description["groups"].items():
        members = [t for t in description["tensors"] if t["group"] == group]
        lines += ["", f"{group}: {_tensors(sums['tensors'])}, {_size(sums['bytes'])}"]
        lines += _table(_alike(members))
    return lines


def _alike(tensors: list[dict[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    """Rows of (name, layers, shape, type, size), one for all layers' tensors of the same name, shape and type."""
    rows: dict[tuple[str, str, str], list[tuple[int | None, int]]] = defaultdict(list)
    for tensor in tensors:
        name = _LAYER.sub("blk.N.", tensor["name"], count=1)
        layer = _LAYER.search(tensor["name"])
        shape = " x ".join(f"{n:,}" for n in tensor["shape"])
        rows[_printable(name), shape, tensor["type"]].append((int(layer[1]) if layer else None, tensor["bytes"]))
    return [
        (name, _ranges(n for n, _ in found if n is not None), shape, kind, _size(sum(size for _, size in found)))
        for (name, shape, kind), found in rows.items()
    ]


def _table(rows: list[tuple[str, str, str, str, str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return [
        f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:<{widths[3]}}  {e:>{widths[4]}}".rstrip()
        for a, b, c, d, e in rows
    ]


def _ranges(numbers: Iterable[int]) -> str:
    """`0-2,5` for 0, 1, 2, 5; with a step where there is one: `2-42/2` for every second layer from 2 to 42."""
    ns = sorted(set(numbers))
    steps = {b - a for a, b in pairwise(ns)}
    if len(ns) > 2 and len(steps) == 1 and steps != {1}:
        return f"{ns[0]}-{ns[-1]}/{steps.pop()}"
    runs: list[list[int]] = []
    for n in ns:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _tensors(n: int) -> str:
    return f"{n:,} tensor{'' if n == 1 else 's'}"


def _size(nbytes: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= size:
            return f"{nbytes / size:,.2f} {unit}"
    return f"{nbytes:,} B"
