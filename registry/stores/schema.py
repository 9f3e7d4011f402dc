"""Brings a database to the newest schema with Alembic. Safe when several processes open one database at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from registry.errors import RegistryUnavailable

_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
_ADVISORY_LOCK = 0x1E710C  # any number, but the same for all who migrate


def migrate(connection: Connection, target: str = "head") -> None:
    """
    Run what is missing up to ``target``, inside the transaction that is open on ``connection``.

    On SQLite that transaction must be a writing one, so that a second process waits and then finds nothing to do.
    Raises RegistryUnavailable for a database that a newer release has written.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    current = MigrationContext.configure(connection).get_current_revision()
    if target == "head" and current == ScriptDirectory.from_config(config).get_current_head():
        return
    try:
        command.upgrade(config, target)
    except CommandError as error:
        raise RegistryUnavailable(
            f"the registry database has schema {current}, which this release does not know: use the newer release ({error})"
        ) from error
