"""Memory that results land in is lent to arrays, and comes back when the last view of one is gone."""

import numpy as np
import pytest

from ds4_backend.ops.cuda.landing import Landing


class Device:
    """Pinned memory is plain memory here."""

    def __init__(self):
        self.held = {}

    def pinned(self, nbytes):
        block = np.full(nbytes // 4, np.nan, np.float32)
        self.held[block.ctypes.data] = block
        return block.ctypes.data

    def unpin(self, address):
        del self.held[address]


@pytest.fixture
def device():
    return Device()


def test_an_array_lies_where_the_device_wrote(device):
    array, address = Landing(device).array((2, 3))
    device.held[address][:] = range(6)
    np.testing.assert_array_equal(array, [[0, 1, 2], [3, 4, 5]])
    assert array.dtype == np.float32 and array.flags.writeable


def test_memory_is_lent_again_when_the_last_view_is_gone(device):
    landing = Landing(device)
    array, address = landing.array((2, 3))
    row = array[1]
    del array
    other, elsewhere = landing.array((2, 3))
    assert elsewhere != address and row.shape == (3,)
    del row
    assert landing.array((2, 3))[1] == address
    assert len(device.held) == 2 and other.shape == (2, 3)


def test_other_sizes_have_memory_of_their_own(device):
    landing = Landing(device)
    first = landing.array((1, 8))[1]
    assert landing.array((2, 8))[1] != first
    assert landing.array((8,))[1] == first


def test_after_the_end_what_is_still_lent_is_given_back_when_it_is_dropped(device):
    landing = Landing(device)
    kept, address = landing.array((4,))
    landing.array((8,))
    landing.close()
    assert list(device.held) == [address]
    del kept
    assert not device.held
