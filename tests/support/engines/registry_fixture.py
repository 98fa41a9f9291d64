"""A real registry that a test starts on the loopback, with storage of its own."""

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

BOUND_SECONDS = 60  # only to end a hung test
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class RegistryServer:
    """A running registry."""

    host: str  # with its port
    storage: Path
    log: Path

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and path of each request so far."""
        found = re.findall(r'"([A-Z]+) (\S+) HTTP/1\.1"', self.log.read_text())
        return [(method, path) for method, path in found]


@contextmanager
def started_registry(
    directory: Path,
    *,
    port: int = 0,
    storage: Path | None = None,
    htpasswd: str = "",
    deletes: bool = True,
    inside: Sequence[str] = (),
) -> Iterator[RegistryServer]:
    """A registry; `inside` is put before its command, such as to enter another network."""
    directory.mkdir(parents=True, exist_ok=True)
    storage = storage or directory / "storage"
    configuration: dict[str, Any] = {
        "version": "0.1",
        "log": {"accesslog": {"disabled": False}, "level": "info"},
        "storage": {
            "filesystem": {"rootdirectory": str(storage)},
            "delete": {"enabled": deletes},
        },
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if htpasswd:
        users = directory / "htpasswd"
        users.write_text(htpasswd)
        configuration["auth"] = {"htpasswd": {"realm": "tests", "path": str(users)}}
    file = directory / "config.json"  # JSON is YAML
    file.write_bytes(msgspec.json.encode(configuration))
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*("setpriv", "--pdeathsig", "TERM"), *inside, "docker-registry", "serve", str(file)],
            stdout=output,
            stderr=output,
        )
    try:
        yield RegistryServer(f"127.0.0.1:{_port(process, log)}", storage, log)
    finally:
        process.terminate()
        process.wait(BOUND_SECONDS)


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    deadline = time.monotonic() + BOUND_SECONDS
    while (found := _LISTENING.search(log.read_text())) is None:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(found[1])
