"""A second machine: a network namespace of its own, which the test's machine reaches by a cable."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class SecondMachine:
    """What runs on it is run by `inside`; it has `address`, and sees the test's as `ours`."""

    inside: tuple[str, ...]
    address: str
    ours: str


@contextlib.contextmanager
def second_machine() -> Iterator[SecondMachine]:
    """All that ran on it must be gone at the end."""
    name, slot = f"ye{os.getpid()}", os.getpid() % 16_384
    ours, theirs = (f"100.126.{slot >> 6}.{(slot & 63) * 4 + host}" for host in (1, 2))
    inside = ("nsenter", f"--net=/run/netns/{name}")
    with contextlib.ExitStack() as ends:
        _run("ip", "netns", "add", name)
        ends.callback(_run, "ip", "netns", "delete", name)
        _run("ip", "link", "add", name, "type", "veth", "peer", "name", "up0", "netns", name)
        ends.callback(_run, "ip", "link", "delete", name)
        _run("ip", "address", "add", f"{ours}/30", "dev", name)
        _run("ip", "link", "set", name, "up")
        _run(*inside, "ip", "link", "set", "lo", "up")
        _run(*inside, "ip", "address", "add", f"{theirs}/30", "dev", "up0")
        _run(*inside, "ip", "link", "set", "up0", "up")
        _run(*inside, "ip", "route", "add", "default", "via", ours)
        yield SecondMachine(inside, theirs, ours)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
