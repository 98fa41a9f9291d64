"""What apps run on."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from moorage.deploy.addresses.addresses import Routes
from moorage.deploy.addresses.hosts import Hosts
from moorage.deploy.keeping.usage import AccessLog
from moorage.deploy.work.health import Healthy, wait_until_healthy
from moorage.engines.engine import Engine
from moorage.planning.plan import Plan


@dataclass(frozen=True, kw_only=True)
class AppPlatform:
    """What this room needs to run apps and to make them reachable."""

    runtime: Engine
    routes: Routes
    hosts: Hosts
    answers: Callable[[str], Awaitable[bool]]  # whether a host answers through the proxy
    access_log: AccessLog
    discard_toolchains: Callable[[Plan], Awaitable[None]]  # of a plan that failed
    gateway_host: str | None
    max_host_length: int
    healthy: Healthy = wait_until_healthy
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
