"""Drops a parser process's rights before it reads a stranger's bytes.

It keeps only its socket, the page with the file that it reads, and, while it works, the descriptors
that came with a job.
"""

import ctypes
import os
import resource

NOBODY = 65_534
MAX_CPU_SECONDS = 120  # of all jobs together; a process is replaced before it has used them
_MAX_DESCRIPTORS = 16
_NICENESS = 5  # so that the gateway's own process goes first

_PR_SET_DUMPABLE = 4  # prctl(2)
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNET, _CLONE_NEWIPC, _CLONE_NEWUSER = 0x40000000, 0x08000000, 0x10000000  # unshare(2)


def confine(*, max_memory_bytes: int, max_file_bytes: int) -> None:
    """Drops rights and network, and limits resources. Raises OSError where that is impossible."""
    os.nice(_NICENESS)
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        _call(libc.unshare(_CLONE_NEWNET | _CLONE_NEWIPC))
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    else:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC)  # may fail: not all users may
    _call(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _call(libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
    for limit, value in (
        (resource.RLIMIT_AS, max_memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, MAX_CPU_SECONDS),
        (resource.RLIMIT_FSIZE, max_file_bytes),
        (resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS),
        (resource.RLIMIT_NPROC, 0),
    ):
        _, hard = resource.getrlimit(limit)
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (lower, lower))


def _call(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
