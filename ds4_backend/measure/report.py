"""A bench's results for people and machines: CSV with ds4-bench's columns first, a table, a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from ds4_backend.measure.chart import Line, Panel, svg
from ds4_backend.measure.first_token import FirstToken
from ds4_backend.measure.frontiers import COLUMNS, Row

MORE_COLUMNS = ("launches_per_token", "ceiling_share")


def as_csv(rows: Sequence[Row]) -> str:
    """One line a row; what is not known is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS + MORE_COLUMNS)
    for row in rows:
        writer.writerow(["" if v is None else f"{v:.2f}" if isinstance(v, float) else v for v in astuple(row)])
    return out.getvalue()


def as_text(rows: Sequence[Row], first: FirstToken | None, batch: Mapping[int, float], about: Mapping[str, Any]) -> str:
    """A head, a table, and what else was measured."""
    lines = [f"{about['model']}, {about['ops']} ops, {about['machine']}", ""]
    lines.append("  context   prefill     tok/s  decode tok/s      state  launches  ceiling")
    lines += [_line(row) for row in rows]
    if batch:
        rates = ", ".join(f"{size}: {rate:.1f}" for size, rate in batch.items())
        lines += ["", f"side by side, tok/s of all together: {rates}"]
    if first:
        lines += [
            "",
            f"first token after {first.tokens:,} tokens: {first.cold:.2f} s cold, {first.memory:.3f} s with "
            f"{first.from_memory:,} in memory, {first.disk:.3f} s with {first.from_disk:,} on disk",
        ]
    return "\n".join(lines)


def picture(rows: Sequence[Row], title: str) -> str:
    """Prefill and decode over context, as SVG."""
    read = [row for row in rows if row.prefill_tokens]
    panels = [Panel(f"decode, tok/s: {title}", "context, tokens", _decode_lines(rows))]
    if read:
        lines = [Line("prefill", [(row.ctx_tokens, row.prefill_tps) for row in read])]
        panels.insert(0, Panel(f"prefill, tok/s: {title}", "context, tokens", lines))
    return svg(panels)


def _decode_lines(rows: Sequence[Row]) -> list[Line]:
    parts = {"read": [r for r in rows if r.prefill_tokens], "random pages": [r for r in rows if not r.prefill_tokens]}
    return [Line(name, [(row.ctx_tokens, row.gen_tps) for row in part]) for name, part in parts.items() if part]


def _line(row: Row) -> str:
    prefill = f"{row.prefill_tokens:>9,} {row.prefill_tps:>9.1f}" if row.prefill_tokens else f"{'random':>9} {'':>9}"
    launches = "" if row.launches is None else f"{row.launches:.0f}"
    ceiling = "" if row.ceiling is None else f"{row.ceiling:.0%}"
    state = f"{row.kvcache_bytes / (1 << 20):,.1f} MiB"
    return f"{row.ctx_tokens:>9,} {prefill} {row.gen_tps:>13.1f} {state:>10} {launches:>9} {ceiling:>8}".rstrip()
