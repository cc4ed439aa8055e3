"""Importance matrices in llama.cpp's legacy format."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from ds4_backend.convert.imatrix import Imatrix, importance_of, read_imatrix, read_imatrix_file, write_imatrix
from ds4_backend.errors import ConversionError


def file_with(*entries, tail=b""):
    parts = [struct.pack("<i", len(entries))]
    for name, calls, values in entries:
        parts += [struct.pack("<i", len(name)), name, struct.pack("<ii", calls, len(values))]
        parts.append(np.array(values, "<f4").tobytes())
    return b"".join(parts) + tail


def test_what_is_written_is_read_back(tmp_path):
    values = np.random.default_rng(0).random((3, 8), np.float32)
    write_imatrix(tmp_path / "i.dat", Imatrix({"blk.0.ffn_up_exps.weight": values}, 5, "text.txt"))
    assert np.array_equal(read_imatrix(tmp_path / "i.dat", 3)["blk.0.ffn_up_exps.weight"], values)
    whole = read_imatrix_file(tmp_path / "i.dat")
    assert (whole.chunks, whole.dataset) == (5, "text.txt")


def test_stored_sums_are_divided_by_their_calls(tmp_path):
    (tmp_path / "i.dat").write_bytes(file_with((b"w", 4, [8.0, 2.0])))
    assert read_imatrix(tmp_path / "i.dat")["w"].tolist() == [[2.0, 0.5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short or damaged at byte 0"),
        (b"GGUF....", "GGUF imatrix; only the older"),
        (struct.pack("<i", -3), "claims -3 entries"),
        (struct.pack("<i", 0), "claims 0 entries"),
        (file_with((b"w", 1, [1.0]))[:-2], "cut short or damaged at byte 17"),
        (struct.pack("<iii", 1, -5, 0), "cut short or damaged"),
        (file_with((b"w", 1, [-1.0])), "entry w holds negative or non-finite"),
        (file_with((b"w", 1, [float("nan")])), "entry w holds negative or non-finite"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, message):
    (tmp_path / "i.dat").write_bytes(content)
    with pytest.raises(ConversionError, match=message):
        read_imatrix(tmp_path / "i.dat")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="No such file"):
        read_imatrix(tmp_path / "i.dat")


def test_an_entry_that_does_not_divide_among_the_experts_is_refused(tmp_path):
    (tmp_path / "i.dat").write_bytes(file_with((b"w", 1, [1.0, 2.0, 3.0])))
    with pytest.raises(ConversionError, match="w holds 3 values, not a multiple of 2 experts"):
        read_imatrix(tmp_path / "i.dat", 2)


def test_experts_without_data_get_the_mean_of_the_others():
    values = np.array([[2.0, 0.0], [0.0, 0.0], [4.0, 2.0]], np.float32)
    assert importance_of(Imatrix({"w": values}), "w", 3).tolist() == [[2, 0], [3, 1], [4, 2]]
    assert importance_of(Imatrix({"w": np.zeros((2, 2), np.float32)}), "w", 2).tolist() == [[1, 1], [1, 1]]
    assert importance_of(Imatrix({}), "w", 2) is None
