"""Attempts to use up what is shared: processes, memory, disk, files, CPU, log.

Each stops by itself at a bound that the machine bears, sandbox or not.
"""

import contextlib
import errno
import json
import os
import resource
import signal
import socket
import time
from pathlib import Path

from attempt import Refused, main

MEBIBYTE = 1 << 20
FLOOD_SECONDS = 6.0
FULL_DISK_SECONDS = 15.0


def fork(count: str) -> str:
    """Start processes without end; they sleep and die with this one's return."""
    children: list[int] = []
    try:
        for _ in range(int(count)):
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)
    except OSError as error:
        raise OSError(error.errno, f"after {len(children)}") from error
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)
    return f"{count} processes at once"


def memory(mebibytes: str) -> str:
    """Take memory, and touch it."""
    held = []
    for _ in range(int(mebibytes)):
        held.append(os.urandom(4096) * (MEBIBYTE // 4096))  # noqa: PERF401
    return f"{len(held)} MiB"


def disk(directory: str, mebibytes: str) -> str:
    """Fill a disk (and free it again)."""
    path = Path(directory, f"filler-{os.getpid()}")
    block = os.urandom(MEBIBYTE)
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(int(mebibytes)):
                written = file.write(block)
                if written < MEBIBYTE:
                    file.write(block)
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)
    return f"{mebibytes} MiB"


def inodes(directory: str, count: str) -> str:
    """Use up a disk's inodes with empty files (and remove them again)."""
    folder = Path(directory, f"files-{os.getpid()}")
    folder.mkdir()
    made = 0
    try:
        for made in range(int(count)):
            os.close(os.open(f"{folder}/{made}", os.O_CREAT | os.O_WRONLY))
    finally:
        for number in range(made + 1):
            with contextlib.suppress(FileNotFoundError):
                (folder / str(number)).unlink()
        folder.rmdir()
    return f"{count} files"


def fill(directory: str) -> str:
    """Leave a disk without a free inode and without a free block."""
    made = 0
    with contextlib.suppress(OSError):
        while True:
            os.close(os.open(f"{directory}/filler-{made}", os.O_CREAT | os.O_WRONLY))
            made += 1
    with Path(directory, "filler-0").open("wb", buffering=0) as file:
        for size in (MEBIBYTE, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass
    return f"{made} files"


def flows(address: str, count: str) -> str:
    """Open connections without end: a datagram to each port is one that the host must remember."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        for number in range(int(count)):
            with contextlib.suppress(OSError):
                endpoint.sendto(b"", (address, 1024 + number))
    return f"{count} flows"


def queries(address: str, count: str) -> str:
    """Ask a name server from as many ports: each question is one that the host must remember."""
    for _ in range(int(count)):
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint,
        ):
            endpoint.sendto(b"", (address, 53))
    return f"{count} questions"


def sockets(mebibytes: str) -> str:
    """Have the kernel hold memory in connections to oneself that nobody reads."""
    held = 0
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        while held < int(mebibytes) * MEBIBYTE and len(kept) < 600:
            sender = socket.create_connection(server.getsockname())
            sender.setblocking(False)
            kept += [sender, server.accept()[0]]
            with contextlib.suppress(BlockingIOError):
                while True:
                    held += sender.send(bytes(1 << 18))
    for endpoint in kept:
        endpoint.close()
    return json.dumps({"mebibytes": held // MEBIBYTE})


def send(address: str, port: str, seconds: str) -> str:
    """Send as much as one can for so many seconds."""
    deadline, sent = time.monotonic() + float(seconds), 0
    with socket.create_connection((address, int(port)), timeout=5) as connection:
        connection.settimeout(1)
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                sent += connection.send(bytes(1 << 16))
    return f"{sent} bytes"


def scan(address: str, port: str, count: str, seconds: str) -> str:
    """Begin connections as fast as one can, and see how many come about in so many seconds."""
    sockets, deadline = [], time.monotonic() + float(seconds)
    for _ in range(int(count)):
        endpoint = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        endpoint.setblocking(False)
        endpoint.connect_ex((address, int(port)))
        sockets.append(endpoint)
        if time.monotonic() > deadline:
            break
    time.sleep(max(0.0, deadline - time.monotonic()))
    for endpoint in sockets:
        endpoint.close()
    return f"{len(sockets)} begun"


def cpu(seconds: str, processes: str) -> str:
    """Burn CPU for so many seconds of wall time; says how much it got."""
    started = time.monotonic()
    children = []
    for _ in range(int(processes)):
        pid = os.fork()
        if pid == 0:
            _burn_until(started + float(seconds))
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    wall = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return json.dumps({"wall_seconds": wall, "cpu_seconds": used.ru_utime + used.ru_stime})


def _burn_until(deadline: float) -> None:
    while time.monotonic() < deadline:
        sum(range(10_000))


def log(mebibytes: str) -> str:
    """Write a flood of lines to the standard output, and an end mark."""
    _flood((b"x" * 1023 + b"\n") * 64, int(mebibytes))
    _write(b"\nend-of-flood\n")
    return f"{mebibytes} MiB"


def log_one_line(mebibytes: str) -> str:
    """The same without a line break, and without valid UTF-8."""
    _flood(b"\xff\x00\x1b[31m" * 16_384, int(mebibytes))
    _write(b"\nend-of-flood\n")
    return f"{mebibytes} MiB"


def _flood(block: bytes, mebibytes: int) -> None:
    deadline = time.monotonic() + FLOOD_SECONDS
    for _ in range(mebibytes * MEBIBYTE // len(block)):
        _write(block)
        if time.monotonic() > deadline:
            return


def _write(block: bytes) -> None:
    """Write all of it, for as long as a full disk may take to be emptied."""
    deadline = time.monotonic() + FULL_DISK_SECONDS
    while block:
        try:
            block = block[os.write(1, block) :]
        except OSError as error:
            if error.errno != errno.ENOSPC or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def stay(marker: str) -> str:
    """Leave processes behind that no parent, session or group leads to, deaf to SIGTERM."""
    for number in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                _outlive(f"{marker}-{number}")
            os._exit(0)
    raise Refused("left behind")


def _outlive(name: str) -> None:
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
    with contextlib.suppress(OSError), Path("/proc/self/comm").open("w") as comm:
        comm.write("kworker/u4:0")
    os.execv("/bin/sleep", [name, "600"])


main(
    {
        "fork": fork,
        "memory": memory,
        "disk": disk,
        "inodes": inodes,
        "fill": fill,
        "flows": flows,
        "queries": queries,
        "sockets": sockets,
        "send": send,
        "scan": scan,
        "cpu": cpu,
        "log": log,
        "log-one-line": log_one_line,
        "stay": stay,
    }
)
