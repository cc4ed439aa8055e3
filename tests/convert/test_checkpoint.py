"""Checkpoint folders: stored types, naming schemes, and what a damaged one is told."""

from __future__ import annotations

import json
import struct

import gguf
import numpy as np
import pytest
from checkpoint_maker import (
    hugging_face_names,
    make_folder,
    official_config,
    official_shapes,
    random_weights,
    save_safetensors,
)

from ds4_backend.convert import convert, fp
from ds4_backend.convert.checkpoint import open_checkpoint
from ds4_backend.errors import ConversionError

FP8 = ("wq_a", "wq_b", "wkv", "wo_a", "wo_b", "shared_experts", "indexer.wq_b")


def bf16(values):
    return "BF16", np.ascontiguousarray(values, np.float32).view(np.uint16)[..., 1::2]


def as_published(config, seed=0):
    """A checkpoint in DeepSeek's own types, and what every tensor decodes to."""
    rng = np.random.default_rng(seed)
    stored, decoded = {}, {}
    for name, values in random_weights(config, seed).items():
        if ".experts." in name:
            packed = rng.integers(0, 256, (values.shape[0], values.shape[1] // 2), np.uint8)
            scales = rng.integers(118, 125, (values.shape[0], values.shape[1] // 32), np.uint8)
            stored[name] = ("I8", packed)
            stored[name.replace(".weight", ".scale")] = ("F8_E8M0", scales)
            decoded[name] = fp.decode_fp4(packed, scales)
        elif name.endswith(".weight") and any(part in name for part in FP8):
            codes = rng.integers(0, 0x7E, values.shape, np.uint8)
            scales = rng.integers(115, 120, [-(-n // 128) for n in values.shape], np.uint8)
            stored[name] = ("F8_E4M3", codes)
            stored[name.replace(".weight", ".scale")] = ("F8_E8M0", scales)
            decoded[name] = fp.decode_fp8(codes, fp.E8M0[scales])
        elif name.endswith("weight"):
            stored[name] = bf16(values)
            decoded[name] = fp.decode_bf16(stored[name][1])
        else:
            stored[name] = decoded[name] = values
    return stored, decoded


@pytest.fixture
def published(tmp_path):
    config = official_config(hidden_size=160, vocab_size=300)
    stored, decoded = as_published(config)
    return make_folder(tmp_path / "model", config, stored, shards=2), decoded


def test_every_stored_type_decodes_to_its_numbers(published):
    folder, decoded = published
    checkpoint = open_checkpoint(folder, 4)
    assert set(checkpoint.sources) == set(decoded)
    for name, values in decoded.items():
        source = checkpoint.sources[name]
        assert source.shape == values.shape, name
        found = source.integers() if name.endswith("tid2eid") else source.read(0, source.shape[0])
        assert np.array_equal(found, values), name


def test_rows_can_be_read_in_pieces(published):
    folder, decoded = published
    sources = open_checkpoint(folder, 4).sources
    for name in ("embed.weight", "layers.1.attn.wo_b.weight", "layers.0.ffn.experts.2.w2.weight"):
        assert np.array_equal(sources[name].read(128, 150), decoded[name][128:150])


def test_fp4_experts_reach_mxfp4_without_loss(published, tmp_path):
    folder, decoded = published
    convert(folder, tmp_path / "out.gguf", "mxfp4")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    for leaf, part in (("gate", "w1"), ("up", "w3"), ("down", "w2")):
        tensor = tensors[f"blk.3.ffn_{leaf}_exps.weight"]
        stack = np.stack([decoded[f"layers.3.ffn.experts.{e}.{part}.weight"] for e in range(4)])
        assert tensor.tensor_type.name == "MXFP4"
        assert np.array_equal(gguf.quants.dequantize(tensor.data, tensor.tensor_type), stack)


def test_transformers_stacks_are_taken_apart(tmp_path):
    config = official_config()
    weights = random_weights(config)
    folder = make_folder(tmp_path / "model", config, hugging_face_names(weights, config))
    sources = open_checkpoint(folder, 4).sources
    assert set(sources) == set(official_shapes(config))
    for name in ("layers.2.ffn.experts.3.w1.weight", "layers.2.ffn.experts.3.w3.weight", "layers.0.ffn.gate.weight"):
        assert np.array_equal(sources[name].read(0, sources[name].shape[0]), weights[name]), name


def test_unstacked_transformers_experts_are_known_too(tmp_path):
    one = np.ones((2, 3), np.float32)
    save_safetensors(tmp_path / "model.safetensors", {"model.layers.1.mlp.experts.5.up_proj.weight": one})
    assert list(open_checkpoint(tmp_path, 2).sources) == ["layers.1.ffn.experts.5.w3.weight"]


def test_computed_buffers_and_prediction_layers_are_left_out(tmp_path):
    one = np.ones(2, np.float32)
    names = ["model.rotary_emb.main_inv_freq", "mtp.0.norm.weight", "model.layers.7.mlp.gate.weight", "norm.weight"]
    save_safetensors(tmp_path / "model.safetensors", dict.fromkeys(names, one))
    checkpoint = open_checkpoint(tmp_path, 7)
    assert list(checkpoint.sources) == ["norm.weight"] and set(checkpoint.left_out) == set(names[:3])


def test_one_tensor_under_two_names_is_refused(tmp_path):
    one = np.ones(2, np.float32)
    save_safetensors(tmp_path / "model.safetensors", {"norm.weight": one, "model.norm.weight": one})
    with pytest.raises(ConversionError, match=r"norm\.weight and model\.norm\.weight are both norm\.weight"):
        open_checkpoint(tmp_path, 1)


@pytest.mark.parametrize(
    ("weight", "scale", "message"),
    [
        (("F8_E4M3", np.zeros((130, 64), np.uint8)), ("F8_E8M0", np.zeros((1, 1), np.uint8)), r"needs .*\[2, 1\]"),
        (("I8", np.zeros((4, 32), np.uint8)), ("F8_E8M0", np.zeros((4, 1), np.uint8)), r"needs .*\[4, 2\]"),
        (np.zeros((4, 32), np.float32), ("F8_E8M0", np.zeros((4, 1), np.uint8)), "only FP8 and packed FP4"),
    ],
)
def test_a_scale_that_does_not_fit_is_named(tmp_path, weight, scale, message):
    tensors = {"layers.0.attn.wq_a.weight": weight, "layers.0.attn.wq_a.scale": scale}
    save_safetensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(ConversionError, match=message):
        open_checkpoint(tmp_path, 1)


def test_fp8_without_a_scale_is_refused_when_read(tmp_path):
    tensors = {"layers.0.attn.wq_a.weight": ("F8_E4M3", np.zeros((4, 4), np.uint8))}
    save_safetensors(tmp_path / "model.safetensors", tensors)
    source = open_checkpoint(tmp_path, 1).sources["layers.0.attn.wq_a.weight"]
    with pytest.raises(ConversionError, match=r"lacks its scale layers\.0\.attn\.wq_a\.scale"):
        source.read(0, 4)


def test_a_scale_that_is_not_a_number_is_refused(tmp_path):
    name = "layers.0.ffn.experts.0.w1"
    scales = np.full((4, 1), 255, np.uint8)
    tensors = {f"{name}.weight": ("I8", np.zeros((4, 16), np.uint8)), f"{name}.scale": ("F8_E8M0", scales)}
    save_safetensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(ConversionError, match=r"w1\.scale .* NaN scales"):
        open_checkpoint(tmp_path, 1).sources[f"{name}.weight"].read(0, 4)


def test_integers_are_no_weights(tmp_path):
    save_safetensors(tmp_path / "model.safetensors", {"norm.weight": np.zeros(4, np.int64)})
    with pytest.raises(ConversionError, match="type I64 without a scale holds no weights"):
        open_checkpoint(tmp_path, 1).sources["norm.weight"].read(0, 4)


def test_a_shard_cut_short_is_named_with_its_bytes(published):
    folder, _ = published
    path = sorted(folder.glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(
        ConversionError, match=r"model-00002-of-00002\.safetensors is cut short: tensor .* ends at byte"
    ):
        open_checkpoint(folder, 4)


def test_a_missing_shard_is_named(published):
    folder, _ = published
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(ConversionError, match=r"1 shards are missing .* model-00001-of-00002"):
        open_checkpoint(folder, 4)


def test_a_tensor_that_only_the_index_knows_is_named(published):
    folder, _ = published
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["ghost.weight"] = "model-00001-of-00002.safetensors"
    path.write_text(json.dumps(index))
    with pytest.raises(ConversionError, match=r"no shard holds, the first is ghost\.weight"):
        open_checkpoint(folder, 4)


def raw_file(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short or no safetensors"),
        (struct.pack("<Q", 1 << 62) + b"{}", "cut short or no safetensors"),
        (raw_file(b"{nonsense"), "header is not JSON"),
        (raw_file(b"[1]"), "no JSON object"),
        (raw_file({"w": {"dtype": "F32", "shape": [2]}}), "entry of tensor w is malformed"),
        (raw_file({"w": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, b"8bytes.."), "has type C64"),
        (raw_file({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"four"), "takes 8 bytes"),
        (raw_file({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}, b"four"), "header says 4 to 0"),
    ],
)
def test_what_is_no_safetensors_file_is_said_so(tmp_path, content, message):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ConversionError, match=message):
        open_checkpoint(tmp_path, 1)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ConversionError, match=r"holds no \*\.safetensors"):
        open_checkpoint(tmp_path, 1)
