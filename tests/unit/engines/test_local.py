"""What is done again and again for all apps."""

import asyncio
import contextlib

from moorage.engines.host.local import repeat


async def test_work_that_failed_once_is_done_again() -> None:
    loop, done_again = asyncio.get_running_loop(), asyncio.Event()
    tries: list[int] = []

    def work() -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise OSError("an app is on its way out")
        loop.call_soon_threadsafe(done_again.set)

    repeating = asyncio.create_task(repeat(work, every_seconds=0.001))
    async with asyncio.timeout(60):
        await done_again.wait()
    repeating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await repeating
    assert tries[:2] == [0, 1]
