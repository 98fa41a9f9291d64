"""The argument lists that start an isolated command without root: pasta, what it runs, bubblewrap.

pasta makes a user, network and pid namespace, carries what the command sends to the world, and
ends with the command; the command ends with pasta. The first thing in there is a short script, root
of those namespaces alone: it loads the packet filter, takes limits upon itself, and becomes
bubblewrap, within which nothing has a capability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from moorage.engines.engine import Limits
from moorage.engines.isolation import bubblewrap

_GATEWAY_ADDRESS = "10.202.0.1"
ARGS_FD, SECCOMP_FD, STATUS_FD = 3, 4, 5
_NICE = 10  # apps go after the gateway


class _Resident(NamedTuple):
    app_uid: int
    app_address: str


#: Who every app is inside. On the machine its uid is the gateway's; its network holds nothing else.
RESIDENT = _Resident(app_uid=1000, app_address="10.202.0.2")

# No way from the namespace to the machine's loopback or back, no name server or DHCP of pasta's.
_PASTA = (
    "pasta", "--quiet", "--foreground", "--ipv4-only", "--config-net",
    "--address", RESIDENT.app_address, "--netmask", "30", "--gateway", _GATEWAY_ADDRESS,
    "--ns-ifname", "eth0", "--no-map-gw", "--map-host-loopback", "none",
    "--map-guest-addr", "none", "-t", "none", "-u", "none", "-T", "none", "-U", "none",
    "--no-dhcp",
)  # fmt: skip

# Joins the control groups named up to `--`, as bubblewrap.ATTACHED does.
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
    """What the script inside reads and writes, all the gateway's user's."""

    rules: Path  # for nft
    seccomp: Path
    status: Path | None  # what bwrap says of an app; None for a build


def command_argv(
    *,
    marker: Path,
    files: Files,
    groups: Sequence[Path],
    rlimits: Sequence[str],
    command: str,
) -> list[str]:
    """Runs a shell's `command` isolated, with bwrap's options from stdin.

    `marker` is named in pasta's own argument list, so that its process can be told.
    """
    return [
        *_PASTA, "--", "/bin/sh", "-c", _INNER, str(marker),
        str(files.rules), str(files.seccomp), str(files.status or "-"),
        *map(str, groups), "--",
        "prlimit", *rlimits, "setpriv", "--pdeathsig", "KILL", "nice", "-n", str(_NICE),
        *bubblewrap.bwrap_argv(args_fd=ARGS_FD, command=command),
    ]  # fmt: skip


def marker(arguments: Sequence[str]) -> str | None:
    """The `marker` of a pasta that `command_argv` made, from its arguments; None of another."""
    if arguments[:1] != ["pasta"] or _INNER not in arguments:
        return None
    return arguments[arguments.index(_INNER) + 1]


def attached_argv(command: Sequence[str]) -> list[str]:
    """Runs `command` so that it dies with the gateway."""
    return ["setpriv", "--pdeathsig", "KILL", *command]


def rlimits(limits: Limits, *, hard_files: int, memory: bool) -> list[str]:
    """What `prlimit` holds each process to: the most it has without control groups.

    Processes are counted for each user namespace, so for each app (Linux 5.14). `hard_files` is
    what the gateway itself may open. Without `memory`, a control group limits that.
    """
    data = [f"--data={limits.memory_bytes}"] if memory else []
    return [
        *data, f"--nproc={limits.pids}", f"--fsize={limits.disk_bytes}",
        f"--nofile={min(hard_files, 65_536)}", "--core=1:1",
    ]  # fmt: skip


def enter_argv(holder: int, command: Sequence[str]) -> list[str]:
    """Runs `command` in the user and network namespaces of the process `holder`."""
    return [
        "nsenter", f"--target={holder}", "--user", "--net", "--preserve-credentials", *command,
    ]  # fmt: skip
