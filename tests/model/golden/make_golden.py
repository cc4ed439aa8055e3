"""Make the golden logits again: `python tests/model/golden/make_golden.py [--simulated REFERENCE.py]`.

transformers.npz   logits of transformers' DeepseekV4ForCausalLM (simulation off), for the networks of `CASES`
simulated.npz      logits of an independent streaming implementation with the cache simulation on: a Python file that
                   has `Model(weights by official name, config, qat).step(token, position)`. Also `noise`: how far
                   that implementation moves from itself when every weight moves by one part in 10^7, which is what
                   float32 rounding flips amount to.

Weights and tokens are drawn from seeds by tests/random_model.py; only the last positions' logits are kept.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]

from random_model import SMALL, geometry, random_ids, random_values  # noqa: E402
from transformers_model import logits_of, official_config, transformers_model  # noqa: E402

from ds4_backend.convert.names import official_parts  # noqa: E402

CASES = {
    "small": (SMALL, 0),
    "wide_window": (geometry(attention_sliding_window=128, attention_compress_ratios=(0, 0, 4, 128, 4, 0)), 1),
    "pro_like": (
        geometry(attention_compress_ratios=(128, 128, 4, 128, 4, 4), hash_layer_count=3, expert_used_count=3),
        2,
    ),
}
TOKENS, KEPT = 320, 24


def transformers_goldens() -> dict[str, np.ndarray]:
    out = {}
    for name, (g, seed) in CASES.items():
        model = transformers_model(g, random_values(g, seed))
        out[name] = logits_of(model, random_ids(TOKENS, g, seed))[-KEPT:]
    return out


def simulated_goldens(reference: Path) -> dict[str, np.ndarray]:
    spec = importlib.util.spec_from_file_location("reference", reference)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ids = random_ids(TOKENS, SMALL, 0)
    values = random_values(SMALL, 0)
    logits = stream(module, values, ids)
    rng = np.random.default_rng(0)
    moved = {
        k: v if v.dtype.kind == "i" else (v * (1 + 1e-7 * rng.standard_normal(v.shape))).astype(np.float32)
        for k, v in values.items()
    }
    noise = np.abs(stream(module, moved, ids) - logits).max(1)
    return {"logits": logits[-KEPT:], "argmax": logits.argmax(1).astype(np.int16), "noise": noise}


def stream(module, values: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    weights = {}
    for name, value in values.items():
        parts = official_parts(name, SMALL.expert_count)
        weights |= {p: value[e] for e, p in enumerate(parts)} if len(parts) > 1 else {parts[0]: value}
    model = module.Model(weights, official_config(SMALL), True)
    return np.stack([model.step(token, at) for at, token in enumerate(ids)])


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--simulated", type=Path, metavar="REFERENCE.py")
    chosen = arguments.parse_args()
    np.savez_compressed(HERE / "transformers.npz", **transformers_goldens())
    if chosen.simulated:
        np.savez_compressed(HERE / "simulated.npz", **simulated_goldens(chosen.simulated))
