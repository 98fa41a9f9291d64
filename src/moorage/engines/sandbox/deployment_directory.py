"""A deployment's disk, slot, network and control groups on the host: makes and removes them."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from moorage.address import Address
from moorage.archive.tree import Tree
from moorage.engines.disks import disk, trees
from moorage.engines.disks.caches import Caches, Downloads
from moorage.engines.disks.disk import (
    IMAGE,
    AppDisk,
    DiskTemplates,
    Growths,
    capacity_bytes,
    mount_image,
)
from moorage.engines.disks.space import Space
from moorage.engines.engine import WrittenFiles
from moorage.engines.failure import not_taken_along
from moorage.engines.host import deployment_directory
from moorage.engines.host import deployment_directory as shared
from moorage.engines.host.cgroup import APPS, BUILDS, Cgroups
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.host.environment import Toolchains
from moorage.engines.isolation import bubblewrap, network, slots
from moorage.engines.isolation.firewall import FilterWatch
from moorage.engines.isolation.network import Network
from moorage.engines.isolation.slots import Slot
from moorage.records.deployment import LogKind


class Record(deployment_directory.Record, frozen=True, kw_only=True):
    """One deployment."""

    slot: int | None  # None after a failed build, which has released it
    cpu_millis: int | None = None  # the app's limit after its start
    port: int | None = None  # of its address, forwarded to its listener; None: a socket proxy


_APP_GROUP = f"{APPS}/app-"


def app_of(group: str) -> str | None:
    """Returns the deployment whose app has this control group; None if it is no app's."""
    return group.removeprefix(_APP_GROUP) if group.startswith(_APP_GROUP) else None


@dataclass(frozen=True, kw_only=True)
class Host(shared.Host["DeploymentDirectory"]):
    """What all deployments of a gateway share."""

    subnet: str
    cgroups: Cgroups
    seccomp: bytes
    oom_score: int  # of apps; they can't lower it
    templates: DiskTemplates
    caches: Caches
    downloads: Downloads
    toolchains: Toolchains
    space: Space
    filter: FilterWatch = field(default_factory=FilterWatch)
    growths: Growths = field(default_factory=Growths)

    def directory(self, deployment_id: str) -> "DeploymentDirectory":
        """Returns the directory of a deployment, which need not exist."""
        return DeploymentDirectory(host=self, deployment_id=deployment_id)

    @property
    def mount_points(self) -> Path:
        """The directory in which disks are mounted; apps' users must be able to reach it."""
        return self.run_dir / "disks"


@dataclass(frozen=True, kw_only=True)
class DeploymentDirectory(shared.DeploymentDirectory):
    """One deployment's directory: a disk, a slot, control groups, a network."""

    host: Host

    @property
    def disk(self) -> AppDisk:
        """The app's disk."""
        return AppDisk(
            image=self.path / IMAGE,
            mount_point=self.host.mount_points / self.deployment_id,
        )

    @property
    def app_group(self) -> str:
        """The control group of the app alone."""
        return f"{_APP_GROUP}{self.deployment_id}"

    @property
    def proxy_group(self) -> str:
        """The control group of the proxy, and of the monitor that reports the app's exit."""
        return f"{APPS}/door-{self.deployment_id}"

    @property
    def build_group(self) -> str:
        """The control group of the build."""
        return f"{BUILDS}/build-{self.deployment_id}"

    @property
    def record(self) -> Record | None:
        """The deployment's record; None if there is none."""
        return Record.read(self.path)

    def written(self) -> WrittenFiles | None:
        """Returns what the app has written; of a stopped one, what it had written by then."""
        record = self.record
        return self.disk.written() or (None if record is None else record.written)

    def network(self, slot: Slot) -> Network:
        """Returns the network of the deployment's slot."""
        return network.network_of(self.host.configuration.instance_id, slot)

    def claim(self, wanted: int | None) -> Slot:
        """Claims a slot, the wanted one if it is free."""
        return slots.claim(self.host.subnet, self.path, wanted=wanted)

    def begin(self) -> Slot:
        """Makes a directory with a slot, in stage BUILDING; keeps logs of an earlier attempt."""
        self._clear()
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds the slot
        slot = self.claim(None)
        begun = Record(deployment_id=self.deployment_id, slot=slot.number, stage=Stage.BUILDING)
        self._begin(begun)
        return slot

    def create_disk(self, slot: Slot, size_bytes: int, source: Path) -> None:
        """Makes a disk with the files of `source`. Raises NotAFile, OSError."""
        self.disk.remove()
        self.host.templates.put(self.disk.image, size_bytes)
        self.disk.give_to(slot.app_uid)
        self.write_etc(slot)
        trees.copy_tree(source, self.disk.app, uid=slot.app_uid)

    def write_etc(self, slot: Slot) -> None:
        """Writes the app's own files of `/etc`. Raises OSError."""
        bubblewrap.write_etc(self.disk.etc, slot, self.host.servers)

    def copy_disk(self, slot: Slot, origin: "DeploymentDirectory") -> None:
        """Copies another deployment's disk and build log. Raises OSError."""
        disk.copy_disk(origin.disk, self.disk.image, self.host.clock)
        self.disk.mount(slot.app_uid)
        self.logs.copy_from(origin.logs, LogKind.BUILD)

    def export_files(self, target: Path, without: Collection[str]) -> None:
        """Copies the app's files, as `Engine.export_files`. Raises DeployFailed, OSError."""
        with self._shown():
            size = capacity_bytes(self.disk.app)
            trees.copy_files(self.disk.app, target, without=without, max_bytes=size)

    def read_written(self, target: Path, max_bytes: int | None) -> Tree:
        """As `Engine.read_volume` with `written_by`. Raises DeployFailed, OSError."""
        if self.host.cgroups.pids(self.app_group):
            raise not_taken_along("the app runs")
        with self._shown():
            return self.disk.read_written(target, max_bytes=max_bytes)

    @contextmanager
    def _shown(self) -> Iterator[None]:
        """Mounts the disk within the block, unless it is mounted."""
        if self.disk.mounted:
            yield
            return
        record = self.record
        slot = None if record is None else self.slot(record)
        if slot is None:
            mount_image(self.disk.image, self.disk.mount_point)
        else:
            self.disk.mount(slot.app_uid)  # as its app has it, should the gateway end meanwhile
        try:
            yield
        finally:
            self.disk.release()

    def slot(self, record: Record) -> Slot | None:
        """Returns the slot in a record; None if it has none."""
        if record.slot is None:
            return None
        return slots.slot_at(self.host.subnet, record.slot)

    def address(self, record: Record) -> Address:
        """Returns where the proxy asks the app."""
        slot = self.slot(record)
        if slot is None or record.port is None:
            return Address.unix(self.socket)
        return Address(f"{slot.app_address}:{record.port}")

    def reclaim_slot(self) -> Slot:
        """Claims the slot in the record, or another one: a stopped app has released its slot."""
        record = self.record
        slot = self.claim(None if record is None else record.slot)
        if record is not None and slot.number != record.slot:
            self.disk.unmount()  # the old mount maps its files to the old slot's user
        return slot

    def revive(self, slot: Slot) -> None:
        """Restores, after a reboot, all of a built deployment except its network."""
        self.logs.create()  # a backup contains no empty log
        self.disk.mount(slot.app_uid)
        self.write_etc(slot)

    def connect(self, slot: Slot) -> None:
        """Makes the network, unless it exists. Raises OSError."""
        if not self.network(slot).exists:
            self.network(slot).create()

    def dismiss(self, record: Record) -> None:
        """Removes everything but the files, the logs and the record. The app must be stopped."""
        for group in (self.build_group, self.app_group, self.proxy_group):
            self.host.cgroups.remove(group)
        self.socket.unlink(missing_ok=True)
        slot = self.slot(record)
        if slot is not None and slots.holds(slot.number, self.path):
            self.network(slot).remove()
        self.disk.release()
        if slot is not None:
            slots.release(slot.number, self.path)  # last, as the disk was mounted for its user
        self.host.volumes.hide(self.deployment_id)

    def abandon(self) -> None:
        """Removes everything but the logs, and records the build as failed."""
        self._clear()
        self.write(Record(deployment_id=self.deployment_id, slot=None, stage=Stage.FAILED))

    def remove(self) -> None:
        """Removes everything, in whatever state it is."""
        self._clear()
        if self.path.is_dir():
            shutil.rmtree(self.path)

    def _clear(self) -> None:
        """Removes everything but the logs and the record."""
        if not self.path.is_dir():
            return
        if (record := self.record) is not None:
            self.dismiss(record)
        self.host.downloads.disk(self.path).remove()
        self.disk.remove()
