"""What a gateway does for visitors at its own proxy, where another gateway keeps the apps."""

from functools import cached_property

from moorage.core import Core
from moorage.deploy.addresses.addresses import Addresses
from moorage.deploy.addresses.followed import FollowedRoutes
from moorage.deploy.entrance.capacity import Capacity
from moorage.deploy.keeping.sleep import Visits, log_number
from moorage.deploy.keeping.wake import WakeElsewhere
from moorage.deploy.limits import wake_seconds
from moorage.deploy.platform import AppPlatform, Following
from moorage.settings import Settings


class FollowingServices:
    """Routes, wakes and counts; each is made on its first use."""

    def __init__(
        self,
        core: Core,
        settings: Settings,
        *,
        platform: AppPlatform,
        following: Following,
        addresses: Addresses,
        capacity: Capacity,
    ) -> None:
        self._core = core
        self._settings = settings
        self._platform = platform
        self._following = following
        self._addresses = addresses
        self._capacity = capacity

    @cached_property
    def routes(self) -> FollowedRoutes:
        return FollowedRoutes(
            db=self._core.db,
            instances=self._following.instances,
            routes=self._following.routes,
            hosts=self._platform.hosts,
        )

    @cached_property
    def wake(self) -> WakeElsewhere:
        return WakeElsewhere(
            db=self._core.db,
            addresses=self._addresses,
            routes=self.routes,
            capacity=self._capacity,
            timeout_seconds=wake_seconds(self._settings),
            clock=self._core.clock,
        )

    @cached_property
    def visits(self) -> Visits:
        return Visits(
            db=self._core.db,
            addresses=self._addresses,
            log=self._following.access_log,
            on_use=lambda _deployment_id: None,  # the keeper sees the sums
            number=log_number(self._core.leases.holder),
        )
