"""Makes the system call filter of apps: a classic BPF program for `bwrap --seccomp`.

Denied calls return an error number instead of killing, so that libraries can fall back. A call that
the program can't judge (by another architecture's convention) kills the process.
"""

import platform
import struct
from typing import NamedTuple

# Instructions and return values of linux/filter.h and linux/seccomp.h.
_LOAD = 0x20  # A = word at offset k
_JUMP_EQUAL = 0x15
_JUMP_GREATER_EQUAL = 0x35
_JUMP_ANY_BIT = 0x45
_AND = 0x54  # A = A & k
_RETURN = 0x06

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000

EPERM = 1
ENOSYS = 38
ENOPROTOOPT = 92
EPROTONOSUPPORT = 93
EAFNOSUPPORT = 97

_OFFSET_NUMBER = 0
_OFFSET_ARCH = 4
_OFFSET_ARGUMENTS = 16  # 64-bit words, little endian: the low half comes first

_X32_BIT = 0x40000000
_LAST_KNOWN_CALL = 466  # removexattrat; later calls may be harmful

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_TYPE_MASK = 0xF  # of a socket's type; other bits are SOCK_NONBLOCK, SOCK_CLOEXEC, or unused
_STREAM, _DGRAM, _RAW, _SEQPACKET = 1, 2, 3, 5
_INTERNET_PROTOCOLS = (0, 6, 17, 1, 58, 262)  # the type's own, TCP, UDP, ping, ping6, MPTCP
_NETLINK_ROUTE = 0
# Options that need no privilege, but reach kernel code that apps do not need: source routes,
# signatures of BGP sessions, protocols on top of TCP (such as kTLS) and IPsec in UDP.
_SOCKET_OPTIONS = {
    0: (4,),  # IPPROTO_IP: IP_OPTIONS
    6: (14, 31, 32, 38, 39, 40),  # TCP_MD5SIG, TCP_ULP, TCP_MD5SIG_EXT, TCP_AO_…
    17: (100,),  # UDP_ENCAP
}
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS … CLONE_NEWNET of clone(2)
_MAP_HUGETLB, _MFD_HUGETLB, _SHM_HUGETLB = 0x40000, 0x4, 0o4000  # control groups don't count these
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, 32-bit uname, 2.6 uname, query


class Instruction(NamedTuple):
    """One `struct sock_filter`; the jumps are numbers of instructions to skip."""

    code: int
    jump_true: int
    jump_false: int
    value: int


class Architecture(NamedTuple):
    """An architecture: its audit number, whether it has x32, and its call numbers by name."""

    audit: int
    has_x32: bool
    numbers: dict[str, int]


# The numbers in x86_64 and in the generic table (aarch64); None if the call does not exist there.
_CALLS: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "cachestat": (451, 451),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, None),
    "init_module": (175, 105),
    "io_cancel": (210, 3),
    "io_destroy": (207, 1),
    "io_getevents": (208, 4),
    "io_pgetevents": (333, 292),
    "io_setup": (206, 0),
    "io_submit": (209, 2),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listmount": (458, 458),
    "lookup_dcookie": (212, 18),
    "lsm_set_self_attr": (460, 460),
    "mbind": (237, 235),
    "memfd_create": (319, 279),
    "migrate_pages": (256, 238),
    "mmap": (9, 222),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "setdomainname": (171, 162),
    "shmget": (29, 194),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setsockopt": (54, 208),
    "settimeofday": (164, 170),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "statmount": (457, 457),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sysfs": (139, None),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "ustat": (136, None),
    "vhangup": (153, 58),
    "_sysctl": (156, None),
}
_JUDGED_BY_ARGUMENTS = (
    "clone", "clone3", "ioctl", "memfd_create", "mmap", "personality", "setsockopt", "shmget",
    "socket", "socketpair",
)  # fmt: skip
# Asynchronous I/O of the kernel: fs.aio-max-nr limits it for the whole machine. Programs that use
# it can do without.
_AIO = ("io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit")

DENIED = tuple(sorted(set(_CALLS) - {*_JUDGED_BY_ARGUMENTS, *_AIO}))
"""Calls that always fail with EPERM."""


def _numbers(column: int) -> dict[str, int]:
    return {name: number for name, pair in _CALLS.items() if (number := pair[column]) is not None}


ARCHITECTURES = {
    "x86_64": Architecture(audit=0xC000003E, has_x32=True, numbers=_numbers(0)),
    "aarch64": Architecture(audit=0xC00000B7, has_x32=False, numbers=_numbers(1)),
}


def build_filter(machine: str) -> list[Instruction]:
    """Returns the program for `machine`, as `platform.machine()` has it; else KeyError."""
    architecture = ARCHITECTURES[machine]
    numbers = architecture.numbers
    program = [
        _load(_OFFSET_ARCH),
        Instruction(_JUMP_EQUAL, 1, 0, architecture.audit),
        Instruction(_RETURN, 0, 0, KILL_PROCESS),
        _load(_OFFSET_NUMBER),
    ]
    if architecture.has_x32:
        program += _refuse_from(_X32_BIT)
    program += _refuse_from(_LAST_KNOWN_CALL + 1)
    for name in DENIED:
        if name in numbers:
            program += _when(numbers[name], [_errno(EPERM)])
    for name in _AIO:
        program += _when(numbers[name], [_errno(ENOSYS)])
    program += _when(numbers["memfd_create"], _deny_bits(1, _MFD_HUGETLB))
    program += _when(numbers["shmget"], _deny_bits(2, _SHM_HUGETLB))
    program += _when(numbers["mmap"], _deny_bits(3, _MAP_HUGETLB))
    program += _when(numbers["clone3"], [_errno(ENOSYS)])  # a filter can't read its flags in memory
    program += _when(numbers["clone"], _deny_bits(0, _NEW_NAMESPACES))
    program += _when(numbers["socket"], _socket_rules())
    program += _when(numbers["socketpair"], _pair_rules())
    program += _when(numbers["setsockopt"], _option_rules())
    program += _when(numbers["personality"], _allow_only(0, _PERSONALITIES, EPERM))
    program += _when(numbers["ioctl"], _deny_values(1, (_TIOCSTI, _TIOCLINUX)))
    program.append(Instruction(_RETURN, 0, 0, ALLOW))
    return program


def assemble(program: list[Instruction]) -> bytes:
    """Encodes `program` for the kernel: 8 bytes per instruction, native byte order."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def filter_bytes() -> bytes:
    """Returns the assembled program for this machine. Raises KeyError if there is none."""
    return assemble(build_filter(platform.machine()))


def _load(offset: int) -> Instruction:
    return Instruction(_LOAD, 0, 0, offset)


def _errno(number: int) -> Instruction:
    return Instruction(_RETURN, 0, 0, _ERRNO | number)


def _argument(index: int) -> Instruction:
    """Loads an argument's low half, which is all that the kernel reads of an int."""
    return _load(_OFFSET_ARGUMENTS + 8 * index)


def _when(number: int, body: list[Instruction]) -> list[Instruction]:
    """Runs `body`, which must return, if the loaded value is `number`; keeps the value if not."""
    return [Instruction(_JUMP_EQUAL, 0, len(body), number), *body]


def _refuse_from(first: int) -> list[Instruction]:
    return [Instruction(_JUMP_GREATER_EQUAL, 0, 1, first), _errno(ENOSYS)]


def _deny_bits(argument: int, bits: int) -> list[Instruction]:
    return [
        _argument(argument),
        Instruction(_JUMP_ANY_BIT, 0, 1, bits),
        _errno(EPERM),
        Instruction(_RETURN, 0, 0, ALLOW),
    ]


def _deny_values(argument: int, values: tuple[int, ...], error: int = EPERM) -> list[Instruction]:
    body = [_argument(argument)]
    for value in values:
        body += [Instruction(_JUMP_EQUAL, 0, 1, value), _errno(error)]
    return [*body, Instruction(_RETURN, 0, 0, ALLOW)]


def _allow_only(argument: int, values: tuple[int, ...], error: int) -> list[Instruction]:
    body = [_argument(argument)]
    for value in values:
        body += [Instruction(_JUMP_EQUAL, 0, 1, value), Instruction(_RETURN, 0, 0, ALLOW)]
    return [*body, _errno(error)]


def _socket_rules() -> list[Instruction]:
    """Allows AF_UNIX; AF_INET and AF_INET6 with common types and protocols; part of AF_NETLINK.

    The kernel would load modules for rarer protocols. Of AF_NETLINK it allows what getifaddrs uses
    to list interfaces.
    """
    internet = [
        *_require_type(_STREAM, _DGRAM),
        *_allow_only(2, _INTERNET_PROTOCOLS, EPROTONOSUPPORT),
    ]
    netlink = [*_require_type(_RAW, _DGRAM), *_allow_only(2, (_NETLINK_ROUTE,), EPROTONOSUPPORT)]
    return [
        _argument(0),
        *_when(_AF_UNIX, _unix_rules()),
        *_when(_AF_INET, internet),
        *_when(_AF_INET6, internet),
        *_when(_AF_NETLINK, netlink),
        _errno(EAFNOSUPPORT),
    ]


def _pair_rules() -> list[Instruction]:
    return [_argument(0), *_when(_AF_UNIX, _unix_rules()), _errno(EAFNOSUPPORT)]


def _unix_rules() -> list[Instruction]:
    return [*_require_type(_STREAM, _DGRAM, _SEQPACKET), Instruction(_RETURN, 0, 0, ALLOW)]


def _require_type(*types: int) -> list[Instruction]:
    """Continues for a socket of one of these types; others fail with EPERM."""
    body = [_argument(1), Instruction(_AND, 0, 0, _TYPE_MASK)]
    for left, kind in zip(range(len(types) - 1, -1, -1), types, strict=True):
        body.append(Instruction(_JUMP_EQUAL, left + 1, 0, kind))
    return [*body, _errno(EPERM)]


def _option_rules() -> list[Instruction]:
    """Allows all socket options except `_SOCKET_OPTIONS`."""
    body = [_argument(1)]
    for level, options in _SOCKET_OPTIONS.items():
        body += _when(level, _deny_values(2, options, ENOPROTOOPT))
    return [*body, Instruction(_RETURN, 0, 0, ALLOW)]
