"""A real `moorage dev`, as a process of its own: chains, sandbox, proxy and gateway."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.gateway.forked import ForkedProgram, run

REPOSITORY = Path(__file__).parents[3]
START_SECONDS = 120  # only to end a hung test

MOORAGE = str(Path(sys.executable).parent / "moorage")
SMALL = {"app_volume_mib": 64, "disk_overcommit": 100, "disk_reserve_mib": 256}
"""Settings by which a gateway takes no more of the disk than its tests write.

By the usual ones, each app needs half a GiB for what it may write, each volume a whole one, and
two are nobody's.
"""
PAID_ON = "arbitrum"
"""The chain on which the wallets of tests hold their tokens: it is offered first."""
_PORTS = [f"--{name}=0" for name in ("port", "proxy-port", "operator-port")]


class DevGateway:
    """One `moorage dev` over one data directory."""

    def __init__(self, data_dir: Path, *, program: Sequence[str] = (), **settings: str) -> None:
        """`program` is executed in the place of `moorage`, which is forked off."""
        self.data_dir = data_dir
        self._program = program
        small = {name: str(value) for name, value in SMALL.items()}
        self._settings = small | {"offer_first": PAID_ON} | settings
        self._process: ForkedProgram | subprocess.Popen[bytes] | None = None
        self.info: dict[str, Any] = {}

    @property
    def url(self) -> str:
        """Where the API answers."""
        return str(self.info["gateway"])

    @property
    def proxy_port(self) -> int:
        """Where apps answer."""
        return int(self.info["proxy"].rpartition(":")[2])

    @property
    def pid(self) -> int:
        """The gateway's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has logged in all; the last character may be half written."""
        return (self.data_dir / "gateway.log").read_text(errors="replace")

    @property
    def instance_id(self) -> str:
        """What its namespaces, mounts and sockets are named after."""
        return hashlib.blake2b(str(self.data_dir).encode(), digest_size=3).hexdigest()

    def environment(self, **settings: str) -> dict[str, str]:
        """What its process has in its environment, and an operator's command needs too."""
        return _environment(self._settings | settings)

    async def command(self, *arguments: str, **settings: str) -> tuple[int, Any]:
        """An operator's command on its books: its exit code and its document."""
        words = (*arguments, "--data-dir", str(self.data_dir), "--json")
        done = await asyncio.to_thread(moorage, *words, env=self.environment(**settings))
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def start(self, **settings: str) -> None:
        """Run it and wait until `dev.json` says that everything answers."""
        process = self._spawn(settings)
        dev_file = self.data_dir / "dev.json"
        deadline = time.monotonic() + START_SECONDS
        while not dev_file.exists():
            assert process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        self.info = json.loads(dev_file.read_text())

    def start_until_crash(self, **settings: str) -> None:
        """Run it until it kills itself over work that it found waiting."""
        self._spawn(settings)
        self.wait_for_crash()

    def _spawn(self, settings: dict[str, str]) -> "ForkedProgram | subprocess.Popen[bytes]":
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.data_dir / "dev.json").unlink(missing_ok=True)
        arguments = ["dev", f"--data-dir={self.data_dir}", *_PORTS]
        self._process = start_program(
            [*(self._program or (MOORAGE,)), *arguments],
            is_python=not self._program,
            env=self.environment(**settings),
            output=self.data_dir / "gateway.log",
        )
        return self._process

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait_for_crash(self) -> None:
        """Wait until it has killed itself, as MOORAGE_CRASH_AT tells it to."""
        assert self._process is not None
        assert self._process.wait(START_SECONDS) == -signal.SIGKILL

    def stop(self) -> None:
        """End it as Ctrl-C does; nothing must be left running."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(START_SECONDS) == 0, self.log


def moorage(
    *arguments: str, env: Mapping[str, str], cwd: Path = REPOSITORY
) -> "subprocess.CompletedProcess[str]":
    """Runs the command with these arguments and this environment, to its end."""
    return run(MOORAGE, *arguments, cwd=cwd, env=env)


def start_program(
    words: Sequence[str], *, is_python: bool, env: Mapping[str, str], output: Path
) -> "ForkedProgram | subprocess.Popen[bytes]":
    """Runs a program in the repository: forks a Python script off, executes anything else."""
    if is_python:
        return ForkedProgram(*words, cwd=REPOSITORY, env=env, output=output)
    with output.open("ab") as log:
        return subprocess.Popen(
            words, cwd=REPOSITORY, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )


def _environment(settings: dict[str, str]) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MOORAGE_")}
    given = {f"MOORAGE_{name.upper()}": value for name, value in settings.items()}
    # Asking npm what there is takes seconds; tests that need other versions say so.
    usual = {"MOORAGE_TOOLCHAINS": "false"}
    return inherited | usual | given


@contextlib.contextmanager
def running(
    data_dir: Path, *, program: Sequence[str] = (), **settings: str
) -> Iterator[DevGateway]:
    """A gateway that is stopped afterwards, and whose apps are gone."""
    gateway = DevGateway(data_dir, program=program, **settings)
    try:
        gateway.start()
        yield gateway
    finally:
        if gateway.info and not (data_dir / "dev.json").exists():
            gateway.start()
        gateway.stop()


@pytest.fixture(scope="session")
def dev_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    """One gateway for all tests that only use it; each brings wallets of its own."""
    directory = tmp_path_factory.mktemp("dev")
    settings = {
        "requests_per_minute": "100000",
        "watch_seconds": "1",
        "rpc_timeout_seconds": "30",
        "contact": "operator@example.com",
        "terms_url": "https://example.com/terms",
        "memory_overcommit": "50",  # many tests leave their apps running
    }
    with running(directory, **settings) as gateway:
        yield gateway
