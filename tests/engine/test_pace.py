from __future__ import annotations

import pytest

from ds4_backend.engine.pace import Pace, chunk_end


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 1, [1]),
        (0, 2, [1, 2]),
        (0, 128, [127, 128]),
        (0, 129, [128, 129]),
        (0, 300, [128, 256, 299, 300]),
        (100, 300, [128, 256, 299, 300]),
        (128, 300, [256, 299, 300]),
        (299, 300, [300]),
    ],
)
def test_chunks_end_on_a_grid_from_position_zero(start: int, end: int, expected: list[int]) -> None:
    ends = []
    while start < end:
        start = chunk_end(start, end, 128)
        ends.append(start)
    assert ends == expected


def test_a_chunk_is_cut_where_a_tail_is_to_be_saved() -> None:
    assert chunk_end(0, 5000, 2048, 640) == 640
    assert chunk_end(640, 5000, 2048, 4992) == 2048
    assert chunk_end(4096, 5000, 2048, None) == 4999


def test_a_lone_prompt_is_read_in_the_chunks_that_suit_the_model() -> None:
    pace = Pace(2048)
    pace.read(2048, 8.0)
    assert pace.chunk() == 2048


def test_a_chunk_lasts_about_a_second_while_others_wait() -> None:
    pace = Pace(2048)
    pace.crowded = True
    assert pace.chunk() == 128  # nothing was measured yet
    pace.read(2048, 4.0)
    assert pace.chunk() == 512
    for _ in range(50):
        pace.read(128, 10.0)
    assert pace.chunk() == 128  # one page is the least


def test_speeds_are_running_means() -> None:
    pace = Pace(128)
    pace.wrote(4, 0.1)
    assert pace.decode_per_second == pytest.approx(40)
    pace.wrote(8, 0.1)
    assert 40 < pace.decode_per_second < 80


def test_last_tokens_which_are_read_alone_hide_no_prefill_speed() -> None:
    pace = Pace(2048)
    pace.read(2048, 1.0)
    for _ in range(5):
        pace.read(1, 0.02)
    assert 1800 < pace.prefill_per_second < 2048


def test_a_prompt_that_becomes_slower_gets_shorter_chunks() -> None:
    pace = Pace(2048)
    pace.crowded = True
    pace.read(2048, 0.5)
    for _ in range(12):
        pace.read(1024, 2.0)
    assert pace.chunk() == 512
