"""A real PostgreSQL server, started for the tests: Debian's or Ubuntu's package, any version."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.storage.migrate import migrate

PROGRAMS = Path("/usr/lib/postgresql")
_OPTIONS = "-c listen_addresses='' -c fsync=off -c max_connections=50"


class PostgresServer:
    """A server behind a unix socket in `directory`; the newest version that is installed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        programs = sorted(PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        self._programs = programs[-1].parent
        # The server refuses to be root's.
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(directory, self._user)
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

    def create(self, *, template: str = "template") -> str:
        """Returns the name of a new database that has the newest schema and no rows.

        With the template `template0`, it has no schema either.
        """
        name = f"of_{uuid.uuid4().hex}"
        self._query("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
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
                user=self._user,
                stdout=output,
                stderr=output,
                check=True,
            )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    directory = Path(tempfile.mkdtemp(prefix="moorage-postgres-"))
    server = PostgresServer(directory)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)
