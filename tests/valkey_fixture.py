"""A real Valkey server, or Redis where the system has no Valkey, behind a unix socket."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "s3cret/:@"
QUOTED = "s3cret%2F%3A%40"
START_SECONDS = 120  # only to end a hung test


class ValkeyServer:
    """A server that keeps nothing on the disk but what `save` has it write."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = directory / "valkey.sock"
        self.start()

    @property
    def url(self) -> str:
        """Its URL, with a password."""
        return f"unix://{self._socket}?password={QUOTED}"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def start(self) -> None:
        program = shutil.which("valkey-server") or shutil.which("redis-server")
        assert program is not None, "install valkey-server, or redis-server"
        own = ("--dir", self._directory, "--unixsocket", self._socket, "--requirepass", PASSWORD)
        with (self._directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [program, "--port", "0", "--save", "", *own], stdout=output, stderr=output
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._directory / "output").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        """At once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """After a crash: what was not saved is lost."""
        self.stop()
        self.start()

    def stand_still(self) -> None:
        """The server answers nothing, and closes nothing, until `go_on`."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def save(self) -> None:
        """Writes all that it has to the disk: a restart begins with that."""
        self.ask("SAVE")

    def empty(self) -> None:
        """Forgets all."""
        self.ask("FLUSHALL")

    def ask(self, *command: str) -> str:
        """What it answers to a command."""
        asked = self._client(*command)
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.strip()

    def _answers(self) -> bool:
        asked = self._client("PING")
        return asked.stdout.strip() == "PONG"

    def _client(self, *command: str) -> "subprocess.CompletedProcess[str]":
        program = shutil.which("valkey-cli") or "redis-cli"
        return subprocess.run(
            [program, "-s", self._socket, "--no-auth-warning", *command],
            env={**os.environ, "REDISCLI_AUTH": PASSWORD, "VALKEYCLI_AUTH": PASSWORD},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    directory = Path(tempfile.mkdtemp(prefix="moorage-valkey-"))
    server = ValkeyServer(directory)
    try:
        yield server
    finally:
        server.go_on()
        server.stop()
        shutil.rmtree(directory)
