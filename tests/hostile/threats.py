"""The threats, as a table: what is tried, how it is shown to be possible, how it must fail.

`{…}` in a command line stands for a fact of the place where it runs (see `conftest.py`).
"""

from dataclasses import dataclass

#: Wrappers that make an attempt harmless outside the sandbox, where it succeeds.
OWN_MOUNTS = ("unshare", "--mount")
OWN_NETWORK = ("unshare", "--net")
OWN_LOOPBACK = ("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")
OWN_HOSTNAME = ("unshare", "--uts")
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
TERMINAL = ("terminal",)  # gets a terminal of its own as standard input
NEIGHBOURS_NETWORK = ("nsenter", "--net=/proc/{neighbour_pid}/ns/net")
EXPENDABLE = ("sh", "-c", 'echo 500 > /proc/self/oom_score_adj; exec "$@"', "sh")
LEAKY = ("sh", "-c", 'exec 7</tmp; exec "$@"', "sh")

REFUSED = frozenset({"ECONNREFUSED"})
# EPERM is what a filter says that sits in the sender's own namespace.
UNREACHABLE = frozenset(
    {"ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EACCES", "EPERM", "timeout"}
)
UNREACHABLE6 = UNREACHABLE | {"EADDRNOTAVAIL"}
ABSENT = frozenset({"ENOENT"})
NOT_ALLOWED = frozenset({"EPERM"})
UNKNOWN_CALL = frozenset({"EPERM", "ENOSYS"})
NO_FAMILY = frozenset({"EAFNOSUPPORT", "EPERM"})
NO_PROCESS = frozenset({"ESRCH"})
READ_ONLY = frozenset({"EROFS", "EACCES", "EPERM", "ENOENT"})


@dataclass(frozen=True, kw_only=True)
class Threat:
    """One attempt. `outside` wraps it where it is shown to succeed; `refused` are the details
    of its failure inside that count as the expected reason."""

    name: str
    run: tuple[str, ...]
    refused: frozenset[str]
    outside: tuple[str, ...] = ()


def _network(name: str, *run: str, refused: frozenset[str] = UNREACHABLE) -> Threat:
    return Threat(name=name, run=("network.py", *run), refused=refused)


def _files(
    name: str, *run: str, refused: frozenset[str] = ABSENT, outside: tuple[str, ...] = ()
) -> Threat:
    return Threat(name=name, run=("files.py", *run), refused=refused, outside=outside)


def _processes(
    name: str, *run: str, refused: frozenset[str] = NO_PROCESS, outside: tuple[str, ...] = ()
) -> Threat:
    return Threat(name=name, run=("processes.py", *run), refused=refused, outside=outside)


def _kernel(
    name: str, *run: str, refused: frozenset[str] = NOT_ALLOWED, outside: tuple[str, ...] = ()
) -> Threat:
    return Threat(name=name, run=("kernel.py", *run), refused=refused, outside=outside)


HOST = (
    _network("host service on 127.0.0.1", "tcp", "127.0.0.1", "{local_port}", refused=REFUSED),
    _network("host service on 127.0.0.2", "tcp", "127.0.0.2", "{port}", refused=REFUSED),
    _network("host service on ::1", "tcp", "::1", "{local6_port}", refused=UNREACHABLE6),
    _network("host service on 0.0.0.0", "tcp", "0.0.0.0", "{port}", refused=REFUSED),
    _network("host service on its address", "tcp", "{host}", "{port}"),
    _network("host service on its IPv6", "tcp", "{host6}", "{port}", refused=UNREACHABLE6),
    _network("host service on the gateway", "tcp", "{gateway}", "{port}"),
    _network("host datagram service", "udp", "{host}", "{port}"),
    _network("host datagrams on the gateway", "udp", "{gateway_or_host}", "{port}"),
    _network("host by broadcast and multicast", "udp-nearby", "{port}"),
    _network("host unix socket", "unix", "{unix}", refused=ABSENT),
    _network("host abstract socket", "unix", "{abstract}", refused=REFUSED),
    _network("doors", "connect", "{door}", "{neighbour_door}", refused=ABSENT | UNREACHABLE),
    Threat(
        name="host service from Node",
        run=("attempts.js", "js-tcp", "127.0.0.1", "{local_port}"),
        refused=REFUSED,
    ),
)

WORLD = (
    *(_network(f"world {n}", "tcp", "{" + n + "}", "80") for n in (
        "metadata", "link-local", "private-10", "private-172", "private-192", "carrier-nat",
        "protocol-assignments", "benchmarking", "uplink", "mapped-metadata",
        "mapped-private",
    )),
    *(_network(f"world {n}", "tcp", "{" + n + "}", "80", refused=UNREACHABLE6) for n in (
        "metadata-6", "unique-local-6", "public-6",
    )),
    _network("metadata by datagram", "udp", "{metadata}", "123"),
    _network("metadata name service", "udp", "{metadata}", "53"),
    _network("private name service", "udp", "{private-10}", "53"),
    _network("mail on port 25", "tcp", "{public}", "25"),
    _network("mail on port 465", "tcp", "{public}", "465"),
    _network("mail on port 587", "tcp", "{public}", "587"),
)  # fmt: skip

NEIGHBOUR = (
    Threat(
        name="neighbour's port",
        run=("network.py", "tcp", "{neighbour}", "4000"),
        refused=UNREACHABLE,
        outside=NEIGHBOURS_NETWORK,
    ),
    Threat(
        name="neighbour's abstract socket",
        run=("network.py", "unix", "{neighbour_abstract}"),
        refused=REFUSED,
        outside=NEIGHBOURS_NETWORK,
    ),
    _files("neighbour's files", "read-for", "{neighbour_secret_path}", "{neighbour_secret}"),
    _files(
        "neighbour's secret anywhere",
        "sweep",
        "{root}",
        "{neighbour_secret_backwards}",
        refused=frozenset({"found nowhere"}),
    ),
)

FILES = (
    _files("host's /etc/shadow", "read", "/etc/shadow"),
    _files("host's secret file", "read-for", "{secret_path}", "{host_secret}"),
    _files("state directory", "listing", "{state}"),
    _files("state database", "read", "{database}"),
    _files("run directory", "listing", "{run}"),
    _files("root's home", "listing", "/root", refused=frozenset({"ENOENT", "EACCES"})),
    _files("host's logs", "listing", "/var/log", refused=frozenset({"ENOENT", "EACCES"})),
    _files("host's root through /proc", "read", "/proc/{first_process}/root{secret_path}",
           refused=frozenset({"ENOENT", "EACCES"})),
    _files("secret anywhere", "sweep", "{root}", "{host_secret_backwards}",
           refused=frozenset({"found nowhere"})),
    _files("system directories", "create-in", "/usr", "/etc", "/bin", "/lib", "/", "/var", "/run",
           "/opt", "/root", "/home", "/proc", "/sys", refused=READ_ONLY),
    _files("system files", "open-to-write", "/etc/passwd", "/etc/ld.so.cache", "/usr/bin/env",
           refused=READ_ONLY),
    _files("kernel settings", "open-to-write", "/proc/sys/kernel/core_pattern",
           "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/proc/sys/net/ipv4/ip_forward",
           "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state", refused=READ_ONLY),
    _files("settings of one's own namespaces", "open-to-write", "/proc/sys/kernel/msgmax",
           "/proc/sys/kernel/shmmax", "/proc/sys/net/ipv4/ip_forward",
           "/proc/sys/net/ipv4/ip_unprivileged_port_start", refused=READ_ONLY),
    _files("what the machine does", "host-facts", "/proc/cmdline", "/proc/diskstats",
           "/proc/interrupts", "/proc/kallsyms", "/proc/keys", "/proc/locks", "/proc/modules",
           "/proc/partitions", "/proc/softirqs", "/proc/zoneinfo", "/proc/buddyinfo", "/proc/fs",
           "/proc/irq", "/proc/pressure", "/proc/timer_list", "/sys/kernel", "/sys/block",
           refused=frozenset({"nothing is told"})),
    _files("cgroup of one's own", "make-cgroup", refused=READ_ONLY),
    _files("device node", "mknod", "{scratch}", "1", "5", refused=NOT_ALLOWED),
    _files("devices", "devices", refused=frozenset({"none opened"})),
    _files("hard link to a system file", "hardlink", "{system_file}", "{scratch}",
           refused=frozenset({"EXDEV", "EROFS", "EPERM"})),
    _files("file given to root", "chown-root", "{scratch}", refused=frozenset({"EPERM", "EINVAL"})),
    _files("file capability", "file-capability", "{scratch}", refused=NOT_ALLOWED),
    _files("file by its handle", "open-by-handle", "/usr/bin/env", refused=NOT_ALLOWED),
    _files("inherited descriptors", "inherited", refused=frozenset({"only the standard three"}),
           outside=LEAKY),
    Threat(name="host's /etc/shadow from Node", run=("attempts.js", "js-read", "/etc/shadow"),
           refused=ABSENT),
)  # fmt: skip

PROCESSES = (
    _processes("debugging", "ptrace", "{victim}", refused=frozenset({"ESRCH", "EPERM"})),
    _processes("reading memory", "vm-readv", "{victim}", "{victim_address}", "{host_secret}",
               refused=frozenset({"ESRCH", "EPERM"})),
    _processes("reading memory by /proc", "proc-mem", "{victim}", "{victim_address}",
               "{host_secret}", refused=ABSENT),
    _processes("reading an environment", "environ", "{victim}", "{host_secret}", refused=ABSENT),
    _processes("gateway's environment", "sweep-processes", "{gateway_secret_backwards}",
               refused=frozenset({"found nowhere"})),
    _processes("handle on a process", "pidfd", "{victim}"),
    _processes("taking a descriptor", "pidfd-getfd", "{victim}",
               refused=frozenset({"ESRCH", "EPERM"})),
    _processes("killing", "kill", "{victim}"),
    _processes("slowing down", "renice", "{victim}"),
    _processes("seeing processes", "many-processes", "1",
               refused=frozenset({"saw 0 foreign processes"})),
    _processes("shared memory", "shared-memory", "{shared_memory}", refused=ABSENT | UNKNOWN_CALL),
    _processes("becoming root", "become-root", refused=frozenset({"EPERM", "EINVAL"})),
    _processes("joining a group", "set-groups", refused=frozenset({"EPERM", "EINVAL"})),
    _processes("setuid program", "setuid-file", "{app}/setuid-id", outside=NOBODY,
               refused=frozenset({"uid stayed"})),
    _processes("capable program", "capable-file", "{app}/capable-python", outside=NOBODY,
               refused=frozenset({"no capability", "EPERM"})),
    _processes("uid mapping", "uid-map", refused=NOT_ALLOWED),
    _processes("capabilities", "capabilities", refused=frozenset({"none"})),
    _processes("being spared", "spare-oneself", refused=frozenset({"EACCES", "EPERM"}),
               outside=EXPENDABLE),
    _processes("precedence", "nice", refused=frozenset({"EPERM", "EACCES"})),
    _processes("real time", "realtime", refused=NOT_ALLOWED),
    _processes("host name", "host-name", refused=NOT_ALLOWED, outside=OWN_HOSTNAME),
)  # fmt: skip

KERNEL = (
    *(_kernel(f"new {kind} namespace", "unshare", kind)
      for kind in ("user", "mount", "net", "pid", "ipc", "uts", "cgroup", "time")),
    _kernel("process in a new user namespace", "clone-user"),
    _kernel("process in a new user namespace by clone3", "clone3-user", refused=UNKNOWN_CALL),
    _kernel("user namespace by 32-bit call", "unshare-32",
            refused=frozenset({"EPERM", "ENOSYS", "killed by SIGSYS"})),
    _kernel("vsock by 32-bit call", "vsock-32",
            refused=frozenset({"EPERM", "ENOSYS", "EAFNOSUPPORT", "killed by SIGSYS"})),
    Threat(name="user namespace from Node", run=("attempts.js", "js-unshare"),
           refused=frozenset({"exit 1"})),
    _kernel("joining the host's network", "setns", "{victim}", "net", refused=ABSENT),
    _kernel("joining process 1", "setns", "{first_process}", "net",
            refused=frozenset({"EPERM", "EACCES"})),
    _kernel("mounting", "mount-tmpfs", "/tmp", outside=OWN_MOUNTS),
    _kernel("mounting proc", "mount-proc", "/tmp", outside=OWN_MOUNTS),
    _kernel("remounting the root", "remount-root", outside=OWN_MOUNTS),
    _kernel("uncovering a mount", "umount", "/proc", outside=OWN_MOUNTS),
    _kernel("mounting by fsopen", "fsopen", refused=UNKNOWN_CALL),
    _kernel("mounting by open_tree", "open-tree", refused=UNKNOWN_CALL, outside=OWN_MOUNTS),
    _kernel("pivot_root", "pivot-root", "/tmp", outside=OWN_MOUNTS),
    _kernel("chroot", "chroot-escape", "{scratch}", "{chroot_evidence}"),
    _kernel("io_uring", "io-uring", refused=UNKNOWN_CALL),
    _kernel("asynchronous I/O", "asynchronous-io", refused=UNKNOWN_CALL),
    _kernel("huge pages", "huge-pages", refused=UNKNOWN_CALL),
    _kernel("bpf", "bpf", refused=UNKNOWN_CALL),
    _kernel("perf_event_open", "perf", refused=frozenset({"EPERM", "EACCES", "ENOSYS"})),
    _kernel("userfaultfd", "userfaultfd", refused=UNKNOWN_CALL),
    _kernel("add_key", "keyring", refused=UNKNOWN_CALL),
    _kernel("keyctl", "keyctl", refused=UNKNOWN_CALL),
    _kernel("personality", "personality"),
    _kernel("fanotify", "fanotify"),
    _kernel("kernel log", "kernel-log"),
    _kernel("typing into the terminal", "tiocsti", outside=TERMINAL,
            refused=frozenset({"ENOTTY", "ENXIO", "EPERM", "ENOENT", "EIO", "EACCES", "EINVAL"})),
    _network("raw socket", "raw", refused=NOT_ALLOWED),
    _network("raw IPv6 socket", "raw6", refused=NOT_ALLOWED),
    _network("packet socket", "packet", refused=NO_FAMILY),
    _network("vsock", "vsock", refused=NO_FAMILY),
    _network("socket of another family", "other-families", refused=frozenset({"none opened"})),
    _network("socket of another type", "other-types", refused=frozenset({"none opened"})),
    _network("source routing", "source-route", refused=frozenset({"ENOPROTOOPT"})),
    _network("netlink besides routes", "netlink-families", refused=frozenset({"none opened"})),
    Threat(name="adding an address", run=("network.py", "netlink-add-address"),
           refused=NOT_ALLOWED, outside=OWN_NETWORK),
    Threat(name="adding a route", run=("network.py", "netlink-add-route"),
           refused=NOT_ALLOWED, outside=OWN_LOOPBACK),
    Threat(name="taking a link down", run=("network.py", "netlink-link-down"),
           refused=NOT_ALLOWED, outside=OWN_NETWORK),
)  # fmt: skip

THREATS = (*HOST, *WORLD, *NEIGHBOUR, *FILES, *PROCESSES, *KERNEL)

#: What an app may do. Were these refused too, the refusals above would show nothing.
ALLOWED = (
    _network("public address", "tcp", "{public}", "80"),
    _files("own directory", "create-in", "{scratch}"),
    _files("own files", "read-for", "{app}/own.txt", "own"),
    _processes("own process", "kill", "1"),
    _network("port below 1024", "low-port"),
)
