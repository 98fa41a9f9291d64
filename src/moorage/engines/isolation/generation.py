"""The generation of the machine's packet filter: a number that changes with each change of it.

Asking the kernel for it takes microseconds; asking `nft` what is loaded takes a process.
"""

import socket
import struct
from collections.abc import Callable
from pathlib import Path

_NETLINK_NETFILTER = 12
_GET_GENERATION = 10 << 8 | 16  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
_NEW_GENERATION = 10 << 8 | 15
_NLM_F_REQUEST = 1
_ANSWER_BYTES = 4096
_GENERATION_OFFSET = 24  # after the headers of message, nfnetlink and the first attribute
_TIMEOUT_SECONDS = 5.0
_LEGACY_TABLES = Path("/proc/thread-self/net/ip_tables_names")


class FilterWatch:
    """Remembers the generation at which the filter was found in order."""

    def __init__(self) -> None:
        self._in_order: int | None = None

    def look(self, mend: Callable[[], None]) -> None:
        """Calls `mend`, which checks the filter, unless nothing changed since its last call."""
        current = generation()
        if current is not None and current == self._in_order:
            return
        mend()
        self._in_order = current  # if it mended something, the next look checks that


def generation() -> int | None:
    """Returns the generation in this thread's network namespace; None if that may not tell all.

    It counts changes by nftables alone, so not those of an iptables of the older kind.
    """
    try:
        if _LEGACY_TABLES.read_text():
            return None
    except OSError:  # the kernel has no such tables
        pass
    try:
        return _asked()
    except OSError:
        return None


def _asked() -> int | None:
    question = struct.pack("=IHHIIBBH", 20, _GET_GENERATION, _NLM_F_REQUEST, 0, 0, 0, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as asking:
        asking.settimeout(_TIMEOUT_SECONDS)
        asking.send(question)
        answer = asking.recv(_ANSWER_BYTES)
    if struct.unpack_from("=H", answer, 4)[0] != _NEW_GENERATION:
        return None
    return int.from_bytes(answer[_GENERATION_OFFSET : _GENERATION_OFFSET + 4], "big")
