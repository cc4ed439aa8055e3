"""`ds4-backend cache`: what is kept on disk, whether it is sound, and how to get rid of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ds4_backend.cache.report import Entry, Stats
    from ds4_backend.cache.store import Store

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_SECONDS = {"h": 3600, "d": 86_400, "w": 604_800}


@click.group("cache")
def command() -> None:
    """The prompt cache: a long context is read once (docs/cache.md)."""


@command.command("stats")
@_JSON
def stats(as_json: bool) -> None:
    """Tokens and bytes held, hits, bytes written, prefill saved."""
    from ds4_backend.cache import maintenance

    with _store() as store:
        found = maintenance.stats(store)
    if as_json:
        _print({**asdict(found), "hit_ratio": found.hit_ratio})
        return
    for name, value in _lines(found):
        click.echo(f"{name:18}{value}")


@command.command("ls")
@_JSON
def ls(as_json: bool) -> None:
    """The conversations held, the last used first."""
    from ds4_backend.cache import maintenance

    with _store() as store:
        entries = maintenance.entries(store)
    if as_json:
        _print([asdict(entry) for entry in entries])
        return
    click.echo(f"{'tokens':>10} {'size':>10} {'tails':>6} {'hits':>6}  {'last used':17} model")
    for entry in entries:
        click.echo(_row(entry))


@command.command("verify")
@_JSON
def verify(as_json: bool) -> None:
    """Read everything and compare checksums; bad records are set aside."""
    from ds4_backend.cache import maintenance

    with _store() as store:
        found = maintenance.verify(store)
    if as_json:
        _print(asdict(found))
    else:
        click.echo(f"{found.records:,} records, {_size(found.nbytes)} read, {len(found.bad)} bad")
    raise SystemExit(1 if found.bad else 0)


@command.command("gc")
@_JSON
def gc(as_json: bool) -> None:
    """Remove what no stored record needs."""
    from ds4_backend.cache import maintenance

    with _store() as store:
        nbytes = maintenance.gc(store)
    _print({"nbytes": nbytes}) if as_json else click.echo(f"{_size(nbytes)} given back")


@command.command("purge")
@click.option("--unused", metavar="AGE", help="Only what was unused for so long, such as 12h, 30d or 4w.")
@click.option("--model", metavar="NAME", help="Only this model's state; a name that `cache ls` shows.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_JSON
def purge(unused: str | None, model: str | None, yes: bool, as_json: bool) -> None:
    """Forget for good: everything, or what the options name. Nothing of it stays in any file."""
    from ds4_backend.cache import maintenance

    age = None if unused is None else _age(unused)
    if not yes and unused is None and model is None:
        click.confirm("Forget every cached prompt?", abort=True)
    with _store() as store:
        targets = [None] if model is None else _fingerprints(store, model)
        done = [maintenance.purge(store, unused_for=age, fingerprint=target) for target in targets]
    total = {key: sum(asdict(one)[key] for one in done) for key in asdict(done[0])}
    if as_json:
        _print(total)
        return
    counts = ", ".join(f"{total[kind]:,} {kind}" for kind in ("blocks", "tails", "turns"))
    click.echo(f"forgotten: {counts}; {_size(total['nbytes'])} given back")


@contextmanager
def _store() -> Iterator[Store]:
    from ds4_backend import settings
    from ds4_backend.cache.store import Store

    now = settings.load()
    store = Store.open(now.cache_dir / "prompts", max_bytes=now.cache_size, background=False)
    try:
        yield store
    finally:
        store.close()


def _fingerprints(store: Store, model: str) -> list[bytes]:
    from ds4_backend.cache import maintenance

    found = {entry.fingerprint: entry.model for entry in maintenance.entries(store)}
    chosen = [bytes.fromhex(key) for key, name in found.items() if model in (name, key)]
    if not chosen:
        names = ", ".join(sorted(set(found.values()))) or "none"
        raise click.BadParameter(f"no state of {model!r} is held; there is of: {names}", param_hint="--model")
    return chosen


def _age(text: str) -> float:
    found = re.fullmatch(r"(\d+)([hdw])", text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is no age; write 12h, 30d or 4w", param_hint="--unused")
    return float(int(found[1]) * _SECONDS[found[2]])


def _lines(s: Stats) -> Iterator[tuple[str, str]]:
    yield "folder", s.folder
    yield "on disk", f"{_size(s.bytes_on_disk)} of at most {_size(s.max_bytes)}"
    yield "held", f"{s.tokens:,} tokens in {s.conversations:,} conversations of {s.models} models; {s.turns:,} turns"
    yield "hit ratio", f"{s.hit_ratio:.1%} of {s.tokens_asked:,} prompt tokens in {s.requests:,} requests"
    yield "prefill saved", f"{s.seconds_saved:,.0f} s"
    yield "written today", f"{_size(s.written_today)} of at most {_size(s.daily_bytes)}; {_size(s.written_total)} ever"
    yield "bad records", f"{s.bad_records:,}"


def _row(entry: Entry) -> str:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
    name = entry.model or entry.fingerprint[:12]
    return f"{entry.tokens:>10,} {_size(entry.nbytes):>10} {entry.tails:>6} {entry.hits:>6}  {used:17} {name}"


def _size(nbytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} GB"


def _print(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))
