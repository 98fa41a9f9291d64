"""What Moorage's own programs in a build's pod share: how they reach the gateway, how they end.

The kubelet tells what is in TERMINATION_LOG in the pod's status. Standard library alone.
"""

import http.client
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

TERMINATION_LOG = "/dev/termination-log"
FILES, INSTALLED = "opt/moorage/files.list", "opt/moorage/installed.list"
"""Lists that these programs leave each other, where no step of a build writes."""

REFUSED, TOO_LARGE, UNREACHABLE, ANOTHERS = 10, 11, 12, 13
"""Exit codes: the files are not taken as they are; they are too many; the gateway is not there;
only another user, whose number is the message, may read them.
"""

_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 60.0
_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)  # a new pod's network takes a moment to let it out
MAX_SAID_BYTES = 2000  # the kubelet takes 4096


class Failed(Exception):
    """The program ends with `code`; the message is for the build's log."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def unreadable(owner: int, why: str) -> Failed:
    """Returns the failure of a program that may not read what a user owns.

    No pod runs as root.
    """
    if owner in (0, os.getuid()):
        return Failed(REFUSED, why)
    return Failed(ANOTHERS, str(owner))


def run(work: Callable[[], str]) -> None:
    """Does the work, and ends with its code; what it returns, or why it failed, is told."""
    try:
        said, code = work(), 0
    except Failed as failed:
        said, code = str(failed), failed.code
    content = said.encode(errors="replace")[:MAX_SAID_BYTES]
    Path(TERMINATION_LOG).write_bytes(content)
    sys.exit(code)


def patiently(work: Callable[[], str]) -> str:
    """Does what may be repeated, and repeats it after pauses while the gateway can't be reached."""
    for pause in _PAUSES_SECONDS:
        try:
            return work()
        except (OSError, http.client.HTTPException):
            time.sleep(pause)
    try:
        return work()
    except (OSError, http.client.HTTPException) as error:
        raise Failed(UNREACHABLE, f"the gateway can't be reached: {error!r}") from error


@contextmanager
def connected(url: str) -> Iterator[tuple[http.client.HTTPConnection, str]]:
    """Gives a connection to the URL's host, and the path to ask for."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_CONNECT_SECONDS)
    try:
        connection.connect()
        connection.sock.settimeout(_SILENCE_SECONDS)
        yield connection, parts.path
    finally:
        connection.close()


def answered(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    """Returns the gateway's answer. Raises Failed if it refuses, OSError if it may not again."""
    answer = connection.getresponse()
    if answer.status >= 500:
        raise OSError(f"the gateway answers {answer.status}")
    if answer.status >= 400:
        said = answer.read(MAX_SAID_BYTES).decode(errors="replace").strip()
        raise Failed(REFUSED, f"the gateway answers {answer.status}: {said}")
    return answer
