"""The integers of a step: where each part lies, what closes, how attention is cut."""

import numpy as np
import pytest
from random_model import SMALL

from ds4_backend.gguf.geometry import CSA, HCA, SLIDING
from ds4_backend.gguf.shapes import FLASH
from ds4_backend.ops.base import Batch, Span
from ds4_backend.ops.kernels.steps import SPLIT_STEP, Planner
from ds4_backend.ops.rope import angles, frequencies


def plan(*spans, g=SMALL):
    return Planner(g).plan(Batch(np.arange(sum(s.count for s in spans), dtype=np.int32) + 7, spans))


def part(p, at, shape):
    first = p.array[at]
    return p.array[first : first + int(np.prod(shape))].reshape(shape)


def test_tokens_spans_tables_and_ids_lie_where_the_header_says():
    p = plan(Span(2, (4, 0), 130, 2), Span(0, (3,), 0, 1))
    assert p.array[:2].tolist() == [3, 2]
    assert part(p, 2, (3, 2)).tolist() == [[0, 130], [0, 131], [1, 0]], "span and position of every token"
    assert part(p, 3, (2, 5)).tolist() == [[2, 130, 0, 0, 2], [0, 0, 2, 2, 1]], "slot, start, begin, table, count"
    assert part(p, 6, (3,)).tolist() == [4, 0, 3]
    assert part(p, 13, (3,)).tolist() == [7, 8, 9]


def test_rotations_are_those_of_the_host_bit_for_bit():
    p = plan(Span(0, tuple(range(8000)), 1_000_000, 1))
    pairs = SMALL.rope_dimension_count // 2
    for at, ratio in ((4, SLIDING), (5, CSA)):
        radians = angles(np.array([1_000_000], np.int32), frequencies(SMALL, ratio))
        got = part(p, at, (1, pairs, 2)).view(np.float32)
        np.testing.assert_array_equal(got[..., 0], np.cos(radians))
        np.testing.assert_array_equal(got[..., 1], np.sin(radians))


def test_rows_that_close_come_with_the_rotation_of_their_windows_first_token():
    p = plan(Span(0, (0, 1), 126, 3), Span(1, (2,), 2, 1), Span(2, (3,), 3, 1))
    assert p.closing == {CSA: 2, HCA: 1}
    assert part(p, 7, (2, 2)).tolist() == [[0, 31], [2, 0]], "span and row"
    assert part(p, 10, (1, 2)).tolist() == [[0, 0]]
    radians = angles(np.array([124, 0], np.int32), frequencies(SMALL, CSA))
    turns = part(p, 9, (2, SMALL.rope_dimension_count // 2, 2)).view(np.float32)
    np.testing.assert_array_equal(turns[..., 0], np.cos(radians))


@pytest.mark.parametrize("start", [0, 2050, 8191, 131_071, 1_047_999])
@pytest.mark.parametrize("count", [1, 8, 512, 2048])
def test_splits_cover_every_row_and_stay_few(start, count):
    p = plan(Span(0, tuple(range(8192)), start, count), g=FLASH)
    end = start + count
    rows = {SLIDING: 0, CSA: min(end // 4, 512), HCA: end // 128}
    for ratio, splits in p.splits.items():
        assert splits.rows % 16 == 0 and splits.count <= max(1, 48 // count)
        assert splits.count * splits.rows >= 128 + rows[ratio]
        assert (splits.count - SPLIT_STEP) * splits.rows < 128 + rows[ratio], "few splits are empty"
    assert p.selecting == (end // 4 > 512)
    assert p.score_stride >= end // 4
    assert p.score_blocks >= 1, "CUDA refuses an empty grid"


def test_a_page_table_is_converted_again_only_when_it_changed():
    planner = Planner(SMALL)

    def table(pages):
        return planner._table(Span(3, pages, 0, 1))

    first = table((5, 6))
    assert table((5, 6)) is first
    assert table((5, 6, 9)).tolist() == [5, 6, 9]


def test_long_spans_are_late_for_their_rings():
    assert plan(Span(0, (0,), 0, 8)).late and not plan(Span(0, (0,), 0, 9)).late
    assert plan(*(Span(i, (i,), 0, 5) for i in range(4))).late
