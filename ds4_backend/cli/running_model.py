"""What several commands do first: load a model's network, tokenizer and dialect by its name; and give it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ds4_backend.model import Model
    from ds4_backend.tokenizer import Tokenizer

OPS = click.option("--ops", help="What computes; the setting `ops` otherwise.")
"""The option that names the ops."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and what belongs to it."""

    model: Model
    tokenizer: Tokenizer
    dialect: str
    name: str
    ops: str


@contextmanager
def loaded(name: str, ops: str | None = None) -> Iterator[Loaded]:
    """The model called `name` (or a .gguf file), released at the end."""
    from ds4_backend import catalog, settings
    from ds4_backend.catalog.profile import profile_of
    from ds4_backend.engine.running import ops_for
    from ds4_backend.gguf.reader import open_gguf
    from ds4_backend.model import load_model
    from ds4_backend.progress import bar
    from ds4_backend.tokenizer import Tokenizer

    now = settings.load()
    path = catalog.resolve(name, now)
    with open_gguf(path) as file:
        profile = profile_of(file, now)
        chosen = ops or ops_for(now, file)
        tokenizer = Tokenizer.from_gguf(file.metadata)
        with bar("load", unit="layer") as report:
            model = load_model(file, ops=chosen, cache_simulation=profile.cache_simulation, progress=report)
    try:
        yield Loaded(model, tokenizer, profile.dialect, path.stem, chosen)
    finally:
        model.release()
