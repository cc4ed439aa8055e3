"""GGUF files made by hand, byte by byte, so that tests can make every kind of damage. It uses no reader or writer."""

from __future__ import annotations

import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
TYPE_F32, TYPE_F16, TYPE_Q8_0, TYPE_Q4_K, TYPE_I32 = 0, 1, 8, 12, 26


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def key(name: str | bytes, kind: int, payload: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + payload


def u32_key(name: str, value: int) -> bytes:
    return key(name, U32, struct.pack("<I", value))


def array(kind: int, count: int, payload: bytes) -> bytes:
    return struct.pack("<IQ", kind, count) + payload


def strings(*values: str | bytes) -> bytes:
    return array(STRING, len(values), b"".join(text(v) for v in values))


def info(name: str | bytes, dims: tuple[int, ...], kind: int = TYPE_F32, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def header(
    keys: list[bytes] | None = None, infos: list[bytes] | None = None, *, version: int = 3, magic: bytes = b"GGUF"
) -> bytes:
    keys, infos = keys or [], infos or []
    return magic + struct.pack("<IQQ", version, len(infos), len(keys)) + b"".join(keys) + b"".join(infos)


def with_data(head: bytes, data: bytes, alignment: int = 32) -> bytes:
    return head + bytes(-len(head) % alignment) + data


def rich() -> bytes:
    """A small sound file with every kind of value and several kinds of tensor."""
    keys = [
        key("general.architecture", STRING, text("deepseek4")),
        key("a.u8", U8, b"\x07"),
        key("a.i8", I8, b"\xf9"),
        key("a.u16", U16, struct.pack("<H", 65535)),
        key("a.i16", I16, struct.pack("<h", -2)),
        u32_key("general.alignment", 64),
        key("a.i32", I32, struct.pack("<i", -5)),
        key("a.f32", F32, struct.pack("<f", 1.5)),
        key("a.bool", BOOL, b"\x01"),
        key("a.u64", U64, struct.pack("<Q", 1 << 63)),
        key("a.i64", I64, struct.pack("<q", -(1 << 62))),
        key("a.f64", F64, struct.pack("<d", 0.1)),
        key("b.numbers", ARRAY, array(I32, 3, struct.pack("<3i", 0, 4, 128))),
        key("b.bools", ARRAY, array(BOOL, 2, b"\x00\x01")),
        key("b.strings", ARRAY, strings("Ġ", "", "<｜User｜>")),
        key("b.nested", ARRAY, array(ARRAY, 2, array(U8, 2, b"\x01\x02") + strings("x"))),
        key("b.empty", ARRAY, array(F32, 0, b"")),
    ]
    infos = [
        info("token_embd.weight", (32, 3), TYPE_Q8_0, 0),
        info("output_norm.weight", (5,), TYPE_F32, 128),
        info("blk.0.ffn_gate_tid2eid.weight", (2, 3), TYPE_I32, 192),
        info("blk.0.ffn_up_exps.weight", (256, 2, 2), TYPE_Q4_K, 256),
    ]
    return with_data(header(keys, infos), bytes(range(256)) * 3 + bytes(64), alignment=64)
