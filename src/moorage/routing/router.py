"""Keeps the routes from host names to apps, for the proxy and for the next one.

    run_dir/routes/<host>   a symlink; its text is what the proxy has for the host in its map
    run_dir/sockets/<name>  a symlink to an app's unix socket

The text is `address_port`, or the name of a server that the proxy has for a unix socket. A switch
replaces the symlink, then the entry in the running proxy's map, without a reload. Address and
server's name are new after each switch, so no kept connection reaches the old app. A server is
deleted once its last request ends.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from moorage.address import Address
from moorage.errors import InvalidField
from moorage.routing.admin import ask
from moorage.routing.haproxy_config import (
    APP_BACKENDS,
    HOSTS,
    MAX_LABEL_LENGTH,
    SOCKETS,
    check_host,
    is_host,
)

MAX_HOST_LENGTH = 253

_ROUTES = "routes"
_SERVER = "s"  # with which no IP address begins
_SERVER_BYTES = 8
_HELD = "still has connections"
_UNDER_WAY = re.compile(r"\bconn_cur=(\d+)")
_AT_ONCE = 80  # changes in one line of the admin socket, which takes 32 KiB


def check_base_domain(domain: str) -> None:
    """Raises InvalidField unless a domain is a host name that leaves room for names under it."""
    longest = MAX_HOST_LENGTH - MAX_LABEL_LENGTH - 1
    if not is_host(domain) or len(domain) > longest:
        raise InvalidField(
            "base_domain",
            f"{domain!r} must be a lower-case host name of at most {longest} characters, "
            "so that apps can have names under it",
        )


class Router:
    """The routes of one gateway, kept in `run_dir`."""

    def __init__(self, run_dir: Path, base_domain: str) -> None:
        check_base_domain(base_domain)
        self._base_domain = base_domain
        self._run_dir = run_dir
        self._routes = run_dir / _ROUTES
        self._sockets = run_dir / SOCKETS
        self._leaving: set[str] = set()  # servers that no host leads to
        for directory in (run_dir, self._routes, self._sockets):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def host(self, name: str) -> str:
        """Returns the host name of the project `name`."""
        return f"{name}.{self._base_domain}"

    async def point(self, host: str, target: Address) -> None:
        """Routes `host` to `target`, at once; does nothing if it is routed there already.

        Raises InvalidField for a host that is no host name, ProxyFailed if the proxy hangs.
        """
        check_host(host, max_length=MAX_HOST_LENGTH)
        if self.target(host) == target:
            return
        text, commands = self._text(target)
        self._leave(host)
        draft = self._routes / f".{host}"
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        draft.symlink_to(text)
        draft.replace(self._routes / host)
        await ask(self._run_dir, *commands)
        if await ask(self._run_dir, f"set map {HOSTS} {host} {text}"):  # it had none
            await ask(self._run_dir, f"add map {HOSTS} {host} {text}")
        await self._delete_servers()

    async def remove(self, host: str) -> None:
        """Removes the route of `host`, if it has one. Raises as `point` does."""
        check_host(host, max_length=MAX_HOST_LENGTH)
        self._leave(host)
        with contextlib.suppress(FileNotFoundError):
            (self._routes / host).unlink()
            await ask(self._run_dir, f"del map {HOSTS} {host}")
            await self._delete_servers()

    def routes(self) -> dict[str, Address]:
        """Returns the address of the app of every host that has a route."""
        found = {host: self.target(host) for host in os.listdir(self._routes)}  # noqa: PTH208
        return {host: target for host, target in found.items() if target is not None}

    def target(self, host: str) -> Address | None:
        """Returns the address that `host` is routed to; None if it has no route."""
        # Called for every running app every few seconds: making Path objects would be slow.
        if not is_host(host):
            return None
        try:
            text = os.readlink(f"{self._routes}/{host}")  # noqa: PTH115 (as above)
            if text.startswith(_SERVER):
                return Address(f"unix:{os.readlink(f'{self._sockets}/{text}')}")  # noqa: PTH115
        except FileNotFoundError:
            return None
        address, _, port = text.rpartition("_")
        return Address(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")

    async def requests(self, host: str) -> int:
        """Returns how many requests to `host` are under way: streams and WebSockets among them.

        None are counted by a proxy that bounds none, or in one that it took over from. Raises as
        `point` does.
        """
        check_host(host, max_length=MAX_HOST_LENGTH)
        found = _UNDER_WAY.search(await ask(self._run_dir, f"show table of_host key {host}") or "")
        return int(found[1]) if found else 0

    def write_map(self) -> None:
        """Writes the map that a proxy reads when it starts."""
        lines = [f"{host} {text}\n" for host, text in self._texts().items()]
        (self._run_dir / HOSTS).write_text("".join(lines))

    def servers(self) -> list[str]:
        """Returns the servers for unix sockets that a proxy has when it starts."""
        return [text for text in self._texts().values() if text.startswith(_SERVER)]

    async def load(self) -> None:
        """Gives the running proxy the routes that it lacks, and takes away what it should not have.

        A gateway may have ended within a switch, or a route have changed while the proxy started.
        """
        wanted = self._texts()
        answer = await ask(self._run_dir, f"show map {HOSTS}") or ""
        has = dict(line.split(" ")[1:3] for line in answer.splitlines() if line.count(" ") >= 2)
        changes = [f"del map {HOSTS} {host}" for host in has.keys() - wanted.keys()]
        for host, text in wanted.items():
            if has.get(host) != text and text.startswith(_SERVER):
                changes += _added(text)
            if host not in has:
                changes.append(f"add map {HOSTS} {host} {text}")
            elif has[host] != text:
                changes.append(f"set map {HOSTS} {host} {text}")
        for first in range(0, len(changes), _AT_ONCE):
            await ask(self._run_dir, *changes[first : first + _AT_ONCE])
        self._leaving = set(os.listdir(self._sockets)) - set(wanted.values())  # noqa: PTH208
        await self._delete_servers()

    def _texts(self) -> dict[str, str]:
        return {
            host: os.readlink(self._routes / host)  # noqa: PTH115
            for host in os.listdir(self._routes)  # noqa: PTH208
            if self.target(host) is not None
        }

    def _text(self, target: Address) -> tuple[str, Iterable[str]]:
        """Returns what the map has for an address, and what the proxy is told before."""
        if target.path is None:
            address, _, port = str(target).rpartition(":")
            return f"{address.strip('[]')}_{port}", ()
        name = _SERVER + secrets.token_hex(_SERVER_BYTES)
        (self._sockets / name).symlink_to(target.path)
        return name, _added(name)

    def _leave(self, host: str) -> None:
        """Notes that no visitor is sent any more to the socket that `host` leads to, if any."""
        with contextlib.suppress(FileNotFoundError):
            text = os.readlink(self._routes / host)  # noqa: PTH115
            if text.startswith(_SERVER):
                self._leaving.add(text)

    async def _delete_servers(self) -> None:
        """Deletes the servers that no host leads to any more and no request needs."""
        for name in list(self._leaving):
            answer = await ask(
                self._run_dir,
                *(f"disable server {backend}/{name}" for backend in APP_BACKENDS),
                *(f"del server {backend}/{name}" for backend in APP_BACKENDS),
            )
            if answer is None or _HELD not in answer:
                self._leaving.discard(name)
                (self._sockets / name).unlink(missing_ok=True)


def _added(name: str) -> list[str]:
    """Returns the commands that add a server for a socket, for visitors from then on."""
    return [
        command
        for backend in APP_BACKENDS
        for command in (
            f"add server {backend}/{name} unix@{SOCKETS}/{name} weight 0",
            f"enable server {backend}/{name}",
        )
    ]
