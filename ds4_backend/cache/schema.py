"""The index's database file: its tables, how it is opened and checked, and which of several is the one in force.

The file is named `index-000001.db`; an index made anew gets the next number, and the highest number counts. Old names
are never used again, because SQLite removes its side files by name. A file whose schema is not letter by letter the one
below is not trusted.
"""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

from ds4_backend.cache.files import Files

APPLICATION_ID = 0x4B565334
VERSION = 1
BUSY_SECONDS = 5.0
MAX_VALUE_BYTES = 16 << 20
"""Longest value that is read from the database: four million token ids."""
_NAME = re.compile(r"index-(\d{6})\.db")
_SIDE_FILES = ("", "-wal", "-shm", "-journal")
_PRAGMAS = (
    "trusted_schema=OFF", "cell_size_check=ON", "synchronous=NORMAL", "secure_delete=ON", "temp_store=MEMORY",
)  # fmt: skip
_BROKEN = {
    sqlite3.SQLITE_ERROR,  # a table or column is missing
    sqlite3.SQLITE_INTERNAL,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_MISMATCH,
}

SCHEMA = (
    """CREATE TABLE models (fingerprint BLOB PRIMARY KEY, label TEXT NOT NULL, used REAL NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE segments (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL,
    bytes INTEGER NOT NULL)""",
    """CREATE TABLE blocks (id BLOB PRIMARY KEY, parent BLOB NOT NULL, fingerprint BLOB NOT NULL,
    position INTEGER NOT NULL, start BLOB, segment INTEGER NOT NULL, offset INTEGER NOT NULL, bytes INTEGER NOT NULL,
    payload INTEGER NOT NULL, created REAL NOT NULL) WITHOUT ROWID""",
    """CREATE INDEX blocks_parent ON blocks (parent)""",
    """CREATE INDEX blocks_segment ON blocks (segment, bytes)""",
    """CREATE INDEX blocks_start ON blocks (start) WHERE start IS NOT NULL""",
    """CREATE TABLE tails (id BLOB PRIMARY KEY, chain BLOB NOT NULL, fingerprint BLOB NOT NULL,
    position INTEGER NOT NULL, reason INTEGER NOT NULL, gain INTEGER NOT NULL, segment INTEGER NOT NULL,
    offset INTEGER NOT NULL, bytes INTEGER NOT NULL, payload INTEGER NOT NULL, created REAL NOT NULL,
    used REAL NOT NULL, hits INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE INDEX tails_chain ON tails (chain)""",
    """CREATE INDEX tails_segment ON tails (segment, bytes)""",
    """CREATE TABLE quarantine (id BLOB PRIMARY KEY, segment INTEGER NOT NULL, bytes INTEGER NOT NULL, at REAL NOT NULL)
    WITHOUT ROWID""",
    """CREATE TABLE turns (id INTEGER PRIMARY KEY AUTOINCREMENT, fingerprint BLOB NOT NULL, prefix BLOB NOT NULL,
    visible BLOB NOT NULL, ids BLOB NOT NULL, thinking INTEGER NOT NULL, note BLOB NOT NULL, calls BLOB NOT NULL,
    sum BLOB NOT NULL, bytes INTEGER NOT NULL, used REAL NOT NULL)""",
    """CREATE INDEX turns_content ON turns (prefix, visible)""",
    """CREATE INDEX turns_used ON turns (used)""",
    """CREATE TABLE calls (id BLOB NOT NULL, turn INTEGER NOT NULL, PRIMARY KEY (id, turn)) WITHOUT ROWID""",
    """CREATE INDEX calls_turn ON calls (turn)""",
    """CREATE TABLE counters (day TEXT NOT NULL, name TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (day, name))
    WITHOUT ROWID""",
    """CREATE TABLE leases (id BLOB NOT NULL, holder BLOB NOT NULL, until REAL NOT NULL, PRIMARY KEY (id, holder))
    WITHOUT ROWID""",
    """CREATE TABLE ghosts (id BLOB PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID""",
)


class Damaged(Exception):
    """The database is not what this program wrote; it must be made anew from the segments."""


def is_damage(error: Exception) -> bool:
    """Whether an error speaks of a broken database, rather than of a lock, the disk or permissions."""
    if isinstance(error, Damaged | UnicodeDecodeError):  # SQLite quotes broken names in its messages
        return True
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    return (getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF) in _BROKEN


def generations(folder: Path) -> list[Path]:
    """All index files, the one in force last."""
    return [folder / name for name in sorted(os.listdir(folder)) if _NAME.fullmatch(name)]


def next_path(folder: Path) -> Path:
    """The name after the highest one."""
    found = generations(folder)
    number = int(_NAME.fullmatch(found[-1].name)[1]) if found else 0  # type: ignore[index]
    return folder / f"index-{number + 1:06d}.db"


def remove(path: Path, files: Files) -> None:
    """Remove an index file and SQLite's files beside it."""
    for suffix in _SIDE_FILES:
        files.unlink(path.with_name(path.name + suffix))


def connect(path: Path) -> sqlite3.Connection:
    """A connection to an existing database. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None,
        check_same_thread=False,
    )  # fmt: skip
    try:
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def create(path: Path, files: Files) -> sqlite3.Connection:
    """A new, empty database; SQLite gives the files beside it the mode of this one."""
    os.close(files.create(path))
    connection = connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")
    return connection


def check(connection: sqlite3.Connection) -> None:
    """Raises Damaged, or sqlite3.Error, where the file is not exactly ours."""
    if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        raise Damaged("no index of this program")
    if connection.execute("PRAGMA user_version").fetchone() != (VERSION,):
        raise Damaged("an index of another version")
    found = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
    if found - {"CREATE TABLE sqlite_sequence(name,seq)"} != set(SCHEMA):
        raise Damaged("tables that this program did not make")
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise Damaged("the database's pages contradict each other")
    for table in ("blocks", "tails"):
        # `created` is in no index: the table itself is read
        lost = f"SELECT created FROM {table} WHERE +segment NOT IN (SELECT id FROM segments) LIMIT 1"
        if connection.execute(lost).fetchone():
            raise Damaged(f"{table} in segments that are not listed")
