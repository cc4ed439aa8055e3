"""Stored pages go to a device as they are, and become the rows that they were made of."""

import numpy as np
import pytest
from kernel_shim import COMPILER, ShimLauncher
from random_model import geometry, random_tensors

from ds4_backend.gguf.geometry import CSA, HCA, PAGE_TOKENS, SLIDING
from ds4_backend.model import Model, Snapshot
from ds4_backend.model.codec import StateCodec
from ds4_backend.model.weights import bind
from ds4_backend.ops import simulate
from ds4_backend.ops.base import Packed
from ds4_backend.ops.kernels import state as kernel_state
from ds4_backend.ops.kernels.ops import KernelOps
from ds4_backend.ops.numpy import NumpyOps

G = geometry(attention_compress_ratios=(SLIDING, CSA, HCA, CSA), block_count=4, hash_layer_count=0,
             swiglu_clamp_exp=(2.0,) * 4)  # fmt: skip
COUNT = 5
"""Pages."""


def stored(seed=0):
    """Pages of random rows of every size, rounded as the cache simulation rounds them, and their bytes."""
    rng, codec, rows = np.random.default_rng(seed), StateCodec(G, packed=True), {}
    for kind, shape in codec._page_shapes().items():
        sizes = 10.0 ** rng.uniform(-4, 2, (COUNT, *shape[:-1], 1))
        drawn = (rng.normal(size=(COUNT, *shape)) * sizes).astype(np.float32)
        flat = drawn.reshape(-1, shape[-1])
        rounded = (
            simulate.round_indexer(flat) if kind == "indexer" else simulate.round_rows(flat, G.rope_dimension_count)
        )
        rows[kind] = rounded.reshape(drawn.shape)
    return codec, rows, b"".join(codec.encode_pages(rows))


def loaded(model, codec, data):
    tail = StateCodec(G, packed=True).decode_tail(b"\0" * codec.tail_nbytes(COUNT * PAGE_TOKENS), COUNT * PAGE_TOKENS)
    return model.import_sequence(Snapshot(COUNT * PAGE_TOKENS, codec.stored_pages(data), tail))


def model_with(ops):
    return Model(G, ops, bind(random_tensors(G), G, ops))


@pytest.mark.skipif(COMPILER is None, reason="needs clang++ or g++")
@pytest.mark.parametrize("language", ["metal", "cuda"])
def test_a_launch_a_layer_unpacks_all_pages(language, monkeypatch):
    codec, rows, data = stored()
    launcher = ShimLauncher(language)
    model = model_with(KernelOps(G, launcher, cache_simulation=True))
    monkeypatch.setattr(StateCodec, "decode_pages", lambda *_: pytest.fail("the host unpacks nothing"))
    first, second = loaded(model, codec, data), loaded(model, codec, stored(1)[2])
    assert launcher.names.count("unpack") == 2 * 3, "two conversations, three layers with pools"
    for kind, found in first.export_pages(range(COUNT)).items():
        np.testing.assert_array_equal(found, rows[kind].astype(np.float16).astype(np.float32), err_msg=kind)
    assert not np.array_equal(second.export_pages([0])["csa"], first.export_pages([0])["csa"])


@pytest.mark.skipif(COMPILER is None, reason="needs clang++ or g++")
def test_many_pages_go_up_in_parts(monkeypatch):
    monkeypatch.setattr(kernel_state, "UPLOAD_PAGES", 2)
    codec, rows, data = stored()
    launcher = ShimLauncher("metal")
    found = loaded(model_with(KernelOps(G, launcher, cache_simulation=True)), codec, data).export_pages(range(COUNT))
    assert launcher.names.count("unpack") == 3 * 3
    np.testing.assert_array_equal(found["hca"], rows["hca"].astype(np.float16).astype(np.float32))


def test_the_host_unpacks_where_the_device_does_not():
    codec, rows, data = stored()
    assert isinstance(codec.stored_pages(data), Packed)
    found = loaded(model_with(NumpyOps(G, cache_simulation=True)), codec, data).export_pages(range(COUNT))
    for kind, values in found.items():
        np.testing.assert_array_equal(values, rows[kind])


def test_without_the_simulation_pages_are_floats_and_are_handed_over_as_rows():
    codec = StateCodec(G, packed=False)
    rows = {kind: np.ones((1, *shape), np.float32) for kind, shape in codec._page_shapes().items()}
    found = codec.stored_pages(b"".join(codec.encode_pages(rows)))
    assert isinstance(found, dict) and np.array_equal(found["csa"], rows["csa"])
