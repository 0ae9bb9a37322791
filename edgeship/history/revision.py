"""Bringing a database to the tables of this edgeship: by itself, under a lock, in one transaction; never backwards."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from edgeship.errors import BadInput
from edgeship.history.database import Database
from edgeship.history.schema import METADATA, VERSION, VERSION_TABLE

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x65646765  # "edge": any number that is ours


def upgrade(database: Database) -> None:
    """Make the tables, or bring older ones up to date.

    Raises:
        BadInput: a newer edgeship made them, or the database is of something else.
        EdgeshipError: the database refused, in words.
    """
    with database.reading() as connection:
        if _version(connection) == VERSION:
            return
    with database.writing() as connection:
        if not database.lite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        found = _version(connection)
        if found == VERSION:
            return  # another process did it while we waited
        if found is not None and found not in _known():
            raise BadInput(
                f"{database.where}: kept by a newer edgeship (tables {found}, this one knows up to {VERSION})",
                hint="upgrade edgeship on this machine: pip install --upgrade 'edgeship[nightly]'",
            )
        if found is None:
            _refuse_foreign(connection, database)
        _run(connection)


def _version(connection: Connection) -> str | None:
    """Return which tables there are, or None where there are none of ours."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return None if found is None else str(found)


def _known() -> set[str]:
    return {path.stem.removeprefix("v") for path in (MIGRATIONS / "versions").glob("v*.py")}


def _refuse_foreign(connection: Connection, database: Database) -> None:
    """Refuse to mix our tables with those of another program; other tables on a shared server may stay."""
    there = set(inspect(connection).get_table_names())
    mixed = there if database.lite else there & set(METADATA.tables)
    if mixed:
        raise BadInput(
            f"{database.where}: a database of something else: it has tables {', '.join(sorted(mixed)[:5])}",
            hint="name another file" if database.lite else "make a database for edgeship alone: createdb edgeship",
        )


def _run(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    command.upgrade(config, "head")
