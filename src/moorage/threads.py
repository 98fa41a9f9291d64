"""Blocking work in a thread, seen to its end even when its caller is cancelled.

What sets something up must not go on behind the back of what then clears it away.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`function(*args)` in a thread; a cancellation is raised only after it returned."""
    return await to_its_end(asyncio.to_thread(function, *args, **kwargs))


async def to_its_end(work: Awaitable[T]) -> T:
    """`work`, not interrupted by a cancellation, which is raised after it.

    What `work` itself raises is lost when its caller was cancelled meanwhile.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue  # asked again; still not before the work is done
        if not task.cancelled():
            task.exception()
        raise
