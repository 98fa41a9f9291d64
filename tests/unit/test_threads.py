import asyncio
import threading

import pytest

from moorage.threads import in_thread, to_its_end


async def test_what_a_thread_gives_or_raises_comes_back() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


@pytest.mark.parametrize("times", [1, 3])
async def test_cancellation_is_raised_only_after_the_work(times: int) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(10)
        ended.set()

    waiting = asyncio.create_task(in_thread(work))
    assert await asyncio.to_thread(begun.wait, 10)
    for _ in range(times):
        waiting.cancel()
        await asyncio.sleep(0)
    assert not waiting.done()
    go_on.set()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert ended.is_set()


async def test_failure_behind_a_cancellation_is_not_left_for_the_loop_to_find() -> None:
    found: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    gate = asyncio.Event()

    async def fail() -> None:
        await gate.wait()
        raise OSError("too late for anybody to hear")

    waiting = asyncio.create_task(to_its_end(fail()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(waiting, return_exceptions=True)
    del waiting
    await asyncio.sleep(0)
    assert found == []
