"""The table of block formats."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ds4_backend.errors import FileError, UnsupportedType
from ds4_backend.gguf.formats import FORMATS, Format, format_of, row_bytes


@pytest.mark.parametrize(
    ("name", "type_id", "block_size", "block_bytes"),
    [
        ("F32", 0, 1, 4),
        ("F16", 1, 1, 2),
        ("BF16", 30, 1, 2),
        ("Q8_0", 8, 32, 34),
        ("Q2_K", 10, 256, 84),
        ("Q4_K", 12, 256, 144),
        ("IQ2_XXS", 16, 256, 66),
        ("I32", 26, 1, 4),
        ("MXFP4", 39, 32, 17),
    ],
)
def test_the_formats_of_v4_files_have_their_published_sizes(
    name: str, type_id: int, block_size: int, block_bytes: int
) -> None:
    assert FORMATS[name] == Format(name, type_id, block_size, block_bytes)
    assert format_of(type_id) is FORMATS[name]


def test_only_plain_numbers_have_a_numpy_type() -> None:
    plain = {f.name: str(f.dtype) for f in FORMATS.values() if f.dtype is not None}
    assert plain == {
        "F16": "float16", "F32": "float32", "F64": "float64",
        "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    }  # fmt: skip
    assert all(f.dtype.itemsize == f.block_bytes for f in FORMATS.values() if f.dtype is not None)


def test_an_unknown_type_id_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedType, match=r"tensor blk\.3\.x has type id 4123"):
        format_of(4123, "blk.3.x")


def test_the_bytes_of_the_rows_of_flash() -> None:
    assert row_bytes(FORMATS["IQ2_XXS"], 4096) * 2048 == 2_162_688  # one expert's gate
    assert row_bytes(FORMATS["Q2_K"], 2048) * 4096 == 2_752_512  # one expert's down


@pytest.mark.parametrize("n", [0, -256, 100, 257])
def test_a_row_of_part_blocks_is_refused(n: int) -> None:
    with pytest.raises(FileError, match=r"no whole number of Q4_K blocks of 256"):
        row_bytes(FORMATS["Q4_K"], n)


def test_importing_the_package_and_the_table_does_not_import_gguf() -> None:
    code = "import sys, ds4_backend.gguf.formats, ds4_backend.gguf.reader; sys.exit('gguf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0


def test_another_name_is_no_attribute_of_the_module() -> None:
    from ds4_backend.gguf import formats

    with pytest.raises(AttributeError, match="FORMAT_OF"):
        _ = formats.FORMAT_OF
