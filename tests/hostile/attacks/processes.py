"""Attempts on other processes, and on one's own identity."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
from pathlib import Path

from attempt import LIBC, Refused, main, syscall

PTRACE_SEIZE = 0x4206
CLONE_NEWUSER = 0x10000000


def ptrace(pid: str) -> str:
    """Take hold of a process as a debugger does."""
    syscall("ptrace", PTRACE_SEIZE, int(pid), 0, 0)
    return "seized"


class _Span(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def vm_readv(pid: str, address: str, secret: str) -> str:
    """Read a secret out of another process's memory."""
    buffer = ctypes.create_string_buffer(len(secret))
    local = _Span(ctypes.addressof(buffer), len(secret))
    remote = _Span(int(address), len(secret))
    syscall("process_vm_readv", int(pid), ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    if buffer.raw.decode("latin-1") != secret:
        raise Refused("read something else")
    return "read the secret"


def proc_mem(pid: str, address: str, secret: str) -> str:
    """The same through /proc/<pid>/mem."""
    with Path("/proc", pid, "mem").open("rb", buffering=0) as memory:
        memory.seek(int(address))
        if memory.read(len(secret)).decode("latin-1") != secret:
            raise Refused("read something else")
    return "read the secret"


def pidfd(pid: str) -> str:
    """Get a handle on a process."""
    os.close(os.pidfd_open(int(pid)))
    return "opened"


def pidfd_getfd(pid: str) -> str:
    """Take a descriptor away from another process."""
    handle = os.pidfd_open(int(pid))
    return f"took descriptor {syscall('pidfd_getfd', handle, 0, 0)}"


def spare_oneself() -> str:
    """Have the kernel kill others first when memory is short."""
    score = Path("/proc/self/oom_score_adj")
    lower = int(score.read_text()) - 1
    score.write_text(str(lower))
    return f"lowered to {lower}"


def kill(pid: str) -> str:
    """Signal a process; the null signal asks whether one could."""
    os.kill(int(pid), 0)
    return "could have been killed"


def renice(pid: str) -> str:
    """Slow another process down."""
    os.setpriority(os.PRIO_PROCESS, int(pid), 5)
    return "reniced"


def environ(pid: str, needle: str) -> str:
    """Read another process's environment."""
    if needle.encode() not in Path("/proc", pid, "environ").read_bytes():
        raise Refused("holds something else")
    return "read"


def sweep_processes(backwards: str) -> str:
    """Find a text, given backwards, in any visible process's environment or command line."""
    needle = backwards[::-1].encode()
    for directory in Path("/proc").glob("[0-9]*"):
        for name in ("environ", "cmdline"):
            try:
                text = (directory / name).read_bytes()
            except OSError:
                continue
            if needle in text:
                return f"found in {directory / name}"
    raise Refused("found nowhere")


def many_processes(at_least: str) -> str:
    """See the processes of a whole machine: kernel threads, or somebody else's."""
    uid, strangers = os.getuid(), 0
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError):
            strangers += directory.stat().st_uid != uid or uid == 0
    if strangers < int(at_least):
        raise Refused(f"saw {strangers} foreign processes")
    return f"saw {strangers}"


def shared_memory(key: str) -> str:
    """Find somebody else's System V shared memory."""
    identifier = LIBC.shmget(int(key), 0, 0)
    if identifier < 0:
        raise OSError(ctypes.get_errno(), "")
    return f"found {identifier}"


def become_root() -> str:
    """Become uid 0."""
    os.setresuid(0, 0, 0)
    return f"uid {os.getuid()}"


def set_groups() -> str:
    """Join the group `shadow` (42 on Debian)."""
    os.setgroups([42])
    return "joined"


def setuid_file(program: str) -> str:
    """Run a file owned by root with the setuid bit; it prints its effective uid."""
    printed = subprocess.run([program, "-u"], capture_output=True, text=True, check=False).stdout
    if printed.strip() != "0":
        raise Refused("uid stayed")
    return "ran as uid 0"


def capable_file(program: str) -> str:
    """Run an interpreter marked with cap_net_raw; it opens a raw socket."""
    code = "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW); print('opened')"
    printed = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False)
    if printed.stdout.strip() != "opened":
        raise Refused("no capability")
    return "opened a packet socket"


def uid_map() -> str:
    """Rewrite the uid mapping of one's own user namespace (in a new one, if one may)."""
    uid = os.getuid()
    if uid == 0:
        syscall("unshare", CLONE_NEWUSER)
    with Path("/proc/self/uid_map").open("w") as mapping:
        mapping.write(f"0 {uid} 1")
    return "mapped"


def capabilities() -> str:
    """Hold any capability, or the right to get one."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    held = {k: status[k] for k in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")}
    if any(int(v, 16) for v in held.values()):
        return f"holds {held}"
    if status["NoNewPrivs"] != "1" or status["Seccomp"] != "2":
        return f"NoNewPrivs {status['NoNewPrivs']}, Seccomp {status['Seccomp']}"
    raise Refused("none")


def nice() -> str:
    """Take precedence over all others."""
    os.nice(-5)
    return "raised"


def realtime() -> str:
    """Run before everything else, in real time."""
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    return "real time"


def host_name() -> str:
    """Change the host's name."""
    socket.sethostname("owned")
    return "changed"


def kill_everyone() -> str:
    """Kill every process one can see, oneself excepted."""
    os.kill(-1, signal.SIGKILL)
    return "killed"


main(
    {
        "ptrace": ptrace,
        "vm-readv": vm_readv,
        "proc-mem": proc_mem,
        "pidfd": pidfd,
        "pidfd-getfd": pidfd_getfd,
        "spare-oneself": spare_oneself,
        "kill": kill,
        "renice": renice,
        "environ": environ,
        "sweep-processes": sweep_processes,
        "many-processes": many_processes,
        "shared-memory": shared_memory,
        "become-root": become_root,
        "set-groups": set_groups,
        "setuid-file": setuid_file,
        "capable-file": capable_file,
        "uid-map": uid_map,
        "capabilities": capabilities,
        "nice": nice,
        "realtime": realtime,
        "host-name": host_name,
        "kill-everyone": kill_everyone,
    }
)
