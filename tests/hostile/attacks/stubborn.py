"""Apps that misbehave in ways that make them hard to end or to serve: `stubborn.py HOW`.

Each serves on PORT as far as its way allows.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def deaf() -> None:
    """Ignores every signal that can be, closes its output, takes a kernel thread's name."""
    for signum in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(signum, signal.SIG_IGN)
    Path("/proc/self/comm").write_text("kthreadd")
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    serve()


def frozen() -> None:
    """Stops itself once it has answered, so that it handles no signal at all."""
    serve(answers=1)
    os.kill(os.getpid(), signal.SIGSTOP)


def slow() -> None:
    """Takes every connection and answers a byte a second."""
    held = []
    with listening() as endpoint:
        endpoint.settimeout(0.5)
        while True:
            with contextlib.suppress(TimeoutError):
                held.append(endpoint.accept()[0])
            for connection in held:
                with contextlib.suppress(OSError):
                    connection.send(b"H")


def endless() -> None:
    """Answers with headers that never end."""
    with listening() as endpoint:
        while True:
            connection, _ = endpoint.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.0 200 OK\r\n")
                while True:
                    connection.sendall(b"X-Filler: " + b"x" * 65_536 + b"\r\n")


def crowded() -> None:
    """Listens on thousands of other ports first, so that its own is hard to find among them."""
    held = [socket.create_server(("0.0.0.0", port)) for port in range(10_000, 25_000)]
    serve()
    del held


def leased() -> None:
    """Takes a lease on its own log: who opens it waits until the app gives it back, or 45 s."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        fcntl.fcntl(1, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        state = b"leased"
    except OSError as error:
        state = os.strerror(error.errno or 0).encode()
    serve(body=b'{"lease": "' + state + b'"}')


def meddling() -> None:
    """Tries all it can do to the pipe that its output goes to, and tells who asks; from then on it
    floods it byte by byte."""
    attempts = {
        "grow": lambda: os.ftruncate(1, 1 << 40),
        "own": lambda: os.fchmod(1, 0o666),
        "lease": lambda: fcntl.fcntl(1, fcntl.F_SETLEASE, fcntl.F_WRLCK),
        "read": lambda: os.open("/dev/stdout", os.O_RDONLY | os.O_NONBLOCK),
        "lock": lambda: fcntl.flock(1, fcntl.LOCK_EX),
        "shrink": lambda: fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 4096),
        "packets": lambda: fcntl.fcntl(1, fcntl.F_SETFL, os.O_DIRECT),
    }
    done = {name: _outcome(attempt) for name, attempt in attempts.items()}
    os.write(1, b"still here\n")
    serve(answers=1, body=json.dumps(done).encode())
    while True:
        os.write(1, b"\n")


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "done"


def listening() -> socket.socket:
    """The app's port."""
    return socket.create_server(("0.0.0.0", int(os.environ["PORT"])), backlog=128)


def serve(*, answers: int | None = None, body: bytes = b"{}") -> None:
    """Answer, so many times or forever."""
    head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    served = 0
    with listening() as endpoint:
        while answers is None or served < answers:
            connection, _ = endpoint.accept()
            with connection, contextlib.suppress(OSError):
                if connection.recv(4096):
                    connection.sendall(head + body)
                    served += 1


def main() -> None:
    """Misbehave as the command line says."""
    ways = {
        "deaf": deaf,
        "frozen": frozen,
        "slow": slow,
        "endless": endless,
        "crowded": crowded,
        "leased": leased,
        "meddling": meddling,
    }
    ways[sys.argv[1]]()
    time.sleep(600)


if __name__ == "__main__":
    main()
