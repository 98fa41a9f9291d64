"""What apps run on."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from moorage.engines.engine import Engine, EngineView, Runs
from moorage.hosting.addresses.addresses import Hosts, Routes
from moorage.hosting.keeping.sleep import AccessLog
from moorage.hosting.work.switch import Healthy, wait_until_healthy
from moorage.planning.plan import Plan


async def _never(_host: str) -> bool:
    return False


async def _nobody(_host: str, _path: str, _headers: Mapping[str, str]) -> int | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """What keeping apps takes: of the gateways of a machine one does it."""

    runtime: Engine
    answers: Callable[[str], Awaitable[bool]]  # whether a host answers through the proxy
    access_log: AccessLog
    discard_toolchains: Callable[[Plan], Awaitable[None]]  # of a plan that failed
    answers_plain: Callable[[str], Awaitable[bool]] = _never  # the same without TLS
    engine: str = ""  # the kind of engine that uploads are built on
    healthy: Healthy = wait_until_healthy
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    # Sends a visitor's GET of a path with headers; gives the app's status, None without its answer.
    visit: Callable[[str, str, Mapping[str, str]], Awaitable[int | None]] = _nobody


@dataclass(frozen=True, kw_only=True)
class Following:
    """What a proxy of this gateway's own takes, where another gateway keeps the apps."""

    instances: Runs
    routes: Routes  # of this gateway's proxy
    access_log: AccessLog


@dataclass(frozen=True, kw_only=True)
class AppPlatform:
    """What this room needs to run apps and to make them reachable."""

    view: EngineView
    keeping: Keeping | None  # None where another gateway of the machine keeps the apps
    routes: Routes
    hosts: Hosts
    gateway_host: str | None
    max_host_length: int
    several_proxies: bool = False  # other gateways have proxies of their own
    reuses_addresses: bool = False  # an app's address may be another's soon after its end
    following: Following | None = None

    @property
    def kept(self) -> Keeping:
        """What keeping apps takes; only the gateway that does it may ask for it."""
        if self.keeping is None:
            raise RuntimeError("another gateway keeps the apps")
        return self.keeping
