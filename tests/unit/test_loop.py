import asyncio

import pytest

from moorage.errors import DatabaseUnavailable, MoorageError
from moorage.loop import Hold, Loop, Scope, Ticks, until_tick


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


async def test_leaders_work_stops_when_another_may_run_the_apps() -> None:
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

    loop = Loop("apps", every_seconds=0.001, tick=act, scope=Scope.LEADER, at_once=True)
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


class Seconds:
    """A monotonic clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def ticked(loop: Loop, ticks: Ticks, hold: Hold = held) -> None:
    """Has a loop run until it has ticked, or asked whether it may, a few times."""
    asked = asyncio.Event()
    times = 0

    async def ask(name: str) -> bool:
        nonlocal times
        times += 1
        if times > 3:
            asked.set()
        return await hold(name)

    working = asyncio.create_task(loop.run(ask, ticks=ticks))
    async with asyncio.timeout(60):
        await asked.wait()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_work_that_never_finishes_a_tick_is_told_after_its_patience() -> None:
    async def fails() -> None:
        raise DatabaseUnavailable

    seconds = Seconds()
    ticks = Ticks(seconds=seconds)
    loop = Loop("work", every_seconds=0.001, tick=fails, scope=Scope.CLUSTER, patience_seconds=300)
    await ticked(loop, ticks)
    seconds.now = 300
    await ticks.check()
    seconds.now = 301
    with pytest.raises(MoorageError, match=r"stands still: work \(for 301 s\)"):
        await ticks.check()


@pytest.mark.parametrize("is_held", [True, False])
async def test_work_that_is_done_here_or_elsewhere_does_not_stand_still(*, is_held: bool) -> None:
    async def fails_at_first() -> None:
        if not seconds.now:
            raise DatabaseUnavailable

    async def hold(_name: str) -> bool:
        return is_held or not seconds.now

    seconds = Seconds()
    ticks = Ticks(seconds=seconds)
    loop = Loop("work", every_seconds=0.001, tick=fails_at_first, scope=Scope.CLUSTER)
    await ticked(loop, ticks)
    seconds.now = 10_000
    await ticked(loop, ticks, hold)
    await ticks.check()
