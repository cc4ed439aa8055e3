from __future__ import annotations

import asyncio
import threading

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
