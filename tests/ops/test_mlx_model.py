"""The whole network in MLX operations against the numpy one."""

import zlib
from importlib.resources import files

import numpy as np
import pytest
from random_model import SMALL, geometry, random_ids, random_model, random_tensors

from ds4_backend.gguf.decode import dequantize
from ds4_backend.gguf.encode import quantize
from ds4_backend.gguf.formats import FORMATS
from ds4_backend.gguf.reader import Tensor
from ds4_backend.model import Model, load_model
from ds4_backend.model.weights import bind
from ds4_backend.ops import make_ops

RAGGED = [5, 1, 1, 121, 1, 3, 9]


def run(model, ids, chunks):
    """All logits [N, V], tokens given in these chunk sizes."""
    sequence, out, at = model.new_sequence(), [], 0
    for size in chunks:
        out.append(model.forward([(sequence, ids[at : at + size])], every=True))
        at += size
    sequence.release()
    return np.concatenate(out)


def both(g, chunks, **options):
    ids = random_ids(sum(chunks), g, seed=2)
    return [run(random_model(g, ops=name, **options), ids, chunks) for name in ("numpy", "mlx")]


def assert_same_logits(expected, got, tolerance=1e-3):
    np.testing.assert_allclose(got, expected, atol=tolerance)
    np.testing.assert_array_equal(got.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("chunks", [[141], RAGGED], ids=["at once", "ragged"])
def test_logits_of_a_random_network(chunks):
    assert_same_logits(*both(SMALL, chunks, seed=1))


@pytest.mark.parametrize("seed", [4, 7])
def test_logits_with_the_cache_simulation(seed):
    """Rounding can widen a last-bit difference to a code's step: where that happens depends on the machine's BLAS. So
    most tokens must agree closely, and all but for such a flip; without the simulation the logits differ by more than
    0.1."""
    expected, got = both(SMALL, [70, 1, 1], seed=seed, cache_simulation=True)
    assert np.median(np.abs(got - expected).max(1)) < 1e-3
    assert_same_logits(expected, got, 0.05)


def test_conversations_of_one_batch_get_what_they_get_alone():
    g = geometry(hyper_connection_sinkhorn_iterations=2)
    model = random_model(g, ops="mlx")
    ids = [random_ids(count, seed=count) for count in (133, 60)]
    alone = [run(model, i, [len(i)])[-1] for i in ids]
    a, b = model.new_sequence(), model.new_sequence()
    model.forward([(a, ids[0][:125]), (b, ids[1][:3])])
    got = model.forward([(b, ids[1][3:]), (a, ids[0][125:])])
    np.testing.assert_allclose(got, [alone[1], alone[0]], atol=1e-4)


BLOCKS = geometry(
    block_count=2,
    embedding_length=256,
    attention_q_lora_rank=256,
    attention_key_length=128,
    attention_output_lora_rank=128,
    attention_compress_ratios=(0, 4),
    expert_count=3,
    expert_feed_forward_length=256,
    hash_layer_count=1,
    swiglu_clamp_exp=(2.0,) * 2,
)
"""Every matrix has rows of whole 256-blocks."""

HALVES = {"Q8_0": (0,), "Q2_K": (80, 82), "Q4_K": (0, 2), "IQ2_XXS": (0,)}
"""Where a block's f16 factors begin."""


def random_matrix(name, shape, format_name):
    """Random codes whose decoded values have a spread of 1.3 / sqrt(in)."""
    if format_name not in HALVES:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        return quantize((rng.standard_normal(shape) * 1.3 * shape[-1] ** -0.5).astype(np.float32), format_name)
    format, rng = FORMATS[format_name], np.random.default_rng(zlib.crc32(name.encode()))
    blocks = rng.integers(0, 256, (*shape[:-1], shape[-1] // format.block_size, format.block_bytes), dtype=np.uint8)

    def with_factor(factor):
        for at in HALVES[format_name]:
            blocks[..., at : at + 2] = np.array([factor], np.float16).view(np.uint8)
        return blocks.reshape(*shape[:-1], -1)

    spread = dequantize(with_factor(1.0), format).std()
    return with_factor(1.3 * shape[-1] ** -0.5 / spread)


def stored(g, expert_format, other_format):
    """A random network's tensors as a build would store them: experts in one format, other matrices in another."""
    tensors = {}
    for name, tensor in random_tensors(g).items():
        kind = expert_format if len(tensor.shape) == 3 else other_format
        if len(tensor.shape) > 1 and "ape" not in name and "tid2eid" not in name:
            tensor = Tensor(name, tensor.shape, FORMATS[kind], random_matrix(name, tensor.shape, kind))
        tensors[name] = tensor
    return tensors


@pytest.mark.parametrize(
    ("expert_format", "other_format"), [("Q2_K", "Q8_0"), ("Q4_K", "F16"), ("MXFP4", "BF16"), ("IQ2_XXS", "Q4_K")]
)
def test_logits_of_a_network_in_blocks(expert_format, other_format):
    tensors = stored(BLOCKS, expert_format, other_format)
    models = []
    for name in ("numpy", "mlx"):
        ops = make_ops(name, BLOCKS, cache_simulation=False)
        models.append(Model(BLOCKS, ops, bind(tensors, BLOCKS, ops)))
    ids = random_ids(8, BLOCKS)
    assert_same_logits(*(run(model, ids, [7, 1]) for model in models))


@pytest.mark.slow
def test_logits_over_three_pages():
    assert_same_logits(*both(SMALL, [128, 128, 1, 129, 1], seed=5))


@pytest.mark.slow
@pytest.mark.parametrize("simulated", [False, True])
def test_logits_of_the_embedded_model(simulated):
    """With the simulation rows differ by a code's step here and there, and random ids lie near ties of the router."""
    path = str(files("ds4_backend") / "assets" / "ds4-tiny.gguf")
    models = [load_model(path, ops=name, cache_simulation=simulated) for name in ("numpy", "mlx")]
    ids = [i % models[0].geometry.vocab_size for i in random_ids(272, seed=6)]
    expected, got = (run(model, ids, [128, 128, 12, 1, 3]) for model in models)
    if not simulated:
        return assert_same_logits(expected, got)
    assert np.quantile(np.abs(got - expected).max(1), 0.95) < 0.3
    assert (got.argmax(1) == expected.argmax(1)).mean() > 0.98
