"""From a model's name to its vocabulary: the model's file is opened, and no tensor is read."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ds4_backend import catalog

if TYPE_CHECKING:
    from ds4_backend.tokenizer import Tokenizer


def tokenizer_of(model: str) -> Tokenizer:
    """The tokenizer of `model`, whose file has to be on this machine. Raises ModelError."""
    return _tokenizer(catalog.resolve(model))


@lru_cache(maxsize=4)
def _tokenizer(path: Path) -> Tokenizer:
    from ds4_backend.gguf.reader import open_gguf
    from ds4_backend.tokenizer import Tokenizer

    with open_gguf(path) as file:
        return Tokenizer.from_gguf(file.metadata)
