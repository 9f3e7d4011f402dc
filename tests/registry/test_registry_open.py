"""Opening a registry: what is created, what is migrated, what is refused with which words."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from registry_makers import FakeClock, processes, register_adder
from sqlalchemy import create_engine

from registry import migrations
from registry.deployment import deployed
from registry.errors import RegistryUnavailable
from registry.registry import open_registry
from registry.stores import sql
from registry.stores.schema import migrate
from registry.stores.sql_tables import METADATA

CLOCK = FakeClock()


def test_everything_is_there_when_it_is_opened_again(home: Path, tmp_path: Path) -> None:
    first = open_registry(home, CLOCK)
    version = register_adder(first, tmp_path, alias="champion")
    deployment = first.commit(deployed("digits", 1, current=None, salt="s"), expected_revision=0)
    audit = first.audit()
    first.close()
    second = open_registry(home, CLOCK)
    assert second.version("digits", "champion") == version
    assert second.deployments() == (deployment,)
    assert second.audit() == audit
    second.verify(version)
    second.close()


def test_a_deployment_of_an_earlier_release_has_the_built_in_settings(home: Path, tmp_path: Path) -> None:
    first = open_registry(home, CLOCK)
    register_adder(first, tmp_path)
    made = first.commit(deployed("digits", 1, current=None, salt="s"), expected_revision=0)
    first.close()
    with sqlite3.connect(home / "registry.db") as database:
        (document,) = database.execute("SELECT document FROM deployments").fetchone()
        earlier = json.loads(document)
        del earlier["swap_order"]
        earlier["batching"] = {name: earlier["batching"][name] for name in ("mode", "max_rows", "queue_delay_us")}
        database.execute("UPDATE deployments SET document = ?", (json.dumps(earlier),))
    database.close()
    second = open_registry(home, CLOCK)
    assert second.deployments() == (made,)
    second.close()


def test_commits_are_synced_before_they_are_reported(home: Path) -> None:
    registry = open_registry(home, CLOCK)
    with registry._store._engine.connect() as connection:  # type: ignore[attr-defined]
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]
    registry.close()


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/home"])
def test_a_home_that_cannot_be_created_is_named(place: str) -> None:
    with pytest.raises(RegistryUnavailable, match=f"home directory {place} cannot be created"):
        open_registry(Path(place), CLOCK)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_is_not_writable_is_named(home: Path) -> None:
    home.mkdir(mode=0o555)
    with pytest.raises(RegistryUnavailable, match=f"{home}.*Permission denied"):
        open_registry(home, CLOCK)


def test_a_home_where_nothing_can_be_made_is_named(home: Path) -> None:
    home.mkdir()
    (home / "artifacts").write_text("in the way")
    with pytest.raises(RegistryUnavailable, match=f"cannot store artifacts in {home}"):
        open_registry(home, CLOCK)


def test_a_database_that_is_none_is_refused(home: Path) -> None:
    home.mkdir()
    (home / "registry.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(RegistryUnavailable, match="not a database"):
        open_registry(home, CLOCK)
    assert (home / "registry.db").read_bytes().startswith(b"this is no database")


def test_a_database_of_a_newer_release_is_refused_and_left_alone(home: Path) -> None:
    open_registry(home, CLOCK).close()
    with sqlite3.connect(home / "registry.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(RegistryUnavailable, match=r"schema 9999.*newer release"):
        open_registry(home, CLOCK)


def test_a_writer_that_never_ends_is_reported_not_waited_for(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "BUSY_TIMEOUT_S", 0.1)
    registry = open_registry(home, CLOCK)
    register_adder(registry, tmp_path)
    other = sqlite3.connect(home / "registry.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RegistryUnavailable, match="another process has been writing"):
        registry.set_alias("digits", "champion", 1)
    assert registry.model("digits").aliases == {}  # readers do not wait for writers
    other.execute("ROLLBACK")
    other.close()
    assert registry.set_alias("digits", "champion", 1).aliases == {"champion": 1}
    registry.close()


def test_a_database_that_went_away_is_reported(home: Path, tmp_path: Path) -> None:
    registry = open_registry(home, CLOCK)
    register_adder(registry, tmp_path)
    with sqlite3.connect(home / "registry.db") as database:
        database.execute("DROP TABLE requests")
    database.close()
    with pytest.raises(RegistryUnavailable, match="requests"):
        register_adder(registry, tmp_path, request_id="r")
    registry.close()


def test_the_first_schema_with_its_rows_is_brought_to_the_newest(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    engine = create_engine(f"sqlite:///{home / 'registry.db'}")
    with engine.begin() as connection:
        migrate(connection, "0001")
        for statement in FIRST_SCHEMA_ROWS:
            connection.exec_driver_sql(statement)
    engine.dispose()
    registry = open_registry(home, CLOCK)
    assert registry.model("old").aliases == {"champion": 1}
    assert registry.version("old", "champion").facts.signature.inputs[0].shape == (-1, 2)
    assert registry.deployments()[0].default == 1
    assert registry.audit()[0][0].author == "ada"
    assert register_adder(registry, tmp_path, model="old").number == 2
    registry.close()


FIRST_SCHEMA_ROWS = (
    "INSERT INTO models VALUES ('old', 1, 1, 5.0)",
    """INSERT INTO versions VALUES ('old', 1, 'd', '{"model": "old", "number": 1, "artifact": {"digest": "d", "model_file":
    "m.onnx", "files": []}, "facts": {"signature": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": []}}}', 5.0)""",
    "INSERT INTO aliases VALUES ('old', 'champion', 1)",
    """INSERT INTO deployments VALUES ('old', 1, '{"model": "old", "revision": 1, "default": 1}', 5.0)""",
    "INSERT INTO audit VALUES (1, 5.0, 'ada', 'deploy', 'old', '', '', '')",
)


def test_the_migrations_end_in_the_tables_that_the_queries_use(home: Path) -> None:
    open_registry(home, CLOCK).close()
    engine = create_engine(f"sqlite:///{home / 'registry.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA) == []
    engine.dispose()


def test_the_first_revision_is_kept() -> None:
    assert (Path(migrations.__file__).parent / "versions" / "r0001_registry.py").exists()


def open_and_close(home: str) -> None:
    open_registry(Path(home), CLOCK).close()


def test_processes_that_create_one_registry_at_once_agree(home: Path) -> None:
    started = [processes().Process(target=open_and_close, args=(str(home),)) for _ in range(4)]
    for process in started:
        process.start()
    for process in started:
        process.join(30)
    assert [process.exitcode for process in started] == [0, 0, 0, 0]
    open_and_close(str(home))
