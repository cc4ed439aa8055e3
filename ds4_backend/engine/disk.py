"""The disk cache as one model's engine uses it: resume a prompt from stored state, save state as it is made.

Between three that do not know each other: the store (bytes and token ids), the model (sequences), the tokenizer (to
show where two texts part). Nothing here fails a request: where the store is off or has nothing, the engine goes on.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds4_backend.cache.keys import BLOCK_TOKENS, Chain
from ds4_backend.cache.records import Use
from ds4_backend.errors import EngineError
from ds4_backend.model.codec import LAYOUT_VERSION, StateCodec
from ds4_backend.model.sequence import Snapshot

if TYPE_CHECKING:
    from ds4_backend.cache.lookup import Hit
    from ds4_backend.cache.store import Store
    from ds4_backend.chat.replay import Encoded
    from ds4_backend.model import Model, Sequence
    from ds4_backend.tokenizer import Tokenizer

GRID_TOKENS = 4096
"""A long prefill is saved this often, so that a crash or a cancelled request loses no more."""
QUESTION_TOKENS, AGAIN_TOKENS = 64, 2048
"""So far before a prompt's end a tail lies, too, unless one lies so closely below: often a long text and a question are
one message, and another question follows about the same text."""
STOPPED_TURNS = 6
"""Turns for whose ends the reading of a prompt stops; the store keeps no more either."""
SHOWN_TOKENS = 16
"""How much of both texts a miss shows from where they part."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a prompt was resumed from: `sequence` is None for a cold start. `memory` and `disk` count cached tokens by
    tier; `reason` says why it was not more (`Hit.why`), `diverged` where the prompt left what was stored."""

    sequence: Sequence | None
    memory: int = 0
    disk: int = 0
    reason: str = ""
    diverged: dict[str, Any] | None = None
    hit: Hit | None = None

    def report(self) -> dict[str, Any]:
        """For `End.metadata["cache"]`."""
        said: dict[str, Any] = {"memory": self.memory, "disk": self.disk}
        if self.reason:
            said["reason"] = self.reason
        return said | ({"diverged": self.diverged} if self.diverged else {})


def layout_name() -> str:
    """The form of what is stored; part of the fingerprint, so that another form is another model's."""
    return f"state {LAYOUT_VERSION} float32"


class DiskCache:
    """One model's part of the store. All but `close` is called on the model's own thread."""

    def __init__(self, store: Store, fingerprint: bytes, model: Model, tokenizer: Tokenizer) -> None:
        self.store, self.fingerprint = store, fingerprint
        self._model, self._tokenizer = model, tokenizer
        self._codec = StateCodec(model.geometry, packed=model.ops.cache_simulation)

    def resume(self, prompt: tuple[int, ...], memory: int) -> Resumed:
        """The stored state of `prompt`, if it reaches further than the `memory` tokens already held."""
        if memory >= (len(prompt) - 1) // BLOCK_TOKENS * BLOCK_TOKENS:
            return Resumed(None, memory=memory)
        hit, loaded = self.store.resume(Chain(self.fingerprint, prompt))
        sequence = None
        if loaded is not None and hit.length > memory:
            sequence = self._load(loaded.length, loaded.pages, loaded.tail)
        used = sequence is not None
        self.store.account(hit, loaded=loaded if used else None)
        tiers = {"disk": hit.length} if used else {"memory": memory}
        return Resumed(sequence, reason=hit.why, diverged=self._divergence(hit), hit=hit, **tiers)

    def recorder(self, prompt: Encoded) -> Recorder:
        """Saves the state of one request as it is made."""
        return Recorder(self, prompt)

    def timed(self, resumed: Resumed, tokens: int, seconds: float) -> None:
        """Reading the other `tokens` of the prompt took so long: from that follows what the resume saved."""
        if resumed.disk and tokens:
            self.store.saved(resumed.disk * seconds / tokens)

    def release(self, resumed: Resumed) -> None:
        """The request is over: what it resumed from may be evicted again."""
        if resumed.hit is not None:
            self.store.release(resumed.hit)

    def close(self) -> None:
        """Write what is queued."""
        self.store.close()

    def save_blocks(self, chain: Chain, sequence: Sequence, stop: int) -> None:
        """Put the full pages below `stop` pages that are not stored yet."""
        missing = self.store.missing(chain, stop)
        if missing:
            pages = self._codec.encode_pages(sequence.export_pages(missing))
            for index, page in zip(missing, pages, strict=True):
                self.store.put_block(chain, index, page)

    def encoded_tail(self, sequence: Sequence) -> bytes:
        """The tail of a sequence as bytes."""
        return self._codec.encode_tail(sequence.export_tail(), sequence.length)

    def _load(self, length: int, pages: memoryview, tail: memoryview) -> Sequence | None:
        try:
            rows, rest = self._codec.stored_pages(pages), self._codec.decode_tail(tail, length)
        except EngineError:  # of another size than this network's: someone else's bytes under our name
            return None
        return self._model.import_sequence(Snapshot(length, rows, rest))

    def _divergence(self, hit: Hit) -> dict[str, Any] | None:
        if hit.divergence is None:
            return None
        parting = hit.divergence
        texts = (self._tokenizer.decode(ids[:SHOWN_TOKENS]) for ids in (parting.stored, parting.wanted))
        return {"at": parting.at, **dict(zip(("stored", "wanted"), texts, strict=True))}


class Recorder:
    """Saves one request's state: its full pages once, and tails at the places where a later prompt may part from it.

    Tails lie at page boundaries, where nothing is open and they are small: at the one below each message boundary,
    every 4,096 tokens, below the prompt's end and where another question could follow the same text, and at the last
    one that the answer passes.
    """

    def __init__(self, disk: DiskCache, prompt: Encoded) -> None:
        self._disk = disk
        self._chain = Chain(disk.fingerprint, prompt.ids)
        self._tails = tail_places(len(prompt.ids), prompt.boundaries)
        self._stops = stops(self._tails)
        self._end = len(prompt.ids)
        self._latest: tuple[int, bytes] | None = None

    def next_stop(self, position: int) -> int | None:
        """Where the prompt's next chunk must end at the latest, so that a tail can be saved there."""
        return next((stop for stop in self._stops if stop > position), None)

    def passed(self, sequence: Sequence, answer: tuple[int, ...] = ()) -> None:
        """The sequence has grown, never past a page's end at once; `answer` are the tokens read that belong to it."""
        self._chain.extend(answer)
        length = sequence.length
        if length % BLOCK_TOKENS:
            return
        if length > self._end:
            self._latest = (length, self._disk.encoded_tail(sequence))
        elif (use := self._tails.get(length)) is not None:
            self._disk.save_blocks(self._chain, sequence, length // BLOCK_TOKENS)
            if self._disk.store.wants_tail(self._chain, length, use):
                self._disk.store.put_tail(self._chain, length, self._disk.encoded_tail(sequence), use)

    def finish(self, sequence: Sequence) -> None:
        """The answer is over, or the client left, maybe in the middle of its prompt: save what is not saved yet."""
        if sequence.length % BLOCK_TOKENS == 0 and sequence.length:
            self._latest = (sequence.length, self._disk.encoded_tail(sequence))
        self._disk.save_blocks(self._chain, sequence, sequence.length // BLOCK_TOKENS)
        if self._latest is not None and self._disk.store.wants_tail(self._chain, self._latest[0], Use.TURN):
            self._disk.store.put_tail(self._chain, *self._latest, Use.TURN)


def tail_places(prompt: int, boundaries: Seq[int]) -> dict[int, Use]:
    """Positions in a prompt of `prompt` tokens where a tail is saved, and why. The first of `boundaries` ends the
    system text and tools; the prompt's last token is left to run."""

    def below(position: int) -> int:
        return position // BLOCK_TOKENS * BLOCK_TOKENS

    places = {position: Use.GRID for position in range(GRID_TOKENS, prompt, GRID_TOKENS)}
    places |= {below(boundary): Use.TURN for boundary in boundaries[1:]}
    places |= {below(boundary): Use.PREFIX for boundary in boundaries[:1]}
    question = below(max(prompt - QUESTION_TOKENS, 0))
    if question - max((place for place in places if place <= question), default=0) >= AGAIN_TOKENS:
        places[question] = Use.TURN
    if places.get(below(prompt - 1)) != Use.PREFIX:
        places[below(prompt - 1)] = Use.PROMPT
    places.pop(0, None)
    return places


def stops(places: dict[int, Use]) -> list[int]:
    """The places for which a chunk is cut, in order. Short chunks are slow on a GPU, so only the last turns count."""
    turns = sorted(position for position, use in places.items() if use == Use.TURN)
    return sorted(places.keys() - set(turns[:-STOPPED_TURNS]))
