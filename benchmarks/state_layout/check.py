"""Compare the bodies with numpy: `python check.py cpu` (g++, a few steps) or `python check.py cuda` (300 steps).

Conversations of different lengths share pools through shuffled page tables and take slots out of order. Steps are
queued without waiting for one another; at the end every chosen row, head and pooled row is compared.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import kernels
import layer as L
import numpy as np
import reference as R

F16, F32 = np.float16, np.float32


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Norm of the difference over the norm; NaN stays NaN and fails every comparison."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@dataclass
class Conversation:
    """The reference of one conversation, and where its rows lie in the paged state."""

    slot: int
    pages: np.ndarray
    csa: R.Compressor
    index: R.Compressor
    hca: R.Compressor
    window: list[np.ndarray]

    def push(self, x: dict[str, np.ndarray]) -> None:
        self.csa.push(x["value"], x["gate"])
        self.index.push(x["index_value"], x["index_gate"])
        self.hca.push(x["hca_value"], x["hca_gate"])
        self.window.append(x["window_row"].astype(F16))


def inputs(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What the projections would give for one token."""
    sizes = {
        "window_row": 512,
        "value": 1024,
        "gate": 1024,
        "index_value": 256,
        "index_gate": 256,
        "hca_value": 512,
        "hca_gate": 512,
    }
    x = {name: rng.standard_normal(n).astype(F32) for name, n in sizes.items()}
    x["q"] = rng.standard_normal((64, 512)).astype(F16)
    x["iq"] = rng.standard_normal((64, 128)).astype(F16)
    x["weights"] = rng.standard_normal(64).astype(F32)
    return x


def build(device: Any, lengths: list[int], steps: int, layout: L.Layout, rng: np.random.Generator) -> tuple[Any, ...]:
    """Reference conversations of these lengths, and the paged state that holds the same."""
    w = L.random_weights(device, rng)
    h = {n: device.host(getattr(w, n)) for n in ("ape", "norm", "index_ape", "index_norm", "hca_ape")}
    need = [(n + steps) // 128 + 1 for n in lengths]
    shuffled, slots = rng.permutation(sum(need) + 3), rng.permutation(len(lengths) + 1)
    n_layers, pages, n_slots, ring = layout.layers, sum(need) + 3, len(lengths) + 1, layout.ring
    pools = {
        n: rng.standard_normal((pages, n_layers, r, d)).astype(F16)
        for n, r, d in (("csa", 32, 512), ("index", 32, 128), ("hca", 1, 512))
    }
    window = np.full((n_slots, ring, 512), np.nan, F16)
    lanes = {
        n: np.full((n_slots, m, 2, d), np.nan, F32)
        for n, m, d in (("lane", 8, 1024), ("index_lane", 8, 256), ("hca_lane", 128, 512))
    }
    talks, at = [], 0
    for i, length in enumerate(lengths):
        talk = Conversation(
            int(slots[i]),
            shuffled[at : at + need[i]],
            R.Compressor(4, True, 512, h["ape"], h["norm"]),
            R.Compressor(4, True, 128, h["index_ape"], h["index_norm"]),
            R.Compressor(128, False, 512, h["hca_ape"], h["norm"]),
            [],
        )
        at += need[i]
        for p in range(length):
            talk.push(inputs(rng))
            window[talk.slot, p % ring] = talk.window[-1]
            for name, c in (("lane", talk.csa), ("index_lane", talk.index), ("hca_lane", talk.hca)):
                lanes[name][talk.slot, p % lanes[name].shape[1]] = c.values[-1], c.gates[-1]
        for name, c in (("csa", talk.csa), ("index", talk.index), ("hca", talk.hca)):
            per = pools[name].shape[2]
            for j, row in enumerate(c.rows):
                pools[name][talk.pages[j // per], layout.layer, j % per] = row
        talks.append(talk)
    state = L.LayerState(
        *(device.array(pools[n]) for n in ("csa", "index", "hca")),
        device.array(window),
        *(device.array(lanes[n]) for n in ("lane", "index_lane", "hca_lane")),
        layout,
        device.array(np.zeros(4, np.int32)),
    )
    return w, talks, state


def run_steps(
    device: Any,
    w: Any,
    talks: list[Conversation],
    state: L.LayerState,
    starts: list[int],
    xs: list[list[dict[str, np.ndarray]]],
    wait: bool,
) -> list[tuple[Any, Any, Any]]:
    """Queue every step: a CSA layer and an HCA layer on the same input; (chosen, CSA heads, HCA heads) of each."""
    tables = device.array(np.concatenate([t.pages for t in talks]).astype(np.int32))
    offsets = np.cumsum([0, *(len(t.pages) for t in talks)])[:-1]
    results = []
    visible, hca_rows = ((max(starts) + len(xs)) // n for n in (4, 128))  # widths: one compilation for all steps
    for i, x in enumerate(xs):
        spans = np.array([(n + i, t.slot, o) for n, t, o in zip(starts, talks, offsets, strict=True)], np.int32)
        step = (device.array(spans), tables)
        a = {name: device.array(np.stack([one[name] for one in x])) for name in x[0]}
        L.append_csa(device, step, a, w, state)
        scores = L.score(device, step, a["iq"], a["weights"], state, visible, 8)
        chosen = L.top_k(device, step[0], scores)
        csa = L.attend(device, step, a["q"], w, state, chosen, min(visible, 512), False, 64 if i % 2 else 128)
        # The HCA layer has its own window in the model; here it rewrites the same row with the same values.
        L.append_hca(device, step, a, w, state)
        hca = L.attend(device, step, a["q"], w, state, chosen, max(1, hca_rows), True)
        results.append((chosen, csa, hca))
        if wait:
            device.mx.eval(hca)
    return results


def compare(device: Any, lengths: list[int], steps: int, layout: L.Layout, wait: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, talks, state = build(device, lengths, steps, layout, rng)
    xs = [[inputs(rng) for _ in lengths] for _ in range(steps)]
    results = run_steps(device, w, talks, state, lengths, xs, wait)
    sinks = device.host(w.sinks)
    worst = {"csa": 0.0, "hca": 0.0, "row": 0.0, "moved": 0}
    for i, got in enumerate(results):
        chosen, csa, hca = (device.host(g) for g in got)
        for s, talk in enumerate(talks):
            x, p = xs[i][s], lengths[s] + i
            talk.push(x)
            rows, picked = np.array(talk.csa.rows), chosen[s][chosen[s] >= 0]
            scores = R.index_scores(x["iq"], x["weights"], np.array(talk.index.rows)) if len(rows) else np.zeros(0)
            want = R.best_rows(scores)
            assert (np.diff(picked) > 0).all() and len(picked) == len(want), "chosen rows out of order or missing"
            worst["moved"] = max(worst["moved"], len(np.setdiff1d(want, picked)))
            near = np.array(talk.window[-128:])
            kv = np.concatenate([near, rows[picked]]) if len(picked) else near
            worst["csa"] = max(worst["csa"], error(csa[s], R.attention(x["q"], kv, sinks, p)))
            kv = np.concatenate([near, np.array(talk.hca.rows)]) if talk.hca.rows else near
            worst["hca"] = max(worst["hca"], error(hca[s], R.attention(x["q"], kv, sinks, p)))
    for name, pool in (("csa", state.csa), ("index", state.index), ("hca", state.hca)):
        pool = device.host(pool)
        for talk in talks:
            rows = getattr(talk, name).rows
            per = pool.shape[2]
            got = np.array([pool[talk.pages[j // per], layout.layer, j % per] for j in range(len(rows))])
            if rows:
                worst["row"] = max(worst["row"], error(got, np.array(rows)))
    figures = " ".join(f"{k} {v:.2g}" for k, v in worst.items())
    print(f"lengths {lengths} steps {steps} {layout} wait={wait}: {figures}", flush=True)
    assert worst["csa"] < 2e-3 and worst["hca"] < 2e-3 and worst["row"] < 1e-3 and worst["moved"] <= 2, worst


def compare_top_k(device: Any, rows: int, seed: int) -> None:
    """Exact agreement with a stable sort, ties and both signs included, over one or several chunks."""
    rng = np.random.default_rng(seed)
    positions = [rows * 4 - 1, rows * 2 - 1, 4 * 300 - 1]
    scores = np.round(rng.standard_normal((3, rows)) * 50).astype(F32) / 16
    spans = np.array([(p, 0, 0) for p in positions], np.int32)
    chosen = device.host(L.top_k(device, device.array(spans), device.array(scores)))
    for s, p in enumerate(positions):
        want = R.best_rows(scores[s, : (p + 1) // 4])
        assert np.array_equal(chosen[s][chosen[s] >= 0], want), f"rows {rows}, conversation {s}"
    print(f"top-k of {rows} rows: equal")


def main() -> None:
    cuda = sys.argv[1] == "cuda"
    device = kernels.Cuda() if cuda else kernels.Cpu()
    compare_top_k(device, 3000, 1)
    compare_top_k(device, 20_000, 2)
    if cuda:
        compare_top_k(device, 262_144, 3)
    two = L.Layout(2, 1)
    steps = 300 if cuda else 5
    compare(device, [126, 2300, 38], steps, L.Layout(), False, 4)
    compare(device, [2171, 254], steps if cuda else 4, two, False, 5)
    if cuda:
        compare(device, [126, 2300, 38], steps, L.Layout(ring=256), False, 4)
        compare(device, [126, 2300, 38], steps, L.Layout(), True, 4)


if __name__ == "__main__":
    main()
