"""Whole conversions of random tiny checkpoints, read back with gguf-py."""

from __future__ import annotations

import json
from functools import cache

import gguf
import numpy as np
import pytest
from checkpoint_maker import hugging_face_names, make_folder, official_config, random_weights, transformers_config

from ds4_backend.convert import convert
from ds4_backend.convert.imatrix import Imatrix, write_imatrix
from ds4_backend.errors import ConversionError
from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.gguf.writer import GGUFFile

WIDE = {
    "hidden_size": 256, "moe_intermediate_size": 256, "n_routed_experts": 2,
    "num_hidden_layers": 2, "compress_ratios": [0, 0], "num_hash_layers": 1,
}  # fmt: skip


def tensors_of(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def values_of(tensor):
    if tensor.tensor_type.name == "I32":
        return tensor.data
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """From a recipe to the file it makes of one wide checkpoint, the report, and the checkpoint's weights."""
    folder = tmp_path_factory.mktemp("wide")
    config = official_config(**WIDE)
    weights = random_weights(config)
    make_folder(folder / "model", config, weights)

    @cache
    def converted(recipe):
        return folder / f"{recipe}.gguf", convert(folder / "model", folder / f"{recipe}.gguf", recipe), weights

    return converted


@pytest.fixture
def official(tmp_path):
    config = official_config()
    weights = random_weights(config)
    return make_folder(tmp_path / "model", config, weights), weights


def test_f32_keeps_every_number_of_every_tensor(official, tmp_path):
    folder, weights = official
    convert(folder, tmp_path / "out.gguf", "f32")
    tensors = tensors_of(tmp_path / "out.gguf")
    expected = {
        "token_embd.weight": "embed.weight",
        "output.weight": "head.weight",
        "output_hc_fn.weight": "hc_head_fn",
        "blk.0.ffn_gate_tid2eid.weight": "layers.0.ffn.gate.tid2eid",
        "blk.3.exp_probs_b.bias": "layers.3.ffn.gate.bias",
        "blk.1.hc_ffn_scale.weight": "layers.1.hc_ffn_scale",
        "blk.2.attn_compressor_ape.weight": "layers.2.attn.compressor.ape",
        "blk.2.indexer.attn_q_b.weight": "layers.2.attn.indexer.wq_b.weight",
        "blk.2.indexer.proj.weight": "layers.2.attn.indexer.weights_proj.weight",
        "blk.2.indexer_compressor_gate.weight": "layers.2.attn.indexer.compressor.wgate.weight",
        "blk.3.attn_output_a.weight": "layers.3.attn.wo_a.weight",
        "blk.3.attn_sinks.weight": "layers.3.attn.attn_sink",
        "blk.3.ffn_down_shexp.weight": "layers.3.ffn.shared_experts.w2.weight",
    }
    for name, source in expected.items():
        assert np.array_equal(values_of(tensors[name]), weights[source]), name
    for leaf, part in (("gate", "w1"), ("up", "w3"), ("down", "w2")):
        stack = np.stack([weights[f"layers.3.ffn.experts.{e}.{part}.weight"] for e in range(4)])
        assert np.array_equal(values_of(tensors[f"blk.3.ffn_{leaf}_exps.weight"]), stack)


def test_both_naming_schemes_give_byte_identical_files(official, tmp_path):
    folder, weights = official
    config = official_config()
    other = make_folder(
        tmp_path / "elsewhere" / "model", transformers_config(config), hugging_face_names(weights, config), shards=3
    )
    convert(folder, tmp_path / "a.gguf", "q8")
    convert(other, tmp_path / "b.gguf", "q8")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


@pytest.mark.parametrize(
    ("recipe", "gate", "down", "dense"),
    [
        ("f32", "F32", "F32", "F32"),
        ("f16", "F16", "F16", "F16"),
        ("q8", "Q8_0", "Q8_0", "Q8_0"),
        ("q4", "Q4_K", "Q4_K", "Q8_0"),
        ("q2", "IQ2_XXS", "Q2_K", "Q8_0"),
        ("mxfp4", "MXFP4", "MXFP4", "Q8_0"),
    ],
)
def test_recipes_give_the_formats_that_ds4_demands(wide, recipe, gate, down, dense):
    path, report, _ = wide(recipe)
    assert report.fallbacks == ()
    found = {name: tensor.tensor_type.name for name, tensor in tensors_of(path).items()}
    assert found["blk.1.ffn_gate_exps.weight"] == found["blk.1.ffn_up_exps.weight"] == gate
    assert found["blk.1.ffn_down_exps.weight"] == down
    assert found["output.weight"] == found["blk.0.attn_q_b.weight"] == found["blk.1.ffn_up_shexp.weight"] == dense
    half = "F32" if recipe == "f32" else "F16"
    assert {found[n] for n in ("token_embd.weight", "blk.0.hc_attn_fn.weight", "blk.0.ffn_gate_inp.weight")} == {half}
    assert {found[n] for n in ("output_norm.weight", "blk.0.attn_sinks.weight", "blk.0.hc_ffn_base.weight")} == {"F32"}
    assert found["blk.0.ffn_gate_tid2eid.weight"] == "I32"


@pytest.mark.parametrize(("recipe", "bound"), [("q8", 0.01), ("q4", 0.12), ("q2", 0.6), ("mxfp4", 0.2)])
def test_routed_experts_decode_near_to_what_they_were(wide, recipe, bound):
    path, _, weights = wide(recipe)
    tensors = tensors_of(path)
    for leaf, part in (("gate", "w1"), ("down", "w2")):
        for expert in range(2):
            original = weights[f"layers.1.ffn.experts.{expert}.{part}.weight"]
            error = values_of(tensors[f"blk.1.ffn_{leaf}_exps.weight"])[expert] - original
            assert np.linalg.norm(error) / np.linalg.norm(original) < bound


def test_rows_that_a_format_cannot_hold_fall_back_and_are_named(tmp_path):
    config = official_config(moe_intermediate_size=48, o_lora_rank=20)
    folder = make_folder(tmp_path / "model", config, random_weights(config))
    report = convert(folder, tmp_path / "out.gguf", "q2")
    named = {fallback.name: (fallback.wanted, fallback.used, fallback.width) for fallback in report.fallbacks}
    assert named["blk.0.ffn_gate_exps.weight"] == ("IQ2_XXS", "Q8_0", 64)
    assert named["blk.0.ffn_down_exps.weight"] == ("Q2_K", "F16", 48)
    assert named["blk.3.attn_output_b.weight"] == ("Q8_0", "F16", 40)
    types = {name: tensor.tensor_type.name for name, tensor in tensors_of(tmp_path / "out.gguf").items()}
    assert all(types[name] == used for name, (_, used, _) in named.items())
    assert "blk.0.ffn_gate_exps.weight: rows of 64" in "\n".join(map(str, report.fallbacks))


def test_the_metadata_has_the_keys_that_ds4_and_llama_cpp_require(official, tmp_path):
    folder, _ = official
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# A model\n")
    convert(folder, tmp_path / "out.gguf", "q8", name="Tiny", dialect="0731", cache_simulation=False)
    fields = {key: field.contents() for key, field in gguf.GGUFReader(tmp_path / "out.gguf").fields.items()}
    geometry = Geometry.from_metadata(fields)
    assert geometry.attention_compress_ratios == (0, 0, 4, 128) and geometry.hash_layer_count == 2
    assert fields["deepseek4.expert_gating_func"] == 4
    assert fields["deepseek4.attention.value_length"] == fields["deepseek4.attention.key_length"] == 32
    assert fields["deepseek4.feed_forward_length"] == 32 and fields["deepseek4.expert_weights_norm"] is True
    assert fields["deepseek4.swiglu_clamp_exp"] == [10.0] * 4 and fields["deepseek4.rope.scaling.type"] == "yarn"
    assert (fields["general.name"], fields["general.license"], fields["general.file_type"]) == ("Tiny", "mit", 7)
    assert (fields["ds4.dialect"], fields["ds4.cache_simulation"]) == ("0731", False)
    assert fields["ds4.source.recipe"] == "q8" and fields["ds4.source.folder"] == "model"
    assert fields["tokenizer.ggml.pre"] == "joyai-llm" and len(fields["tokenizer.ggml.tokens"]) == 320


def test_without_being_told_the_file_claims_no_dialect_and_no_licence(official, tmp_path):
    folder, _ = official
    convert(folder, tmp_path / "out.gguf", "f16")
    fields = {key: field.contents() for key, field in gguf.GGUFReader(tmp_path / "out.gguf").fields.items()}
    assert fields["general.license"] == "unknown"
    assert "ds4.dialect" not in fields and "ds4.cache_simulation" not in fields


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"do_sample": False, "temperature": 0.7}, {"temp": 0.0}),
        ({"do_sample": True, "temperature": 0.5, "top_k": 20}, {"temp": 0.5, "top_k": 20}),
        ({"bos_token_id": 0}, {}),
    ],
)
def test_the_checkpoints_advice_on_sampling_is_kept(official, tmp_path, said, kept):
    folder, _ = official
    (folder / "generation_config.json").write_text(json.dumps(said))
    convert(folder, tmp_path / "out.gguf", "f32")
    with open_gguf(tmp_path / "out.gguf") as file:
        found = {key: value for key, value in file.metadata.items() if key.startswith("general.sampling.")}
    assert found == {f"general.sampling.{name}": value for name, value in kept.items()}


def test_advice_on_sampling_that_is_no_number_is_refused(official, tmp_path):
    folder, _ = official
    (folder / "generation_config.json").write_text('{"temperature": "hot"}')
    with pytest.raises(ConversionError, match="temperature is 'hot'"):
        convert(folder, tmp_path / "out.gguf", "f32")


def test_a_kill_in_every_tensor_is_resumed_to_the_same_bytes(tmp_path, monkeypatch):
    config = official_config(num_hidden_layers=1)
    folder = make_folder(tmp_path / "model", config, random_weights(config))
    count = convert(folder, tmp_path / "whole.gguf", "q8").tensors
    out, write = tmp_path / "out.gguf", GGUFFile.write

    def write_one_then_die_in_the_next(file, name, chunks):
        if len(file.done) == allowed:
            next(iter(chunks))
            file._file.seek(file.layout.offsets[name])
            file._file.write(b"half")
            file._file.flush()
            raise Interrupted
        write(file, name, chunks)

    monkeypatch.setattr(GGUFFile, "write", write_one_then_die_in_the_next)
    for allowed in range(1, count):  # noqa: B007 - the replacement reads it
        with pytest.raises(Interrupted):
            convert(folder, out, "q8")
        assert not out.exists()
    monkeypatch.undo()
    report = convert(folder, out, "q8")
    assert report.resumed == count - 1
    assert out.read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_an_unfinished_file_of_changed_weights_is_replaced_and_said(official, tmp_path, monkeypatch):
    folder, _ = official
    monkeypatch.setattr(GGUFFile, "finish", lambda file: (_ for _ in ()).throw(Interrupted))
    with pytest.raises(Interrupted):
        convert(folder, tmp_path / "out.gguf", "f16")
    monkeypatch.undo()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes() + b" ")
    report = convert(folder, tmp_path / "out.gguf", "f16")
    assert report.resumed == 0 and any("unfinished file" in note for note in report.notes)


def test_an_existing_file_is_kept_unless_forced(official, tmp_path):
    folder, _ = official
    out = tmp_path / "out.gguf"
    out.write_bytes(b"precious")
    with pytest.raises(ConversionError, match="exists already"):
        convert(folder, out, "f16")
    assert out.read_bytes() == b"precious"
    convert(folder, out, "f16", force=True)
    assert out.read_bytes()[:4] == b"GGUF"


def test_a_folder_is_never_replaced(official, tmp_path):
    with pytest.raises(ConversionError, match="is a folder; name the"):
        convert(official[0], tmp_path, "f16", force=True)
    assert not tmp_path.with_name(tmp_path.name + ".partial").exists()


def test_progress_counts_up_to_all_bytes(official, tmp_path):
    seen = []
    convert(official[0], tmp_path / "out.gguf", "f16", report=lambda done, total: seen.append((done, total)))
    assert seen[0][0] == 0 and seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_prediction_layers_are_left_out_and_named(tmp_path):
    config = official_config(num_nextn_predict_layers=1, compress_ratios=[0, 0, 4, 128, 0])
    weights = random_weights(config)
    extra = {"mtp.0.enorm.weight": np.ones(64, np.float32), "layers.4.attn_norm.weight": np.ones(64, np.float32)}
    report = convert(make_folder(tmp_path / "model", config, weights | extra), tmp_path / "out.gguf", "f16")
    assert set(report.left_out) == set(extra)
    fields = gguf.GGUFReader(tmp_path / "out.gguf").fields
    assert fields["deepseek4.attention.compress_ratios"].contents() == [0, 0, 4, 128, 0]
    assert fields["deepseek4.nextn_predict_layers"].contents() == 0


def test_missing_and_unknown_tensors_are_named(tmp_path):
    config = official_config()
    weights = random_weights(config)
    del weights["layers.2.attn.wkv.weight"]
    with pytest.raises(ConversionError, match=r"lacks 1 of \d+ tensors: layers\.2\.attn\.wkv\.weight"):
        convert(make_folder(tmp_path / "a", config, weights), tmp_path / "out.gguf", "f16")
    weights = random_weights(config) | {"layers.0.attn.extra.weight": np.ones((2, 2), np.float32)}
    with pytest.raises(ConversionError, match=r"1 tensors that .* not have: layers\.0\.attn\.extra\.weight"):
        convert(make_folder(tmp_path / "b", config, weights), tmp_path / "out.gguf", "f16")
    assert not list(tmp_path.glob("out*"))


def test_a_wrong_shape_is_named_with_both_shapes(tmp_path):
    config = official_config()
    weights = random_weights(config) | {"layers.1.attn.wq_a.weight": np.zeros((32, 60), np.float32)}
    with pytest.raises(ConversionError, match=r"layers\.1\.attn\.wq_a\.weight has shape \[32, 60\].*\[32, 64\]"):
        convert(make_folder(tmp_path / "a", config, weights), tmp_path / "out.gguf", "f16")


@pytest.mark.parametrize("value", [np.nan, np.inf, 70000.0])
def test_a_value_that_cannot_be_stored_is_named_and_leaves_no_file(tmp_path, value):
    config = official_config()
    weights = random_weights(config)
    weights["layers.1.attn.wq_a.weight"][3, 5] = value
    weights["layers.1.ffn.gate.weight"][1, 5] = value
    with pytest.raises(ConversionError, match=r"layers\.1\.(attn\.wq_a|ffn\.gate)\.weight .*row \d.*column 5"):
        convert(make_folder(tmp_path / "a", config, weights), tmp_path / "out.gguf", "f16")
    assert not (tmp_path / "out.gguf").exists()


def test_a_hash_table_that_names_no_expert_is_refused(tmp_path):
    config = official_config()
    weights = random_weights(config)
    weights["layers.1.ffn.gate.tid2eid"][7, 0] = 4
    with pytest.raises(ConversionError, match=r"names experts 0 to 4; there are 4"):
        convert(make_folder(tmp_path / "a", config, weights), tmp_path / "out.gguf", "f16")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "q3"}, "unknown recipe 'q3'"),
        ({"recipe": "q2", "dialect": "old"}, "unknown dialect 'old'"),
        ({"recipe": "q2", "source": "nowhere"}, "is no folder"),
        ({"recipe": "q2", "out": "no/such/x.gguf"}, "does not exist; create it"),
    ],
)
def test_nonsense_arguments_get_one_clear_error(official, tmp_path, arguments, message):
    source, out = tmp_path / arguments.pop("source", "model"), tmp_path / arguments.pop("out", "out.gguf")
    with pytest.raises(ConversionError, match=message):
        convert(source, out, **arguments)


def test_importance_changes_the_codes_and_lowers_the_weighted_error(wide, tmp_path):
    plain, _, weights = wide("q2")
    rng = np.random.default_rng(1)
    columns = rng.gamma(0.3, size=(2, 256)).astype(np.float32)
    names = [f"blk.{i}.ffn_{part}_exps.weight" for i in range(2) for part in ("gate", "up", "down")]
    write_imatrix(tmp_path / "i.dat", Imatrix(dict.fromkeys(names, columns), 3, "text.txt"))
    convert(plain.parent / "model", tmp_path / "weighed.gguf", "q2", imatrix=tmp_path / "i.dat")

    def weighted_error(path):
        stack = values_of(tensors_of(path)["blk.1.ffn_down_exps.weight"])
        original = np.stack([weights[f"layers.1.ffn.experts.{e}.w2.weight"] for e in range(2)])
        return float((columns[:, None] * (stack - original) ** 2).sum())

    assert weighted_error(tmp_path / "weighed.gguf") < 0.9 * weighted_error(plain)
    fields = {key: field.contents() for key, field in gguf.GGUFReader(tmp_path / "weighed.gguf").fields.items()}
    assert fields["quantize.imatrix.file"] == fields["ds4.source.imatrix"] == "i.dat"
    assert fields["quantize.imatrix.entries_count"] == 6 and fields["quantize.imatrix.chunks_count"] == 3
    assert fields["quantize.imatrix.dataset"] == "text.txt"


def test_an_expert_without_importance_gets_the_mean_of_the_others_and_is_named(tmp_path):
    config = official_config(**WIDE)
    folder = make_folder(tmp_path / "model", config, random_weights(config))
    columns = np.ones((2, 256), np.float32)
    columns[1] = 0
    names = [f"blk.{i}.ffn_{part}_exps.weight" for i in range(2) for part in ("gate", "up", "down")]
    write_imatrix(tmp_path / "i.dat", Imatrix(dict.fromkeys(names, columns)))
    report = convert(folder, tmp_path / "out.gguf", "q2", imatrix=tmp_path / "i.dat")
    assert "blk.1.ffn_up_exps.weight: no data for 1 experts (1), the mean of the others is used" in report.notes


def test_an_imatrix_of_another_model_is_refused(official, tmp_path):
    write_imatrix(tmp_path / "i.dat", Imatrix({"blk.0.ffn_gate_exps.weight": np.ones((4, 60), np.float32)}))
    with pytest.raises(ConversionError, match="240 values, but 4 experts of 64 inputs are 256"):
        convert(official[0], tmp_path / "out.gguf", "q2", imatrix=tmp_path / "i.dat")
