"""The streaming writer: what lies where, and what survives an interruption."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from ds4_backend.errors import ConversionError
from ds4_backend.gguf import writer
from ds4_backend.gguf.writer import GGUFFile, TensorPlan, plan_layout, write_gguf

METADATA = {
    "general.architecture": "deepseek4",
    "a.count": 7,
    "a.scale": 1.5,
    "a.flag": False,
    "a.name": "ä｜",
    "a.big": np.uint64(1 << 40),
    "a.ratios": (0, 4, 128),
    "a.clamps": [10.0, 10.0],
    "a.words": ["x", ""],
    "a.bytes": np.array([1, 2, 3], np.uint8),
}
PLANS = [TensorPlan("first", (3,), "F32"), TensorPlan("second", (2, 5), "F16"), TensorPlan("third", (2, 3, 64), "Q8_0")]


def data_of(plan: TensorPlan) -> np.ndarray:
    return np.arange(plan.nbytes, dtype=np.uint8)


def written(folder, names=("first", "second", "third"), origin="a"):
    with GGUFFile(folder / "out.gguf", plan_layout(METADATA, PLANS), origin=origin) as file:
        taken_over = set(file.done)
        for plan in PLANS:
            if plan.name in names and plan.name not in file.done:
                file.write(plan.name, [data_of(plan)])
        if len(file.done) == len(PLANS):
            file.finish()
    return taken_over


def test_gguf_py_reads_every_kind_of_value_and_every_tensor_back(tmp_path):
    written(tmp_path)
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    for key, value in METADATA.items():
        found = reader.get_field(key).contents()
        assert found == (list(value) if isinstance(value, tuple | list | np.ndarray) else value), key
    kinds = {key: [kind.name for kind in reader.get_field(key).types] for key in METADATA}
    assert kinds["a.count"] == ["UINT32"] and kinds["a.big"] == ["UINT64"] and kinds["a.flag"] == ["BOOL"]
    assert kinds["a.ratios"] == ["ARRAY", "INT32"] and kinds["a.clamps"] == ["ARRAY", "FLOAT32"]
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert [int(n) for n in tensors["third"].shape] == [64, 3, 2]
    for plan in PLANS:
        assert tensors[plan.name].tensor_type.name == plan.format_name
        assert tensors[plan.name].data.tobytes() == data_of(plan).tobytes()
        assert tensors[plan.name].data_offset % 32 == 0


def test_the_partial_file_and_its_journal_are_gone_at_the_end(tmp_path):
    written(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out.gguf"]


def test_an_interrupted_file_continues_and_ends_byte_identical(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    written(tmp_path / "a")
    written(tmp_path / "b", names=("first", "second"))
    assert not (tmp_path / "b" / "out.gguf").exists()
    assert written(tmp_path / "b") == {"first", "second"}
    assert (tmp_path / "a" / "out.gguf").read_bytes() == (tmp_path / "b" / "out.gguf").read_bytes()


def test_a_partial_file_of_another_origin_is_started_again(tmp_path):
    written(tmp_path, names=("first",), origin="a")
    assert written(tmp_path, origin="b") == set()


def test_a_partial_file_with_a_changed_header_is_started_again(tmp_path):
    written(tmp_path, names=("first",))
    partial = tmp_path / "out.gguf.partial"
    data = bytearray(partial.read_bytes())
    data[40] ^= 1
    partial.write_bytes(data)
    assert written(tmp_path) == set()


def test_a_journal_line_cut_off_by_a_crash_is_not_believed(tmp_path):
    written(tmp_path, names=("first", "second"))
    journal = tmp_path / "out.gguf.partial.journal"
    journal.write_bytes(journal.read_bytes()[:-4])
    assert written(tmp_path, names=("second",)) == {"first"}
    assert written(tmp_path) == {"first", "second"}


@pytest.mark.parametrize("size", [11, 13])
def test_a_tensor_of_the_wrong_size_is_refused_and_not_noted(tmp_path, size):
    with GGUFFile(tmp_path / "out.gguf", plan_layout(METADATA, PLANS)) as file:
        with pytest.raises(ConversionError, match=r"first .* instead of 12"):
            file.write("first", [np.zeros(size, np.uint8)])
        assert file.done == set()


def test_finishing_with_a_missing_tensor_is_refused(tmp_path):
    missing = pytest.raises(ConversionError, match="3 tensors were never written, the first is first")
    with GGUFFile(tmp_path / "out.gguf", plan_layout(METADATA, PLANS)) as file, missing:
        file.finish()


def test_two_writers_of_one_file_are_refused(tmp_path):
    layout = plan_layout(METADATA, PLANS)
    with (
        GGUFFile(tmp_path / "out.gguf", layout),
        pytest.raises(ConversionError, match="another conversion is writing"),
        GGUFFile(tmp_path / "out.gguf", layout),
    ):
        pass


def test_too_small_a_disk_is_refused_before_any_tensor(tmp_path, monkeypatch):
    usage = type(writer.shutil.disk_usage(tmp_path))
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 100))
    with pytest.raises(ConversionError, match="GB free"):
        GGUFFile(tmp_path / "out.gguf", plan_layout(METADATA, [TensorPlan("big", (1000, 1000), "F32")]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("value", "message"), [(-1, "unsigned 32-bit"), (1 << 32, "unsigned 32-bit"), ([], "empty")])
def test_values_that_gguf_cannot_hold_are_refused_by_key(value, message):
    with pytest.raises(ConversionError, match=f"a.key .*{message}"):
        plan_layout({"general.architecture": "deepseek4", "a.key": value}, [])


def test_a_small_file_is_written_in_one_call(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_gguf(tmp_path / "x.gguf", {"general.architecture": "deepseek4"}, {"w": ("F32", (2, 3), values)})
    assert np.array_equal(gguf.GGUFReader(tmp_path / "x.gguf").tensors[0].data, values)
