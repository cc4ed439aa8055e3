from __future__ import annotations

import asyncio
import gc
import threading
from collections import deque

import pytest

from ds4_backend.engine.channel import BOUND, Channel
from ds4_backend.types import Event, TextDelta


def test_events_come_out_in_order_and_nothing_comes_out_of_nothing() -> None:
    channel = Channel()
    channel.put(TextDelta("a"))
    channel.put(TextDelta("b"))
    assert [channel.get(0), channel.get(0), channel.get(0)] == [TextDelta("a"), TextDelta("b"), None]


def test_a_reader_that_waits_is_woken() -> None:
    channel = Channel()
    threading.Timer(0.02, channel.put, [TextDelta("late")]).start()
    assert channel.get(30) == TextDelta("late")


def test_a_reader_on_an_event_loop_is_woken_from_another_thread() -> None:
    channel = Channel()

    async def read() -> list[Event | None]:
        threading.Timer(0.02, channel.put, [TextDelta("late")]).start()
        return [await channel.aget(30), await channel.aget(0.001)]

    assert asyncio.run(read()) == [TextDelta("late"), None]


def test_a_full_channel_says_when_there_is_room_again() -> None:
    said: list[str] = []
    channel = Channel(lambda: said.append("room"))
    for _ in range(BOUND):
        channel.put(TextDelta("x"))
    assert channel.full and not said
    channel.get(0)
    assert not channel.full and said == ["room"]
    channel.get(0)
    assert said == ["room"]


class Interrupted(deque[Event]):
    """A writer tries to fill the channel while the reader takes an event; it gets as far as it can."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel._events)
        self.channel, self.saw_full = channel, False
        self.writer = threading.Thread(target=self._write)

    def _write(self) -> None:
        self.channel.put(TextDelta("x"))
        self.saw_full = self.channel.full

    def popleft(self) -> Event:
        self.writer.start()
        self.writer.join(0.2)
        return super().popleft()


def test_a_writer_that_saw_a_full_channel_is_always_told_of_room() -> None:
    said: list[str] = []
    channel = Channel(lambda: said.append("room"))
    for _ in range(BOUND - 1):
        channel.put(TextDelta("x"))
    channel._events = events = Interrupted(channel)
    channel.get(0)
    events.writer.join()
    assert not channel.full
    assert bool(said) is events.saw_full


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_reader_whose_event_loop_was_closed_harms_no_writer() -> None:
    channel, loop = Channel(), asyncio.new_event_loop()
    gc.disable()  # what waits there is collected later
    try:
        waiting = loop.create_task(channel.aget(30))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        channel.put(TextDelta("x"))
        assert channel.get(0) == TextDelta("x")
    finally:
        gc.enable()
    del waiting
    gc.collect()
