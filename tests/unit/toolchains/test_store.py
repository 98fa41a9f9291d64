"""The store, with an npm that is a script and has three packages."""

import asyncio
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from moorage.errors import DeployFailed, FailureCause
from moorage.toolchains.store import Npm, NpmFailed, ToolchainStore
from support.gateway.clock import HOUR_MS, MovableClock

NPM = """\
#!/bin/sh
echo "$@" >> {log}
case "$1" in
view) echo '["1.0.0", "1.22.22", "2.0.0-rc.1"]' ;;
pack)
  name=$2
  [ -e {packages}/"$name".tgz ] || {{ echo "npm error 404 $2" >&2; exit 1; }}
  echo cached > "$npm_config_cache/$name"
  while [ "$1" != --pack-destination ]; do shift; done
  cp {packages}/"$name".tgz "$2/archive.tgz"; echo archive.tgz ;;
esac
"""


class Machine:
    """A store, and what its npm was asked."""

    def __init__(self, directory: Path) -> None:
        self.packages = directory / "packages"
        self.packages.mkdir()
        self._log = directory / "asked"
        program = directory / "fake-npm"
        program.write_text(NPM.format(log=self._log, packages=self.packages))
        program.chmod(0o755)
        self.npm = Npm(program, directory=directory / "npm")
        self.clock = MovableClock()
        self.directory = directory / "toolchains"
        self.needed: set[tuple[str, str]] = set()
        self.store = self.opened()

    def opened(self, **limits: int) -> ToolchainStore:
        """The store, as after a start with these limits."""
        store = ToolchainStore(
            self.directory, npm=self.npm, clock=self.clock, needed=self._needed, **limits
        )
        store.open()
        return store

    async def _needed(self) -> set[tuple[str, str]]:
        return self.needed

    def publish(
        self, name: str, files: dict[str, int], *, others: tuple[tarfile.TarInfo, ...] = ()
    ) -> None:
        with tarfile.open(self.packages / f"{name}.tgz", "w:gz") as archive:
            for other in others:
                archive.addfile(other)
            for path, mode in files.items():
                info = tarfile.TarInfo(f"package/{path}")
                info.mode, info.uid = mode, 12345
                archive.addfile(info)

    @property
    def packed(self) -> int:
        return self._log.read_text().count("pack ") if self._log.exists() else 0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.publish("yarn@1.22.22", {"bin/yarn.js": 0o644, "lib/cli.js": 0o666, "bin/yarn": 0o600})
    return made


async def test_version_is_installed_once_for_all_who_ask_at_once(machine: Machine) -> None:
    asked = (machine.store.ensure("yarn", "1.22.22") for _ in range(20))
    places = await asyncio.gather(*asked)
    assert set(places) == {machine.directory / "yarn" / "1.22.22"}
    assert machine.packed == 1
    assert await machine.store.ensure("yarn", "1.22.22") == places[0]
    assert machine.packed == 1
    assert machine.store.installed() == {"yarn": ("1.22.22",)}


async def test_programs_are_in_bin_and_nobody_may_write(machine: Machine) -> None:
    place = await machine.store.ensure("yarn", "1.22.22")
    assert (place / "bin/yarn").resolve() == place / "bin/yarn.js"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.rglob("*.js")}
    assert modes == {"yarn.js": 0o555, "cli.js": 0o444}
    assert {path.lstat().st_uid for path in place.rglob("*")} == {os.geteuid()}


@pytest.mark.parametrize(
    ("program", "version"),
    [("yarn", "1.22.19"), ("yarn", "../../x"), ("perl", "5.0.0"), ("node", "26.0.0-rc.1")],
)
async def test_what_cannot_be_had_fails_with_its_reason(
    machine: Machine, program: str, version: str
) -> None:
    with pytest.raises(DeployFailed) as failed:
        await machine.store.ensure(program, version)
    assert failed.value.cause is FailureCause.INSTALL_FAILED
    assert version in failed.value.reason
    assert machine.store.installed() == {}
    assert list((machine.directory / ".making").glob("*")) == []


def entry(path: str, kind: bytes, *, leads_to: Path | None = None) -> tarfile.TarInfo:
    made = tarfile.TarInfo(f"package/{path}")
    made.type, made.linkname = kind, "" if leads_to is None else str(leads_to)
    return made


@pytest.mark.parametrize(
    ("path", "led_to", "files"),
    [
        ("bin", "", {}),
        ("bin/yarn.js", "yarn.js", {}),
        ("bin/yarn.js", "missing", {}),
        ("bin", "", {"lib/cli.js": 0o644}),
    ],
)
async def test_link_of_a_package_is_not_followed(
    machine: Machine, tmp_path: Path, path: str, led_to: str, files: dict[str, int]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "yarn.js").write_text("the host's")
    (outside / "yarn.js").chmod(0o600)
    (outside / "yarn").write_text("the host's")
    link = entry(path, tarfile.SYMTYPE, leads_to=outside / led_to)
    machine.publish("yarn@1.22.22", files, others=(link,))
    with pytest.raises(DeployFailed):
        await machine.store.ensure("yarn", "1.22.22")
    assert {file.name for file in outside.iterdir()} == {"yarn.js", "yarn"}
    assert stat.S_IMODE((outside / "yarn.js").stat().st_mode) == 0o600
    assert (outside / "yarn").read_text() == "the host's"
    assert not (outside / "yarn").is_symlink()


async def test_package_holds_files_directories_and_links_alone(machine: Machine) -> None:
    pipe = entry("lib/pipe", tarfile.FIFOTYPE)
    machine.publish("yarn@1.22.22", {"bin/yarn.js": 0o644}, others=(pipe,))
    with pytest.raises(DeployFailed, match="no file"):
        await machine.store.ensure("yarn", "1.22.22")
    assert machine.store.installed() == {}


async def test_failed_install_is_tried_again(machine: Machine) -> None:
    archive = machine.packages / "yarn@1.22.22.tgz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DeployFailed):
        await machine.store.ensure("yarn", "1.22.22")
    archive.write_bytes(whole)
    assert (await machine.store.ensure("yarn", "1.22.22")).is_dir()


async def test_cancelled_caller_interrupts_nobody_elses_install(machine: Machine) -> None:
    first = asyncio.create_task(machine.store.ensure("yarn", "1.22.22"))
    second = asyncio.create_task(machine.store.ensure("yarn", "1.22.22"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).is_dir()
    assert machine.packed == 1


def test_what_an_interrupted_install_left_is_swept(machine: Machine) -> None:
    left = machine.directory / ".making" / "node-22.0.0-x"
    left.mkdir(parents=True)
    machine.store.open()
    assert not left.exists()
    assert machine.store.installed() == {}


async def test_what_nobody_used_for_long_is_collected(machine: Machine, tmp_path: Path) -> None:
    place = await machine.store.ensure("yarn", "1.22.22")
    own = tmp_path / "own"
    own.mkdir()
    os.utime(own, (0, 0))
    (machine.directory / "go").mkdir()
    (machine.directory / "go" / "1.24.0").symlink_to(own)
    await machine.store.ensure("yarn", "1.22.22")  # used now, by the store's own clock
    machine.clock.advance(30 * 24 * HOUR_MS)
    await machine.store.collect()
    assert place.is_dir()
    machine.clock.advance(HOUR_MS)
    machine.needed = {("yarn", "1.22.22")}
    await machine.store.collect()
    assert place.is_dir()
    machine.needed.clear()
    await machine.store.collect()
    assert not place.exists()
    assert await machine.store.ensure("go", "1.24.0") == own  # an operator's own is left alone


A_MIB = 1024 * 1024


def publish(machine: Machine, *versions: str) -> None:
    """Releases of yarn of a mebibyte each."""
    for version in versions:
        content = os.urandom(A_MIB)
        with tarfile.open(machine.packages / f"yarn@{version}.tgz", "w:gz") as archive:
            info = tarfile.TarInfo("package/bin/yarn.js")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


async def test_beyond_the_cap_what_no_app_needs_goes_the_least_recently_used_first(
    machine: Machine,
) -> None:
    publish(machine, "1.22.1", "1.22.2", "1.22.3", "1.22.4")
    store = machine.opened(max_bytes=7 * A_MIB // 2)
    machine.needed = {("yarn", "1.22.1")}
    for version in ("1.22.1", "1.22.2", "1.22.3"):
        await store.ensure("yarn", version)
        machine.clock.advance(HOUR_MS)
    await store.ensure("yarn", "1.22.2")  # so 1.22.3 was used before it
    machine.clock.advance(HOUR_MS)
    await store.ensure("yarn", "1.22.4")
    await store.collect()
    assert store.installed() == {"yarn": ("1.22.1", "1.22.2", "1.22.4")}


async def test_nothing_is_installed_where_apps_need_all_that_there_is_room_for(
    machine: Machine,
) -> None:
    publish(machine, "1.22.1", "1.22.2")
    store = machine.opened(max_bytes=A_MIB // 2)
    await store.ensure("yarn", "1.22.1")
    machine.needed = {("yarn", "1.22.1")}
    with pytest.raises(DeployFailed, match="full"):
        await store.ensure("yarn", "1.22.2")
    machine.needed.clear()
    assert (await store.ensure("yarn", "1.22.2")).is_dir()
    assert store.installed() == {"yarn": ("1.22.2",)}


async def test_nothing_is_installed_while_the_disk_has_no_room_to_spare(machine: Machine) -> None:
    publish(machine, "1.22.1")
    with pytest.raises(DeployFailed, match="full"):
        await machine.opened(reserve_bytes=1 << 62).ensure("yarn", "1.22.1")
    assert machine.packed == 0


async def test_what_a_failed_build_brought_goes_unless_an_app_needs_it(machine: Machine) -> None:
    publish(machine, "1.22.1", "1.22.2")
    for version in ("1.22.1", "1.22.2"):
        await machine.store.ensure("yarn", version)
    machine.needed = {("yarn", "1.22.2")}
    await machine.store.discard({"yarn": "1.22.1", "node": "22.0.0"})
    await machine.store.discard({"yarn": "1.22.2"})
    assert machine.store.installed() == {"yarn": ("1.22.2",)}


async def test_no_download_is_kept(machine: Machine) -> None:
    await machine.store.ensure("yarn", "1.22.22")
    await machine.npm.versions("yarn")
    assert list((machine.directory.parent / "npm").iterdir()) == []
    (machine.directory.parent / "npm" / "cache-of-a-crash").mkdir()
    machine.npm.sweep()
    assert list((machine.directory.parent / "npm").iterdir()) == []


async def test_npm_lists_versions_or_says_why_not(machine: Machine) -> None:
    assert await machine.npm.versions("yarn") == ["1.0.0", "1.22.22", "2.0.0-rc.1"]
    with pytest.raises(NpmFailed, match="404 yarn@9"):
        await machine.npm.pack("yarn", "9", machine.directory)
