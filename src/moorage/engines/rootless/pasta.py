"""Makes the argument lists that start an isolated command without root: pasta and bubblewrap.

pasta makes a user, network and pid namespace, and forwards the command's traffic to the internet.
pasta and the command end together. First a short script runs inside, as root of these namespaces
only: it loads the packet filter, limits itself, and becomes bubblewrap, in which no process has a
capability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from moorage.engines.engine import Limits
from moorage.engines.isolation import bubblewrap

_GATEWAY_ADDRESS = "10.202.0.1"
ARGS_FD, SECCOMP_FD, STATUS_FD = 3, 4, 5
_NICE = 10  # the gateway has priority over apps


class _Resident(NamedTuple):
    app_uid: int
    app_address: str


#: Every app's uid and address inside. Each app has a network of its own, so they can be the same.
RESIDENT = _Resident(app_uid=1000, app_address="10.202.0.2")

# No forwarding between the namespace and the machine's loopback; no name server or DHCP of pasta's.
_PASTA = (
    "pasta", "--quiet", "--foreground", "--ipv4-only", "--config-net",
    "--address", RESIDENT.app_address, "--netmask", "30", "--gateway", _GATEWAY_ADDRESS,
    "--ns-ifname", "eth0", "--no-map-gw", "--map-host-loopback", "none",
    "--map-guest-addr", "none", "-t", "none", "-u", "none", "-T", "none", "-U", "none",
    "--no-dhcp",
)  # fmt: skip

# Joins the control groups before `--`, as bubblewrap.ATTACHED does.
_INNER = f"""\
set -eu
nft -f "$1"
exec {ARGS_FD}<&0 {SECCOMP_FD}<"$2" </dev/null
[ "$3" = - ] || exec {STATUS_FD}>>"$3"
shift 3
while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs"; shift; done
shift
exec "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files that the script inside reads and writes; the gateway's user owns them."""

    rules: Path  # for nft
    seccomp: Path
    status: Path | None  # to which bwrap writes the status of an app; None for a build


def command_argv(
    *,
    marker: Path,
    files: Files,
    groups: Sequence[Path],
    rlimits: Sequence[str],
    command: str,
) -> list[str]:
    """Returns the arguments that run a shell `command` isolated, with bwrap's options from stdin.

    They contain `marker`, by which pasta's process can be identified.
    """
    return [
        *_PASTA, "--", "/bin/sh", "-c", _INNER, str(marker),
        str(files.rules), str(files.seccomp), str(files.status or "-"),
        *map(str, groups), "--",
        "prlimit", *rlimits, "setpriv", "--pdeathsig", "KILL", "nice", "-n", str(_NICE),
        *bubblewrap.bwrap_argv(args_fd=ARGS_FD, command=command),
    ]  # fmt: skip


def marker(arguments: Sequence[str]) -> str | None:
    """Returns the `marker` in arguments made by `command_argv`; None for other processes."""
    if arguments[:1] != ["pasta"] or _INNER not in arguments:
        return None
    return arguments[arguments.index(_INNER) + 1]


def attached_argv(command: Sequence[str]) -> list[str]:
    """Returns the arguments that run `command` so that it dies with the gateway."""
    return ["setpriv", "--pdeathsig", "KILL", *command]


def rlimits(limits: Limits, *, hard_files: int, memory: bool) -> list[str]:
    """Returns options for `prlimit`, which limits each process.

    The limit on processes is per user namespace, and so per app (Linux 5.14). `hard_files` is the
    gateway's own limit on open files. `memory` is false if a control group limits memory.
    """
    data = [f"--data={limits.memory_bytes}"] if memory else []
    return [
        *data, f"--nproc={limits.pids}", f"--fsize={limits.disk_bytes}",
        f"--nofile={min(hard_files, 65_536)}", "--core=1:1",
    ]  # fmt: skip


def enter_argv(holder: int, command: Sequence[str]) -> list[str]:
    """Returns the arguments that run `command` in `holder`'s user and network namespaces."""
    return [
        "nsenter", f"--target={holder}", "--user", "--net", "--preserve-credentials", *command,
    ]  # fmt: skip
