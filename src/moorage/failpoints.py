"""Failpoints: named places in the code where a test acts, or ends the process."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_acts: list[Callable[[str], object]] = []


def failpoint(name: str) -> None:
    """Calls with `name` what a test has armed; otherwise does nothing."""
    for act in tuple(_acts):
        act(name)


@contextmanager
def armed(act: Callable[[str], object]) -> Iterator[None]:
    """Has every failpoint of this process call `act` with its name."""
    _acts.append(act)
    try:
        yield
    finally:
        _acts.remove(act)


def crash_at(name: str) -> Callable[[str], None]:
    """Ends this process, as `kill -9` does, at the failpoint of that name."""

    def act(reached: str) -> None:
        if reached == name:
            os.kill(os.getpid(), signal.SIGKILL)

    return act
