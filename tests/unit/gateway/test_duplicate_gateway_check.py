"""Two gateways with books of their own and the same addresses do not run beside each other."""

import asyncio
import errno
import os
import shutil
import socket
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from moorage.errors import AlreadyRunning
from moorage.gateway import duplicate_gateway_check
from moorage.gateway.configuration import take_configuration
from moorage.gateway.duplicate_gateway_check import (
    STALE_SECONDS,
    Asked,
    DuplicateGatewayCheck,
    InstanceToken,
    OwnInstanceToken,
    ask,
    is_public,
)
from moorage.settings import Settings, load_settings
from moorage.storage.database import Database
from moorage.storage.opening import open_database
from support.books.faulty_database import FaultyDatabase
from support.gateway.clock import MovableClock


async def test_apps_users_can_pass_the_directory_that_is_made_for_the_lock(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "moorage" / "addresses.lock"  # gone, as after a restart of the machine
    monkeypatch.setattr(duplicate_gateway_check, "ROOTS_LOCK_FILE", lock)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    settings = SimpleNamespace(chains={}, relayer_key_file=None, gateway_name=None)
    async with AsyncExitStack() as stack:
        await duplicate_gateway_check.hold_addresses(
            stack, cast("Settings", settings), db, addresses=[]
        )
    assert lock.parent.stat().st_mode & 0o001
    assert not lock.stat().st_mode & 0o077


URL, OLD_URL = "https://gateway.example", "https://old.example"
OURS, THEIRS = "eip155:1:0xaa", "eip155:1:0xbb"


def settings(**given: Any) -> Settings:
    return load_settings(file=None, environ={}, **{"public_url": URL, **given})


class Net:
    """Which gateways answer at which URL."""

    def __init__(self) -> None:
        self.at: dict[str, list[DuplicateGatewayCheck]] = {}
        self.asked: list[str] = []

    async def ask(self, url: str, roots: Collection[Path], *, elsewhere: bool) -> Asked:
        self.asked.append(url)
        shown = [InstanceToken.parse(await each.text()) for each in self.at.get(url, ())]
        found = tuple(each for each in shown if each is not None)
        return Asked(found, "" if found else "connection refused")

    def gateway(self, clock: MovableClock, **given: Any) -> DuplicateGatewayCheck:
        own = {name: given.pop(name) for name in ("public_url",) if name in given}
        return DuplicateGatewayCheck(
            settings(**own), clock=clock, ask=self.ask, again_seconds=0, **given
        )


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def copy(db: Database, db_path: Path, tmp_path: Path) -> Iterator[Database]:
    """The books as they are now, on another machine."""
    with closing(sqlite3.connect(db_path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copied = tmp_path / "copied.db"
    shutil.copy(db_path, copied)
    with closing(open_database(copied)) as database:
        yield database


@pytest.fixture
async def old(db: Database, net: Net, clock: MovableClock) -> DuplicateGatewayCheck:
    """A gateway that answers at the public address."""
    duplicates = net.gateway(clock)
    await duplicates.enter(db, [OURS])
    net.at[URL] = [duplicates]
    return duplicates


async def test_copy_of_the_books_is_refused_while_the_one_it_was_made_of_answers(
    old: DuplicateGatewayCheck, copy: Database, net: Net, clock: MovableClock
) -> None:
    with pytest.raises(AlreadyRunning, match="beside-another"):
        await net.gateway(clock).enter(copy, [OURS, THEIRS])


async def test_copy_under_another_address_is_refused_while_one_answers_at_the_old(
    db: Database, copy: Database, net: Net, clock: MovableClock
) -> None:
    duplicates = net.gateway(clock, public_url=OLD_URL)
    await duplicates.enter(db, [OURS])
    net.at[OLD_URL] = [duplicates]
    await take_configuration(copy, settings(public_url=OLD_URL), clock=clock)  # as it was saved
    with pytest.raises(AlreadyRunning, match=OLD_URL):
        await net.gateway(clock).enter(copy, [OURS])
    assert sorted(net.asked[-3:]) == sorted([URL, OLD_URL, OLD_URL])


async def test_addresses_of_now_and_before_are_asked_at_once(
    db: Database, clock: MovableClock
) -> None:
    await take_configuration(db, settings(public_url=OLD_URL), clock=clock)
    both = asyncio.Barrier(2)

    async def silent(url: str, roots: Collection[Path], *, elsewhere: bool) -> Asked:
        await both.wait()  # one after the other would wait for ever
        return Asked((), "no answer")

    duplicates = DuplicateGatewayCheck(settings(), clock=clock, ask=silent)
    async with asyncio.timeout(60):
        await duplicates.enter(db, [OURS])


async def test_operator_who_knows_better_starts_a_copy(
    old: DuplicateGatewayCheck, copy: Database, net: Net, clock: MovableClock
) -> None:
    with capture_logs() as logs:
        await net.gateway(clock, beside_another=True).enter(copy, [OURS])
    assert [line["log_level"] for line in logs] == ["warning"]


async def test_gateway_with_addresses_of_its_own_starts_and_says_who_answers(
    old: DuplicateGatewayCheck, copy: Database, net: Net, clock: MovableClock
) -> None:
    with capture_logs() as logs:
        await net.gateway(clock).enter(copy, [THEIRS])
    assert "do not reach this one" in logs[0]["error"]


async def test_gateways_of_one_database_start_beside_each_other(
    old: DuplicateGatewayCheck, db: Database, net: Net, clock: MovableClock
) -> None:
    await old.poll()
    clock.advance(round(STALE_SECONDS * 1000))
    sibling = net.gateway(clock)
    await sibling.enter(db, [OURS])
    await sibling.poll()
    await sibling.check()
    await old.poll()
    await old.check()


async def test_nobody_who_answers_stops_no_start_and_is_told(
    db: Database, net: Net, clock: MovableClock
) -> None:
    duplicates = net.gateway(clock)
    with capture_logs() as logs:
        await duplicates.enter(db, [OURS])
        await duplicates.poll()
        await duplicates.poll()
    assert [line["log_level"] for line in logs] == ["warning", "warning"]
    assert {line["error"] for line in logs} == {"connection refused"}
    await duplicates.check()


async def test_running_gateway_tells_that_a_copy_took_its_place_and_that_it_is_back(
    old: DuplicateGatewayCheck, copy: Database, net: Net, clock: MovableClock
) -> None:
    await old.poll()
    await old.check()
    net.at[URL] = []
    other = net.gateway(clock)
    await other.enter(copy, [OURS])
    net.at[URL] = [other]
    with capture_logs() as logs:
        await old.poll()
        await old.poll()
    assert [line["log_level"] for line in logs] == ["error"]
    with pytest.raises(AlreadyRunning, match="both would credit"):
        await old.check()
    net.at[URL] = [old]
    with capture_logs() as logs:
        await old.poll()
    assert [line["log_level"] for line in logs] == ["info"]
    await old.check()


async def test_copy_among_those_that_a_name_leads_to_is_found(
    old: DuplicateGatewayCheck, copy: Database, net: Net, clock: MovableClock
) -> None:
    net.at[URL] = []
    other = net.gateway(clock)
    await other.enter(copy, [OURS])
    net.at[URL] = [old, other]
    for each in (old, other):
        await each.poll()
        with pytest.raises(AlreadyRunning):
            await each.check()


async def test_gateway_that_takes_over_the_apps_is_not_asked_again(
    old: DuplicateGatewayCheck, db: Database, net: Net
) -> None:
    asked = len(net.asked)
    await old.enter(db, [OURS])
    assert len(net.asked) == asked


async def test_address_on_this_machine_alone_is_not_asked(
    db: Database, net: Net, clock: MovableClock
) -> None:
    duplicates = net.gateway(clock, public_url="")
    await duplicates.enter(db, [OURS])
    await duplicates.poll()
    assert net.asked == []
    hosts = ("localhost", "apps.localhost", "127.0.0.1:8402", "[::1]", "0.0.0.0")
    assert [host for host in hosts if is_public(f"http://{host}")] == []
    assert is_public("https://gateway.example")
    assert is_public("http://10.0.0.4:8402")


async def test_database_is_read_for_strangers_once_a_second_at_most(
    db: Database, clock: MovableClock
) -> None:
    instance_token = OwnInstanceToken(db, run="run", addresses=[OURS], clock=clock)
    await instance_token.enter()
    before = await instance_token.text()
    await instance_token.enter()
    assert await instance_token.text() == before
    clock.advance(round(STALE_SECONDS * 1000))
    assert await instance_token.text() != before


async def test_gateway_whose_database_does_not_answer_is_taken_for_no_copy(
    db: Database, db_path: Path, net: Net, clock: MovableClock
) -> None:
    """Else a sibling that starts, and has written another value, would give way to it."""
    with closing(FaultyDatabase(db_path)) as failing:
        old = net.gateway(clock)
        await old.enter(failing, [OURS])
        net.at[URL] = [old]
        await old.poll()
        clock.advance(round(STALE_SECONDS * 1000))
        failing.refuse_reads()
        sibling = net.gateway(clock)
        await sibling.enter(db, [OURS])
        assert InstanceToken.parse(await old.text()) is None
        failing.allow_reads()
        clock.advance(round(STALE_SECONDS * 1000))
        await sibling.poll()
        await sibling.check()


async def test_address_of_a_kind_that_this_machine_lacks_stops_no_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 443, 0, 0))]

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "socket", refuse)
    asked = await ask("http://gateway.example", elsewhere=True)
    assert (asked.gateways, asked.problem[:11]) == ((), "2001:db8::1")


async def test_name_that_no_host_can_have_is_a_problem_and_no_fault() -> None:
    asked = await ask(f"http://{'a' * 64}.example")
    assert asked.gateways == ()
    assert asked.problem


@pytest.mark.parametrize("text", ["", "run=a", "books=b", "; ;", "takes=a,b", "teapot"])
def test_header_of_no_gateway_is_none(text: str) -> None:
    assert InstanceToken.parse(text) is None


def test_header_says_all_of_a_gateway() -> None:
    shown = InstanceToken(run="a", books="b", takes=frozenset({"c", "d"}))
    assert InstanceToken.parse(shown.text) == shown
