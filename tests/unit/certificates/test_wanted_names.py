"""Which names may have certificates, how many, and by which proof."""

import stat
from pathlib import Path

import pytest
from room import BASE, Room

from moorage.storage.database import Database
from support.books.records_fixture import ALICE, BOB
from support.gateway.clock import HOUR_MS, MovableClock

DAY_MS = 24 * HOUR_MS


async def test_wallet_has_so_many_new_ones_a_week_and_others_theirs(
    db: Database, clock: MovableClock
) -> None:
    hosts = [f"mine-{number}.example" for number in range(5)]
    asked = Room(db, clock, per_wallet=3).certificates
    for _ in range(2):
        wanted = [await asked.want(host, ALICE) for host in hosts]
        assert wanted == [True, True, True, False, False]
    assert await asked.want("theirs.example", BOB)
    for number in range(5):
        assert await asked.want(f"own-{number}.example", "")  # the gateway's own

    clock.advance(6 * DAY_MS)
    asked = Room(db, clock, per_wallet=3).certificates  # also after a restart
    assert not await asked.want(hosts[3], ALICE)
    clock.advance(1 * DAY_MS)
    assert [await asked.want(host, ALICE) for host in hosts] == [True] * 5


async def test_certificate_is_renewed_whatever_else_its_wallet_had(
    db: Database, clock: MovableClock
) -> None:
    asked = Room(db, clock, per_wallet=1).certificates
    assert await asked.want("old.example", ALICE)
    for _ in range(6):
        clock.advance(60 * DAY_MS)
        await asked.want("new.example", ALICE)
        assert await asked.want("old.example", ALICE)


async def test_wallet_that_had_its_share_gets_no_order(db: Database, clock: MovableClock) -> None:
    room = Room(db, clock, per_wallet=1)
    await room.want("one.example")
    assert not await room.certificates.want("two.example", ALICE)
    await room.begin()
    await room.begin()
    assert room.authority.orders == ["one.example"]


def hook(directory: Path, script: str) -> tuple[str, ...]:
    file = directory / "hook"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(stat.S_IRWXU)
    return (str(file), "--zone", "apps.example")


async def test_hook_proves_one_certificate_for_all_apps(
    db: Database, clock: MovableClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORAGE_DATABASE_URL", "a secret")
    log, environment = tmp_path / "log", tmp_path / "environment"
    command = hook(tmp_path, f'echo "$*" >> {log}; env > {environment}')
    room = Room(db, clock, hook=command, own_names=(f"*.{BASE}", "gateway.example"))
    await room.certificates.want_own()
    await room.want(f"one.{BASE}", f"two.{BASE}", "shop.example")
    await room.begin()
    await room.begin()
    wanted = sorted([f"*.{BASE}", "gateway.example", "shop.example"])
    assert sorted(room.authority.orders) == wanted
    assert log.read_text().splitlines() == [
        f"--zone apps.example add _acme-challenge.{BASE} value",
        f"--zone apps.example remove _acme-challenge.{BASE} value",
    ]
    assert "a secret" not in environment.read_text()
    assert await room.certificates.has(f"one.{BASE}")
    assert set(room.proxy.pems) == set(wanted)


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo no such zone; exit 3", "ended with 3: no such zone"), ("exec sleep 600", "not ended")],
    ids=["fails", "hangs"],
)
async def test_hook_that_fails_is_told_and_leaves_no_order_behind(
    db: Database,
    clock: MovableClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    said: str,
) -> None:
    monkeypatch.setattr("moorage.certificates.orders.HOOK_SECONDS", 0.2)
    room = Room(db, clock, hook=hook(tmp_path, script), own_names=(f"*.{BASE}",))
    await room.certificates.want_own()
    await room.begin()
    assert said in await room.certificates.problem(f"one.{BASE}")
