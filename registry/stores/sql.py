"""
The registry's records in a SQL database through SQLAlchemy Core: SQLite embedded, written so that PostgreSQL can serve too.

SQLite runs with a write-ahead log and full synchronisation, so a transaction that was reported as done survives a power
cut. Writers begin with BEGIN IMMEDIATE: the second of two waits for the first instead of failing half way.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from registry.errors import RegistryUnavailable
from registry.stores.schema import migrate
from registry.stores.transaction import SqlTransaction

BUSY_TIMEOUT_S = 10.0  # seconds that a writer waits for another process' write
CACHE_KIB = 512  # of pages in each connection, of which there are several; what is read is a few rows


def open_sqlite(path: Path) -> SqlStore:
    """
    Open (or create and bring to the newest schema) the database in the file ``path``.

    Several processes may do so at once. Raises RegistryUnavailable when the folder or the file cannot be used.
    """
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S})
    _configure_sqlite(engine)
    store = SqlStore(engine, str(path))
    try:
        with _opening(path), store.transaction(is_writing=True) as connection:
            migrate(connection)
    except OSError as error:
        store.close()
        raise RegistryUnavailable(f"cannot open the registry database {path}: {error.strerror or error}") from error
    except BaseException:
        store.close()
        raise
    return store


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    # Switching to the write-ahead log does not honour the busy timeout, so processes open one after the other.
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _configure_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"cache_size=-{CACHE_KIB}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        is_writing = connection.get_execution_options().get("is_writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")


class SqlStore:
    """`registry.records.Store` on an engine; thread-safe. ``place`` is how messages name the database."""

    def __init__(self, engine: Engine, place: str) -> None:
        self._engine = engine
        self._place = place

    @contextmanager
    def transaction(self, *, is_writing: bool) -> Iterator[Connection]:
        """A connection in a transaction that commits at the end. Raises RegistryUnavailable for what the database refuses."""
        try:
            with self._engine.connect().execution_options(is_writing=is_writing) as connection, connection.begin():
                yield connection
        except DBAPIError as error:
            raise RegistryUnavailable(f"the registry database {self._place} cannot be used: {_cause(error)}") from error
        except SQLAlchemyError as error:
            raise RegistryUnavailable(f"the registry database {self._place}: {error}") from error

    @contextmanager
    def read(self) -> Iterator[SqlTransaction]:
        with self.transaction(is_writing=False) as connection:
            yield SqlTransaction(connection)

    @contextmanager
    def write(self) -> Iterator[SqlTransaction]:
        with self.transaction(is_writing=True) as connection:
            yield SqlTransaction(connection)

    def close(self) -> None:
        self._engine.dispose()


def _cause(error: DBAPIError) -> str:
    text = str(error.orig)
    if "locked" in text:
        return f"another process has been writing for more than {BUSY_TIMEOUT_S:g} s ({text})"
    return text
