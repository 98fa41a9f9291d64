import asyncio

import pytest

from moorage.errors import DatabaseUnavailable
from moorage.loop import Loop, Scope, until_tick


async def held(_name: str) -> bool:
    return True


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

    loop = Loop("work", every_seconds=0.001, tick=act, scope=Scope.NODE)
    working = asyncio.create_task(loop.run(held))
    async with asyncio.timeout(60):
        await again.wait()
    assert not working.done()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert working.cancelled()


async def test_duty_is_done_by_who_holds_it_alone() -> None:
    asked: list[str] = []
    done: list[str] = []
    free = False

    async def hold(name: str) -> bool:
        asked.append(name)
        return free

    async def act() -> None:
        done.append("duty")
        begun.set()

    begun = asyncio.Event()
    loop = Loop("duty", every_seconds=0.001, tick=act, scope=Scope.CLUSTER, at_once=True)
    working = asyncio.create_task(loop.run(hold))
    while len(asked) < 3:
        await asyncio.sleep(0)
    assert done == []
    free = True
    async with asyncio.timeout(60):
        await begun.wait()
    working.cancel()
    assert set(asked) == {"duty"}


async def test_keepers_work_stops_when_another_may_keep_the_apps() -> None:
    done = refusals = 0
    begun, keeps = asyncio.Event(), True

    async def act() -> None:
        nonlocal done
        done += 1
        begun.set()

    def asked() -> bool:
        nonlocal refusals
        refusals += not keeps
        return keeps

    loop = Loop("apps", every_seconds=0.001, tick=act, scope=Scope.KEEPER, at_once=True)
    working = asyncio.create_task(loop.run(held, keeps=asked))
    async with asyncio.timeout(60):
        await begun.wait()
        keeps, ticks = False, done
        while refusals < 3:
            await asyncio.sleep(0)
    assert done == ticks
    working.cancel()


async def test_work_of_all_periods_is_done_in_the_same_moments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = {}
    with monkeypatch.context() as changed:
        for now in (1000.0, 1000.3, 1000.8, 1007.77, 1011.999):
            changed.setattr(asyncio.get_running_loop(), "time", lambda now=now: now)
            for period in (1.0, 2.0, 5.0, 10.0):
                pause = until_tick(period)
                assert period / 2 <= pause <= period * 1.5
                moments[now, period] = now + pause
    common = moments[1000.0, 10.0]
    for (_, period), moment in moments.items():
        periods = (moment - common) / period
        assert periods == pytest.approx(round(periods), abs=1e-6)
