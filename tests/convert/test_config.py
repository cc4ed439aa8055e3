"""config.json in both spellings, and what is refused."""

from __future__ import annotations

import json
from math import prod

import pytest
from checkpoint_maker import official_config, transformers_config

from ds4_backend.convert.config import geometry_of, read_config
from ds4_backend.errors import ConversionError
from ds4_backend.gguf.schema import expected_tensors


def test_both_spellings_describe_the_same_network():
    config = official_config(swiglu_limit=7.0, routed_scaling_factor=2.5)
    geometry = geometry_of(config)
    assert geometry_of(transformers_config(config)) == geometry
    assert geometry.swiglu_clamp_exp == (7.0,) * 4 and geometry.expert_weights_scale == 2.5
    assert geometry.rope_dimension_count == 8 and geometry.attention_compress_rope_freq_base == 160000.0


FLASH = official_config(
    vocab_size=129280, hidden_size=4096, moe_intermediate_size=2048, num_hidden_layers=43, num_attention_heads=64,
    head_dim=512, qk_rope_head_dim=64, q_lora_rank=1024, o_groups=8, o_lora_rank=1024, n_routed_experts=256,
    num_experts_per_tok=6, num_hash_layers=3, compress_ratios=[0, 0, *([4, 128] * 20), 4, 0], index_n_heads=64,
    index_head_dim=128, index_topk=512, num_nextn_predict_layers=1,
)  # fmt: skip
PRO = FLASH | dict(
    hidden_size=7168, moe_intermediate_size=3072, num_hidden_layers=61, num_attention_heads=128, q_lora_rank=1536,
    o_groups=16, n_routed_experts=384, routed_scaling_factor=2.5, index_topk=1024,
    compress_ratios=[128, 128, *([4, 128] * 29), 4, 0],
)  # fmt: skip


def test_the_published_flash_configuration_gives_flash():
    geometry = geometry_of(FLASH)
    assert (geometry.block_count, len(geometry.attention_compress_ratios)) == (43, 44)
    assert (len(geometry.layers_of(4)), len(geometry.layers_of(128)), geometry.nextn_predict_layers) == (21, 20, 0)


@pytest.mark.parametrize(("config", "billions"), [(FLASH, 284.3), (PRO, 1573.0)])
def test_flash_and_pro_have_as_many_weights_as_their_makers_say(config, billions):
    geometry = geometry_of(config)
    metadata = {"general.architecture": "deepseek4"} | geometry.to_metadata()
    assert geometry.from_metadata(metadata) == geometry
    weights = sum(prod(shape) for shape in expected_tensors(geometry).values())
    assert round(weights / 1e9, 1) == billions


def test_a_config_without_rope_scaling_has_none():
    config = official_config()
    del config["rope_scaling"]
    geometry = geometry_of(config)
    assert (geometry.rope_scaling_type, geometry.rope_scaling_factor) == ("none", 1.0)
    plain = transformers_config(official_config())
    plain["rope_parameters"]["compress"] = {"rope_type": "default", "rope_theta": 160000.0}
    assert geometry_of(plain) == geometry


def test_flat_rope_parameters_scale_the_compressed_layers():
    config = official_config()
    yarn = dict(config.pop("rope_scaling"))
    config["rope_parameters"] = {"rope_type": yarn.pop("type"), **yarn, "factor": 8}
    geometry = geometry_of(config)
    assert (geometry.rope_scaling_type, geometry.rope_scaling_factor) == ("yarn", 8.0)


def test_the_rotary_width_may_come_as_a_share_of_the_head():
    config = official_config(partial_rotary_factor=0.25)
    del config["qk_rope_head_dim"]
    assert geometry_of(config).rope_dimension_count == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None}, "hidden_size should be a whole number, found None"),
        ({"num_hidden_layers": "4"}, "num_hidden_layers should be a whole number"),
        ({"compress_ratios": [0, 0]}, "kinds of 2 layers, but num_hidden_layers is 4"),
        ({"compress_ratios": [0, 0, 4, 16]}, "compression ratios must be 0, 4 or 128"),
        ({"compress_ratios": None}, "neither compress_ratios nor layer_types"),
        ({"compress_ratios": None, "layer_types": ["linear"] * 4}, "layer type 'linear' is unknown"),
        ({"num_hash_layers": None}, "neither num_hash_layers nor mlp_layer_types"),
        ({"num_hash_layers": None, "mlp_layer_types": ["moe", "hash_moe", "moe", "moe"]}, "hash_moe layers, then moe"),
        ({"qk_rope_head_dim": None}, "neither qk_rope_head_dim nor partial_rotary_factor"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope scaling 'linear' is unknown"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; DeepSeek V4 has 'silu'"),
        ({"scoring_func": "sigmoid"}, "scoring_func is 'sigmoid'"),
        ({"norm_topk_prob": False}, "expert_weights_norm is false"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        ({"num_key_value_heads": 4}, "4 key/value heads"),
    ],
)
def test_a_config_that_is_no_v4_is_refused_by_field(changes, message):
    with pytest.raises(ConversionError, match=message):
        geometry_of(official_config(**changes))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no config.json"),
        ("{", "is not valid JSON"),
        ("[]", "None model"),
        (json.dumps({"model_type": "llama"}), "'llama' model; only 'deepseek_v4'"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConversionError, match=message):
        read_config(tmp_path)
