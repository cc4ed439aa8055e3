"""The description of a GGUF file, as JSON and as text."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from math import prod
from pathlib import Path
from typing import Any

import gguf_bytes as b
import pytest

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.header import parse_header
from ds4_backend.gguf.inspect import GROUPS, as_text, describe, group_of, header_digest
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.gguf.schema import expected_tensors

RATIOS = (0, 4, 128, 4, 128, 4)
GEOMETRY = Geometry(
    block_count=6,
    embedding_length=64,
    vocab_size=100,
    attention_head_count=4,
    attention_key_length=32,
    attention_q_lora_rank=32,
    attention_output_lora_rank=16,
    attention_output_group_count=2,
    attention_sliding_window=128,
    attention_compress_ratios=RATIOS,
    attention_indexer_head_count=16,
    attention_indexer_key_length=32,
    attention_indexer_top_k=8,
    rope_dimension_count=16,
    expert_count=8,
    expert_used_count=2,
    expert_feed_forward_length=32,
    hash_layer_count=1,
    swiglu_clamp_exp=(10.0,) * 6,
)


@pytest.fixture
def v4(tmp_path: Path) -> Path:
    """A file with every tensor of a small network, all zeros, and metadata of several kinds."""
    tokens = [f"t{i}" for i in range(100)]
    keys = [
        b.key("general.architecture", b.STRING, b.text("deepseek4")),
        b.key("general.name", b.STRING, b.text("A \x1b[31mred\x1b[0m name\nof two lines")),
        b.key("odd.value", b.F32, struct.pack("<f", float("nan"))),
        b.key("tokenizer.ggml.tokens", b.ARRAY, b.strings(*tokens)),
        b.key("tokenizer.ggml.token_type", b.ARRAY, b.array(b.I32, 100, struct.pack("<100i", *[1] * 100))),
        b.key(
            "deepseek4.attention.compress_ratios", b.ARRAY, b.array(b.I32, 6, struct.pack("<6i", 0, 4, 128, 4, 128, 4))
        ),
        b.key("tokenizer.chat_template", b.STRING, b.text("{{ x }}" * 200)),
    ]
    infos, offset = [], 0
    for name, shape in expected_tensors(GEOMETRY).items():
        kind, nbytes = _stored(shape)
        infos.append(b.info(name, shape[::-1], kind, offset))
        offset += -(-nbytes // 32) * 32
    path = tmp_path / "small.gguf"
    path.write_bytes(b.with_data(b.header(keys, infos), bytes(offset)))
    return path


def _stored(shape: tuple[int, ...]) -> tuple[int, int]:
    """Type id and bytes: Q8_0 for what it can hold, F32 for the rest."""
    if len(shape) > 1 and shape[-1] % 32 == 0:
        return b.TYPE_Q8_0, prod(shape) // 32 * 34
    return b.TYPE_F32, prod(shape) * 4


def _described(path: Path) -> dict[str, Any]:
    with open_gguf(path) as file:
        description = describe(file)
    assert json.loads(json.dumps(description, allow_nan=False)) == description
    return description


def test_the_description_is_json_and_names_every_tensor(v4: Path) -> None:
    description = _described(v4)
    assert description["paths"] == [str(v4)]
    assert description["bytes"] == v4.stat().st_size
    assert (description["version"], description["alignment"]) == (3, 32)
    assert [t["name"] for t in description["tensors"]] == list(expected_tensors(GEOMETRY))
    assert description["tensors"][0] == {
        "name": "token_embd.weight",
        "shape": [100, 64],
        "type": "Q8_0",
        "bytes": 100 * 68,
        "group": "token embedding",
    }


def test_sums_by_type_and_by_group_add_up(v4: Path) -> None:
    description = _described(v4)
    totals = description["totals"]
    assert totals["bytes"] == sum(t["bytes"] for t in description["tensors"])
    assert totals["values"] == sum(prod(shape) for shape in expected_tensors(GEOMETRY).values())
    for table in ("types", "groups"):
        for what in ("tensors", "values", "bytes"):
            assert sum(row[what] for row in description[table].values()) == totals[what]
    assert set(description["types"]) == {"Q8_0", "F32"}


def test_every_tensor_of_the_network_has_a_group(v4: Path) -> None:
    assert set(_described(v4)["groups"]) == {group for group, _ in GROUPS} - {"MTP"}
    assert group_of("mtp.0.e_proj.weight") == group_of("blk.43.nextn.eh_proj.weight") == "MTP"
    assert group_of("v.patch_embd.weight") == "other"


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("output_hc_fn.weight", "hyper-connections"),
        ("blk.3.hc_ffn_scale.weight", "hyper-connections"),
        ("output_norm.weight", "norms and sinks"),
        ("output.weight", "output head"),
        ("blk.3.attn_q_a_norm.weight", "norms and sinks"),
        ("blk.3.attn_q_a.weight", "attention projections"),
        ("blk.3.attn_compressor_norm.weight", "attention compressors"),
        ("blk.3.indexer.attn_q_b.weight", "indexer"),
        ("blk.3.indexer_compressor_ape.weight", "indexer"),
        ("blk.3.exp_probs_b.bias", "router"),
        ("blk.3.ffn_gate_shexp.weight", "shared experts"),
        ("blk.3.ffn_gate_exps.weight", "routed experts"),
    ],
)
def test_tensors_are_grouped_by_their_part_of_the_network(name: str, group: str) -> None:
    assert group_of(name) == group


def test_long_arrays_are_shortened_and_short_ones_kept(v4: Path) -> None:
    metadata = _described(v4)["metadata"]
    assert metadata["deepseek4.attention.compress_ratios"] == list(RATIOS)
    assert metadata["tokenizer.ggml.tokens"] == {
        "type": "array of string",
        "length": 100,
        "first": [f"t{i}" for i in range(8)],
    }
    assert metadata["tokenizer.ggml.token_type"] == {"type": "array of i32", "length": 100, "first": [1] * 8}


def test_what_json_cannot_hold_becomes_text(v4: Path) -> None:
    assert _described(v4)["metadata"]["odd.value"] == "nan"


def test_every_kind_of_value_can_be_described(tmp_path: Path) -> None:
    path = tmp_path / "rich.gguf"
    path.write_bytes(b.rich())
    description = _described(path)
    assert description["metadata"]["b.nested"] == [[1, 2], ["x"]]
    assert description["metadata"]["b.bools"] == [False, True]
    assert "b.empty" in as_text(description)


def test_a_file_without_metadata_or_tensors_is_described(tmp_path: Path) -> None:
    path = tmp_path / "bare.gguf"
    path.write_bytes(b.header())
    assert "no metadata" in as_text(_described(path))


def test_the_text_has_one_line_for_layers_alike(v4: Path) -> None:
    text = as_text(_described(v4))
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines() if line.startswith("  ")}
    assert lines["blk.N.attn_q_a.weight"] == "0-5 32 x 64 Q8_0 12.75 KiB"
    assert lines["blk.N.indexer.proj.weight"] == "1-5/2 16 x 64 Q8_0 3.19 KiB"
    assert re.search(r"blk\.N\.attn_compressor_ape\.weight +1-5/2 +4 x 64  Q8_0 ", text)
    assert re.search(r"blk\.N\.attn_compressor_ape\.weight +2,4 +128 x 32  Q8_0 ", text)
    assert lines["blk.N.exp_probs_b.bias"] == "1-5 8 F32 160 B"
    assert lines["output.weight"] == "100 x 64 Q8_0 6.64 KiB"
    assert "routed experts: 18 tensors, " in text
    assert "output head: 1 tensor, " in text
    assert max(map(len, text.splitlines())) < 200


def test_the_text_holds_no_control_characters_from_the_file(v4: Path) -> None:
    text = as_text(_described(v4))
    assert all(c.isprintable() or c == "\n" for c in text)
    assert r"A \x1b[31mred\x1b[0m name\nof two lines" in text


def test_the_digest_is_of_all_bytes_before_the_tensor_data(v4: Path) -> None:
    data = v4.read_bytes()
    expected = hashlib.sha256(data[: parse_header(data).data_start]).hexdigest()
    with open_gguf(v4) as file:
        assert header_digest(file) == expected
    assert _described(v4)["header"] == {"bytes": parse_header(data).data_start, "sha256": expected}


def test_the_digest_tells_headers_apart_but_not_weights(v4: Path, tmp_path: Path) -> None:
    digests = []
    data = v4.read_bytes()
    for changed in (data, data[:-40] + b"x" + data[-39:], data.replace(b"deepseek4.att", b"deepseek5.att")):
        path = tmp_path / "changed.gguf"
        path.write_bytes(changed)
        with open_gguf(path) as file:
            digests.append(header_digest(file))
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_of_a_split_file_covers_each_part(tmp_path: Path) -> None:
    heads = []
    for number in range(2):
        keys = [
            b.key("split.no", b.U16, struct.pack("<H", number)),
            b.key("split.count", b.U16, struct.pack("<H", 2)),
            b.key("split.tensors.count", b.I32, struct.pack("<i", 2)),
        ]
        data = b.with_data(b.header(keys, [b.info(f"x{number}", (8,))]), bytes(32))
        heads.append(data[:-32])
        (tmp_path / f"m-0000{number + 1}-of-00002.gguf").write_bytes(data)
    with open_gguf(tmp_path / "m-00002-of-00002.gguf") as file:
        assert header_digest(file) == hashlib.sha256(b"".join(heads)).hexdigest()
        assert len(describe(file)["paths"]) == 2
