"""Leadership: who cannot run the apps, or has another schema, leaves them to others."""

import asyncio
from pathlib import Path

import pytest

from moorage.errors import AlreadyRunning, DatabaseUnavailable, IsolationMissing
from moorage.file_lock import FileLock
from moorage.gateway.leadership import (
    AGAIN_SECONDS,
    FIRST_PAUSE_SECONDS,
    Leadership,
    done_before,
    sweep_abandoned_spools,
)
from support.gateway.clock import MovableClock


def test_uploads_of_a_gateway_that_no_longer_runs_are_removed(tmp_path: Path) -> None:
    for name in ("gone", "runs"):
        (tmp_path / "spool" / name).mkdir(parents=True)
        (tmp_path / "spool" / name / "upload-1").write_text("half of it")
    (tmp_path / "spool" / "upload-2").write_text("of a gateway without a name")
    (tmp_path / "gateways").mkdir()
    FileLock(tmp_path / "gateways" / "gone.lock").close()
    running = FileLock(tmp_path / "gateways" / "runs.lock")
    assert running.lock()

    sweep_abandoned_spools(tmp_path)

    running.close()
    left = {path.name for path in (tmp_path / "spool").rglob("*")}
    assert left == {"runs", "upload-1", "upload-2"}


class Schema:
    """The schema of a database that may be upgraded, or away; it counts how often it is read."""

    def __init__(self) -> None:
        self.is_newest = True
        self.is_away = False
        self.reads = 0

    async def read(self) -> bool:
        self.reads += 1
        if self.is_away:
            raise DatabaseUnavailable("it does not answer")
        return self.is_newest


class Gateway:
    """A gateway that records what it does; its lease, pauses and failures are the test's."""

    def __init__(self, lock: FileLock) -> None:
        self.lock = lock
        self.did: list[str] = []
        self.failures: list[Exception] = []
        self.pauses: list[float] = []
        self.stop = asyncio.Event()
        self.serves = asyncio.Event()
        self.lost = asyncio.Event()
        self.schema = Schema()
        self.clock = MovableClock()
        self.leadership = Leadership(self, is_newest=self.schema.read, clock=self.clock)

    async def take(self) -> bool:
        return self.lock.lock()

    @property
    def holds(self) -> bool:
        return not self.lost.is_set()

    async def until_lost(self) -> None:
        await self.lost.wait()

    async def give_back(self) -> None:
        self.did.append("gives back")
        self.lock.unlock()

    async def beside(self, over: asyncio.Event) -> None:
        await self._serve("beside", over)

    async def lead(self, over: asyncio.Event) -> None:
        if self.failures:
            raise self.failures.pop()
        await self._serve("leads", over)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def run(self) -> None:
        await self.leadership.run(
            beside=self.beside, lead=self.lead, stop=self.stop, pause=self.pause
        )

    async def until(self, what: str) -> None:
        while not self.did or self.did[-1] != what:
            self.serves.clear()
            await self.serves.wait()

    async def _serve(self, what: str, over: asyncio.Event) -> None:
        self.did.append(what)
        self.serves.set()
        await over.wait()


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(FileLock(tmp_path / "lock"))


@pytest.fixture
def another(tmp_path: Path) -> FileLock:
    return FileLock(tmp_path / "lock")


async def test_gateway_serves_beside_until_the_lease_is_free(
    gateway: Gateway, another: FileLock
) -> None:
    assert another.lock()
    running = asyncio.create_task(gateway.run())
    await gateway.until("beside")
    another.close()
    await gateway.until("leads")
    gateway.stop.set()
    await running
    assert gateway.did == ["beside", "leads"]


async def test_gateway_that_cannot_run_the_apps_gives_the_lease_back_and_serves_on(
    gateway: Gateway, another: FileLock
) -> None:
    gateway.failures = [IsolationMissing(("bwrap",)), OSError("full"), IsolationMissing(("nft",))]
    running = asyncio.create_task(gateway.run())
    await gateway.until("leads")
    assert gateway.did == ["gives back", "beside"] * 3 + ["leads"]
    assert gateway.pauses == [FIRST_PAUSE_SECONDS * factor for factor in (1, 2, 4)]
    assert not another.lock()
    gateway.stop.set()
    await running


async def test_another_may_run_the_apps_while_one_that_cannot_waits(
    gateway: Gateway, another: FileLock
) -> None:
    waits = asyncio.Event()

    async def pause(_: float) -> None:
        waits.set()
        await asyncio.Event().wait()

    gateway.failures = [IsolationMissing(("bwrap",))]
    running = asyncio.create_task(
        gateway.leadership.run(
            beside=gateway.beside, lead=gateway.lead, stop=gateway.stop, pause=pause
        )
    )
    await waits.wait()
    assert another.lock()
    gateway.stop.set()
    await running
    assert gateway.did == ["gives back", "beside"]


async def test_gateway_that_loses_the_lease_serves_beside_the_next(
    gateway: Gateway, another: FileLock
) -> None:
    running = asyncio.create_task(gateway.run())
    await gateway.until("leads")
    gateway.lock.unlock()
    assert another.lock()
    gateway.lost.set()
    await gateway.until("beside")
    gateway.stop.set()
    await running
    assert gateway.did == ["leads", "beside"]


async def test_gateway_that_another_machine_excludes_ends(gateway: Gateway) -> None:
    gateway.failures = [AlreadyRunning()]
    with pytest.raises(AlreadyRunning):
        await gateway.run()


async def test_what_fails_while_the_apps_run_ends_the_gateway(gateway: Gateway) -> None:
    """Its processes are as they were: only a new start knows more."""
    gateway.failures = [ExceptionGroup("running", [ValueError("broken")])]
    with pytest.raises(ExceptionGroup):
        await gateway.run()


async def test_what_is_done_before_serving_ends_when_the_gateway_is_to_stop() -> None:
    stop, begun, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def without_end() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    working = asyncio.create_task(done_before(stop, without_end()))
    await begun.wait()
    stop.set()
    assert not await working
    assert ended.is_set()


async def test_what_is_done_before_serving_is_waited_for_and_raises_what_it_raises() -> None:
    async def fail() -> None:
        raise IsolationMissing(("it",))

    assert await done_before(asyncio.Event(), asyncio.sleep(0))
    with pytest.raises(IsolationMissing):
        await done_before(asyncio.Event(), fail())


async def test_lease_is_taken_while_the_schema_is_this_versions(
    gateway: Gateway, another: FileLock
) -> None:
    assert await gateway.leadership.take()
    assert not another.lock()
    await gateway.leadership.check()


async def test_lease_is_left_to_others_while_the_schema_is_another_versions(
    gateway: Gateway, another: FileLock
) -> None:
    gateway.schema.is_newest = False
    assert not await gateway.leadership.take()
    assert another.lock()


async def test_gateway_is_unwell_until_another_has_the_lease_that_it_left(
    gateway: Gateway, another: FileLock
) -> None:
    gateway.schema.is_newest = False
    await gateway.leadership.take()
    with pytest.raises(DatabaseUnavailable, match="another version"):
        await gateway.leadership.check()
    assert another.lock()
    gateway.clock.advance(round(AGAIN_SECONDS * 1000))
    assert not await gateway.leadership.take()
    await gateway.leadership.check()


async def test_lease_that_was_left_is_looked_at_again_only_after_a_pause(gateway: Gateway) -> None:
    gateway.schema.is_newest = False
    for _ in range(3):
        assert not await gateway.leadership.take()
    assert gateway.schema.reads == 1
    gateway.schema.is_newest = True
    gateway.clock.advance(round(AGAIN_SECONDS * 1000))
    assert await gateway.leadership.take()
    await gateway.leadership.check()


async def test_lease_is_left_while_the_database_does_not_say_of_which_version_it_is(
    gateway: Gateway, another: FileLock
) -> None:
    gateway.schema.is_away = True
    assert not await gateway.leadership.take()
    assert another.lock()
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        await gateway.leadership.check()
