"""The door to an app: a unix socket on the host that leads to the app's port inside.

systemd-socket-proxyd is handed the listening socket and runs in the app's network namespace as a
user of its own, so it reaches what is bound to loopback only, and the app can't signal it. It
outlives the gateway.
"""

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from moorage.runtimes.runtime import Limits
from moorage.runtimes.sandbox import bubblewrap, tool
from moorage.runtimes.sandbox.listeners import Listener

PROXY = Path("/usr/lib/systemd/systemd-socket-proxyd")
MAX_CONNECTIONS = 256
LIMITS = Limits(memory_bytes=96 * 1024 * 1024, cpu_millis=1000, pids=32, disk_bytes=0)
SUN_PATH_BYTES = 107  # struct sockaddr_un holds 108, the last one NUL

# LISTEN_PID must be the proxy's own id (sd_listen_fds(3)), and the socket descriptor 3. Without
# systemd, nobody else saves the proxy from SIGPIPE when a visitor hangs up amid an answer.
_LISTENING = 'trap "" PIPE; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'


def command(*, netns: Path, uid: int, listener: Listener) -> list[str]:
    """The proxy, in the app's network, as the door's user; its socket comes as stdin."""
    return [
        "/bin/sh", "-c", _LISTENING, "door",
        *bubblewrap.identity_argv(netns=netns, uid=uid),
        str(PROXY), f"--connections-max={MAX_CONNECTIONS}", listener.endpoint,
    ]  # fmt: skip


def open_door(
    path: Path, *, groups: Sequence[Path], netns: Path, uid: int, listener: Listener
) -> None:
    """Listen at `path`, replacing what was there, and lead to `listener`. Raises OSError.

    Connections made from now on wait until the proxy takes them.
    """
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(temporary))
        temporary.chmod(0o666)
        listening.listen(1024)
        temporary.rename(path)
        inner = command(netns=netns, uid=uid, listener=listener)
        tool.detach(
            bubblewrap.launch_argv(bubblewrap.DETACHED_SOCKET, groups, inner),
            stdin=listening.fileno(),
            output=subprocess.DEVNULL,
        )
