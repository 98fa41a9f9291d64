"""Waiting for what happens by itself."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Condition = Callable[[], Awaitable[bool]] | Callable[[], bool]


async def until(condition: Condition, *, seconds: float = 60, pause_seconds: float = 0.005) -> None:
    """Return once the condition holds, asked again and again.

    TimeoutError after `seconds`: only to end a hung test, however busy the machine is.
    """
    async with asyncio.timeout(seconds):
        while not await _holds(condition):
            await asyncio.sleep(pause_seconds)


async def seen_through(work: Coroutine[Any, Any, None]) -> None:
    """Do it, and wait for all tasks that it began."""
    before = asyncio.all_tasks()
    await work
    await asyncio.gather(*(asyncio.all_tasks() - before))


async def _holds(condition: Condition) -> bool:
    seen = condition()
    return await seen if isinstance(seen, Awaitable) else seen


async def until_read(
    read: Callable[[], Awaitable[T]],
    holds: Callable[[T], bool],
    *,
    seconds: float = 60,
    pause_seconds: float = 0.005,
) -> T:
    """What `read` gives, once it holds; as `until`."""
    async with asyncio.timeout(seconds):
        while not holds(found := await read()):
            await asyncio.sleep(pause_seconds)
    return found
