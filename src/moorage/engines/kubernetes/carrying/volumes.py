"""The part of the engine that has volumes, and takes them in and out."""

import tempfile
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

from moorage.engines.carried import NewVolume, VolumeArchive, VolumeContent
from moorage.engines.disks.leaving import copy_files
from moorage.engines.disks.unpacking import ArchiveBounds, unpack
from moorage.engines.failure import not_built, not_carried
from moorage.engines.kind import ClusterOptions
from moorage.engines.kubernetes.carrying.pods import AnothersFiles, CarrierPods
from moorage.engines.kubernetes.cluster.client import Refused
from moorage.engines.kubernetes.cluster.quantity import quantity
from moorage.engines.kubernetes.cluster.shared import ImageBuilder, Shared
from moorage.engines.kubernetes.objects import Carrier, Manifest
from moorage.engines.kubernetes.objects.app import DATA
from moorage.engines.kubernetes.objects.carrier import URL
from moorage.engines.kubernetes.objects.labels import WALLET_LABEL
from moorage.engines.locks import checked
from moorage.errors import ClusterUnavailable, DeployFailed, FailureCause
from moorage.threads import in_thread

_PROGRAM = ("python3", "-m", "moorage.engines.kubernetes.carrying.program", DATA, URL)
_LEAST_SECONDS = 120
_BYTES_PER_SECOND = 4 * 1024**2  # the least that a volume's disk is believed to do
_MAX_USERS = (
    3  # the usual one, the one who owns the first other file, and one of an earlier version
)
_HEADERS_BYTES = 64 * 1024**2  # of an archive's entries, beside as much as may be in its files


class ClaimedVolumes(ABC):
    """Volumes that are claims; what is in them, pods alone reach."""

    _options: ClusterOptions

    @property
    @abstractmethod
    def _shared(self) -> Shared:
        """What deployments share."""

    @property
    @abstractmethod
    def _builder(self) -> ImageBuilder:
        """What has the port that pods reach."""

    @property
    def _carriers(self) -> CarrierPods:
        shared = self._shared
        return CarrierPods(cluster=shared.cluster, options=shared.pods, clock=shared.clock)

    async def volumes(self) -> set[str]:
        """As `Engine.volumes`."""
        return await self._shared.claims.ids()

    async def export_volume(self, volume_id: str, target: Path) -> None:
        """As `Engine.export_volume`. Raises ClusterUnavailable where another try may do it."""
        claim = await self._shared.claims.find(checked(volume_id))
        if claim is None:
            return
        with tempfile.TemporaryDirectory(dir=target.parent) as directory:
            file, size_bytes = Path(directory) / "archive", _size_bytes(claim)
            try:
                archive = await self._packed(claim, volume_id, file, max_bytes=size_bytes)
            except DeployFailed as error:
                if error.cause is FailureCause.OUT_OF_DISK:  # of the files, whenever it is tried
                    raise
                raise ClusterUnavailable(error.reason) from error
            await in_thread(_copied, archive, Path(directory) / "data", target, size_bytes)

    async def volume_content(self, volume_id: str) -> VolumeContent:
        """As `Engine.volume_content`."""
        claim = await self._shared.claims.find(checked(volume_id))
        if claim is None:
            return VolumeContent(size_bytes=0, files=0)
        carrier = self._carrier(claim, volume_id, "content", reads=True, size_bytes=0)
        size, files = map(int, (await self._read(carrier)).split())
        return VolumeContent(size_bytes=size, files=files + 1)  # itself

    async def pack_volume(self, volume_id: str, target: Path, *, max_bytes: int) -> VolumeArchive:
        """As `Engine.pack_volume`."""
        claim = await self._claim(volume_id)
        if await self._shared.claims.is_used(claim):  # a node that does not answer may run it still
            raise DeployFailed(FailureCause.INTERRUPTED, "the volume is in use")
        return await self._packed(claim, volume_id, target, max_bytes=max_bytes)

    async def prepare_volume(self, volume: NewVolume, needed: VolumeContent) -> None:
        """As `Engine.prepare_volume`."""
        await self.remove_volume(volume.volume_id)
        shared = self._shared
        try:
            async with shared.namespaces.made(volume.owner) as namespace:
                await shared.claims.ensure(
                    volume.volume_id,
                    owner=volume.owner,
                    namespace=namespace,
                    size_bytes=volume.size_bytes,
                )
        except Refused as error:
            raise DeployFailed(
                FailureCause.NO_CAPACITY, f"The cluster does not take the volume: {error}."
            ) from error
        words = ("room", str(needed.size_bytes), str(needed.files))
        await self._write(volume, *words)

    async def fill_volume(self, volume: NewVolume, archive: VolumeArchive) -> None:
        """As `Engine.fill_volume`."""
        unused = archive.path.with_suffix(".unused")
        async with self._builder.offered(
            source=archive.path, result=unused, max_bytes=0
        ) as tickets:
            size = volume.size_bytes
            words = ("fill", str(size), archive.digest)
            await self._write(volume, *words, url=tickets.source_url, size_bytes=size)

    async def clear_volume(self, volume_id: str) -> None:
        """As `Engine.clear_volume`."""
        await self._shared.claims.clear(checked(volume_id))

    async def remove_volume(self, volume_id: str) -> None:
        """As `Engine.remove_volume`; a namespace goes with the last that was kept in it."""
        await self._carriers.end(checked(volume_id))
        for namespace in await self._shared.claims.remove(volume_id):
            await self._shared.namespaces.tidy(namespace)

    async def _packed(
        self, claim: Manifest, volume_id: str, target: Path, *, max_bytes: int
    ) -> VolumeArchive:
        unused = target.with_suffix(".unused")
        await in_thread(unused.touch)
        async with self._builder.offered(
            source=unused, result=target, max_bytes=2 * max_bytes + _HEADERS_BYTES
        ) as tickets:
            carrier = self._carrier(
                claim,
                volume_id,
                *("pack", str(max_bytes)),
                url=tickets.result_url,
                reads=True,
                size_bytes=max_bytes,
            )
            await self._read(carrier)
            if not tickets.result.done():
                raise DeployFailed(FailureCause.INTERRUPTED, "The volume's files did not come.")
            return VolumeArchive(path=target, digest=tickets.result.result().digest)

    async def _read(self, carrier: Carrier) -> str:
        """Runs a program that reads a volume, as the user who may: most have files of one user.

        Raises DeployFailed if none may read them all, ClusterUnavailable.
        """
        for _ in range(_MAX_USERS):
            try:
                return await self._run(carrier)
            except AnothersFiles as error:
                carrier = replace(carrier, user=error.user)
        raise not_carried("some of its files only one user may read, and some only another")

    async def _write(
        self, volume: NewVolume, *words: str, url: str = "", size_bytes: int = 0
    ) -> None:
        """Runs a program that writes to a volume, as the user of the app that is to use it."""
        claim = await self._claim(volume.volume_id)
        record = self._shared.observed.record(volume.deployment_id)
        if record is None or not record.is_built:
            raise not_built("carry a volume for")
        carrier = self._carrier(
            claim, volume.volume_id, *words, url=url, reads=False, size_bytes=size_bytes
        )
        user = await self._builder.user(record.image)
        await self._run(replace(carrier, user=user))

    async def _run(self, carrier: Carrier) -> str:
        """As `CarrierPods.run`, in a namespace with what a volume's pod needs."""
        try:
            await self._shared.namespaces.renew(carrier.namespace)
        except Refused as error:
            raise DeployFailed(
                FailureCause.NO_CAPACITY, f"The cluster does not take the volume: {error}."
            ) from error
        return await self._carriers.run(carrier)

    async def _claim(self, volume_id: str) -> Manifest:
        claim = await self._shared.claims.find(checked(volume_id))
        if claim is None:
            raise DeployFailed(FailureCause.INTERRUPTED, "The cluster has no such volume.")
        return claim

    def _carrier(
        self,
        claim: Manifest,
        volume_id: str,
        *words: str,
        url: str = "",
        reads: bool,
        size_bytes: int,
    ) -> Carrier:
        metadata = claim["metadata"]
        return Carrier(
            volume_id=volume_id,
            wallet=metadata["labels"][WALLET_LABEL],
            namespace=metadata["namespace"],
            image=self._options.own_image,
            command=(*_PROGRAM, *words),
            url=url,
            reads=reads,
            limits=self._options.app,
            timeout_seconds=_LEAST_SECONDS + size_bytes // _BYTES_PER_SECOND,
        )


def _size_bytes(claim: Manifest) -> int:
    return int(quantity(claim["spec"]["resources"]["requests"]["storage"]))


def _copied(archive: VolumeArchive, data: Path, target: Path, max_bytes: int) -> None:
    """Unpacks an archive below the new directory `data`, and copies what an owner gets of it."""
    data.mkdir(mode=0o700)
    with archive.path.open("rb") as source:
        unpack(source, data, ArchiveBounds(max_bytes=max_bytes), digest=archive.digest)
    copy_files(data, target, without=(), max_bytes=max_bytes)
