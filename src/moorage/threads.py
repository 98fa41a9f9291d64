"""Blocking work in a thread, which is waited for even when its caller is cancelled.

Otherwise work that sets something up could still run while the caller removes it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `function` in a thread; a cancellation is raised only after it returned."""
    return await to_its_end(asyncio.to_thread(function, *args, **kwargs))


async def to_its_end(work: Awaitable[T]) -> T:
    """Waits for `work` to end; a cancellation is raised only after that.

    If the caller was cancelled meanwhile, what `work` raises is dropped.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue  # cancelled again: keep waiting
        if not task.cancelled():
            task.exception()
        raise
