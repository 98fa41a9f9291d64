"""The servers that the gateway is compared with: small ones in Node, from `bench/peers`."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from measure import SERVER_CPU, on_cpu

_DIRECTORY = Path(__file__).parent / "peers"
_INSTALLED = _DIRECTORY / "node_modules/.package-lock.json"


def install() -> None:
    """Their packages. better-sqlite3 is compiled where it can't be had ready-made: a minute."""
    lock = _DIRECTORY / "package-lock.json"
    if _INSTALLED.exists() and _INSTALLED.stat().st_mtime >= lock.stat().st_mtime:
        return
    print("Installing the servers to compare with ...", flush=True)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=_DIRECTORY, check=True)
    _INSTALLED.touch()


@contextlib.contextmanager
def peer(script: str, **settings: str) -> Iterator[tuple[int, int]]:
    """One of them with `settings` in its environment, on the servers' core: port and process id."""
    port = _free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "REQUESTS_PER_MINUTE": "100000000",
        "NODE_ENV": "production",
    } | settings
    with on_cpu(SERVER_CPU):
        process = subprocess.Popen(
            ["node", script], cwd=_DIRECTORY, env=environment, stdout=subprocess.PIPE
        )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n", f"{script} does not start"
            yield port, process.pid
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
