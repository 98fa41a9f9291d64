"""A real PostgreSQL server and a pooler before it, from Debian's or Ubuntu's packages.

They are reached by unix sockets in directories of the test run's own.
"""

import asyncio
import gc
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from moorage.storage.database import Database
from moorage.storage.migrate import migrate
from moorage.storage.opening import open_database

PROGRAMS = Path("/usr/lib/postgresql")
POOLER = "/usr/sbin/pgbouncer"
_POOLER_SETTINGS = """\
[databases]
* = host={server} port=5432 user=moorage
[pgbouncer]
listen_addr =
unix_socket_dir = {directory}
listen_port = 5432
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_prepared_statements = 0
max_client_conn = 200
server_connect_timeout = 5
server_login_retry = 0.05
"""
_EMPTY = """
SET session_replication_role = replica;
DO $$ DECLARE found text; BEGIN
    FOR found IN SELECT tablename FROM pg_tables
        WHERE schemaname = 'public' AND tablename != 'alembic_version'
    LOOP EXECUTE format('DELETE FROM %I', found); END LOOP;
    FOR found IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'
    LOOP EXECUTE format('ALTER SEQUENCE %I RESTART', found); END LOOP;
END $$
"""
START_SECONDS = 120  # only to end a hung test
_OPTIONS = "-c listen_addresses='' -c fsync=off -c max_connections=50"


class PostgresServer:
    """A server behind a unix socket in `directory`; the newest version that is installed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        programs = sorted(PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        self._programs = programs[-1].parent
        # The server refuses to be root's.
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(directory, self.user)
        how = ("--no-sync", "--auth=trust", "--encoding=UTF8", "--no-locale")
        self._run("initdb", *how, "--username=moorage", "data")
        self.start()
        self._query("postgres", "CREATE DATABASE template")
        migrate(self.url("template"))

    def start(self) -> None:
        options = f"-k {self.directory} {_OPTIONS}"
        self._run("pg_ctl", "start", "--wait", "--pgdata=data", "--log=log", f"--options={options}")

    def stop(self) -> None:
        """At once, as a crash would."""
        self._run("pg_ctl", "stop", "--wait", "--pgdata=data", "--mode=immediate")

    def restart(self) -> None:
        """After a crash: what was not on the disk yet is lost."""
        self.stop()
        self.start()

    def stand_still(self) -> None:
        """The server answers nothing, and closes nothing, until `go_on`."""
        for pid in self.processes():
            os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGCONT)

    def processes(self) -> list[int]:
        """Its own, as each connection is served by one of its children."""
        first = int((self.directory / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def create(self, *, template: str = "template", is_open: bool = False) -> str:
        """Returns the name of a new database that has the newest schema and no rows.

        With the template `template0`, it has no schema either. Every role may connect to one that
        `is_open`, as PostgreSQL has it.
        """
        name = f"of_{uuid.uuid4().hex}"
        self._query("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        if not is_open:
            self._query("postgres", f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
        return name

    def drop(self, name: str) -> None:
        self._query("postgres", f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, name: str, *, directory: Path | None = None) -> str:
        """Returns a database's URL; `directory` has another socket that leads to it."""
        return f"postgresql://moorage@/{name}?host={directory or self.directory}"

    def _query(self, database: str, sql: str) -> None:
        where = ("--host", str(self.directory), "--username", "moorage", database)
        self._run("psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "-c", sql, *where)

    def _run(self, program: str, *arguments: str) -> None:
        # It must keep no pipe open: the server outlives `pg_ctl`, and has its output.
        with (self.directory / "output").open("ab") as output:
            subprocess.run(
                [self._programs / program, *arguments],
                cwd=self.directory,
                user=self.user,
                stdout=output,
                stderr=output,
                check=True,
            )


@pytest.fixture(scope="session")
def postgres_pooler(postgres_server: PostgresServer) -> Iterator[Path]:
    """The directory of the socket of a pooler, which has two sessions of the server a database.

    It knows of no prepared statements, as poolers before pgbouncer 1.21.
    """
    directory = postgres_server.directory / "pooler"
    directory.mkdir()
    shutil.chown(directory, postgres_server.user)
    settings = directory / "pgbouncer.ini"
    settings.write_text(
        _POOLER_SETTINGS.format(server=postgres_server.directory, directory=directory)
    )
    with (directory / "output").open("wb") as output:
        pooler = subprocess.Popen(
            [POOLER, settings], user=postgres_server.user, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (directory / ".s.PGSQL.5432").exists():
            assert pooler.poll() is None, (directory / "output").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield directory
    finally:
        pooler.terminate()
        pooler.wait()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    directory = Path(tempfile.mkdtemp(prefix="moorage-postgres-"))
    server = PostgresServer(directory)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def emptied_url(postgres_server: PostgresServer) -> str:
    """The URL of a database for one test after the other, each of which finds no rows."""
    return postgres_server.url(postgres_server.create())


@pytest.fixture
async def server_db(emptied_url: str) -> AsyncIterator[Database]:
    connection = await asyncpg.connect(emptied_url)
    await connection.execute(_EMPTY)
    await connection.close()
    database = open_database(emptied_url)
    yield database
    database.close()
    await asyncio.sleep(0)  # a closed connection's transport is done in the loop's next turn
    gc.collect()
