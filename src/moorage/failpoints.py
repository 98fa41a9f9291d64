"""Failpoints: named places in the code where a test can act, or end the process."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_acts: list[Callable[[str], object]] = []


def failpoint(name: str) -> None:
    """Calls every function that a test has armed with `name`; does nothing outside tests."""
    for act in tuple(_acts):
        act(name)


@contextmanager
def armed(act: Callable[[str], object]) -> Iterator[None]:
    """Makes every failpoint of this process call `act` with its name, within the block."""
    _acts.append(act)
    try:
        yield
    finally:
        _acts.remove(act)


def crash_at(name: str) -> Callable[[str], None]:
    """Returns a function to arm: it kills this process (SIGKILL) at the failpoint `name`."""

    def act(reached: str) -> None:
        if reached == name:
            os.kill(os.getpid(), signal.SIGKILL)

    return act
