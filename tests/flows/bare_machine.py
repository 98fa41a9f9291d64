"""A machine on which nothing is installed but what a page names: Debian 13 in a directory.

It has a root, mounts and processes of its own, and this machine's kernel and network.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.gateway.gateway_fixture import REPOSITORY

NAMED = ("make", "python3", "git", "openssl")
"""What README and the page of the first day name; the rest is for `make` to bring."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# No user namespace can be made in a chroot, and apps have their own.
_ENTER = """
set -e
mount --bind "$0" "$0"
cd "$0"
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
pivot_root . mnt
umount -l /mnt
sh -c "$1"
"""
_AUTHORITIES = Path("/etc/ssl/certs/registries.pem")  # in the machine


class BareMachine:
    """Types lines in it, as root."""

    def __init__(self, root: Path) -> None:
        """Makes the machine from Debian's packages, with a copy of this repository's history."""
        self.root = root
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(NAMED)}"]
        options = [f"--aptopt={line}" for line in _apt_options()]
        _done([*command, *options, "trixie", str(root), *_debian_sources()])
        self.environment = {
            "PATH": PATH,
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "SYSTEMD_OFFLINE": "1",  # units are enabled, and nobody starts them
            **self._authorities(),
        }
        for name in ("hosts", "resolv.conf"):
            shutil.copy(f"/etc/{name}", root / "etc" / name)
        bundle = root / "srv/moorage.bundle"
        _done(["git", "-C", str(REPOSITORY), "bundle", "create", "--quiet", str(bundle), "HEAD"])

    def inside(self, path: str) -> Path:
        """Where a file of the machine is, seen from here."""
        return self.root / path.lstrip("/")

    def has(self, program: str) -> bool:
        """Whether a program of that name can be run."""
        return any(self.inside(f"{each}/{program}").exists() for each in PATH.split(":"))

    async def run(self, line: str) -> str:
        """What a line of shell prints; it must succeed."""
        return await asyncio.to_thread(_done, self._words(line), env=self.environment)

    @contextmanager
    def running(self, line: str) -> Iterator["RunningLine"]:
        """A line that runs on; it is ended as Ctrl-C does."""
        log = self.root / "var/log/typed.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._words(line),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield RunningLine(process, log)
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
        finally:
            process.kill()  # all processes of its namespace end with it
            process.wait()

    def _words(self, line: str) -> list[str]:
        own = ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        return ["unshare", *own, "sh", "-c", _ENTER, str(self.root), line]

    def _authorities(self) -> dict[str, str]:
        """Whom this machine is told to trust where packages come from, if it is told."""
        told = ("PIP_CERT", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
        files = {name: os.environ[name] for name in told if name in os.environ}
        if files:
            self.inside(str(_AUTHORITIES)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(next(iter(files.values())), self.inside(str(_AUTHORITIES)))
        return dict.fromkeys(files, str(_AUTHORITIES))


class RunningLine:
    """What was typed, and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._began = time.monotonic()

    def seconds(self) -> float:
        """Since it was typed; raises AssertionError if it has ended."""
        assert self._process.poll() is None, self.printed()
        return time.monotonic() - self._began

    def printed(self) -> str:
        """All of it."""
        return self._log.read_text()


def _debian_sources() -> list[str]:
    """The files that say where this machine has Debian 13 from."""
    files = Path("/etc/apt").glob("sources.list*")
    every = [path for each in files for path in ([each] if each.is_file() else each.iterdir())]
    return [str(path) for path in sorted(every) if "trixie" in path.read_text()]


def _apt_options() -> list[str]:
    """What this machine has set for how packages are fetched."""
    told = _done(["apt-config", "dump"])
    return re.findall(r"^Acquire::(?:Check-|https?::).+;$", told, re.MULTILINE)


def _done(words: list[str], env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        words,
        env=env,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{words[-1]}: {done.stdout}"
    return done.stdout
