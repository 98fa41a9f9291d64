"""Processes that stand still for a while, as on a machine that hangs."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support.gateway.waiting import until


@asynccontextmanager
async def standing_still(pid: int) -> AsyncIterator[None]:
    """Stop a process, so that it does nothing any more, until the block is left."""
    os.kill(pid, signal.SIGSTOP)
    try:
        await until(lambda: is_stopped(pid))  # until then it may still answer
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    """Whether every thread of a process has stopped."""
    try:
        states = [
            file.read_text(errors="replace") for file in Path(f"/proc/{pid}/task").glob("*/stat")
        ]
    except (FileNotFoundError, ProcessLookupError):  # a thread that ended just now
        return False
    return all(state.rpartition(")")[2].split()[0] == "T" for state in states)
