"""Starts an app's socket proxy: it forwards a unix socket on the host to the app's TCP port.

systemd-socket-proxyd gets the listening socket and runs in the app's network namespace, so that it
reaches ports on loopback. It runs as another user, so that the app can't signal it. It keeps
running when the gateway ends.
"""

import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from moorage.engines.engine import Limits
from moorage.engines.host import tool
from moorage.engines.host.network.listeners import Listener
from moorage.engines.isolation import bubblewrap

PROXY = Path("/usr/lib/systemd/systemd-socket-proxyd")
_BACKLOG = 1024  # connections that wait until the proxy takes them
_IDLE_BYTES = 64 * 1024 * 1024
_CONNECTION_BYTES = 160 * 1024  # two full pipes of 64 KiB, and what manages them
SUN_PATH_BYTES = 107  # struct sockaddr_un holds 108, the last one NUL

# LISTEN_PID must be the proxy's own id (sd_listen_fds(3)), and the socket descriptor 3. A
# connection takes six descriptors. SIGPIPE, which systemd would ignore, would kill the proxy when a
# visitor disconnects during an answer.
_LISTENING = """\
trap "" PIPE
ulimit -n "$(ulimit -H -n)"
export LISTEN_FDS=1 LISTEN_PID=$$
exec "$@"
"""


def limits(connections: int) -> Limits:
    """Returns the limits of a socket proxy for `connections` at the same time."""
    memory = _IDLE_BYTES + connections * _CONNECTION_BYTES
    return Limits(memory_bytes=memory, cpu_millis=1000, pids=32, disk_bytes=0)


def proxy_argv(enter: Sequence[str], *, listener: Listener, connections: int) -> list[str]:
    """Returns the proxy's command. `enter` enters the app's network; the socket is descriptor 3."""
    return [
        "/bin/sh", "-c", _LISTENING, "door",
        *enter, str(PROXY), f"--connections-max={connections}", listener.endpoint,
    ]  # fmt: skip


@contextmanager
def listening(path: Path, *, mode: int) -> Iterator[socket.socket]:
    """Makes a listening socket at `path` for a proxy, replacing what was there.

    Connections wait until the proxy accepts them. Raises OSError.
    """
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as endpoint:
        endpoint.bind(str(temporary))
        temporary.chmod(mode)
        endpoint.listen(_BACKLOG)
        temporary.rename(path)
        yield endpoint


def open_proxy(
    path: Path,
    *,
    groups: Sequence[Path],
    netns: Path,
    uid: int,
    listener: Listener,
    connections: int,
) -> None:
    """Starts a proxy from `path` to `listener`, as user `uid`. Raises OSError."""
    enter = bubblewrap.identity_argv(netns=netns, uid=uid)
    inner = proxy_argv(enter, listener=listener, connections=connections)
    with listening(path, mode=0o666) as endpoint:
        tool.detach(
            bubblewrap.launch_argv(bubblewrap.DETACHED_SOCKET, groups, inner),
            stdin=endpoint.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
