"""Encoding: bit-equal to gguf-py where it has an encoder, no worse than llama.cpp's encoders where it has none."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4_backend.errors import ConversionError
from ds4_backend.gguf import encode, encode_iq2, encode_k, k_blocks, pack
from ds4_backend.gguf.encode import LARGEST, column_energy, quantize

FIXTURES = Path(__file__).parent / "fixtures" / "encoders"
KINDS = ("gaussian", "heavy_tailed", "gate_up", "down")
SEARCHED = ("Q2_K", "Q4_K", "IQ2_XXS")
BY_GGUF = ("F32", "F16", "BF16", "Q8_0", "MXFP4")
EVERY = BY_GGUF + SEARCHED

# Largest error allowed, as a share of the rows' energy: what theory and measurement give, and a little more.
GAUSSIAN_ERROR = {"F32": 0, "F16": 1e-7, "BF16": 3e-6, "Q8_0": 4e-5, "MXFP4": 0.02, "Q4_K": 0.006, "Q2_K": 0.08,
                  "IQ2_XXS": 0.13}  # fmt: skip


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return (0.03 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def decode(encoded: np.ndarray, format: str) -> np.ndarray:
    return quants.dequantize(encoded, GGMLQuantizationType[format])


def error(x: np.ndarray, encoded: np.ndarray, format: str, importance: np.ndarray | float = 1.0) -> float:
    return float((importance * (x - decode(encoded, format)).astype(np.float64) ** 2).sum())


@pytest.mark.parametrize("format", BY_GGUF)
def test_formats_with_an_encoder_in_gguf_py_get_its_bytes(format: str) -> None:
    x = gaussian(3, 50, 512)
    x[0, 0, :64] = 0
    theirs = quants.quantize(x, GGMLQuantizationType[format]).view(np.uint8)
    ours = quantize(x, format)
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", SEARCHED)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_the_error_is_below_that_of_llama_cpp(kind: str, format: str, weighted: bool) -> None:
    with np.load(FIXTURES / f"{kind}.npz") as fixture:
        x = fixture["x"].astype(np.float32)
        name = f"{format}_weighted" if weighted else format
        encoded, theirs = fixture[name], float(fixture[f"{name}_error"])
        importance = fixture["importance"] if weighted else None
    weights = 1.0 if importance is None else importance
    if importance is None and format == "IQ2_XXS":
        weights = (x**2).sum(axis=0)  # what llama.cpp was given
    assert error(x, encoded, format, weights) == pytest.approx(theirs, rel=1e-6), "the fixture contradicts itself"
    assert error(x, quantize(x, format, importance), format, weights) <= theirs


@pytest.mark.parametrize("format", EVERY)
def test_gaussian_rows_come_back_within_the_formats_error(format: str) -> None:
    x = gaussian(16, 1024)
    assert error(x, quantize(x, format), format) <= GAUSSIAN_ERROR[format] * float((x.astype(np.float64) ** 2).sum())


@pytest.mark.parametrize("format", EVERY)
def test_bytes_have_the_shape_of_the_rows(format: str) -> None:
    size, nbytes = GGML_QUANT_SIZES[GGMLQuantizationType[format]]
    for shape in ((512,), (3, 512), (2, 3, 512), (0, 512), (2, 0, 512)):
        assert quantize(gaussian(*shape), format).shape == (*shape[:-1], 512 // size * nbytes)


@pytest.mark.parametrize(("shape", "packer", "format"), [
    (k_blocks.Q2_K, pack.pack_q2_k, "Q2_K"),
    (k_blocks.Q4_K, pack.pack_q4_k, "Q4_K"),
])  # fmt: skip
def test_k_bytes_decode_to_what_the_search_found(shape: k_blocks.KShape, packer, format: str) -> None:
    x = gaussian(40, 256)
    x[::4] = np.abs(x[::4])
    blocks = encode_k.encode_k(x, np.ones_like(x), np.ones(40, np.float32), shape)
    scale = blocks.unit.astype(np.float32)[:, None] * blocks.scales
    offset = blocks.offset_unit.astype(np.float32)[:, None] * blocks.offsets
    codes = blocks.codes.reshape(40, shape.groups, shape.length).astype(np.float32)
    expected = (scale[..., None] * codes - offset[..., None]).reshape(x.shape)
    np.testing.assert_array_equal(decode(packer(blocks), format), expected)
    assert blocks.scales.max() == shape.top_scale, "the integers should use their range"


def test_iq2_xxs_bytes_decode_to_what_the_search_found() -> None:
    x = gaussian(40, 256)
    blocks = encode_iq2.encode_iq2_xxs(x, np.ones_like(x), np.ones(40, np.float32))
    step = blocks.unit.astype(np.float32)[:, None] * (blocks.scales + np.float32(0.5)) * np.float32(0.25)
    signs = np.where(blocks.negative, np.float32(-1), np.float32(1))
    expected = step[:, :, None, None] * encode_iq2.grid()[blocks.rows] * signs
    np.testing.assert_array_equal(decode(pack.pack_iq2_xxs(blocks), "IQ2_XXS"), expected.reshape(x.shape))


def test_every_iq2_xxs_vector_has_an_even_number_of_negative_signs() -> None:
    x = gaussian(40, 256)
    negative = encode_iq2.encode_iq2_xxs(x, np.ones_like(x), np.ones(40, np.float32)).negative
    wrong = negative.reshape(-1, 8) != (x.reshape(-1, 8) < 0)
    odd = (x.reshape(-1, 8) < 0).sum(axis=1) % 2
    assert not (negative.sum(axis=-1) % 2).any()
    np.testing.assert_array_equal(wrong.sum(axis=1), odd)


@pytest.mark.parametrize("format", SEARCHED)
def test_decoded_rows_encode_again_with_little_further_error(format: str) -> None:
    once = decode(quantize(gaussian(16, 512), format), format)
    again = error(once, quantize(once, format), format)
    assert again <= GAUSSIAN_ERROR[format] / 4 * float((once**2).sum())


@pytest.mark.parametrize("format", EVERY)
def test_the_same_rows_give_the_same_bytes_however_they_are_cut(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, importance = gaussian(70, 768), np.linspace(0.1, 3, 768, dtype=np.float32)
    whole = quantize(x, format, importance)
    np.testing.assert_array_equal(quantize(x[33:40], format, importance), whole[33:40])
    np.testing.assert_array_equal(quantize(x[5], format, importance), whole[5])
    monkeypatch.setattr(encode, "BATCH_VALUES", 768 * 3)
    monkeypatch.setattr(encode, "_threads", lambda: 5)
    np.testing.assert_array_equal(quantize(x, format, importance), whole)


@pytest.mark.parametrize("format", EVERY)
def test_float16_and_strided_input_give_the_bytes_of_plain_float32(format: str) -> None:
    x = gaussian(6, 512).astype(np.float16)
    expected = quantize(x.astype(np.float32), format)
    np.testing.assert_array_equal(quantize(x, format), expected)
    strided = np.zeros((12, 1024), np.float64)
    strided[::2, ::2] = x
    np.testing.assert_array_equal(quantize(strided[::2, ::2], format), expected)
    np.testing.assert_array_equal(quantize(np.asfortranarray(x), format), expected)


@pytest.mark.parametrize("format", SEARCHED)
def test_importance_moves_the_error_to_the_columns_that_count_less(format: str) -> None:
    x = gaussian(32, 256)
    importance = np.where(np.arange(256) % 4 == 0, np.float32(50), np.float32(1))
    counts = importance > 1
    plain = x - decode(quantize(x, format, np.ones(256, np.float32)), format)
    weighted = x - decode(quantize(x, format, importance), format)
    assert (weighted[:, counts] ** 2).sum() < 0.7 * (plain[:, counts] ** 2).sum()
    assert (weighted[:, ~counts] ** 2).sum() > (plain[:, ~counts] ** 2).sum()


@pytest.mark.parametrize("format", SEARCHED)
def test_only_the_proportions_of_importance_matter(format: str) -> None:
    x, importance = gaussian(8, 512), np.random.default_rng(1).random(512).astype(np.float32)
    expected = quantize(x, format, importance)
    for factor in (2.0**-100, 2.0**120):
        np.testing.assert_array_equal(quantize(x, format, importance * np.float32(factor)), expected)
    equal = quantize(x, format, np.ones(512, np.float32))
    np.testing.assert_array_equal(quantize(x, format, np.zeros(512, np.float32)), equal)


@pytest.mark.parametrize("format", SEARCHED)
def test_columns_without_importance_still_decode_to_something_near(format: str) -> None:
    x = gaussian(16, 256)
    unused = np.arange(256) // 64 == 2
    encoded = quantize(x, format, np.where(unused, np.float32(0), np.float32(1)))
    left = (x - decode(encoded, format))[:, unused]
    assert (left**2).sum() <= 2 * GAUSSIAN_ERROR[format] * (x[:, unused] ** 2).sum()


@pytest.mark.parametrize("format", SEARCHED)
def test_experts_can_have_their_own_importance(format: str) -> None:
    x, importance = gaussian(3, 5, 512), np.random.default_rng(2).random((3, 1, 512)).astype(np.float32)
    encoded = quantize(x, format, importance)
    for expert in range(3):
        np.testing.assert_array_equal(encoded[expert], quantize(x[expert], format, importance[expert, 0]))


def test_iq2_xxs_without_importance_weighs_columns_by_their_energy() -> None:
    x = gaussian(2, 6, 512)
    x[..., ::3] *= 5
    encoded = quantize(x, "IQ2_XXS")
    for matrix, expected in zip(x, encoded, strict=True):
        np.testing.assert_array_equal(quantize(matrix, "IQ2_XXS", column_energy(matrix)[0]), expected)
    energy = (x[0].astype(np.float64) ** 2).sum(axis=0)
    np.testing.assert_allclose(column_energy(x)[0, 0], energy / energy.max(), rtol=1e-6)
    assert column_energy(x).shape == (2, 1, 512)
    assert column_energy(x[0, 0]).shape == (512,)


@pytest.mark.parametrize("format", EVERY)
def test_zero_rows_decode_to_zero(format: str) -> None:
    x = np.zeros((2, 512), np.float32)
    x[1] = -0.0
    assert not decode(quantize(x, format), format).any()
    assert not decode(quantize(x, format, np.zeros(512, np.float32)), format).any()


@pytest.mark.parametrize("value", [1.0, -1.0, 0.37, -2.9e-3, 3e4, -3e4])
@pytest.mark.parametrize("format", EVERY)
def test_constant_rows_come_back_nearly_exactly(format: str, value: float) -> None:
    x = np.full((1, 512), value, np.float32)
    decoded = decode(quantize(x, format), format)
    if format == "IQ2_XXS":  # its grid holds no constant but its smallest
        assert ((decoded - x) ** 2).sum() <= 0.15 * (x**2).sum()
        return
    share = {"F32": 0, "F16": 2.0**-11, "BF16": 2.0**-8, "Q8_0": 2.0**-8, "MXFP4": 0.2}.get(format, 2.0**-10)
    np.testing.assert_allclose(decoded, x, rtol=share)


@pytest.mark.parametrize("format", EVERY)
@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(-140, 15), st.integers(0, 20), st.floats(-3, 3))
def test_any_rows_decode_to_finite_numbers_better_than_zero(
    format: str, seed: int, exponent: int, spikes: int, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 256)) + shift * rng.integers(0, 2, (2, 1))
    x[rng.integers(0, 2, spikes), rng.integers(0, 256, spikes)] *= 100.0
    x = np.clip(x * 2.0**exponent, -LARGEST[format], LARGEST[format]).astype(np.float32)
    decoded = decode(quantize(x, format, np.ones(256, np.float32)), format).astype(np.float64)
    assert np.isfinite(decoded).all()
    assert ((x - decoded) ** 2).sum() <= (x.astype(np.float64) ** 2).sum()


@pytest.mark.parametrize("format", EVERY)
def test_the_largest_number_a_format_claims_to_hold_is_held(format: str) -> None:
    x = np.zeros((1, 512), np.float32)
    x[0, 3], x[0, 500] = LARGEST[format], -LARGEST[format]
    decoded = decode(quantize(x, format), format)
    np.testing.assert_allclose(decoded[:, [3, 500]], x[:, [3, 500]], rtol=0.26)  # MXFP4 clamps
    assert np.isfinite(decoded).all()


@pytest.mark.parametrize("format", ["F16", "Q8_0", "Q2_K", "Q4_K", "IQ2_XXS"])
def test_a_number_too_large_for_the_f16_scale_is_refused_with_its_place(format: str) -> None:
    x = gaussian(4, 5, 512)
    x[3, 1, 300] = -1.5 * LARGEST[format]
    with pytest.raises(ConversionError, match=r"row \[3, 1\] holds -[0-9.e+]+ in column 300; .* in BF16"):
        quantize(x, format)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("format", EVERY)
def test_numbers_that_are_not_finite_are_refused_with_their_place(format: str, bad: float) -> None:
    x = gaussian(300, 512)
    x[257, 511] = bad
    with pytest.raises(ConversionError, match=rf"row 257 holds {bad} in column 511; {format} .* check the checkpoint"):
        quantize(x, format)


def test_float64_beyond_float32_is_refused() -> None:
    with pytest.raises(ConversionError, match="row 0 holds inf in column 0"):
        quantize(np.full((1, 256), 1e300), "F32")


@pytest.mark.parametrize(("format", "n"), [("Q4_K", 128), ("Q2_K", 300), ("IQ2_XXS", 255), ("Q8_0", 40), ("F16", 0)])
def test_a_row_that_is_no_whole_number_of_blocks_is_refused(format: str, n: int) -> None:
    with pytest.raises(ConversionError, match=f"row of {n} values is no whole number of {format} blocks"):
        quantize(np.ones((2, n), np.float32), format)


def test_formats_without_an_encoder_are_refused_by_name() -> None:
    with pytest.raises(ConversionError, match=r"Q6_K cannot be encoded; use one of .*Q4_K"):
        quantize(gaussian(1, 256), "Q6_K")


@pytest.mark.parametrize("x", [np.ones((2, 256), np.int32), np.float32(1)])
def test_what_is_no_row_of_floating_point_numbers_is_refused(x: np.ndarray) -> None:
    with pytest.raises(ConversionError, match="rows of floating-point numbers"):
        quantize(np.asarray(x), "Q4_K")


@pytest.mark.parametrize("shape", [(255,), (1,), (3, 512), (2, 512), (3, 4, 512), (2, 1, 3, 512), ()])
def test_importance_of_the_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConversionError, match="importance of shape"):
        quantize(gaussian(2, 3, 512), "Q2_K", np.ones(shape, np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e-9])
@pytest.mark.parametrize("format", EVERY)
def test_importance_that_is_negative_or_not_finite_is_refused(format: str, bad: float) -> None:
    importance = np.ones(512, np.float32)
    importance[[9, 77]] = bad
    with pytest.raises(ConversionError, match=r"in column 9; 2 of 512 values are wrong"):
        quantize(gaussian(2, 512), format, importance)


@pytest.mark.parametrize("format", ["Q8_0", "MXFP4", "Q2_K"])
def test_memory_stays_bounded_for_a_mapped_file(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_threads", lambda: 2)
    rows = gaussian(8, 4096).astype(np.float16)
    np.tile(rows, (40, 1)).tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float16, "r", shape=(320, 4096))
    quantize(mapped[:1], format)
    tracemalloc.start()
    encoded = quantize(mapped, format)
    beside = tracemalloc.get_traced_memory()[1] - encoded.nbytes
    tracemalloc.stop()
    assert beside < 2 * (10 if format == "MXFP4" else 4) * 1e6  # in float32 the rows take 8.4 MB
    np.testing.assert_array_equal(encoded[:8], quantize(rows, format))


def test_importing_the_encoders_loads_no_gguf() -> None:
    code = "import sys, ds4_backend.gguf.encode; sys.exit('gguf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
