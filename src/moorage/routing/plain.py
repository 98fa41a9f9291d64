"""Hosts that are served over plain HTTP for a while, as no certificate can be had for them.

    run_dir/plain/<host>    an empty file: the proxy serves this host at its HTTP port as well

Any other host is redirected to HTTPS there.
"""

from collections.abc import Collection
from pathlib import Path

from moorage.routing.hosts import check_host
from moorage.routing.router import MAX_HOST_LENGTH

PLAIN_DIR = "plain"


class PlainHosts:
    """The files in `run_dir`; each method makes a few system calls."""

    def __init__(self, run_dir: Path) -> None:
        self._directory = run_dir / PLAIN_DIR
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def add(self, host: str) -> None:
        """Has a host served over plain HTTP. Raises InvalidField for what is no host name."""
        check_host(host, max_length=MAX_HOST_LENGTH)
        (self._directory / host).touch(mode=0o600)

    def keep(self, hosts: Collection[str]) -> None:
        """Has these hosts served so, and no other."""
        for host in hosts:
            self.add(host)
        for file in self._directory.iterdir():
            if file.name not in hosts:
                file.unlink(missing_ok=True)
