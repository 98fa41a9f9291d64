"""The schema and the purpose of a PostgreSQL server's database; files have a suite of units."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import CheckConstraint, UniqueConstraint

from moorage.errors import ConfigurationInvalid, DatabaseUnavailable, SchemaUnknown
from moorage.gateway.data_directory import open_data_directory
from moorage.storage.migrate import NEWEST_REVISION, is_newest, migrate
from moorage.storage.opening import Purpose, purpose_of, set_purpose
from moorage.storage.postgres import Server, server_facts
from moorage.storage.schema import metadata
from support.books.postgres_fixture import PostgresServer

pytestmark = pytest.mark.root  # the server's package is installed with the sandbox's

COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, column_default
FROM information_schema.columns WHERE table_schema = 'public'
"""
CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
SEQUENCES = "SELECT schemaname, sequencename, data_type FROM pg_sequences"


@pytest.fixture
def empty(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database without a schema."""
    name = postgres_server.create(template="template0")
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture
def migrated_url(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)


def run(url: str, *statements: str) -> list[set[tuple[object, ...]]]:
    """The rows of each statement."""

    async def ask() -> list[set[tuple[object, ...]]]:
        connection = await asyncpg.connect(url)
        try:
            return [{tuple(row) for row in await connection.fetch(sql)} for sql in statements]
        finally:
            await connection.close()

    return asyncio.run(ask())


def definitions(url: str) -> list[set[tuple[object, ...]]]:
    """What the server's own catalog says of columns, constraints, indexes and sequences."""
    found = run(url, COLUMNS, CONSTRAINTS, INDEXES, SEQUENCES)
    return [{row for row in rows if row[0] != "alembic_version"} for rows in found]


def test_new_database_has_what_the_schema_declares(migrated_url: str) -> None:
    columns, constraints, indexes, _ = definitions(migrated_url)
    assert {str(row[0]) for row in columns} == set(metadata.tables)
    declared = {
        (table.name, column.name) for table in metadata.tables.values() for column in table.c
    }
    assert {row[:2] for row in columns} == declared
    one = "ON public.run_intervals USING btree (project_id) WHERE (ended_at_ms IS NULL)"
    made = f"CREATE UNIQUE INDEX uq_run_intervals_open {one}"
    assert ("run_intervals", "uq_run_intervals_open", made) in indexes
    known = {row[1] for row in constraints}
    named = {
        str(each.name)
        for table in metadata.tables.values()
        for each in table.constraints
        if isinstance(each, CheckConstraint | UniqueConstraint) and each.name is not None
    }
    assert named <= known


def test_empty_database_gets_the_newest_schema_once(empty: str) -> None:
    """By two gateways that start together; a third has nothing to do."""
    assert not is_newest(empty)
    with ThreadPoolExecutor() as gateways:
        list(gateways.map(migrate, [empty, empty]))
    assert is_newest(empty)
    migrate(empty)
    assert run(empty, "SELECT version_num FROM alembic_version") == [{(NEWEST_REVISION,)}]


def test_migration_that_fails_leaves_nothing(empty: str) -> None:
    run(empty, "CREATE TABLE meters (one int)")  # somebody else's, in the way of a table of ours
    with pytest.raises(DatabaseUnavailable, match="meters"):
        migrate(empty)
    assert {row[0] for row in run(empty, COLUMNS)[0]} == {"meters"}
    run(empty, "DROP TABLE meters")
    migrate(empty)
    assert is_newest(empty)


def test_later_release_upgrades_the_books_of_an_earlier_one_once(
    migrated_url: str, later_release: str
) -> None:
    """By two gateways that start together, in one transaction that a failure leaves nothing of."""
    run(
        migrated_url,
        "INSERT INTO wallets VALUES ('0xa', 5, 0)",
        "CREATE TABLE in_the_way (one int)",
    )
    with pytest.raises(DatabaseUnavailable, match="in_the_way"):
        migrate(migrated_url)
    assert "later" not in {row[1] for row in run(migrated_url, COLUMNS)[0]}
    run(migrated_url, "DROP TABLE in_the_way")
    with ThreadPoolExecutor() as gateways:
        list(gateways.map(migrate, [migrated_url, migrated_url]))
    assert is_newest(migrated_url)
    assert run(migrated_url, "SELECT version_num FROM alembic_version") == [{(later_release,)}]
    assert run(migrated_url, "SELECT balance_micro_usd, later FROM wallets") == [{(5, None)}]


@pytest.mark.parametrize("revision", ["0045", "release_9999"])
def test_database_of_an_unknown_version_is_left_alone(migrated_url: str, revision: str) -> None:
    run(migrated_url, f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(SchemaUnknown, match=revision):
        migrate(migrated_url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://moorage:s3cr#t@127.0.0.1/moorage",
        "postgresql://moorage:s3cr/t@127.0.0.1/moorage",
        "postgresql://moorage:s3cr?t@127.0.0.1/moorage",
        "postgresql://moorage:t@s3cret@127.0.0.1:s3cret/moorage",
        "mysql://moorage:s3cret@127.0.0.1/moorage",
    ],
)
def test_url_that_cannot_be_read_is_told_without_its_password(url: str) -> None:
    with pytest.raises((ConfigurationInvalid, DatabaseUnavailable)) as told:
        migrate(url)
    assert "database_url" in str(told.value)
    assert "s3cr" not in str(told.value)


def test_server_that_is_not_there_is_told(postgres_server: PostgresServer) -> None:
    with pytest.raises(DatabaseUnavailable, match="database_url"):
        migrate(postgres_server.url("no_such_database"))
    with pytest.raises(DatabaseUnavailable, match="database_url"):
        migrate("postgresql://moorage@/moorage?host=/no/such/directory")


def test_server_says_what_a_gateway_needs_to_know(
    postgres_server: PostgresServer, empty: str
) -> None:
    owned = server_facts(empty)
    assert owned.version >= 15
    assert owned == Server(
        version=owned.version, encoding="UTF8", standby=False, may_create=True, pooled=False
    )
    run(empty, "DROP ROLE IF EXISTS stranger", "CREATE ROLE stranger LOGIN")
    with pytest.raises(DatabaseUnavailable, match="permission denied"):
        server_facts(empty.replace("moorage@", "stranger@"))
    name = empty.partition("@/")[2].partition("?")[0]
    run(empty, f"GRANT CONNECT ON DATABASE {name} TO stranger")
    assert not server_facts(empty.replace("moorage@", "stranger@")).may_create
    run(empty, f"REVOKE CONNECT ON DATABASE {name} FROM stranger", "DROP ROLE stranger")


def test_database_that_every_role_may_connect_to_is_refused_with_what_closes_it(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Whoever connects can hold the lock that each write takes, without a right to any row."""
    name = postgres_server.create(is_open=True)
    url = postgres_server.url(name)
    run(url, "DROP ROLE IF EXISTS intruder", "CREATE ROLE intruder LOGIN")
    intruder = url.replace("moorage@", "intruder@")
    run(intruder, "SELECT pg_advisory_lock(1)")  # as it stands, anybody may
    tmp_path.chmod(0o700)
    closing = f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC;"
    assert server_facts(url).closing_sql == closing
    with pytest.raises(ConfigurationInvalid, match=closing):
        open_data_directory(tmp_path / "data", Purpose.SERVE, url)
    run(url, closing)
    assert server_facts(url).closing_sql == ""
    open_data_directory(tmp_path / "data", Purpose.SERVE, url)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        run(intruder, "SELECT pg_advisory_lock(1)")
    run(url, "DROP ROLE intruder")
    postgres_server.drop(name)


def test_user_who_does_not_own_the_database_stays_able_to_connect_to_it(
    postgres_server: PostgresServer,
) -> None:
    name = postgres_server.create(template="template0", is_open=True)
    url = postgres_server.url(name)
    run(url, "DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN")
    closing = server_facts(url.replace("moorage@", "guest@")).closing_sql
    for each in closing.removesuffix(";").split(";"):
        run(url, each)
    assert server_facts(url.replace("moorage@", "guest@")).closing_sql == ""
    postgres_server.drop(name)
    run(postgres_server.url("template"), "DROP ROLE guest")


@pytest.mark.parametrize("first", Purpose)
def test_purpose_is_stored_once(migrated_url: str, empty: str, first: Purpose) -> None:
    (second,) = set(Purpose) - {first}
    assert purpose_of(empty) is None
    assert purpose_of(migrated_url) is None
    set_purpose(migrated_url, first)
    set_purpose(migrated_url, first)
    assert purpose_of(migrated_url) is first
    with pytest.raises(ConfigurationInvalid, match=f"`moorage {first.name.lower()}`"):
        set_purpose(migrated_url, second)
    assert purpose_of(migrated_url) is first
