"""Makes the argument lists of `bwrap`, and of the commands that run before it.

bwrap's options contain the app's environment, which may contain secrets, so they reach bwrap
through a file descriptor and never appear in a process list.
"""

import ipaddress
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

# In this order. The second has the real servers if the first names only systemd-resolved's stub,
# which is on loopback.
SOURCES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_MAX_SERVERS = 3  # resolvers read no more (resolv.conf(5))


def parse_servers(text: str) -> tuple[str, ...]:
    """Returns the IPv4 name servers in a `resolv.conf` that are not on loopback, in order."""
    servers = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[0] == "nameserver":
            try:
                address = ipaddress.IPv4Address(fields[1])
            except ValueError:
                continue  # IPv6, or no address, which resolvers skip too
            if not address.is_loopback:
                servers.append(str(address))
    return tuple(dict.fromkeys(servers))[:_MAX_SERVERS]


def find_servers() -> tuple[str, ...]:
    """Returns the machine's name servers that apps can reach; empty when there is none."""
    for source in SOURCES:
        if source.exists() and (servers := parse_servers(source.read_text())):
            return servers
    return ()


def resolv_conf(servers: tuple[str, ...]) -> str:
    """Returns the text of an app's `/etc/resolv.conf`."""
    return "".join(f"nameserver {server}\n" for server in servers)


NAMES = ("group", "hosts", "nsswitch.conf", "passwd", "resolv.conf")


class Resident(Protocol):
    """The user id and address of an app inside its sandbox; a slot has them."""

    @property
    def app_uid(self) -> int:
        """User and group id of the app."""
        ...

    @property
    def app_address(self) -> str:
        """The app's IPv4 address."""
        ...


def etc_files(who: Resident, servers: tuple[str, ...]) -> dict[str, str]:
    """Returns the text of each file in NAMES, by name."""
    uid = who.app_uid
    return {
        "group": f"app:x:{uid}:\n",
        "hosts": f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{who.app_address} app\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "passwd": f"app:x:{uid}:{uid}:app:/home/app:/bin/sh\n",
        "resolv.conf": resolv_conf(servers),
    }


def write_etc(directory: Path, who: Resident, servers: tuple[str, ...]) -> None:
    """Writes the files, readable by all, in place, so that a running app sees new name servers."""
    directory.mkdir(mode=0o755, exist_ok=True)
    for name, text in etc_files(who, servers).items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o644)


_PATH = ("/app/.venv/bin", "/app/node_modules/.bin")
_MACHINE_PATH = ("/opt/moorage/bin", "/usr/local/bin", "/usr/bin", "/bin")
_TOOLCHAINS = "/opt/moorage/toolchains"
DOWNLOADS = "/var/cache/moorage"  # of the wallet's builds
DATA = "/data"  # the volume
HOME = "/home/app"
TMP = "/tmp"  # noqa: S108 (the sandbox's own)
_SHM = "/dev/shm"  # noqa: S108
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_TMP_BYTES = 64 * 1024 * 1024
_SHM_BYTES = 32 * 1024 * 1024

# The only entries of the host's /etc that apps see: programs in /usr do not work without them.
HOST_ETC = ("ssl/certs", "ssl/openssl.cnf", "alternatives", "ld.so.cache", "mime.types")
# Configuration that Debian's languages need: without it, Java ends at once, and PHP has no
# extensions. Not settings.xml or php.ini, in which an operator may write secrets.
LANGUAGES_ETC = (
    *("java-*-openjdk", "maven/m2.conf", "maven/logging"),
    *("php/*/cli/conf.d", "php/*/mods-available"),
)
_ETC = Path("/etc")
_PROC = Path("/proc")
# Files in /proc that reveal the host, its disks and the activity of other apps, or control the
# host. Those that programs need stay: meminfo, cpuinfo, stat, loadavg, vmstat, cgroups.
HIDDEN_FILES = (
    "buddyinfo", "cmdline", "diskstats", "interrupts", "kallsyms", "key-users", "keys",
    "latency_stats", "locks", "modules", "pagetypeinfo", "partitions", "sched_debug", "schedstat",
    "slabinfo", "softirqs", "timer_list", "vmallocinfo", "zoneinfo",
)  # fmt: skip
HIDDEN_DIRECTORIES = ("fs", "irq", "pressure")
_ANYBODY_READS = 0o004
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

# Joins the control groups before `--`, then executes the rest. A shell does it, as a process must
# be in its groups before it runs anything. The groups are arguments, never part of the script.
_JOIN = """\
set -eu
while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs"; shift; done
shift
# One byte, not none: the kernel then starts no core_pattern program either, which would run as
# the host's root (core(5)). Where the limit is lower already and may not be raised, none it is.
prlimit --pid $$ --core=1:1 2> /dev/null || ulimit -c 0
"""
# When the machine is out of memory, apps are killed before the gateway. The first argument is the
# score.
_EXPENDABLE = 'echo "$1" > /proc/self/oom_score_adj\nshift\n'
# For a command that stays the gateway's child, and dies with it.
ATTACHED = _JOIN + _EXPENDABLE + 'exec "$@"\n'
# For an app, which keeps running when the gateway ends; its parent is init.
DETACHED = _JOIN + _EXPENDABLE + 'setsid "$@" &\n'
# For a command that does so; its parent is a shell, as it must not die with this one.
COMMAND = _JOIN + _EXPENDABLE + 'setsid /bin/sh -c \'"$@"; :\' moorage "$@" &\n'
# As DETACHED, with stdin moved to descriptor 3, as a shell closes stdin of background commands.
DETACHED_SOCKET = _JOIN + 'exec 3<&0 </dev/null\nsetsid "$@" &\n'


@dataclass(frozen=True, kw_only=True)
class View:
    """Paths of the host that are mounted in the sandbox; the app's user can reach them."""

    app: Path
    home: Path
    etc: Path  # passwd, group, hosts, resolv.conf, nsswitch.conf
    tools: Mapping[str, Path]
    data: Path | None = None  # the volume
    build_tmp: Path | None  # a build's /tmp is on disk; None for an app, which has a small tmpfs
    toolchains: Mapping[str, Path] = field(default_factory=dict)
    downloads: Path | None = None  # of earlier builds, for a build


def search_path(toolchains: Iterable[str]) -> str:
    """Returns the PATH: the app's own programs, its toolchains', then the machine's."""
    versioned = (f"{_TOOLCHAINS}/{name}/bin" for name in toolchains)
    return ":".join((*_PATH, *versioned, *_MACHINE_PATH))


def launch_argv(script: str, groups: Sequence[Path], command: Sequence[str]) -> list[str]:
    """Returns the arguments that run `command` in control groups; `script` is such as ATTACHED."""
    return ["/bin/sh", "-c", script, "moorage", *map(str, groups), "--", *command]


def identity_argv(*, netns: Path, uid: int) -> list[str]:
    """Returns a prefix for a command: enters a network namespace and becomes `uid` for good."""
    return [
        "nsenter", f"--net={netns}", "setpriv", f"--reuid={uid}", f"--regid={uid}",
        "--clear-groups", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all",
        "--no-new-privs",
    ]  # fmt: skip


def bwrap_argv(*, args_fd: int, command: str) -> list[str]:
    """Returns the arguments of bwrap, which reads its options from `args_fd`, with a shell line."""
    return ["bwrap", "--args", str(args_fd), "--", "/bin/sh", "-c", command]


def options(
    *,
    view: View,
    environment: Mapping[str, str],
    directory: str,
    seccomp_fd: int,
    status_fd: int | None,
    leaves_children: bool = False,
) -> list[str]:
    """Returns bwrap's options.

    It writes its exit code to `status_fd`. It dies with its parent, and what its command left
    behind with it, by the kernel's own hand, unless it `leaves_children`.
    """
    lifetime = [] if leaves_children else ["--die-with-parent"]
    lifetime += [] if status_fd is None else ["--json-status-fd", str(status_fd)]
    return [
        "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
        "--unshare-cgroup-try", "--disable-userns", "--cap-drop", "ALL", "--new-session",
        "--hostname", "app", *lifetime, "--seccomp", str(seccomp_fd),
        *_root_mounts(), *_etc_mounts(view.etc), *_writable_mounts(view), *_tool_mounts(view),
        "--remount-ro", "/", "--remount-ro", "/dev",
        "--chdir", f"/app/{directory}".rstrip("/"),
        "--clearenv", *[part for pair in environment.items() for part in ("--setenv", *pair)],
    ]  # fmt: skip


def encode_options(arguments: Sequence[str]) -> bytes:
    """Encodes `arguments` for `--args`. Raises ValueError if one contains a NUL."""
    if any("\0" in argument for argument in arguments):
        raise ValueError("an argument or an environment variable holds a NUL byte")
    return b"".join(argument.encode() + b"\0" for argument in arguments)


def _root_mounts() -> list[str]:
    mounts = ["--ro-bind", "/usr", "/usr"]
    for name in _MERGED:
        path = Path("/", name)
        if path.is_symlink():
            mounts += ["--symlink", f"usr/{name}", f"/{name}"]
        elif path.is_dir():
            mounts += ["--ro-bind", f"/{name}", f"/{name}"]
    return [
        *mounts, *_proc_mounts(), "--dev", "/dev",
        "--size", str(_SHM_BYTES), "--perms", "1777", "--tmpfs", _SHM,
    ]  # fmt: skip


def _proc_mounts() -> list[str]:
    """Mounts a /proc of the app's own processes, with read-only settings, without `HIDDEN_…`."""
    mounts = ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"]
    for name in (name for name in HIDDEN_FILES if _is_readable(_PROC / name)):
        mounts += ["--dev-bind", "/dev/null", f"/proc/{name}"]
    for name in (name for name in HIDDEN_DIRECTORIES if _is_readable(_PROC / name)):
        mounts += ["--tmpfs", f"/proc/{name}", "--remount-ro", f"/proc/{name}"]
    return mounts


def _is_readable(path: Path) -> bool:
    """Returns whether everybody may read it; only then hide it, as each mount takes 0.2 ms."""
    return path.exists() and bool(path.stat().st_mode & _ANYBODY_READS)


def _etc_mounts(etc: Path) -> list[str]:
    mounts = []
    for name in HOST_ETC:
        mounts += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for path in (path for name in LANGUAGES_ETC for path in sorted(_ETC.glob(name))):
        mounts += ["--ro-bind-try", str(path), str(path)]
    for name in NAMES:
        mounts += ["--ro-bind", str(etc / name), f"/etc/{name}"]
    return mounts


def _writable_mounts(view: View) -> list[str]:
    tmp = (
        ["--size", str(_TMP_BYTES), "--perms", "1777", "--tmpfs", TMP]
        if view.build_tmp is None
        else ["--bind", str(view.build_tmp), TMP]
    )
    data = [] if view.data is None else ["--bind", str(view.data), DATA]
    downloads = [] if view.downloads is None else ["--bind", str(view.downloads), DOWNLOADS]
    return [
        *tmp,
        *data,
        *downloads,
        "--bind",
        str(view.app),
        "/app",
        "--bind",
        str(view.home),
        HOME,
    ]


def _tool_mounts(view: View) -> list[str]:
    # Debian's Python has no such name, and everybody's commands do.
    mounts = ["--symlink", "/usr/bin/python3", "/opt/moorage/bin/python"]
    for name, path in sorted(view.tools.items()):
        mounts += ["--ro-bind", str(path), f"/opt/moorage/bin/{name}"]
    for name, path in sorted(view.toolchains.items()):
        mounts += ["--ro-bind", str(path), f"{_TOOLCHAINS}/{name}"]
    return mounts


def memory_file(name: str, content: bytes) -> int:
    """Returns a descriptor of a memory file with `content`; the caller closes it."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def parse_exit_code(status: str) -> int | None:
    """Returns the exit code from the output of `bwrap --json-status-fd`; None while it runs."""
    return _number(status, "exit-code")


def parse_child_pid(status: str) -> int | None:
    """Returns the host's id of the sandbox's first process, from the same; None before that."""
    return _number(status, "child-pid")


def _number(status: str, key: str) -> int | None:
    for line in status.splitlines():
        try:
            document = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue  # an incomplete line: it is being written, or the machine crashed
        if isinstance(document, dict) and isinstance(number := document.get(key), int):
            return number
    return None
