import asyncio

import pytest

from moorage.errors import DatabaseUnavailable
from moorage.gateway.running import _every


@pytest.mark.parametrize("fault", [DatabaseUnavailable(), OSError("no"), RuntimeError("no")])
async def test_periodic_work_goes_on_after_any_fault(fault: Exception) -> None:
    calls = 0
    again = asyncio.Event()

    async def act() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise fault
        again.set()

    working = asyncio.create_task(_every(0.001, act))
    async with asyncio.timeout(10):
        await again.wait()
    assert not working.done()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert working.cancelled()
