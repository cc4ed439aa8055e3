"""Packed batches of token ids, made by worker processes while the GPU works.

Conversations stand one after another in a row, each with its own beginning, without masks between them: positions vary
for free and nothing is padded.
"""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds4_tiny.chat import PAD, SPECIALS, Talk, segments
from ds4_tiny.corpus import talk
from ds4_tiny.draw import Draw

PADDING, PROMPT, ANSWER = 0, 1, 2
"""What a token is: nothing, text that the model is given, text that it writes."""
SHORTEST = 24
"""A rest of a row below this is padded."""
LONG_ROW = 1024
"""Rows above this begin with one long conversation, most of the time."""
SPREAD_ROW = 2048
"""Rows of this length hold questions about whole texts and nothing else."""

Batch = tuple[NDArray[np.uint16], NDArray[np.uint8]]


def encode(tokenizer: Any, made: Talk) -> tuple[list[int], list[int]]:
    """A conversation's ids, and what each is."""
    ids: list[int] = []
    kinds: list[int] = []
    for text, own in segments(made):
        piece = tokenizer.encode(text, add_special_tokens=False).ids
        ids += piece
        kinds += [ANSWER if own else PROMPT] * len(piece)
    return ids, kinds


def pack(tokenizer: Any, d: Draw, length: int, rows: int) -> Batch:
    """`rows` rows of `length + 1` tokens, so that inputs and targets are `length` each."""
    ids = np.full((rows, length + 1), SPECIALS.index(PAD), np.uint16)
    kinds = np.zeros((rows, length + 1), np.uint8)
    for row in range(rows):
        filled = 0
        while length + 1 - filled >= SHORTEST:
            room = length + 1 - filled
            piece, kind = _fitting(tokenizer, d, room, length, whole=filled == 0)
            count = min(room, len(piece))
            ids[row, filled : filled + count] = piece[:count]
            kinds[row, filled : filled + count] = kind[:count]
            filled += count
    return ids, kinds


def _fitting(tokenizer: Any, d: Draw, room: int, length: int, whole: bool) -> tuple[list[int], list[int]]:
    """A conversation that fits, or after a few tries one that is cut."""
    for _ in range(4):
        if length == SPREAD_ROW:
            made = talk(d, d.int(room // 2, max(room // 2, room - 150)), "spread")
        else:
            long = room > LONG_ROW and d.chance(0.85 if whole else 0.4)
            made = talk(d, d.int(room // 3, room - 120) if long else 0)
        piece = encode(tokenizer, made)
        if len(piece[0]) <= room:
            break
    return piece


class Feed:
    """Worker processes that keep a queue of batches of each row length filled."""

    def __init__(self, lengths: list[int], tokens: int, workers: int, seed: str) -> None:
        context = multiprocessing.get_context("fork")  # before any CUDA call
        self.rows = {length: max(1, tokens // length) for length in lengths}
        depth = [160 if length <= LONG_ROW else 48 for length in lengths]
        self.queues = {length: context.Queue(size) for length, size in zip(lengths, depth, strict=True)}
        jobs = [
            (length, self.rows[length], self.queues[length], size) for length, size in zip(lengths, depth, strict=True)
        ]
        self.workers = [context.Process(target=_work, args=(f"{seed} {i}", jobs), daemon=True) for i in range(workers)]
        for worker in self.workers:
            worker.start()

    def take(self, length: int) -> Batch:
        """The next batch of rows of this length; waits for it."""
        return self.queues[length].get()

    def waiting(self) -> dict[int, int]:
        """How many batches are ready, by length."""
        return {length: queue.qsize() for length, queue in self.queues.items()}

    def stop(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.terminate()


def _work(seed: str, jobs: list[tuple[int, int, Any, int]]) -> None:
    from ds4_tiny.vocabulary import load

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.nice(5)
    tokenizer, d = load(), Draw(seed)
    while True:
        length, rows, queue, _ = min(jobs, key=lambda job: job[2].qsize() / job[3])
        queue.put(pack(tokenizer, d, length, rows))
