"""The parts of `benchmarks/gpu` that say where a step's time goes, without a GPU."""

import itertools
import struct
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "benchmarks" / "gpu"), str(ROOT / "tests" / "ops")]

import bodies  # noqa: E402
import part_compile  # noqa: E402
import part_layers  # noqa: E402
import tracing  # noqa: E402
from test_kernels_launches import BlankLauncher, blank_model  # noqa: E402

from ds4_backend.gguf.geometry import CSA  # noqa: E402
from ds4_backend.gguf.shapes import FLASH, TINY, first_layers  # noqa: E402
from ds4_backend.measure.synth import random_tensors  # noqa: E402
from ds4_backend.model import Model  # noqa: E402
from ds4_backend.model.weights import bind  # noqa: E402
from ds4_backend.ops.cuda.programs import C_TYPES  # noqa: E402
from ds4_backend.ops.kernels.ops import KernelOps  # noqa: E402


@pytest.fixture(scope="module")
def step():
    """The launches of one decoded token of one layer, and the model."""
    model, launcher = blank_model(CSA)
    launcher.launches = 0
    sequence = model.new_sequence()
    model.forward([(sequence, [1])])
    return bodies.record(model.ops, lambda: model.forward([(sequence, [2])])), model


def test_a_recorded_step_holds_every_launch_and_leaves_the_launcher_as_it_was(step):
    recorded, model = step
    names = [launch.kernel.body for launch in recorded]
    assert names[0] == "embed" and names.count("spread") == 2 and names[-2:] == ["hyper", "project"]
    assert not isinstance(model.ops.attention.launcher, bodies.Recorder)
    keys = list(bodies.by_key(recorded))
    assert len([key for key in keys if key.startswith("project")]) >= 4, "products of other shapes are other rows"


def test_of_stacked_experts_only_those_in_use_count(step):
    (up,) = (launch for launch in step[0] if launch.kernel.body == "experts_up")
    stacks = sum(a.nbytes for a in up.inputs if a.ndim == 3)
    count = step[1].geometry.expert_count
    assert up.nbytes(count) - up.nbytes(2) == stacks - stacks * 2 // count
    assert up.nbytes(count + 5) == up.nbytes(count)


def test_traced_kernels_find_the_launch_that_they_were(step):
    recorded = step[0]
    found = [
        tracing.Launch(f"_ZN3mlx{launch.kernel.name}", 1000 * i, 1000 * i + 500, 8, 128, 40, 0)
        for i, launch in enumerate(recorded)
    ]
    found.append(tracing.Launch("void copy_v<float>(int)", 10**6, 10**6 + 5000, 1, 32, 8, 0))
    rows = bodies.table(recorded, found, 2)
    assert rows[0]["body"] == "void copy_v" and rows[0]["us"] == 5.0
    assert sum(row["launches"] for row in rows) == len(found)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    experts = next(row for row in rows if row["body"].startswith("experts_up"))
    up = next(launch for launch in recorded if launch.kernel.body == "experts_up")
    assert experts["gb_per_second"] == pytest.approx(up.nbytes(2) / 500)
    assert bodies.printed(rows).count("\n") == len(rows)


def test_a_chain_runs_its_launches_one_after_another(step):
    recorded, model = step
    group = [launch for launch in recorded if launch.kernel.body == "spread"]
    model.ops.launcher.asked.clear()
    result = bodies.chained(model.ops.launcher, group, repeat=2)
    assert len(model.ops.launcher.asked) == 3 * len(group)
    assert result["microseconds"] > 0 and result["link"] > 0
    np.testing.assert_array_equal(bodies.linked(mx.arange(3), mx.ones((1,))), [0, 1, 2])


def test_a_kernels_record_is_read_where_cupti_puts_its_fields():
    record = bytearray(112)
    struct.pack_into("<I", record, 0, tracing.CONCURRENT_KERNEL)
    struct.pack_into("<H", record, 6, 96)
    struct.pack_into("<QQQ", record, 16, 100, 350, 360)
    struct.pack_into("<6i", record, 52, 4, 3, 2, 128, 1, 1)
    struct.pack_into("<I", record, 84, 16)
    assert tracing.parse(bytes(record), "k") == tracing.Launch("k", 100, 350, 24, 128, 96, 16)


def test_cases_that_share_kernels_share_a_process_and_none_is_lost():
    asked = part_layers.chosen(quick=False)
    parts = part_layers.share(asked, 9)
    assert sorted(map(str, itertools.chain(*parts))) == sorted(map(str, asked)) and len(asked) == 33
    where = {}
    for number, part in enumerate(parts):
        for stage, case in part:
            assert where.setdefault((stage, case.kind, case.recipe), number) == number
    assert max(map(len, parts)) <= 5


def test_results_are_gathered_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(part_layers.results, "FILE", tmp_path / "results.json")
    asked = part_layers.chosen(quick=True)
    found = '"results": [{"case": "a", "phase": "decode", "ok": true}]'
    line = f'{{"stage": "layers_tiny", "case": "a", "seconds": 1.0, {found}}}'
    (tmp_path / "0.jsonl").write_text(line + "\n" + line[:20])
    part_layers.gather(tmp_path, asked)
    stage = part_layers.results.load()["layers_tiny"]
    assert stage["ok"] and stage["all_ok"] and stage["cases"] == stage["of"] == 1


def test_what_is_compiled_ahead_is_exactly_what_the_model_launches():
    g, launcher = first_layers(TINY, 3), BlankLauncher()
    ops = KernelOps(g, launcher, cache_simulation=True)
    part_compile.walk(Model(g, ops, bind(random_tensors(g, "q2"), g, ops)))
    wanted = {kernel.name for kernel, _, _ in launcher.asked}
    listener = part_compile.Listener("metal")
    part_compile.walk(part_compile.blank_model(g, "q2", listener))
    assert set(listener.asked) == wanted and len(wanted) > 30
    assert {"spread", "hyper", "score", "tiles", "keep"} <= {kernel.body for kernel, _, _ in launcher.asked}
    for kernel, dtypes in listener.asked.values():
        assert len(dtypes) == len(kernel.inputs) + len(kernel.outputs) and set(dtypes) <= set(C_TYPES)


def test_a_few_layers_have_every_kind_and_both_routers():
    cut = part_compile.few_layers(FLASH)
    assert cut.block_count == 4 and set(cut.attention_compress_ratios) == set(FLASH.attention_compress_ratios)
    assert cut.hash_layer_count < cut.block_count
