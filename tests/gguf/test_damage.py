"""Damaged GGUF files: each kind of damage is refused, and the error says which it is and where."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import gguf_bytes as b
import pytest

from ds4_backend.errors import FileError, UnsupportedType
from ds4_backend.gguf.header import parse_header
from ds4_backend.gguf.reader import open_gguf


def _with(*keys: bytes, infos: tuple[bytes, ...] = (), data: int = 0) -> bytes:
    return b.with_data(b.header(list(keys), list(infos)), bytes(data))


def _u64(n: int) -> bytes:
    return struct.pack("<Q", n)


HUGE = (1 << 64) - 1
DAMAGED = {
    "empty": (b"", "the file is empty"),
    "other magic": (b"PK\x03\x04" + bytes(30), r"starts with b'PK\\x03\\x04', not b'GGUF'"),
    "web page": (b"\n<!DOCTYPE html><html>", "the file is a web page"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
    "ends after the magic": (b"GGUF", "the version at byte 4 takes 4 bytes, but the file ends 4 bytes early"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "a big-endian GGUF"),
    "version 1": (b.header(version=1), "GGUF version 1; .* convert it again"),
    "version 4": (b.header(version=4), "GGUF version 4; ds4-backend reads versions 2 and 3"),
    "too many tensors": (b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0), f"claims {HUGE:,} tensors at byte 8"),
    "too many keys": (
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 40),
        "claims 1,099,511,627,776 metadata keys at byte 16",
    ),
    "key past the end": (b.header([_u64(1 << 50) + bytes(20)]), r"the name of metadata key 0 at byte 32 takes 1,125,8"),
    "key is no UTF-8": (
        _with(b.u32_key("a", 1), b.key(b"k\xff", b.U8, b"\0"), data=32),
        r"key 1 is no valid UTF-8: byte 0xff",
    ),
    "empty key": (_with(b.u32_key("", 1)), "the name of metadata key 0 at byte 24 has 0 bytes"),
    "long key": (_with(b.u32_key("k" * 65536, 1)), "has 65,536 bytes; GGUF allows 1 to 65,535"),
    "key twice": (_with(b.u32_key("a.b", 1), b.u32_key("a.b", 1)), r"metadata key a\.b stands in the file twice"),
    "value type": (_with(b.key("a", 13, _u64(0))), "metadata key a has value type 13 at byte 33"),
    "value past the end": (b.header([b.key("a", b.U64, b"\0" * 4)]), "metadata key a at byte 37 .* ends 4 bytes early"),
    "bool": (_with(b.key("a", b.BOOL, b"\2")), "key a should be a bool, 0 or 1, but is 2 at byte 37"),
    "bool in array": (
        _with(b.key("a", b.ARRAY, b.array(b.BOOL, 3, b"\0\1\7"))),
        r"key a\[2\] should be a bool, 0 or 1, but is 7 at byte 51",
    ),
    "string value": (_with(b.key("a", b.STRING, b.text(b"\xc3("))), r"key a is no valid UTF-8: byte 0xc3 at byte 45"),
    "string in array": (
        _with(b.key("tokens", b.ARRAY, b.strings("x", b"\x80"))),
        r"key tokens\[1\] is no valid UTF-8: byte 0x80 at byte 71",
    ),
    "string in array past the end": (
        b.header([b.key("tokens", b.ARRAY, b.array(b.STRING, 2, b.text("x") + _u64(HUGE)))]),
        rf"key tokens\[1\] at byte 71 takes {HUGE:,} bytes",
    ),
    "array count": (
        b.header([b.key("a", b.ARRAY, b.array(b.F32, 1 << 33, bytes(64)))]),
        r"claims 8,589,934,592 elements of metadata key a at byte 41; they need at least 4 bytes each",
    ),
    "string array count": (
        b.header([b.key("a", b.ARRAY, b.array(b.STRING, 100, bytes(8 * 99)))]),
        "claims 100 elements of metadata key a .* at least 8 bytes each, but 792 bytes are left",
    ),
    "array element type": (
        _with(b.key("a", b.ARRAY, b.array(77, 0, b""))),
        "the elements of metadata key a has value type 77",
    ),
    "deep nesting": (
        _with(b.key("a", b.ARRAY, b.array(b.ARRAY, 1, b"") * 5 + b.array(b.U8, 0, b""))),
        r"a\[0\]\[0\]\[0\]\[0\] nests arrays more than 4 deep",
    ),
    "alignment 0": (
        _with(b.u32_key("general.alignment", 0)),
        "general.alignment is 0 .u32.; it must be a u32 and a power",
    ),
    "alignment 48": (_with(b.u32_key("general.alignment", 48)), "general.alignment is 48"),
    "alignment type": (
        _with(b.key("general.alignment", b.STRING, b.text("32"))),
        r"general.alignment is '32' \(string\)",
    ),
    "tensor name twice": (
        _with(infos=(b.info("x", (8,)), b.info("x", (8,), offset=32)), data=64),
        "tensor x stands in the file twice",
    ),
    "tensor name is no UTF-8": (_with(infos=(b.info(b"\xff", (8,)),), data=32), "name of tensor 0 is no valid UTF-8"),
    "tensor name too long": (_with(infos=(b.info("x" * 65, (8,)),), data=32), "has 65 bytes; GGUF allows 1 to 64"),
    "tensor name empty": (_with(infos=(b.info("", (8,)),), data=32), "name of tensor 0 at byte 24 has 0 bytes"),
    "no dims": (_with(infos=(b.info("x", ()),), data=64), "tensor x has 0 dims at byte 33; GGUF allows 1 to 4"),
    "five dims": (_with(infos=(b.info("x", (1, 1, 1, 1, 1)),), data=64), "tensor x has 5 dims"),
    "dim of zero": (_with(infos=(b.info("x", (8, 0)),), data=64), r"tensor x has a dim of zero at byte 37: \[8, 0\]"),
    "dims overflow": (_with(infos=(b.info("x", (1 << 32, 1 << 32)),), data=64), "too many to count"),
    "part blocks": (
        _with(infos=(b.info("x", (100, 2), b.TYPE_Q4_K),), data=999),
        r"tensor x with shape \[2, 100\]: a row of 100 values is no whole number of Q4_K blocks of 256",
    ),
    "misaligned": (
        _with(infos=(b.info("x", (8,), offset=16),), data=64),
        "starts at offset 16, no multiple of the alignment 32",
    ),
    "overlap": (
        _with(infos=(b.info("x", (9,)), b.info("y", (8,), offset=32)), data=64),
        r"tensors x and y overlap by 4 bytes \(offsets 0 and 32\)",
    ),
    "same place": (_with(infos=(b.info("x", (8,)), b.info("y", (8,))), data=64), "tensors x and y overlap by 32 bytes"),
    "download cut short": (
        _with(infos=(b.info("x", (320,)),), data=46),
        r"the file ends 1,234 bytes early: tensor x reaches byte 1,344.* incomplete; run `ds4-backend download`",
    ),
    "offset past the end": (_with(infos=(b.info("x", (8,), offset=1 << 63),), data=64), "bytes early: tensor x"),
    "unknown block format": (_with(infos=(b.info("x", (8,), 200),), data=64), "tensor x has type id 200"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_is_refused_by_name(damage: str, tmp_path: Path) -> None:
    data, reason = DAMAGED[damage]
    with pytest.raises(FileError, match=reason):
        parse_header(data)
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(FileError, match=reason) as refused:
        open_gguf(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_an_unknown_block_format_is_an_unsupported_type() -> None:
    with pytest.raises(UnsupportedType):
        parse_header(DAMAGED["unknown block format"][0])


def test_every_truncation_is_refused() -> None:
    data = b.rich()
    last = parse_header(data).tensors[-1]
    needed = parse_header(data).data_start + last.offset + last.nbytes
    for length in range(needed):
        with pytest.raises(FileError, match=r"bytes early|claims|empty|starts with"):
            parse_header(data[:length])
    parse_header(data[:needed])


def test_a_header_that_never_ends_stops_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ds4_backend.gguf.cursor.HEADER_LIMIT", 200)
    with pytest.raises(FileError, match=r"key long at byte .* takes 500 bytes, past the 200 bytes that a header"):
        parse_header(_with(b.key("long", b.STRING, b.text("x" * 500))))


def test_a_missing_file_a_folder_and_a_pipe_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nothing\.gguf: there is no such file"):
        open_gguf(tmp_path / "nothing.gguf")
    with pytest.raises(FileError, match="is a folder"):
        open_gguf(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(FileError, match="is no plain file"):
        open_gguf(tmp_path / "pipe.gguf")


def test_a_refused_file_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(DAMAGED["overlap"][0])
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    for _ in range(20):
        with pytest.raises(FileError):
            open_gguf(path)
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before
