"""What the attacks share: run one attempt by name and print how it went as one JSON line.

An attempt returns a sentence about what it got hold of, or raises: an OSError's name, or Refused's
text, is the detail of its failure. Only the standard library, so that it runs anywhere.
"""

import ctypes
import errno
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping

Act = Callable[..., str]

LIBC = ctypes.CDLL(None, use_errno=True)
X86_64 = platform.machine() == "x86_64"

# The numbers differ per architecture up to 423, and agree from 424 on.
NUMBERS: dict[str, tuple[int, int]] = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clone": (56, 220),
    "clone3": (435, 435),
    "fanotify_init": (300, 262),
    "fsopen": (430, 430),
    "io_setup": (206, 0),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "mount": (165, 40),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "setns": (308, 268),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}


class Refused(Exception):
    """The attempt got nowhere; says how that showed."""


def syscall(name: str, *args: object) -> int:
    """The result of a raw system call. Raises OSError."""
    wide = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result: int = LIBC.syscall(NUMBERS[name][0 if X86_64 else 1], *wide)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def outcome(act: Act, args: list[str]) -> tuple[bool, str]:
    """Whether the attempt succeeded, and the detail."""
    try:
        return True, act(*args)
    except TimeoutError:
        return False, "timeout"
    except OSError as error:
        return False, errno.errorcode.get(error.errno or 0, repr(error))
    except Refused as refused:
        return False, str(refused)


def main(attempts: Mapping[str, Act]) -> None:
    """Run the attempt that the command line names."""
    name, *args = sys.argv[1:]
    succeeded, detail = outcome(attempts[name], args)
    line = {"attempt": name, "succeeded": succeeded, "detail": detail}
    print(json.dumps(line), flush=True)
