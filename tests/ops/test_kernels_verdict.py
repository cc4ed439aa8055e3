"""Which kernels give way to MLX's own operations: tested once for a machine, remembered in a file."""

import json

import mlx.core as mx
import pytest
from random_model import SMALL

from ds4_backend import ops
from ds4_backend.errors import SettingsError
from ds4_backend.ops.kernels import selftest, verdict
from ds4_backend.ops.kernels.kernel import Listener


@pytest.fixture
def tested(monkeypatch, tmp_path):
    """What the self-test would say, and how often it was asked."""
    said = {"failed": {"experts"}, "times": 0}

    def test(launcher):
        said["times"] += 1
        return frozenset(said["failed"])

    monkeypatch.setenv("DS4_BACKEND_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(verdict, "_tested", test)
    return said


def test_a_machine_is_tested_once(tested, tmp_path):
    assert verdict.failed_families("metal", object) == {"experts"} == verdict.failed_families("metal", object)
    assert tested["times"] == 1
    (path,) = (tmp_path / "kernels").iterdir()
    assert json.loads(path.read_text()) == {"failed": ["experts"]}


def test_other_kernels_are_tested_again(tested, monkeypatch):
    verdict.failed_families("metal", object)
    monkeypatch.setattr(verdict, "_digest", lambda: "other")
    verdict.failed_families("metal", object)
    assert tested["times"] == 2


def test_a_broken_file_is_written_anew(tested, tmp_path):
    verdict.failed_families("metal", object)
    (path,) = (tmp_path / "kernels").iterdir()
    path.write_text("{")
    assert verdict.failed_families("metal", object) == {"experts"}
    assert json.loads(path.read_text()) == {"failed": ["experts"]}


@pytest.mark.slow
def test_kernels_that_are_ours_to_compile_are_compiled_together_before_they_are_tested(monkeypatch):
    class Programs:
        prepared = ()

        def prepare(self, signatures):
            self.prepared = list(signatures)

    class Launcher(Listener):
        programs = Programs()

    launcher = Launcher("cuda")
    verdict._tested(launcher)  # zeros are wrong everywhere
    assert {kernel.name for kernel, _ in launcher.programs.prepared} == set(launcher.asked)
    assert {"project", "hyper", "attend", "top_k", "wide_up", "wide_tiles"} <= {
        k.body for k, _ in launcher.asked.values()
    }


def test_what_fails_is_named_with_its_error(monkeypatch, caplog):
    outcomes = [selftest.Outcome("tiles", "experts", 0.5, False), selftest.Outcome("hyper", "hyper", 0.0, True)]
    monkeypatch.setattr(selftest, "run", lambda launcher: outcomes)
    assert verdict._tested(object()) == {"experts"}
    assert "tiles is wrong here (error 5.0e-01)" in caplog.text and "hyper is" not in caplog.text


@pytest.mark.parametrize("name", ["metal", "cuda"])
def test_where_attention_fails_the_mlx_ops_take_over(tested, monkeypatch, name):
    monkeypatch.setattr(ops, "_check_device", lambda name: None)
    monkeypatch.setattr(ops, "launcher", lambda name: None)
    tested["failed"] = {"attention", "hyper"}
    assert ops.make_ops(name, SMALL, cache_simulation=False).name == "mlx"


@pytest.mark.parametrize("name", ["metal", "cuda"])
def test_ops_of_a_device_that_is_not_there_are_refused_with_the_way_out(name):
    if {"metal": mx.metal, "cuda": mx.cuda}[name].is_available():
        pytest.skip(f"this machine has {name}")
    with pytest.raises(SettingsError, match=r"finds none here.*auto"):
        ops.make_ops(name, SMALL, cache_simulation=False)
