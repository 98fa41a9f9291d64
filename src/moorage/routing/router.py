"""Which app a host name leads to, as two small directories that the proxy reads on each request.

    run_dir/routes/<host>/<generation>    an empty file; its name is the generation being served
    run_dir/sockets/<host>/<generation>   a symlink to the instance's socket

A switch renames the one file in `routes/<host>`, so it is atomic and the proxy is never reloaded.
The proxy pools its connections by the dialled path, and the generation is part of that path: the
moment after a switch no request reaches the old instance any more, not even over a connection that
was kept alive, and a host name given to another project can't lead to its former app. The previous
generation's symlink stays until the next switch, for a request that had just looked it up.
"""

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from moorage.errors import InvalidField
from moorage.routing.hosts import MAX_LABEL_LENGTH, check_host, is_host

ROUTES_DIR = "routes"
SOCKETS_DIR = "sockets"

SUN_PATH_BYTES = 108  # sockaddr_un.sun_path, with its terminating zero (unix(7))

_GENERATION_LENGTH = 8

MAX_HOST_LENGTH = SUN_PATH_BYTES - 1 - len(f"{SOCKETS_DIR}//") - _GENERATION_LENGTH
"""The longest host whose socket path, relative to `run_dir`, fits into `sun_path`."""


class Router:
    """The routes of one gateway, kept in `run_dir`. Its calls are a few system calls each.

    Raises InvalidField when names under `base_domain` would not fit into a socket's path; the
    length of `run_dir` itself does not matter, as the proxy dials relative to it.
    """

    def __init__(self, run_dir: Path, base_domain: str) -> None:
        longest = MAX_HOST_LENGTH - MAX_LABEL_LENGTH - 1
        if not is_host(base_domain) or len(base_domain) > longest:
            raise InvalidField(
                "base_domain",
                f"{base_domain!r} must be a lower-case host name of at most {longest} characters, "
                f"so that an app's socket path fits into {SUN_PATH_BYTES} bytes",
            )
        self._base_domain = base_domain
        self._routes = run_dir / ROUTES_DIR
        self._sockets = run_dir / SOCKETS_DIR
        for directory in (run_dir, self._routes, self._sockets):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clear_leftovers()

    def host(self, name: str) -> str:
        """The host name at which the project `name` answers."""
        return f"{name}.{self._base_domain}"

    def point(self, host: str, socket: Path) -> None:
        """From now on `host` leads to `socket`, an absolute path. Atomic; pointing again is free.

        Raises InvalidField for a host that is no host name or is too long.
        """
        check_host(host, max_length=MAX_HOST_LENGTH)
        if not socket.is_absolute():
            raise InvalidField("socket", f"{str(socket)!r} is not an absolute path")
        current = self._generation(host)
        if current is not None and self._target(host, current) == socket:
            return
        generation = secrets.token_hex(_GENERATION_LENGTH // 2)
        sockets = self._sockets / host
        sockets.mkdir(mode=0o700, exist_ok=True)
        (sockets / generation).symlink_to(socket)
        self._switch(host, current, generation)
        for link in sockets.iterdir():
            if link.name not in {current, generation}:
                link.unlink()

    def remove(self, host: str) -> None:
        """From now on `host` leads nowhere; no error when it never did."""
        check_host(host, max_length=MAX_HOST_LENGTH)
        for directory in (self._routes / host, self._sockets / host):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(directory)

    def routes(self) -> dict[str, Path]:
        """Every host that leads somewhere, and the socket it leads to."""
        found = {}
        for directory in self._routes.iterdir():
            target = self.socket(directory.name)
            if target is not None:
                found[directory.name] = target
        return found

    def socket(self, host: str) -> Path | None:
        """The socket `host` leads to, None when it leads nowhere."""
        if not is_host(host):
            return None
        generation = self._generation(host)
        return None if generation is None else self._target(host, generation)

    def _switch(self, host: str, current: str | None, generation: str) -> None:
        markers = self._routes / host
        if current is not None:
            (markers / current).rename(markers / generation)
            return
        markers.mkdir(mode=0o700, exist_ok=True)
        (markers / generation).touch(mode=0o600)

    def _generation(self, host: str) -> str | None:
        # Asked of every app that runs, every few seconds, and so without making paths.
        try:
            with os.scandir(f"{self._routes}/{host}") as markers:
                return next((marker.name for marker in markers), None)
        except FileNotFoundError:
            return None

    def _target(self, host: str, generation: str) -> Path | None:
        try:
            return Path(os.readlink(f"{self._sockets}/{host}/{generation}"))  # noqa: PTH115 (as above)
        except FileNotFoundError:
            return None

    def _clear_leftovers(self) -> None:
        """Remove what a crash between two steps of `point` or `remove` left."""
        for directory in self._routes.iterdir():
            if self.socket(directory.name) is None:
                shutil.rmtree(directory)
        for directory in self._sockets.iterdir():
            current = self._generation(directory.name)
            if current is None:
                shutil.rmtree(directory)
                continue
            for link in directory.iterdir():
                if link.name != current:
                    link.unlink()
