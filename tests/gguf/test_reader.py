"""Reading GGUF files: what gguf-py writes is read back, in one part and several."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import gguf_bytes as b
import numpy as np
import pytest

from ds4_backend.errors import FileError, UnsupportedType
from ds4_backend.gguf.header import parse_header
from ds4_backend.gguf.reader import open_gguf


def _weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "token_embd.weight": rng.normal(size=(10, 64)).astype(np.float16),
        "output_norm.weight": rng.normal(size=64).astype(np.float32),
        "blk.0.ffn_gate_tid2eid.weight": rng.integers(0, 9, (10, 6)).astype(np.int32),
        "blk.0.ffn_up_exps.weight": rng.normal(size=(3, 4, 32)).astype(np.float32),
        "output.weight": rng.normal(size=(10, 64)).astype(np.float32),
    }


def _write(path: Path, *, split_after: int = 0, small_first: bool = False) -> None:
    writer = gguf.GGUFWriter(path, "deepseek4", split_max_tensors=split_after, small_first_shard=small_first)
    writer.add_uint32("deepseek4.block_count", 2)
    writer.add_array("deepseek4.attention.compress_ratios", [0, 4, 128])
    writer.add_float32("deepseek4.rope.freq_base", 10000.0)
    writer.add_bool("ds4.cache_simulation", False)
    writer.add_token_list([f"Ġ毕{i}" for i in range(100)])
    for name, values in _weights().items():
        if name == "output.weight":
            writer.add_tensor(name, gguf.quants.quantize(values, Q8_0), raw_dtype=Q8_0)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


Q8_0 = gguf.GGMLQuantizationType.Q8_0


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    _write(path)
    return path


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    _write(tmp_path / "tiny.gguf", split_after=2)
    return sorted(tmp_path.glob("tiny-*.gguf"))


# What gguf-py writes


def test_metadata_comes_back_as_python_values(written: Path) -> None:
    with open_gguf(written) as file:
        assert file.metadata["general.architecture"] == "deepseek4"
        assert file.metadata["deepseek4.block_count"] == 2
        assert file.metadata["deepseek4.rope.freq_base"] == 10000.0
        assert file.metadata["ds4.cache_simulation"] is False
        assert file.metadata["tokenizer.ggml.tokens"] == [f"Ġ毕{i}" for i in range(100)]
        ratios = file.metadata["deepseek4.attention.compress_ratios"]
        assert ratios.tolist() == [0, 4, 128]
        assert ratios.dtype == np.int32
        assert file.value_types["deepseek4.block_count"] == "u32"
        assert file.value_types["tokenizer.ggml.tokens"] == "array of string"


def test_tensors_come_back_row_major_and_bit_for_bit(written: Path) -> None:
    weights = _weights()
    with open_gguf(written) as file:
        assert list(file.tensors) == list(weights)
        assert {name: t.shape for name, t in file.tensors.items()} == {n: w.shape for n, w in weights.items()}
        for name, stored in weights.items():
            if name != "output.weight":
                assert np.array_equal(file.tensors[name].array(), stored)
                assert file.tensors[name].array().dtype == stored.dtype
        experts = "blk.0.ffn_up_exps.weight"
        assert np.array_equal(file.tensors[experts].dequantize(), weights[experts])


def test_blocks_come_as_raw_rows_and_decode(written: Path) -> None:
    with open_gguf(written) as file:
        head = file.tensors["output.weight"]
        assert (head.format.name, head.shape, head.data.shape) == ("Q8_0", (10, 64), (10, 68))
        assert head.data.dtype == np.uint8
        raw = gguf.quants.quantize(_weights()["output.weight"], Q8_0)
        assert np.array_equal(head.data, raw)
        assert np.array_equal(head.dequantize(), gguf.quants.dequantize(raw, Q8_0))


def test_rows_run_through_all_experts(written: Path) -> None:
    with open_gguf(written) as file:
        experts = file.tensors["blk.0.ffn_up_exps.weight"]
        assert np.array_equal(experts.rows(4, 8), experts.data[1])
        assert np.shares_memory(experts.rows(3, 5), experts.data)
        with pytest.raises(IndexError, match="which has 12"):
            experts.rows(10, 13)


def test_views_are_of_the_file_and_read_only(written: Path) -> None:
    with open_gguf(written) as file:
        for tensor in file.tensors.values():
            assert not tensor.data.flags.owndata
            assert not tensor.data.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            file.tensors["output_norm.weight"].array()[0] = 1


def test_a_view_outlives_the_file_and_closing_twice_is_harmless(written: Path) -> None:
    file = open_gguf(written)
    norm = file.tensors["output_norm.weight"].array()
    file.close()
    file.close()
    assert np.array_equal(norm, _weights()["output_norm.weight"])
    assert not file.tensors


def test_plain_arrays_of_blocks_are_refused_by_name(written: Path) -> None:
    with open_gguf(written) as file, pytest.raises(UnsupportedType, match=r"tensor output\.weight is stored as Q8_0"):
        file.tensors["output.weight"].array()


def test_decoding_integers_is_refused_by_name(written: Path) -> None:
    with open_gguf(written) as file, pytest.raises(UnsupportedType, match=r"tensor blk\.0\.ffn_gate_tid2eid\.weight"):
        file.tensors["blk.0.ffn_gate_tid2eid.weight"].dequantize()


def test_every_kind_of_value_is_read() -> None:
    head = parse_header(b.rich())
    values = {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in head.metadata.items()}
    values["b.nested"] = [values["b.nested"][0].tolist(), values["b.nested"][1]]
    assert values == {
        "general.architecture": "deepseek4",
        "a.u8": 7,
        "a.i8": -7,
        "a.u16": 65535,
        "a.i16": -2,
        "general.alignment": 64,
        "a.i32": -5,
        "a.f32": 1.5,
        "a.bool": True,
        "a.u64": 1 << 63,
        "a.i64": -(1 << 62),
        "a.f64": 0.1,
        "b.numbers": [0, 4, 128],
        "b.bools": [False, True],
        "b.strings": ["Ġ", "", "<｜User｜>"],
        "b.nested": [[1, 2], ["x"]],
        "b.empty": [],
    }
    assert head.data_start % 64 == 0
    assert [t.shape for t in head.tensors] == [(3, 32), (5,), (3, 2), (2, 2, 256)]


def test_version_2_is_read_as_version_3_is() -> None:
    data = b.rich()
    old = data[:4] + struct.pack("<I", 2) + data[8:]
    assert parse_header(old).version == 2
    assert parse_header(old).tensors == parse_header(data).tensors


def test_a_header_alone_is_held_against_the_size_of_the_whole_file() -> None:
    data = b.rich()
    head = parse_header(data)
    assert parse_header(data[: head.data_start], file_bytes=len(data)).tensors == head.tensors


def test_tensors_may_stand_in_any_order_and_leave_gaps() -> None:
    data = b.with_data(b.header(infos=[b.info("late", (8,), offset=128), b.info("early", (8,), offset=0)]), bytes(160))
    assert [t.name for t in parse_header(data).tensors] == ["late", "early"]


def test_a_vocabulary_of_real_size_is_read_whole() -> None:
    tokens = [f"Ġtok{i}毕" for i in range(129_280)]
    merges = [f"Ġ{i} b{i}" for i in range(127_741)]
    keys = [b.key("t", b.ARRAY, b.strings(*tokens)), b.key("m", b.ARRAY, b.strings(*merges))]
    head = parse_header(b.header(keys))
    assert head.metadata == {"t": tokens, "m": merges}


# Split files


def test_any_part_opens_all(parts: list[Path]) -> None:
    assert len(parts) == 3
    weights = _weights()
    for part in parts:
        with open_gguf(part) as file:
            assert file.paths == tuple(parts)
            assert list(file.tensors) == list(weights)
            assert file.metadata["deepseek4.block_count"] == 2
            assert file.nbytes == sum(p.stat().st_size for p in parts)
            for name in ("token_embd.weight", "blk.0.ffn_up_exps.weight"):
                assert np.array_equal(file.tensors[name].array(), weights[name])


def test_a_first_part_may_hold_metadata_alone(tmp_path: Path) -> None:
    _write(tmp_path / "tiny.gguf", split_after=2, small_first=True)
    with open_gguf(tmp_path / "tiny-00002-of-00004.gguf") as file:
        assert not file.parts[0].header.tensors
        assert list(file.tensors) == list(_weights())
        assert file.metadata["deepseek4.block_count"] == 2


def test_missing_parts_are_named(parts: list[Path]) -> None:
    parts[1].unlink()
    with pytest.raises(FileError, match=r"1 of 3 parts are missing .*: tiny-00002-of-00003\.gguf; run"):
        open_gguf(parts[0])


def test_a_part_under_another_name_is_told_its_own(parts: list[Path], tmp_path: Path) -> None:
    stray = parts[1].rename(tmp_path / "renamed.gguf")
    with pytest.raises(FileError, match=r"part 2 of 3 by its metadata.* NAME-00002-of-00003\.gguf"):
        open_gguf(stray)


def test_swapped_parts_are_refused(parts: list[Path], tmp_path: Path) -> None:
    parts[1].rename(tmp_path / "aside")
    parts[2].rename(parts[1])
    (tmp_path / "aside").rename(parts[2])
    with pytest.raises(FileError, match=r"00002-of-00003\.gguf is part 3 of 3 by its metadata"):
        open_gguf(parts[0])


def test_a_whole_file_under_a_parts_name_is_refused(parts: list[Path], tmp_path: Path) -> None:
    parts[2].unlink()
    _write(tmp_path / "whole.gguf")
    (tmp_path / "whole.gguf").rename(parts[2])
    with pytest.raises(FileError, match=r"00003-of-00003\.gguf: split\.no is None and split\.count is None"):
        open_gguf(parts[0])


def _part(number: int, count: int, total: int, *names: str) -> bytes:
    keys = [
        b.key("split.no", b.U16, struct.pack("<H", number)),
        b.key("split.count", b.U16, struct.pack("<H", count)),
        b.key("split.tensors.count", b.I32, struct.pack("<i", total)),
    ]
    infos = [b.info(name, (8,), offset=32 * i) for i, name in enumerate(names)]
    return b.with_data(b.header(keys, infos), bytes(32 * len(names)))


def _two_parts(folder: Path, first: bytes, second: bytes) -> Path:
    (folder / "m-00001-of-00002.gguf").write_bytes(first)
    (folder / "m-00002-of-00002.gguf").write_bytes(second)
    return folder / "m-00001-of-00002.gguf"


def test_parts_that_hold_fewer_tensors_than_they_claim_are_refused(tmp_path: Path) -> None:
    path = _two_parts(tmp_path, _part(0, 2, 4, "x", "y"), _part(1, 2, 4, "z"))
    with pytest.raises(FileError, match=r"split\.tensors\.count is 4, but the parts hold 3"):
        open_gguf(path)


def test_a_tensor_in_two_parts_is_refused(tmp_path: Path) -> None:
    path = _two_parts(tmp_path, _part(0, 2, 3, "x", "y"), _part(1, 2, 3, "y"))
    with pytest.raises(FileError, match=r"tensor y stands in two parts, m-00001-of-00002\.gguf and m-00002"):
        open_gguf(path)


def test_damage_names_the_part(tmp_path: Path) -> None:
    path = _two_parts(tmp_path, _part(0, 2, 2, "x"), _part(1, 2, 2, "y")[:-10])
    with pytest.raises(FileError, match=r"m-00002-of-00002\.gguf: the file ends 10 bytes early"):
        open_gguf(path)


def test_a_single_part_needs_no_split_keys(written: Path) -> None:
    alone = written.rename(written.with_name("tiny-00001-of-00001.gguf"))
    with open_gguf(alone) as file:
        assert len(file.tensors) == 5


@pytest.mark.parametrize("name", ["m-00000-of-00002.gguf", "m-00003-of-00002.gguf"])
def test_a_part_beyond_the_last_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileError, match="there is no such part"):
        open_gguf(tmp_path / name)
