"""Tells a port that a running gateway of ours has from one that a stranger has (proc(5))."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def gateway_holds(port: int, data_dir: Path, *, proc: Path = Path("/proc")) -> bool:
    """Returns whether a process that has files of this data directory open listens on a port.

    Of processes that this user may not look into it is not known, and False.
    """
    inodes = set(_listening(port, proc))
    return bool(inodes) and any(
        not inodes.isdisjoint(_sockets(links)) and _has_open(links, data_dir)
        for links in map(_links, proc.glob("[0-9]*"))
    )


def _listening(port: int, proc: Path) -> Iterator[str]:
    """Yields the inodes of the sockets that listen on a port."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *rest = line.split()
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                yield rest[5]


def _links(process: Path) -> list[str]:
    """Returns what a process has open; [] for one that has ended, or is another user's."""
    try:
        descriptors = os.listdir(process / "fd")  # noqa: PTH208 (there are thousands)
    except OSError:
        return []
    return [link for each in descriptors if (link := _link(f"{process}/fd/{each}"))]


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 (as above)
    except OSError:  # it has just been closed
        return ""


def _sockets(links: list[str]) -> Iterator[str]:
    return (match[1] for match in map(_SOCKET.fullmatch, links) if match)


def _has_open(links: list[str], data_dir: Path) -> bool:
    return any(link.startswith(f"{data_dir}/") for link in links)
