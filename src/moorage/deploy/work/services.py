"""What leads visitors, and volumes, from one version of a project to the next."""

from functools import cached_property

from moorage.deploy.addresses.services import AddressServices
from moorage.deploy.limits import app_limits, capacity_policy
from moorage.deploy.sources import Sources
from moorage.deploy.work.moving import VolumeMoves
from moorage.deploy.work.switch import Switch
from moorage.engines.locks import Locks
from moorage.ledger.metering import Metering


class SwitchServices(AddressServices):
    """Each is made on its first use."""

    _metering: Metering
    _sources: Sources

    @cached_property
    def _switch(self) -> Switch:
        return Switch(
            db=self._db,
            addresses=self.addresses,
            answers=self._platform.kept.answers,
            answers_plain=self._platform.kept.answers_plain,
            certificates=self._certificates,
            apps=self.apps,
            metering=self._metering,
            hosts=self._platform.hosts,
            clock=self._clock,
        )

    @cached_property
    def _volume_locks(self) -> Locks:
        """Who copies a volume has its lock."""
        return Locks()

    @cached_property
    def volume_moves(self) -> VolumeMoves:
        return VolumeMoves(
            db=self._db,
            runtime=self._platform.kept.runtime,
            scratch=self._core.data_dir / "apps" / "moving",
            reserve_bytes=capacity_policy(self._settings).reserve_bytes,
            addresses=self.addresses,
            apps=self.apps,
            metering=self._metering,
            locks=self._volume_locks,
            sources=self._sources,
            size_bytes=app_limits(self._settings).volume_bytes,
            clock=self._clock,
        )
