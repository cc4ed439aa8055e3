"""A training run: it stops and goes on, averages its weights, leaves a file that the engine reads, and is judged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the training example needs PyTorch")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "train-tiny"
sys.path.insert(0, str(EXAMPLE))

from ds4_tiny import checkpoint, schedule, vocabulary  # noqa: E402
from ds4_tiny.average import BEGIN, Average  # noqa: E402
from ds4_tiny.batches import SPREAD_ROW, pack  # noqa: E402
from ds4_tiny.crew import Crew  # noqa: E402
from ds4_tiny.draw import Draw  # noqa: E402
from ds4_tiny.network import Network, Sight  # noqa: E402
from ds4_tiny.progress import Progress  # noqa: E402
from ds4_tiny.step import Trainer  # noqa: E402
from ds4_tiny.weights import new_weights  # noqa: E402
from exam import compare, tasks  # noqa: E402
from exam.pupil import Pupil  # noqa: E402
from tiny_shape import tiny  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def trainer() -> Trainer:
    return Trainer(tiny(), new_weights(tiny()), Crew(), compiled=False, graphs=False)


def steps(of: Trainer, batch: Any, count: int, sight: Sight = "chosen") -> None:
    for _ in range(count):
        of.train(*batch, sight=sight, rate=0.01, matrix_rate=0.02, prompt_weight=0.1)


@pytest.mark.slow
def test_a_run_that_stopped_goes_on_as_if_it_had_not(tmp_path):
    batch = pack(vocabulary.load(), Draw(4), 256, 1)
    through, stopped = trainer(), trainer()
    steps(through, batch, 2)
    steps(stopped, batch, 2)
    checkpoint.save_state(tmp_path, stopped.state(), {}, 0.0)
    again = trainer()
    again._turn = stopped._turn
    held = checkpoint.load_state(tmp_path, torch.device("cpu"))
    assert held is not None
    again.restore(held[0])
    steps(through, batch, 2)
    steps(again, batch, 2)
    for name, value in through.state().items():
        assert torch.equal(value, again.state()[name]), name


def test_weights_alone_will_do_to_go_on_and_another_networks_will_not():
    first, second = trainer(), trainer()
    steps(first, pack(vocabulary.load(), Draw(4), 256, 1), 1)
    weights = {name: value.clone() for name, value in first.state().items() if name.startswith("weights")}
    second.restore(weights)
    assert all(torch.equal(second.state()[name], value) for name, value in weights.items())
    with pytest.raises(KeyError, match="of another network"):
        second.restore({})


@pytest.mark.slow
def test_recording_every_kind_of_step_beforehand_changes_nothing(monkeypatch):
    recorded: list[Any] = []

    def captured(self: Trainer, work: Any) -> Any:
        recorded.append(work)
        work()
        return lambda: work()

    monkeypatch.setattr(Trainer, "_captured", captured)
    batch = pack(vocabulary.load(), Draw(4), 256, 1)
    plain, prepared = trainer(), trainer()
    prepared.graphs = True
    begin = {name: value.clone() for name, value in prepared.state().items()}
    prepared.prepare({256: 1, 512: 1}, [(256, "all"), (256, "chosen"), (512, "none")])
    prepared.restore(begin)
    assert len(recorded) == 4  # three kinds of step, and the optimiser's once
    prepared._turn = plain._turn
    for of in (plain, prepared):
        steps(of, batch, 2)
    assert len(recorded) == 4
    for name, value in plain.state().items():
        assert torch.equal(value, prepared.state()[name]), name


def test_a_step_without_csa_rows_teaches_the_hca_rows_and_leaves_csa_alone():
    batch = pack(vocabulary.load(), Draw(4), 512, 1)
    blind = trainer()
    blind.train(*batch, sight="none", rate=0.0, matrix_rate=0.0, prompt_weight=0.1)
    moved = {name for name, gradient in blind.gradients.items() if gradient.abs().max() > 0}
    assert "model.layers.2.self_attn.compressor.kv_proj.weight" in moved
    assert not any("layers.1.self_attn.compressor" in name for name in moved)


def test_what_is_seen_changes_what_is_answered():
    ids = torch.randint(0, 4096, (1, 512), generator=torch.Generator().manual_seed(1))
    network = Network(tiny(), new_weights(tiny()), simulate=False)
    with torch.no_grad():
        seen = {sight: network.logits(ids, sight=sight) for sight in ("chosen", "all", "none")}
    assert torch.equal(seen["all"][:, :3], seen["none"][:, :3])  # no row is complete yet
    assert not torch.equal(seen["all"][:, -1], seen["none"][:, -1])
    assert not torch.equal(seen["all"][:, -1], seen["chosen"][:, -1])


def test_the_mean_begins_late_and_follows():
    average, weights = Average(), {"w": torch.zeros(3), "table": torch.zeros(3, dtype=torch.int64)}
    average.follow(weights, BEGIN - 0.01)
    assert not average.values
    average.follow(weights, BEGIN)
    weights["w"].fill_(1.0)
    average.follow(weights, BEGIN + 0.01)
    assert 0 < average.values["w"][0] < 1
    average.follow(weights, 1.0)
    assert average.values["w"][0] > 0.99
    assert average.values["w"] is not weights["w"]


def test_every_length_and_sight_that_is_drawn_was_prepared():
    lengths = sorted({length for _, row in schedule.SHARES for length in row})
    assert SPREAD_ROW in lengths
    for part in (0.0, 0.05, 0.2, 0.5, 0.9):
        assert sum(schedule.shares(part).values()) == pytest.approx(1)
        for length in schedule.shares(part):
            for chance in (0.0, 0.99):
                assert schedule.sight(length, part, chance) in schedule.sights(length, part)
    assert schedule.decay(0) == 1 and schedule.decay(1) == schedule.FLOOR
    assert schedule.rate(0, 0.0, 0.0) < 0.05 and schedule.rate(1000, 0.2, 0.2) == 1


@pytest.mark.slow
def test_a_toy_is_trained_stopped_resumed_converted_and_examined(tmp_path):
    out, file = tmp_path / "run", tmp_path / "toy.gguf"
    path = f"{EXAMPLE}{os.pathsep}{ROOT}"
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "ds4_tiny.train", "--small", "--minutes", "0.15", "--out", str(out),
               "--tokens", "256", "--lengths", "256", "--workers", "1"]  # fmt: skip
    for more in (["--until", "0.08"], []):
        done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    assert "to be continued" in (out / "log.txt").read_text("utf-8") and "the time is up" in done.stdout
    progress = Progress.read(out, 0)
    assert progress.steps > 1 and progress.seconds >= 9
    convert = [sys.executable, str(EXAMPLE / "convert.py"), str(out / "average"), str(file)]
    done = subprocess.run(convert, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert tasks.rights(Pupil(file), "sums", tasks.SETS["sums"], 1, 2) == [False]


# Which of two files


def test_chance_is_that_of_a_coin():
    assert compare.chance(0, 0) == 1
    assert compare.chance(1, 0) == 0.5
    assert compare.chance(5, 0) == 1 / 32
    assert compare.chance(2, 1) == 0.5


def rights(right: int, cases: int) -> list[bool]:
    return [True] * right + [False] * (cases - right)


def test_the_rule_names_falls_and_wants_better_free_prompts():
    better = compare.row(rights(60, 200), rights(100, 200))
    held, fallen = compare.row(rights(79, 80), rights(78, 80)), compare.row(rights(80, 80), rights(70, 80))
    assert (held["lost"], held["gained"], held["change"]) == (1, 0, -0.0125)
    assert compare.verdict({compare.FREE: better, "a": held})["ship"]
    report = compare.verdict({compare.FREE: better, "a": held, "b": fallen})
    assert report["falls"] == report["falls beyond chance"] == ["b"] and not report["ship"]
    slight = compare.row(rights(20, 20), rights(19, 20))
    report = compare.verdict({compare.FREE: better, "a": slight})
    assert report["falls"] == ["a"] and report["falls beyond chance"] == []
    assert not report["ship"] and report["ship but for noise"]
    assert not compare.verdict({"a": held})["ship"]
    assert "**b**" in compare.as_text(compare.verdict({compare.FREE: better, "b": fallen}) | {"seconds": 1})


def test_a_set_of_more_cases_begins_with_the_same_ones():
    few, many = (compare.cases(compare.QUALITY_SEED, count)["JSON, named keys"] for count in (5, 20))
    assert [case.request for case in few] == [case.request for case in many[:5]]
    titles = [one.title for one in compare.sets(20)]
    assert len(set(titles)) == len(titles) > 40 and compare.FREE in titles
