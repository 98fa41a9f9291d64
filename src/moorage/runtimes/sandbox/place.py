"""A deployment's place on the machine: where its parts lie, and taking them away again."""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from moorage.clock import Clock
from moorage.runtimes.logs import store
from moorage.runtimes.runtime import LogKind
from moorage.runtimes.sandbox import copying, etc, network, slots
from moorage.runtimes.sandbox import disk as disks
from moorage.runtimes.sandbox.cgroup import Cgroups
from moorage.runtimes.sandbox.disk import Disk
from moorage.runtimes.sandbox.network import Network
from moorage.runtimes.sandbox.record import Record, Stage, read_record, write_record
from moorage.runtimes.sandbox.slots import Slot
from moorage.runtimes.traffic import Traffic

_APP_GROUP = "app-"


def app_of(group: str) -> str | None:
    """The deployment whose app has this control group; None when it is no app's."""
    return group.removeprefix(_APP_GROUP) if group.startswith(_APP_GROUP) else None


LOG_CAP_BYTES = {LogKind.BUILD: 4 * 1024 * 1024, LogKind.RUNTIME: 8 * 1024 * 1024}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What all deployments of a gateway share."""

    state_dir: Path
    run_dir: Path
    instance_id: str
    subnet: str
    cgroups: Cgroups
    servers: tuple[str, ...]  # name servers
    tools: dict[str, Path]  # program → a path that every uid can reach
    seccomp: bytes
    build_env: dict[str, str]
    traffic: Traffic
    clock: Clock

    def place(self, deployment_id: str) -> "Place":
        """The place of a deployment, whether or not anything is there."""
        return Place(machine=self, deployment_id=deployment_id)

    def places(self) -> list["Place"]:
        """Every place where something is."""
        return [self.place(path.name) for path in sorted(self.deployments.iterdir())]

    @property
    def deployments(self) -> Path:
        """The directory of all places' directories."""
        return self.state_dir / "deployments"

    @property
    def mount_points(self) -> Path:
        """Where disks are mounted: apps' uids must be able to get there, unlike `state_dir`."""
        return self.run_dir / "disks"


@dataclass(frozen=True, kw_only=True)
class Place:
    """One deployment's place. Methods block; call them from a thread."""

    machine: Machine
    deployment_id: str

    @property
    def directory(self) -> Path:
        """Record, disk image, and logs that outlived their disk."""
        return self.machine.deployments / self.deployment_id

    @property
    def disk(self) -> Disk:
        """The disk."""
        return Disk(
            image=self.directory / "disk.img",
            mount_point=self.machine.mount_points / self.deployment_id,
        )

    @property
    def socket(self) -> Path:
        """The door's socket."""
        return self.machine.run_dir / f"{self.deployment_id}.sock"

    @property
    def status_file(self) -> Path:
        """What bwrap says of the app it runs."""
        return self.directory / "status.json"

    def log(self, kind: LogKind) -> Path:
        """One of the two logs, a directory: see `moorage.runtimes.logs.store`."""
        return self.directory / "logs" / kind

    @property
    def app_group(self) -> str:
        """The control group of the app, and of nothing else."""
        return f"{_APP_GROUP}{self.deployment_id}"

    @property
    def door_group(self) -> str:
        """The control group of the door, and of the process that waits for the app's exit."""
        return f"door-{self.deployment_id}"

    @property
    def build_group(self) -> str:
        """The control group of the build."""
        return f"build-{self.deployment_id}"

    @property
    def record(self) -> Record | None:
        """What is known of the deployment."""
        return read_record(self.directory)

    def network(self, slot: Slot) -> Network:
        """The network of the slot the deployment has."""
        return network.network_of(self.machine.instance_id, slot)

    def claim(self, wanted: int | None) -> Slot:
        """A slot, the wanted one if it can be had."""
        return slots.claim(self.machine.subnet, self.directory, wanted=wanted)

    def write(self, record: Record) -> None:
        """Keep the record."""
        write_record(self.directory, record)

    def begin(self) -> Slot:
        """An empty place with a slot, in stage BUILDING; what was there is removed."""
        self.remove()
        self.directory.mkdir(parents=True, mode=0o700)
        self._make_logs()
        slot = self.claim(None)
        self.write(Record(deployment_id=self.deployment_id, slot=slot.number, stage=Stage.BUILDING))
        return slot

    def create_disk(self, slot: Slot, size_bytes: int, source: Path) -> None:
        """A disk with the files of `source`. Raises NotAFile, OSError."""
        self.disk.create(size_bytes=size_bytes, uid=slot.app_uid)
        etc.write_etc(self.disk.etc, slot, self.machine.servers)
        disks.copy_tree(source, self.disk.app, uid=slot.app_uid)

    def copy_disk(self, slot: Slot, origin: "Place") -> None:
        """A disk with the files and the build log of another place's. Raises OSError."""
        copying.copy_disk(origin.disk, self.disk.image, self.machine.clock)
        self.disk.mount(slot.app_uid)
        self.disk.log(LogKind.RUNTIME).unlink(missing_ok=True)

    def slot(self, record: Record) -> Slot | None:
        """The slot a record names."""
        if record.slot is None:
            return None
        return slots.slot_at(self.machine.subnet, record.slot)

    def reclaim(self, record: Record) -> None:
        """Take the record's slot again, or another if it was lost in a restart of the machine."""
        if record.slot is None:
            return
        slot = self.claim(record.slot)
        if slot.number != record.slot:
            self.disk.unmount()  # its files belong to the slot it had
            self.write(msgspec.structs.replace(record, slot=slot.number))

    def revive(self, record: Record) -> Slot:
        """Make the parts of a built deployment that a restart of the machine took away."""
        slot = self.claim(record.slot)
        self.disk.mount(slot.app_uid)
        if not self.network(slot).exists:
            self.network(slot).create()
        etc.write_etc(self.disk.etc, slot, self.machine.servers)
        return slot

    def dismiss(self, record: Record) -> None:
        """Take away all but the files, the logs and the record. The app must be stopped."""
        for group in (self.build_group, self.app_group, self.door_group):
            self.machine.cgroups.remove(group)
        self.socket.unlink(missing_ok=True)
        slot = self.slot(record)
        if slot is not None and slots.holds(slot.number, self.directory):
            self.network(slot).remove()
        self.disk.unmount()

    def abandon(self, record: Record) -> None:
        """Take away all but the logs, which are moved off the disk, and the record."""
        self._mount(record)
        for kind in LogKind:
            log = self.disk.log(kind)
            if log.exists():
                disks.trim_log(log)
                shutil.copyfile(log, self._kept_log(kind))
        self.dismiss(record)
        self.disk.remove()
        self._release(record)
        self.write(Record(deployment_id=self.deployment_id, slot=None, stage=Stage.FAILED))

    def remove(self) -> None:
        """Take away all there is, in whatever state."""
        if not self.directory.is_dir():
            return
        if (record := self.record) is not None:
            self.dismiss(record)
            self._release(record)
        self.disk.remove()
        shutil.rmtree(self.directory)

    def note(self, kind: LogKind, text: str) -> None:
        """A line of the gateway's in a log; left out when there is no log, or no room."""
        line = text.encode()[: store.LINE_BYTES].replace(b"\n", b" ")
        now_ms = self.machine.clock.now_ms()
        with contextlib.suppress(OSError):
            cap = LOG_CAP_BYTES[kind]
            store.append(self.log(kind), store.GATEWAY, [line], at_ms=now_ms, cap_bytes=cap)

    def _make_logs(self) -> None:
        for kind in LogKind:
            self.log(kind).mkdir(parents=True, exist_ok=True, mode=0o700)

    def log_tail(self, kind: LogKind, max_bytes: int) -> str:
        """The last part of a log, from the disk or from where it was kept."""
        if (record := self.record) is not None:
            self._mount(record)
        log = self.disk.log(kind)
        return disks.read_tail(log if log.exists() else self._kept_log(kind), max_bytes)

    def _mount(self, record: Record) -> None:
        """Mount the disk, if there is one."""
        if (slot := self.slot(record)) is not None and self.disk.image.exists():
            self.disk.mount(slot.app_uid)

    def _release(self, record: Record) -> None:
        if record.slot is not None:
            slots.release(record.slot, self.directory)

    def _kept_log(self, kind: LogKind) -> Path:
        return self.directory / f"{kind}.log"
