"""Weights arrive byte for byte, whatever their size; a device of host memory stands for the GPU."""

import ctypes
import threading

import numpy as np
import pytest

from ds4_backend.errors import EngineError
from ds4_backend.ops.cuda import weights
from ds4_backend.ops.cuda.weights import Filler


class HostCopier:
    """Copies of host memory, and who was asked for what."""

    def __init__(self):
        self.held, self.copies, self.streams, self.threads = [], [], 0, set()

    def use(self):
        self.threads.add(threading.get_ident())

    def new_stream(self):
        self.streams += 1
        return self.streams

    def pinned(self, nbytes):
        self.held.append(np.full(nbytes, 255, np.uint8))
        return self.held[-1].ctypes.data

    def upload(self, address, host, nbytes, stream=None):
        assert threading.get_ident() in self.threads, "a thread without a context"
        ctypes.memmove(address, host, nbytes)
        self.copies.append((nbytes, stream))

    def synchronize(self, stream=None):
        assert stream


def addresses(arrays):
    return [np.array(array, copy=False).ctypes.data for array in arrays]


@pytest.mark.parametrize("shape", [(5, 7), (1, 100), (3, 4, 50), (1000,), (0, 8)])
def test_bytes_arrive_in_parts_of_any_size(shape, monkeypatch):
    monkeypatch.setattr(weights, "PART_BYTES", 100)
    device = HostCopier()
    data = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    found = Filler(device, addresses)(data)
    np.testing.assert_array_equal(np.array(found), data)
    assert sum(nbytes for nbytes, _ in device.copies) == data.size
    assert all(nbytes <= 100 for nbytes, _ in device.copies)


def test_what_is_not_contiguous_arrives_too():
    data = np.arange(240, dtype=np.uint8).reshape(12, 20)[:, ::2]
    np.testing.assert_array_equal(np.array(Filler(HostCopier(), addresses)(data)), data)


def test_buffers_and_streams_are_made_once(monkeypatch):
    monkeypatch.setattr(weights, "PART_BYTES", 100)
    device = HostCopier()
    fill = Filler(device, addresses)
    assert not device.held
    for _ in range(3):
        fill(np.zeros(100 * 100, np.uint8))
    assert len(device.held) == device.streams == weights.THREADS


def test_an_error_is_raised_when_all_copies_have_ended(monkeypatch):
    monkeypatch.setattr(weights, "PART_BYTES", 100)
    device = HostCopier()
    plain, started = device.upload, []

    def upload(address, host, nbytes, stream=None):
        started.append(nbytes)
        if len(started) == 1:
            raise EngineError("a copy failed")
        plain(address, host, nbytes, stream)

    device.upload = upload
    with pytest.raises(EngineError, match="a copy failed"):
        Filler(device, addresses)(np.zeros(1000, np.uint8))
    assert len(started) == 10 and len(device.copies) == 9
