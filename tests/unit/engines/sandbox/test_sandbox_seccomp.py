"""The filter, run by a small interpreter of classic BPF (linux/filter.h) over seccomp_data."""

import struct

import pytest

from moorage.engines.isolation.seccomp import (
    ARCHITECTURES,
    DENIED,
    Instruction,
    assemble,
    build_filter,
)

X86_64, AARCH64 = 0xC000003E, 0xC00000B7
ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS, ENOPROTOOPT, EPROTONOSUPPORT, EAFNOSUPPORT = 1, 38, 92, 93, 97
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, SOCK_DCCP, SOCK_PACKET = (
    *(1, 2, 3, 4, 5, 6),
    10,
)
SOCK_NONBLOCK, SOCK_CLOEXEC = 0x800, 0x80000


def evaluate(program: list[Instruction], data: bytes) -> int:
    accumulator, position = 0, 0
    while True:
        code, when_true, when_false, value = program[position]
        position += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return value
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[code]
            position += when_true if holds else when_false


def verdict(
    number: int, *arguments: int, machine: str = "x86_64", architecture: int | None = None
) -> int | str:
    """ "allow", "kill", or the error number the call answers."""
    audit = {"x86_64": X86_64, "aarch64": AARCH64}[machine]
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", number, architecture or audit, 0, *padded)
    result = evaluate(build_filter(machine), data)
    if result == ALLOW:
        return "allow"
    if result == KILL:
        return "kill"
    assert result & 0xFFFF0000 == 0x00050000
    return result & 0xFFFF


# Numbers from the kernel's own tables (arch/x86/entry/syscalls, include/uapi/asm-generic).
@pytest.mark.parametrize(
    ("name", "x86_64", "aarch64"),
    [
        ("io_uring_setup", 425, 425),
        ("bpf", 321, 280),
        ("userfaultfd", 323, 282),
        ("keyctl", 250, 219),
        ("add_key", 248, 217),
        ("request_key", 249, 218),
        ("perf_event_open", 298, 241),
        ("ptrace", 101, 117),
        ("process_vm_readv", 310, 270),
        ("process_vm_writev", 311, 271),
        ("pidfd_getfd", 438, 438),
        ("mount", 165, 40),
        ("umount2", 166, 39),
        ("pivot_root", 155, 41),
        ("fsopen", 430, 430),
        ("move_mount", 429, 429),
        ("open_tree", 428, 428),
        ("mount_setattr", 442, 442),
        ("unshare", 272, 97),
        ("setns", 308, 268),
        ("kexec_load", 246, 104),
        ("init_module", 175, 105),
        ("finit_module", 313, 273),
        ("quotactl", 179, 60),
        ("open_by_handle_at", 304, 265),
        ("swapon", 167, 224),
        ("reboot", 169, 142),
    ],
)
def test_dangerous_call_is_denied(name: str, x86_64: int, aarch64: int) -> None:
    assert name in DENIED
    assert verdict(x86_64) == EPERM
    assert verdict(aarch64, machine="aarch64") == EPERM


@pytest.mark.parametrize("number", [0, 1, 9, 57, 59, 202, 257, 262, 332, 334, 441, 449, 466])
def test_ordinary_call_is_allowed(number: int) -> None:
    """read, write, mmap, fork, execve, futex, openat, newfstatat, statx, rseq, epoll_pwait2 …"""
    assert verdict(number) == "allow"


@pytest.mark.parametrize("number", [56, 57, 63, 64, 98, 221, 222, 260, 291, 293])
def test_ordinary_call_is_allowed_on_aarch64(number: int) -> None:
    """openat, close, read, write, futex, execve, mmap, wait4, statx, rseq."""
    assert verdict(number, machine="aarch64") == "allow"


def test_call_newer_than_the_filter_is_unknown() -> None:
    assert verdict(467) == ENOSYS
    assert verdict(600, machine="aarch64") == ENOSYS


def test_x32_call_is_unknown() -> None:
    assert verdict(0x40000000 | 1) == ENOSYS
    assert verdict(0x40000000 | 321) == ENOSYS


@pytest.mark.parametrize("architecture", [0x40000003, AARCH64, 0])
def test_call_of_another_architecture_kills(architecture: int) -> None:
    data = struct.pack("<IIQ6Q", 1, architecture, 0, *[0] * 6)
    assert evaluate(build_filter("x86_64"), data) == KILL


@pytest.mark.parametrize("family", [1, 2, 10])
def test_unix_and_internet_sockets_are_allowed(family: int) -> None:
    assert verdict(41, family, 1) == "allow"
    assert verdict(198, family, 1, machine="aarch64") == "allow"


@pytest.mark.parametrize("family", [0, 17, 38, 40, 44, 29, 31, 16 + 2**31])
def test_other_socket_families_do_not_exist(family: int) -> None:
    """Packet, AF_ALG, vsock, XDP, CAN, Bluetooth."""
    assert verdict(41, family, 1) == EAFNOSUPPORT


def test_family_is_judged_by_the_half_the_kernel_reads() -> None:
    assert verdict(41, (1 << 32) | 40, 1) == EAFNOSUPPORT
    assert verdict(41, (1 << 32) | 2, 1) == "allow"


@pytest.mark.parametrize("family", [2, 10])
def test_internet_sockets_speak_everyday_protocols_only(family: int) -> None:
    """TCP, UDP, ICMP, ICMPv6 and MPTCP; not SCTP, DCCP, UDP-Lite or L2TP (IANA's numbers)."""
    for protocol in (0, 6, 17, 1, 58, 262):
        assert verdict(41, family, 1, protocol) == "allow"
    for protocol in (132, 33, 136, 115):
        assert verdict(41, family, 1, protocol) == EPROTONOSUPPORT


def test_netlink_is_for_listing_interfaces_only() -> None:
    assert verdict(41, 16, 3, 0) == "allow"
    assert verdict(41, 16, 3, 12) == EPROTONOSUPPORT
    assert verdict(41, 16, 3, 4) == EPROTONOSUPPORT


def test_socket_pairs_are_unix_only() -> None:
    assert verdict(53, 1, 1) == "allow"
    assert verdict(53, 40, 1) == EAFNOSUPPORT


@pytest.mark.parametrize("flags", [0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC])
@pytest.mark.parametrize("kind", [0, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, SOCK_DCCP, SOCK_PACKET])
@pytest.mark.parametrize("family", [2, 10])
def test_internet_sockets_are_of_everyday_types_only(family: int, kind: int, flags: int) -> None:
    assert verdict(41, family, kind | flags) == EPERM
    assert verdict(198, family, kind | flags, machine="aarch64") == EPERM
    for everyday in (SOCK_STREAM, SOCK_DGRAM):
        assert verdict(41, family, everyday | flags) == "allow"


@pytest.mark.parametrize("call", [41, 53])
def test_unix_sockets_are_of_everyday_types_only(call: int) -> None:
    for kind in (SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET | SOCK_CLOEXEC):
        assert verdict(call, 1, kind) == "allow"
    for kind in (SOCK_RAW, SOCK_RDM, SOCK_DCCP, SOCK_PACKET | SOCK_CLOEXEC):
        assert verdict(call, 1, kind) == EPERM


def test_type_is_judged_by_the_half_the_kernel_reads() -> None:
    assert verdict(41, 2, (1 << 32) | SOCK_PACKET) == EPERM
    assert verdict(41, 2, (1 << 32) | SOCK_STREAM) == "allow"


@pytest.mark.parametrize(
    ("level", "option"), [(0, 4), (6, 14), (6, 31), (6, 32), (6, 38), (17, 100)]
)
def test_socket_option_that_reaches_rare_code_does_not_exist(level: int, option: int) -> None:
    """IP_OPTIONS, TCP_MD5SIG, TCP_ULP, TCP_MD5SIG_EXT, TCP_AO_ADD_KEY, UDP_ENCAP."""
    assert verdict(54, 5, level, option) == ENOPROTOOPT
    assert verdict(208, 5, level, option, machine="aarch64") == ENOPROTOOPT


@pytest.mark.parametrize(
    ("level", "option"), [(1, 2), (1, 14), (6, 1), (6, 4), (0, 1), (41, 26), (17, 103), (1, 31)]
)
def test_other_socket_options_are_allowed(level: int, option: int) -> None:
    """SO_REUSEADDR, TCP_NODELAY, TCP_KEEPIDLE, IP_TOS, IPV6_V6ONLY, UDP_SEGMENT; not by number."""
    assert verdict(54, 5, level, option) == "allow"


@pytest.mark.parametrize(
    ("x86_64", "aarch64"), [(206, 0), (207, 1), (209, 2), (210, 3), (208, 4), (333, 292)]
)
def test_kernels_asynchronous_io_is_unknown(x86_64: int, aarch64: int) -> None:
    """io_setup, io_destroy, io_submit, io_cancel, io_getevents, io_pgetevents."""
    assert verdict(x86_64) == ENOSYS
    assert verdict(aarch64, machine="aarch64") == ENOSYS


def test_huge_pages_which_no_group_counts_are_not_given() -> None:
    """MAP_HUGETLB, MFD_HUGETLB, SHM_HUGETLB."""
    assert verdict(9, 0, 4096, 3, 0x40022) == EPERM
    assert verdict(319, 0, 0x4) == EPERM
    assert verdict(29, 0, 4096, 0o4600) == EPERM
    assert verdict(9, 0, 4096, 3, 0x22) == "allow"
    assert verdict(319, 0, 0x1) == "allow"
    assert verdict(29, 0, 4096, 0o1600) == "allow"


@pytest.mark.parametrize(
    "flag",
    [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000],
)
def test_clone_makes_no_namespace(flag: int) -> None:
    """CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
    assert verdict(56, flag | 17) == EPERM
    assert verdict(220, flag | 17, machine="aarch64") == EPERM


def test_clone_makes_threads_and_processes() -> None:
    assert verdict(56, 0x003D0F00) == "allow"  # what pthread_create passes
    assert verdict(56, 17) == "allow"  # fork: SIGCHLD


def test_clone3_is_unknown_so_that_libc_falls_back() -> None:
    assert verdict(435) == ENOSYS


@pytest.mark.parametrize("request_number", [0x5412, 0x541C, (1 << 32) | 0x5412])
def test_terminal_input_is_not_forged(request_number: int) -> None:
    assert verdict(16, 0, request_number) == EPERM


def test_other_ioctls_are_allowed() -> None:
    assert verdict(16, 1, 0x5401) == "allow"  # TCGETS


def test_personality_is_only_asked_for() -> None:
    assert verdict(135, 0xFFFFFFFF) == "allow"
    assert verdict(135, 0x0040000) == EPERM  # ADDR_NO_RANDOMIZE


@pytest.mark.parametrize(("x86_64", "aarch64"), [(319, 279), (447, 447), (29, 194)])
def test_memory_is_shared_as_control_groups_count_it(x86_64: int, aarch64: int) -> None:
    """memfd_create, memfd_secret, shmget."""
    assert verdict(x86_64) == "allow"
    assert verdict(aarch64, machine="aarch64") == "allow"


@pytest.mark.parametrize("machine", sorted(ARCHITECTURES))
def test_every_jump_stays_inside_and_every_path_returns(machine: str) -> None:
    program = build_filter(machine)
    assert len(program) < 4096  # BPF_MAXINSNS
    for position, (code, when_true, when_false, _) in enumerate(program):
        assert 0 <= when_true < 256
        assert 0 <= when_false < 256
        if code in (0x15, 0x35, 0x45):
            assert position + 1 + max(when_true, when_false) < len(program)
    assert program[-1].code == 0x06


def test_assembled_instruction_is_a_sock_filter() -> None:
    assert assemble([Instruction(0x15, 1, 2, 0xC000003E)]) == bytes.fromhex("150001023e0000c0")
