"""`ds4-backend bench`: a model's speed on this machine, by ds4-bench's method."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ds4_backend.cli.debug_logits import Chunks

if TYPE_CHECKING:
    from ds4_backend.gguf.reader import GGUF
    from ds4_backend.measure.first_token import FirstToken
    from ds4_backend.measure.frontiers import Row
    from ds4_backend.measure.traffic import Ceiling
    from ds4_backend.model import Model
    from ds4_backend.tokenizer import Tokenizer

PATH = click.Path(path_type=Path)
COUNT = click.IntRange(min=1)


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    model: str
    ops: str | None
    ctx_start: int
    ctx_max: int
    step_incr: int
    step_mul: float
    gen_tokens: int
    contexts: tuple[int, ...] | None
    batch: tuple[int, ...] | None
    prompt_file: Path | None
    first_token: int
    bandwidth: float | None
    csv: Path | None
    svg: Path | None
    as_json: bool


@click.command("bench")
@click.argument("model", default="ds4-tiny")
@click.option("--ops", help="What computes; the setting `ops` otherwise.")
@click.option("--ctx-start", type=COUNT, default=2048, show_default=True, help="First context, in tokens.")
@click.option("--ctx-max", type=COUNT, default=32768, show_default=True, help="Last context.")
@click.option("--step-incr", type=COUNT, default=2048, show_default=True, help="Tokens from one context to the next.")
@click.option("--step-mul", type=click.FloatRange(min=1), default=1.0, help="Or its factor, where more than 1.")
@click.option("--gen-tokens", type=COUNT, default=128, show_default=True, help="Tokens decoded at each context.")
@click.option("--contexts", type=Chunks(), help="Contexts to decode at on random pages, as in 128000,300000.")
@click.option("--batch", type=Chunks(), help="Numbers of conversations to decode side by side, as in 1,2,4,8.")
@click.option("--prompt-file", type=PATH, help="A text to read; random tokens otherwise.")
@click.option(
    "--first-token",
    type=click.IntRange(min=0),
    default=2048,
    show_default=True,
    help="Tokens of the prompt whose first token is timed; 0 for none.",
)
@click.option("--bandwidth", type=float, help="The memory's speed in GB/s; measured by a copy otherwise.")
@click.option("--csv", type=PATH, help="Write ds4-bench's columns and two more here.")
@click.option("--svg", type=PATH, help="Draw the result here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(**given: Any) -> None:
    """Measure prefill and decode over context, and the time to the first token.

    MODEL is a .gguf file, or the name of an installed model. Method and columns are ds4-bench's: at each context the
    tokens since the last one are read and timed, then tokens are decoded greedily, never the end token.
    """
    from ds4_backend.measure.report import as_csv, as_text, picture

    options = Options(**given)
    _check(options)
    about, rows, batch = _speed(options)
    first = _first_token(options, str(about["ops"])) if options.first_token else None
    if options.csv:
        options.csv.write_text(as_csv(rows), encoding="utf-8")
    if options.svg:
        options.svg.write_text(picture(rows, f"{about['model']}, {about['machine']}"), encoding="utf-8")
    if options.as_json:
        told = {**about, "rows": [asdict(row) for row in rows], "batch": batch}
        click.echo(json.dumps(told | {"first_token": asdict(first) if first else None}, indent=1))
    else:
        click.echo(as_text(rows, first, batch, about))


def _check(options: Options) -> None:
    from ds4_backend.cli.debug_logits import check_out
    from ds4_backend.errors import RequestError

    if options.ctx_start > options.ctx_max:
        raise RequestError(f"--ctx-start {options.ctx_start} is more than --ctx-max {options.ctx_max}.")
    for out in (options.csv, options.svg):
        if out:
            check_out(out)


def _speed(options: Options) -> tuple[dict[str, Any], list[Row], dict[int, float]]:
    """What was measured on, the rows, and the rates side by side; the model is gone afterwards."""
    from ds4_backend import catalog, settings
    from ds4_backend.catalog.profile import profile_of
    from ds4_backend.engine.running import ops_for
    from ds4_backend.gguf.reader import open_gguf
    from ds4_backend.measure.frontiers import batch_rates
    from ds4_backend.model import load_model
    from ds4_backend.progress import bar

    now = settings.load()
    path = catalog.resolve(options.model, now)
    with open_gguf(path) as file:
        ops = options.ops or ops_for(now, file)
        simulation = profile_of(file, now).cache_simulation
        with bar("load", unit="layer") as report:
            model = load_model(file, ops=ops, cache_simulation=simulation, progress=report)
        ceiling = _ceiling(options, ops, file, model)
        rows = [_with_share(row, ceiling) for row in _rows(options, file, model)]
    batch = batch_rates(model, options.batch, options.ctx_start, options.gen_tokens) if options.batch else {}
    model.release()
    about: dict[str, Any] = {"model": path.stem, "ops": ops, "machine": _machine(ops), "versions": _versions()}
    if ceiling:
        about |= {"bytes_per_second": ceiling.bytes_per_second, "weight_bytes": ceiling.weight_bytes}
    return about, rows, batch


def _rows(options: Options, file: GGUF, model: Model) -> Iterator[Row]:
    from ds4_backend.measure.frontiers import frontiers, synthetic_row, walk
    from ds4_backend.tokenizer import Tokenizer

    places = frontiers(options.ctx_start, options.ctx_max, options.step_incr, options.step_mul)
    tokenizer = Tokenizer.from_gguf(file.metadata)
    for row in walk(model, _ids(options, tokenizer, model), places, options.gen_tokens, tokenizer.eos):
        click.echo(f"{row.ctx_tokens:,} tokens: {row.prefill_tps:.1f} and {row.gen_tps:.1f} tok/s", err=True)
        yield row
    for length in options.contexts or ():
        yield synthetic_row(model, length, options.gen_tokens, tokenizer.eos)


def _ids(options: Options, tokenizer: Tokenizer, model: Model) -> list[int]:
    from ds4_backend.errors import RequestError
    from ds4_backend.measure.frontiers import random_ids

    if options.prompt_file is None:
        return random_ids(model, options.ctx_max)
    try:
        ids = tokenizer.encode(options.prompt_file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise RequestError(f"{options.prompt_file} is no UTF-8 text: {error}.") from error
    if len(ids) < options.ctx_max:
        raise RequestError(f"{options.prompt_file} has {len(ids):,} tokens; --ctx-max asks for {options.ctx_max:,}.")
    return ids[: options.ctx_max]


def _ceiling(options: Options, ops: str, file: GGUF, model: Model) -> Ceiling | None:
    """None for the numpy ops: they read float32 copies, mostly from the processor's caches."""
    from ds4_backend.measure.bandwidth import copy_bandwidth
    from ds4_backend.measure.traffic import Ceiling, weight_bytes

    if ops == "numpy":
        return None
    speed = options.bandwidth * 1e9 if options.bandwidth else copy_bandwidth(ops)
    return Ceiling(speed, weight_bytes(file.tensors, model.geometry), model.geometry)


def _with_share(row: Row, ceiling: Ceiling | None) -> Row:
    return replace(row, ceiling=ceiling.share(row.gen_tps, row.ctx_tokens)) if ceiling else row


def _first_token(options: Options, ops: str) -> FirstToken:
    from ds4_backend.engine.running import close_all, running
    from ds4_backend.measure.first_token import first_token

    close_all()  # an engine that this process had before goes on with the cache it was opened with
    with _empty_cache(ops):
        return first_token(lambda: running(options.model), options.first_token)


@contextmanager
def _empty_cache(ops: str) -> Iterator[None]:
    """A prompt cache of its own, so that nothing is there before and nothing stays."""
    with tempfile.TemporaryDirectory(prefix="ds4-bench-") as folder:
        own = {"DS4_BACKEND_CACHE_DIR": folder, "DS4_BACKEND_CACHE": "on", "DS4_BACKEND_OPS": ops}
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def _machine(ops: str) -> str:
    from ds4_backend.machine import gib, this_machine

    here = this_machine()
    text = f"{here.system} {here.arch}, {os.cpu_count()} cores, {gib(here.memory_total)}"
    if ops != "numpy":
        from ds4_backend.ops.device import mlx_device

        text += f", {mlx_device().name}"
    return text


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from ds4_backend import __version__

    return {"ds4-backend": __version__, "mlx": version("mlx"), "numpy": version("numpy")}
