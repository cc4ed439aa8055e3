"""The DeepSeek V4 network. The forward pass reads top to bottom as in docs/model.md; all arithmetic is in the ops."""

from __future__ import annotations

import gc
from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds4_backend.errors import EngineError, RequestError
from ds4_backend.gguf.geometry import CSA, Geometry
from ds4_backend.model.sequence import Arena, Sequence, Snapshot
from ds4_backend.model.weights import Attention, Layer, Weights
from ds4_backend.ops import device
from ds4_backend.ops.base import Array, Batch, Ops


class Model:
    """A network ready to run, with the state of its conversations.

    Not thread-safe: one thread at a time.
    """

    def __init__(self, geometry: Geometry, ops: Ops, weights: Weights) -> None:
        self.geometry, self.ops, self.weights = geometry, ops, weights
        self.state = ops.new_state()
        self.arena = Arena(self.state)
        self._prefill_tokens = ops.prefill_tokens
        self._released = False

    @property
    def prefill_tokens(self) -> int:
        """The best chunk for a long prompt; chunks should end at its multiples."""
        return self._prefill_tokens

    def new_sequence(self) -> Sequence:
        """An empty conversation; release it when done."""
        return Sequence(self.arena)

    def import_sequence(self, snapshot: Snapshot) -> Sequence:
        """A conversation that continues from an exported one."""
        sequence = self.new_sequence()
        try:
            sequence.load(snapshot)
        except Exception:
            sequence.release()
            raise
        return sequence

    def release(self) -> None:
        """Let go of weights and state, and give their memory back; the model cannot be used again.

        Arrays go first, and with the last of them the mapping of the file; then what MLX keeps of freed memory.
        Sequences must be released before. Releasing twice is harmless.
        """
        if not self._released:
            self._released = True
            del self.weights, self.state, self.arena, self.ops
            gc.collect()  # arrays that a cycle of objects still holds
        device.give_back()

    def forward(self, spans: Seq[tuple[Sequence, Seq[int]]], *, every: bool = False) -> NDArray[np.float32]:
        """Run the next tokens of each conversation; their sequences grow by as many.

        Returns float32 logits [len(spans), V] after each span's last token, or with `every` [all tokens, V]. Raises
        RequestError for an empty span or a token outside the vocabulary; a sequence must not occur twice.
        """
        ids = self._checked(spans)
        batch = Batch(ids, tuple(sequence.span(len(tokens)) for sequence, tokens in spans))
        ends = np.cumsum([len(tokens) for _, tokens in spans], dtype=np.int32) - 1
        wanted = np.arange(len(ids), dtype=np.int32) if every else ends
        logits = self.ops.compute(batch, self.state, len(wanted), lambda: self._run(batch, wanted))
        for sequence, tokens in spans:
            sequence.length += len(tokens)
        return logits

    def _run(self, batch: Batch, wanted: NDArray[np.int32]) -> Array:
        ops, w = self.ops, self.weights
        step = ops.begin(batch, self.state)
        streams = ops.embed(w.embedding, step)  # [T, n, D]
        for layer in w.layers:
            x, mix = ops.hc_pre(streams, layer.attention_hc, layer.attention_norm)
            streams = ops.hc_post(streams, self._attention(layer.index, layer.attention, x, step), mix)
            x, mix = ops.hc_pre(streams, layer.ffn_hc, layer.ffn_norm)
            streams = ops.hc_post(streams, self._feed_forward(layer, x, step), mix)
        return ops.head(streams, wanted, w.head)

    def _attention(self, index: int, a: Attention, x: Array, step: Any) -> Array:
        ops = self.ops
        low, kv, *lanes = ops.project(x, a.inputs)
        low, q = ops.queries(low, a.q_a_norm, a.q_b, a.ratio, step)
        rows = ops.window_rows(kv, a.kv_norm, a.ratio, step)
        for i, (kind, compressor) in enumerate(a.compressors):
            ops.compress(lanes[2 * i], lanes[2 * i + 1], compressor, a.ratio, a.ordinal, kind, step)
        selection = ops.select(low, a.indexer_q_b, lanes[-1], a.ordinal, step) if a.ratio == CSA else None
        heads = ops.attend(q, rows, a.sinks, index, a.ordinal, selection, step)
        return ops.grouped_output(heads, a.output_a, a.output_b)

    def _feed_forward(self, layer: Layer, x: Array, step: Any) -> Array:
        chosen, weights = self.ops.route(x, layer.router, step)
        return self.ops.experts(x, chosen, weights, layer.experts)

    def _checked(self, spans: Seq[tuple[Sequence, Seq[int]]]) -> NDArray[np.int32]:
        """The spans' tokens on one axis, int32 [T]."""
        if self._released:
            raise EngineError("this model was released; load it again")
        if not spans or not all(len(tokens) for _, tokens in spans):
            raise RequestError("nothing to run: every conversation needs at least one token")
        ids = np.concatenate([np.asarray(tokens, np.int64) for _, tokens in spans])
        outside = ids[(ids < 0) | (ids >= self.geometry.vocab_size)]
        if len(outside):
            raise RequestError(
                f"token id {outside[0]} is outside the vocabulary of {self.geometry.vocab_size} tokens (0 to "
                f"{self.geometry.vocab_size - 1})"
            )
        return ids.astype(np.int32)
