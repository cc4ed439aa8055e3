"""`ds4-backend debug logits`: a model's raw output for given tokens, fed in chunks of chosen sizes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ds4_backend.errors import RequestError
from ds4_backend.progress import Report, bar

if TYPE_CHECKING:
    import numpy as np

PATH = click.Path(path_type=Path)


class Chunks(click.ParamType):
    """A comma-separated list of positive numbers."""

    name = "sizes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """`1,7,64` as (1, 7, 64); a closing `...` may stand for the repetition."""
        parts = [part.strip() for part in str(value).removesuffix("...").rstrip(",").split(",")]
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is not a list of chunk sizes, such as 1,7,64.", param, ctx)
        return tuple(int(part) for part in parts)


@click.command("logits")
@click.argument("model")
@click.option("--tokens", required=True, type=PATH, help="An .npy file: int32 token ids [N].")
@click.option("--out", required=True, type=PATH, help="The .npy file to write: float32 logits [N, vocabulary].")
@click.option("--chunks", type=Chunks(), help="Sizes of the spans to feed; the last repeats, as in 1,7,64.")
@click.option("--cache-simulation/--no-cache-simulation", default=None, help="Overrules what the file says.")
@click.option("--ops", type=click.Choice(["numpy", "mlx", "metal", "cuda"]), help="What computes; else the setting.")
def logits(
    model: str, tokens: Path, out: Path, chunks: tuple[int, ...] | None, cache_simulation: bool | None, ops: str | None
) -> None:
    """Write the logits after each token.

    MODEL is a .gguf file, or the name of an installed model.
    """
    from ds4_backend import catalog, settings
    from ds4_backend.catalog.profile import profile_of
    from ds4_backend.gguf.reader import open_gguf
    from ds4_backend.model import load_model

    ids = read_ids(tokens)
    check_out(out)
    now = settings.load()
    chosen = ops or ("numpy" if now.ops == "auto" else now.ops)
    with open_gguf(catalog.resolve(model, now)) as file:
        if cache_simulation is None:
            cache_simulation = profile_of(file, now).cache_simulation
        network = load_model(file, ops=chosen, cache_simulation=cache_simulation)
        sizes = list(spans(len(ids), chunks or (network.prefill_tokens,)))
        sequence = network.new_sequence()
        rows = (network.forward([(sequence, ids[a:b].tolist())], every=True) for a, b in sizes)
        with bar("logits", unit="token") as report:
            _write(out, rows, (len(ids), network.geometry.vocab_size), report)
    click.echo(f"{out}: float32 [{len(ids)}, {network.geometry.vocab_size}], {len(sizes)} chunks, {chosen}", err=True)


def read_ids(path: Path) -> np.ndarray:
    """Token ids [N] from an .npy file. Raises RequestError for another shape or type."""
    import numpy as np

    try:
        ids = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:  # EOFError: an empty file
        raise RequestError(f"{path} cannot be read as .npy: {error}.") from error
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or not len(ids) or not np.issubdtype(ids.dtype, np.integer):
        found = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, np.ndarray) else "an archive"
        raise RequestError(f"{path} holds {found}; wanted: int32 [N], with one token at least.")
    if ids.min() < 0 or ids.max() > np.iinfo(np.int32).max:
        raise RequestError(f"{path} holds ids from {ids.min()} to {ids.max()}; wanted: int32, 0 or more.")
    return ids


def check_out(out: Path) -> None:
    """Raises RequestError where `out` cannot be written, before the time to compute it is spent."""
    if out.is_dir():
        raise RequestError(f"{out} cannot be written: it is a folder.")
    if not out.parent.is_dir():
        raise RequestError(f"{out} cannot be written: its folder is not there.")


def spans(n: int, sizes: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Half-open spans that cover 0 to `n`: of `sizes` in turn, the last repeating, the end cut short."""
    start = 0
    for size in chain(sizes, repeat(sizes[-1])):
        if start >= n:
            return
        yield start, min(start + size, n)
        start += size


def _write(out: Path, rows: Iterator[np.ndarray], shape: tuple[int, int], report: Report) -> None:
    """Writes [N, V] as it comes: logits of a long text need not fit in memory."""
    import numpy as np

    fresh = out.with_name(out.name + ".partial")
    written = np.lib.format.open_memmap(fresh, mode="w+", dtype=np.float32, shape=shape)
    try:
        done = 0
        for block in rows:
            written[done : done + len(block)] = block
            done += len(block)
            report(done, shape[0])
        written.flush()
        fresh.replace(out)
    finally:
        fresh.unlink(missing_ok=True)
