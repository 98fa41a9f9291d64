"""Processes that outlive their starter, known again and ended."""

import asyncio
import os
import signal
import threading
from pathlib import Path

import msgspec
import pytest

from moorage.process import (
    ProcessRecord,
    find_running,
    is_running,
    spawn_detached,
    terminate,
    wait_until_ended,
    works_in,
)

DEADLINE_SECONDS = 60.0


def spawn(directory: Path, script: str) -> ProcessRecord:
    command = ("/bin/sh", "-c", script, str(directory))
    environment = {"PATH": os.environ["PATH"]}
    return spawn_detached(
        command, directory=directory, environment=environment, output=directory / "out"
    )


async def until_said(directory: Path, text: str) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while text not in (directory / "out").read_text(errors="replace"):
            await asyncio.sleep(0.01)


async def test_process_is_found_where_it_was_started_and_ended(tmp_path: Path) -> None:
    # It waits without a child, which would have its command until it becomes another program.
    record = spawn(tmp_path, "mkfifo never; pwd; read line < never")
    await until_said(tmp_path, str(tmp_path))
    assert is_running(record)
    assert find_running(record.command) == [record]
    assert works_in(record, tmp_path)
    assert not works_in(record, Path("/"))
    assert os.getsid(record.pid) == record.pid
    await terminate(record, grace_seconds=60)
    assert not is_running(record)
    assert find_running(record.command) == []


async def test_process_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    record = spawn(tmp_path, "trap '' TERM; echo deaf; while :; do sleep 1; done")
    await until_said(tmp_path, "deaf")
    await terminate(record, grace_seconds=0.05)
    assert not is_running(record)


async def test_another_process_with_the_same_id_is_left_alone(tmp_path: Path) -> None:
    record = spawn(tmp_path, "echo here; while :; do sleep 1; done")
    await until_said(tmp_path, "here")
    for change in ({"start_ticks": record.start_ticks - 1}, {"command": ("/bin/other",)}):
        stale = msgspec.structs.replace(record, **change)
        assert not is_running(stale)
        await terminate(stale, grace_seconds=0.05)
        assert is_running(record)
    await terminate(record, grace_seconds=60)


async def test_thread_with_the_recorded_id_is_no_process(tmp_path: Path) -> None:
    """In a new container ids are counted anew, and a recorded one may be a thread's by now."""
    record = spawn(tmp_path, "exit 0")
    id_of_thread = await asyncio.to_thread(threading.get_native_id)
    assert id_of_thread != os.getpid()
    stale = msgspec.structs.replace(record, pid=id_of_thread)
    assert not is_running(stale)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await wait_until_ended(stale)
        await terminate(stale, grace_seconds=DEADLINE_SECONDS)
    await terminate(record, grace_seconds=1)


async def test_process_that_ends_at_once_is_no_error(tmp_path: Path) -> None:
    record = spawn(tmp_path, "exit 1")
    async with asyncio.timeout(DEADLINE_SECONDS):
        while is_running(record):
            await asyncio.sleep(0.01)
    await terminate(record, grace_seconds=1)
    await terminate(record, grace_seconds=1)


def test_missing_program_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such program"):
        spawn_detached(
            (str(tmp_path / "none"),), directory=tmp_path, environment={}, output=tmp_path / "out"
        )


async def test_process_runs_while_it_is_about_to_become_its_program(tmp_path: Path) -> None:
    """In the moment of an exec it has no command line: asked as fast as one can, many times."""
    for _ in range(40):
        record = spawn(tmp_path, "exec sleep 30")
        try:
            while not has_become_sleep(record):
                assert is_running(record) or has_become_sleep(record)
        finally:
            os.kill(record.pid, signal.SIGKILL)


def has_become_sleep(record: ProcessRecord) -> bool:
    """Whether the shell has replaced itself."""
    return Path(f"/proc/{record.pid}/cmdline").read_bytes().startswith(b"sleep")
