"""`moorage stop`: ends what a gateway left running on its machine, and keeps all that it has."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from moorage.auth.nonces import LOCK
from moorage.clock import Clock, SystemClock, boot_id
from moorage.core import Core
from moorage.engines.engine import Engine
from moorage.errors import AlreadyRunning
from moorage.file_lock import FileLock
from moorage.gateway.assembly import open_core
from moorage.gateway.leadership import acquire, open_lease
from moorage.gateway.platform.isolation import has_several_proxies, make_engine, run_directory
from moorage.gateway.platform.opening import APPS, PROXY, find_tool, instance_id, open_store
from moorage.gateway.platform.proxy import proxy_settings
from moorage.gateway.state.data_directory import NONCES, open_data_directory
from moorage.ledger.metering import Metering
from moorage.operate.acts import note_act
from moorage.operate.books import operator_name, require_newest
from moorage.routing.haproxy import HAProxy
from moorage.settings import Settings
from moorage.storage.apps.deployments import toolchains_in_use
from moorage.storage.opening import Purpose, purpose_of
from moorage.storage.several import cluster
from moorage.threads import in_thread


class Stopped(msgspec.Struct, frozen=True):
    """What was ended."""

    apps: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a gateway that does not run has on its machine; no gateway starts meanwhile."""

    settings: Settings
    core: Core
    metering: Metering
    engine: Engine
    closing: AsyncExitStack  # closes the engine, unless `stop` has
    running: frozenset[str]  # the deployments whose apps ran when this was opened

    async def stop(self) -> None:
        """Ends the proxy, the apps, and what they share: filters, groups, mounts, sockets."""
        state_dir, run_dir = self.core.data_dir / "proxy", _run_dir(self.settings)
        served = proxy_settings(self.settings, state_dir, run_dir / PROXY, self.settings.public_url)
        await HAProxy(find_tool("haproxy"), served).stop()
        self.closing.pop_all()
        await self.engine.close(stop_apps=True)
        shutil.rmtree(run_dir / PROXY, ignore_errors=True)
        with contextlib.suppress(OSError):  # it holds what is not ours
            run_dir.rmdir()


async def run_stop(settings: Settings, *, reason: str) -> Stopped:
    """Stops everything of a gateway that does not run; nobody is billed until it is started again.

    Raises AlreadyRunning while one runs, as it would start its apps again; IsolationMissing.
    """
    async with open_machine(settings) as machine:
        await machine.stop()
        async with machine.core.db.transaction(durable=True) as tx:
            await note_act(tx, operator_name(), "stop", "the gateway", reason=reason)
        return Stopped(len(machine.running))


@asynccontextmanager
async def open_machine(settings: Settings) -> AsyncIterator[Machine]:
    """Opens what a gateway has on its machine, and bills up to now what runs there.

    Raises AlreadyRunning, IsolationMissing, ConfigurationInvalid.
    """
    clock, data_dir = SystemClock(), Path(settings.data_dir)
    await in_thread(require_newest, settings)
    purpose = await in_thread(purpose_of, settings.database) or Purpose.SERVE
    async with AsyncExitStack() as stack:
        stack.enter_context(not_running(data_dir))
        await in_thread(open_data_directory, data_dir, purpose, settings.database_url)
        if settings.database_url and not has_several_proxies(settings):
            await _lead(stack, settings, clock)
        core = await open_core(stack, settings, clock, purpose=purpose, speed=1.0)
        await _require_alone(settings, core)
        toolchains = await open_store(
            stack, settings, clock=clock, needed=partial(toolchains_in_use, core.db), sweeps=False
        )
        engine = make_engine(
            settings,
            instance_id=core.instance,
            run_dir=_run_dir(settings) / APPS,
            tools={name: find_tool(name) for name in ("caddy", "uv")},
            toolchains=toolchains.store,
            clock=clock,
        )
        await engine.open()
        running = await engine.running()
        # Where nothing runs, the next start needs none of what opening the engine has made.
        closing = await stack.enter_async_context(AsyncExitStack())
        closing.push_async_callback(engine.close, stop_apps=not running)
        metering = Metering(db=core.db, clock=clock, boot_id=boot_id(), gateway=core.keeper)
        await metering.resume(running)
        yield Machine(
            settings=settings,
            core=core,
            metering=metering,
            engine=engine,
            closing=closing,
            running=frozenset(running),
        )


@contextmanager
def not_running(data_dir: Path) -> Iterator[None]:
    """Keeps a gateway from starting on this directory. Raises AlreadyRunning where one runs."""
    path = data_dir / NONCES / LOCK  # a running gateway holds it
    path.parent.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(path)
    try:
        if not lock.lock():
            raise AlreadyRunning
        yield
    finally:
        lock.close()


async def _lead(stack: AsyncExitStack, settings: Settings, clock: Clock) -> None:
    """Holds the leader's lease of a server's database. Raises AlreadyRunning."""
    lease = await open_lease(stack, settings, clock)
    await acquire(lease)
    stack.callback(asyncio.create_task(lease.until_lost(), name="leader's lease").cancel)


async def _require_alone(settings: Settings, core: Core) -> None:
    """Raises AlreadyRunning while a gateway of another machine may keep the same apps."""
    if not has_several_proxies(settings):
        return
    for other in await cluster.running(core.db, now_ms=core.clock.now_ms()):
        if other.id != core.leases.holder:
            raise AlreadyRunning(
                f"The gateway {other.name} on this database runs, or did a minute ago: stop it."
            )


def _run_dir(settings: Settings) -> Path:
    return run_directory(settings, instance_id(Path(settings.data_dir)))
