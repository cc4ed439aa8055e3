"""Which inputs of the routed experts matter: running a text through a model and summing squared inputs.

For gate and up the input is the normed row that enters the feed-forward layer, for down the expert's middle row after
it was weighted by the router. The numpy ops run the model, decoded to float32: this is for models that fit in memory
so. It knows no file format; `imatrix` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ds4_backend import progress
from ds4_backend.convert.imatrix import Imatrix, write_imatrix
from ds4_backend.errors import ConversionError

_LEAVES = {"gate_up": ("ffn_gate_exps", "ffn_up_exps"), "down": ("ffn_down_exps",)}


@dataclass(frozen=True, slots=True)
class Collected:
    """What was run. `silent` counts (layer, expert) pairs that no token reached, of `experts` pairs in all."""

    tokens: int
    chunks: int
    silent: int
    experts: int


@dataclass(slots=True)
class Sums:
    """Running sums of squares per layer and kind, float64 [E, n], and rows seen, int64 [E]."""

    expert_count: int
    squares: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)
    rows: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)

    def observe(self, layer: int, what: str, experts: np.ndarray, inputs: np.ndarray) -> None:
        """Add the rows `inputs` [R, n] that entered `experts` [R]; the hook of the numpy ops."""
        key = layer, what
        if key not in self.squares:
            self.squares[key] = np.zeros((self.expert_count, inputs.shape[1]))
            self.rows[key] = np.zeros(self.expert_count, np.int64)
        for expert in np.unique(experts):
            chosen = inputs[experts == expert].astype(np.float64)
            self.squares[key][expert] += np.einsum("rn,rn->n", chosen, chosen)
            self.rows[key][expert] += len(chosen)

    def means(self) -> dict[str, np.ndarray]:
        """GGUF tensor name -> mean squares, float32 [E, n]; zeros for experts that no row reached."""
        entries = {}
        for (layer, what), squares in sorted(self.squares.items()):
            mean = squares / np.maximum(self.rows[layer, what], 1)[:, None]
            for leaf in _LEAVES[what]:
                entries[f"blk.{layer}.{leaf}.weight"] = mean.astype(np.float32)
        return entries


def collect(
    model_path: Path,
    text_path: Path,
    out_path: Path,
    *,
    max_tokens: int = 1 << 17,
    chunk: int = 512,
    report: progress.Report = progress.silent,
) -> Collected:
    """Run a text through a GGUF model and write the importance of every routed expert's inputs.

    The text is read from its start, at most `max_tokens` tokens, in pieces of `chunk` tokens that know nothing of each
    other; each starts with the begin-of-sentence token. Special tokens in the text are read as such, so rendered chats
    may be given. `report` counts tokens.

    Raises ConversionError when the text cannot be read or is empty, or `out_path` has no folder, FileError when the
    model cannot be read.
    """
    from ds4_backend.gguf.reader import open_gguf
    from ds4_backend.model import load_model
    from ds4_backend.tokenizer import Tokenizer

    if chunk < 2 or max_tokens < 2:
        raise ConversionError(f"chunks of {chunk} tokens, {max_tokens} tokens in all: both must be at least 2")
    if out_path.is_dir() or not out_path.parent.is_dir():
        raise ConversionError(f"{out_path} cannot be written: it is a folder, or its folder does not exist")
    text = _read_text(text_path)
    with open_gguf(model_path) as file:
        tokenizer = Tokenizer.from_gguf(file.metadata)
        pieces = list(_pieces(tokenizer.encode(text, control=True)[:max_tokens], chunk, tokenizer.bos))
        model = load_model(file, ops="numpy")
        sums = run(model, pieces, report)
        geometry = model.geometry
    write_imatrix(out_path, Imatrix(sums.means(), len(pieces), text_path.name))
    silent = sum(int((rows == 0).sum()) for (_, what), rows in sums.rows.items() if what == "down")
    return Collected(sum(map(len, pieces)), len(pieces), silent, geometry.block_count * geometry.expert_count)


def run(model: object, pieces: Sequence[Sequence[int]], report: progress.Report) -> Sums:
    """Run each piece as a conversation of its own on a model with numpy ops, and sum what its experts saw."""
    from ds4_backend.model import Model
    from ds4_backend.ops.numpy import NumpyOps

    assert isinstance(model, Model) and isinstance(model.ops, NumpyOps)
    sums = Sums(model.geometry.expert_count)
    done, total = 0, sum(map(len, pieces))
    model.ops.observer = sums.observe
    try:
        for piece in pieces:
            sequence = model.new_sequence()
            for first in range(0, len(piece), model.prefill_tokens):
                part = piece[first : first + model.prefill_tokens]
                model.forward([(sequence, part)])
                done += len(part)
                report(done, total)
            sequence.release()
    finally:
        model.ops.observer = None
    return sums


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConversionError(f"cannot read the text {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConversionError(f"the text {path} is not UTF-8 (byte {error.start}); convert it first") from None
    if not text.strip():
        raise ConversionError(f"the text {path} is empty; give a text like those that the model will meet")
    return text


def _pieces(ids: Sequence[int], chunk: int, bos: int) -> Iterator[list[int]]:
    """At most `chunk` tokens each, begin-of-sentence included."""
    start = 0
    while start < len(ids):
        opened = ids[start] == bos
        end = start + chunk - (not opened)
        yield [*([] if opened else [bos]), *ids[start:end]]
        start = end
