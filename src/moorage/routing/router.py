"""Keeps the routes from host names to apps, in two directories that the proxy reads per request.

    run_dir/routes/<host>/<name>          an empty file; its name says where the app is
    run_dir/sockets/<host>/<generation>   a symlink to the app's unix socket, if it has one

The name is `host:port`, which the proxy dials, or a generation, whose symlink it dials. A switch
renames the one file in `routes/<host>`, so it is atomic and the proxy is never reloaded. The proxy
pools its connections by the path it dials, which contains the generation. So after a switch no
request reaches the old app, not even over a connection that was kept alive, and a host name given
to another project can't reach its former app. The previous generation's symlink stays until the
next switch, for a request that has just looked it up.
"""

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from moorage.address import Address
from moorage.errors import InvalidField
from moorage.routing.hosts import MAX_LABEL_LENGTH, check_host, is_host

ROUTES_DIR = "routes"
SOCKETS_DIR = "sockets"

SUN_PATH_BYTES = 108  # sockaddr_un.sun_path, with its terminating zero (unix(7))

_GENERATION_LENGTH = 8

MAX_HOST_LENGTH = SUN_PATH_BYTES - 1 - len(f"{SOCKETS_DIR}//") - _GENERATION_LENGTH
"""The longest host whose socket path, relative to `run_dir`, fits into `sun_path`."""


def check_base_domain(domain: str) -> None:
    """Raises InvalidField unless names under a domain fit into a socket's path."""
    longest = MAX_HOST_LENGTH - MAX_LABEL_LENGTH - 1
    if not is_host(domain) or len(domain) > longest:
        raise InvalidField(
            "base_domain",
            f"{domain!r} must be a lower-case host name of at most {longest} characters, "
            f"so that an app's socket path fits into {SUN_PATH_BYTES} bytes",
        )


class Router:
    """The routes of one gateway, kept in `run_dir`. Each method makes a few system calls.

    Raises InvalidField if names under `base_domain` would not fit into a socket's path. The length
    of `run_dir` does not matter, as the proxy dials relative to it.
    """

    def __init__(self, run_dir: Path, base_domain: str) -> None:
        check_base_domain(base_domain)
        self._base_domain = base_domain
        self._routes = run_dir / ROUTES_DIR
        self._sockets = run_dir / SOCKETS_DIR
        for directory in (run_dir, self._routes, self._sockets):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clear_leftovers()

    def host(self, name: str) -> str:
        """Returns the host name of the project `name`."""
        return f"{name}.{self._base_domain}"

    def point(self, host: str, target: Address) -> None:
        """Routes `host` to `target`. Atomic; does nothing if it is routed there already.

        Raises InvalidField for a host that is no host name or is too long.
        """
        check_host(host, max_length=MAX_HOST_LENGTH)
        current = self._name(host)
        if current is not None and self._named(host, current) == target:
            return
        sockets = self._sockets / host
        sockets.mkdir(mode=0o700, exist_ok=True)
        name = str(target)
        if target.path is not None:
            name = secrets.token_hex(_GENERATION_LENGTH // 2)
            (sockets / name).symlink_to(target.path)
        self._switch(host, current, name)
        for link in sockets.iterdir():
            if link.name not in {current, name}:
                link.unlink()

    def remove(self, host: str) -> None:
        """Removes the route of `host`, if it has one."""
        check_host(host, max_length=MAX_HOST_LENGTH)
        for directory in (self._routes / host, self._sockets / host):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(directory)

    def routes(self) -> dict[str, Address]:
        """Returns the address of the app of every host that has a route."""
        found = {}
        for directory in self._routes.iterdir():
            target = self.target(directory.name)
            if target is not None:
                found[directory.name] = target
        return found

    def target(self, host: str) -> Address | None:
        """Returns the address that `host` is routed to; None if it has no route."""
        if not is_host(host):
            return None
        name = self._name(host)
        return None if name is None else self._named(host, name)

    def _switch(self, host: str, current: str | None, name: str) -> None:
        markers = self._routes / host
        if current is not None:
            (markers / current).rename(markers / name)
            return
        markers.mkdir(mode=0o700, exist_ok=True)
        (markers / name).touch(mode=0o600)

    def _name(self, host: str) -> str | None:
        # Called for every running app every few seconds: making Path objects would be slow.
        try:
            names = os.listdir(f"{self._routes}/{host}")  # noqa: PTH208 (as above)
        except FileNotFoundError:
            return None
        return names[0] if names else None

    def _named(self, host: str, name: str) -> Address | None:
        """Returns the address that the name of a route's file stands for."""
        if ":" in name:
            return Address(name)
        try:
            return Address(f"unix:{os.readlink(f'{self._sockets}/{host}/{name}')}")  # noqa: PTH115 (as above)
        except FileNotFoundError:
            return None

    def _clear_leftovers(self) -> None:
        """Removes files that a crash within `point` or `remove` left."""
        for directory in self._routes.iterdir():
            if self.target(directory.name) is None:
                shutil.rmtree(directory)
        for directory in self._sockets.iterdir():
            current = self._name(directory.name)
            if current is None:
                shutil.rmtree(directory)
                continue
            for link in directory.iterdir():
                if link.name != current:
                    link.unlink()
