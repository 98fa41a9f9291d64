"""Gateways on one database have the same keys, or do not start."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from moorage.core import Core
from moorage.errors import AlreadyRunning, ConfigurationInvalid
from moorage.events.signature import new_secret
from moorage.gateway.assembly import open_core
from moorage.gateway.data_directory import open_data_directory
from moorage.gateway.leadership import (
    COPY_SECONDS,
    SAY_SECONDS,
    Registration,
    challenge_secret,
    fingerprints,
)
from moorage.loop import until_tick
from moorage.records.event import Webhook
from moorage.settings import Settings, load_settings
from moorage.storage import events
from moorage.storage.database import Database
from moorage.storage.migrate import migrate
from moorage.storage.opening import Purpose
from moorage.storage.several import cluster
from moorage.storage.several.cluster import SILENT_MS, RunningGateway
from moorage.storage.vault import Vault
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import ALICE
from support.gateway.clock import MovableClock

KEY, OTHER_KEY = (bytes([number]) * 32 for number in (1, 2))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return with_relayer(tmp_path, "11" * 32)


def with_relayer(directory: Path, key: str) -> Settings:
    path = directory / key[:2]
    path.touch(mode=0o600)
    path.write_text(key)
    return load_settings(file=None, environ={}, relayer_key_file=str(path))


def gateway(
    db: Database,
    clock: MovableClock,
    name: str,
    settings: Settings,
    *,
    key: bytes = KEY,
    boot: str = "boot",
) -> Registration:
    keys = fingerprints(settings, vault=Vault([key]))
    return Registration(db=db, clock=clock, own=RunningGateway(f"id-{name}", name, keys, boot))


@pytest.mark.parametrize("runs", [True, False])
async def test_gateway_with_a_copied_data_directory_does_not_start_beside_the_first(
    db: Database,
    clock: MovableClock,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    runs: bool,
) -> None:
    """It has the same id; a gateway whose machine was started again has it as well."""
    first = gateway(db, clock, "one", settings)
    await first.enter()
    await first.enter()  # on the same machine it was only started again

    sleep = asyncio.sleep

    async def wait(seconds: float) -> None:
        await sleep(0)
        clock.advance(round(seconds * 1000))
        if seconds and runs:  # the database gives way for no time
            await first.say()

    monkeypatch.setattr(asyncio, "sleep", wait)
    copy = gateway(db, clock, "one", settings, boot="another")
    if runs:
        with pytest.raises(AlreadyRunning, match=r"Remove gateway\.id"):
            await copy.enter()
        return
    await copy.enter()
    (found,) = await cluster.running(db, now_ms=clock.now_ms())
    assert found.boot == "another"


@pytest.mark.parametrize("work_seconds", [0.0, 1.0, SAY_SECONDS / 2], ids=["0", "1", "7.5"])
async def test_gateway_that_runs_is_heard_before_it_is_taken_for_gone(
    monkeypatch: pytest.MonkeyPatch, work_seconds: float
) -> None:
    """Whenever its process was started, and however long it takes to say that it runs."""
    pauses = []
    with monkeypatch.context() as changed:
        for now in range(1000, 1000 + 2 * round(SAY_SECONDS)):
            changed.setattr(asyncio.get_running_loop(), "time", lambda now=now: now)
            pauses.append(until_tick(SAY_SECONDS))
    assert work_seconds + max(pauses) < COPY_SECONDS


async def test_gateways_with_the_same_keys_run_and_are_known(
    db: Database, clock: MovableClock, settings: Settings
) -> None:
    for name in ("one", "two", "one"):
        await gateway(db, clock, name, settings).enter()
    found = await cluster.running(db, now_ms=clock.now_ms())
    assert [(each.id, each.name) for each in found] == [("id-one", "one"), ("id-two", "two")]
    assert found[0].keys == found[1].keys
    assert set(found[0].keys) == {"variables", "relayer"}


async def test_gateway_with_another_key_does_not_start_and_is_told_which(
    db: Database, clock: MovableClock, settings: Settings, tmp_path: Path
) -> None:
    await gateway(db, clock, "one", settings).enter()
    with pytest.raises(ConfigurationInvalid, match="secrets_key_file: the gateway one"):
        await gateway(db, clock, "two", settings, key=OTHER_KEY).enter()
    with pytest.raises(ConfigurationInvalid, match="relayer_key_file: the gateway one"):
        await gateway(db, clock, "two", with_relayer(tmp_path, "22" * 32)).enter()
    assert len(await cluster.running(db, now_ms=clock.now_ms())) == 1


async def test_gateway_that_has_ended_holds_no_new_key_up(
    db: Database, clock: MovableClock, settings: Settings, tmp_path: Path
) -> None:
    first = gateway(db, clock, "one", settings)
    await first.enter()
    clock.advance(SILENT_MS)
    await first.say()
    clock.advance(SILENT_MS)
    newer = gateway(db, clock, "two", with_relayer(tmp_path, "22" * 32))
    with pytest.raises(ConfigurationInvalid):
        await newer.enter()
    clock.advance(1)
    await newer.enter()


async def test_gateway_that_was_stopped_holds_no_new_key_up_at_all(
    db: Database, clock: MovableClock, settings: Settings
) -> None:
    one = gateway(db, clock, "one", settings)
    await one.enter()
    await one.leave()
    await gateway(db, clock, "two", settings, key=OTHER_KEY).enter()


async def test_gateway_that_cannot_say_that_it_stops_stops(
    db: FaultyDatabase, clock: MovableClock, settings: Settings
) -> None:
    one = gateway(db, clock, "one", settings)
    await one.enter()
    db.refuse_writes()
    await one.leave()


async def opened(
    stack: AsyncExitStack, directory: Path, clock: MovableClock, name: str, keys: list[bytes]
) -> Core:
    open_data_directory(directory, Purpose.SERVE)
    path = directory / f"{name}.key"
    path.touch(mode=0o600)
    path.write_text("\n".join(key.hex() for key in keys))
    settings = load_settings(
        file=None,
        environ={},
        data_dir=str(directory),
        gateway_name=name,
        secrets_key_file=str(path),
    )
    await asyncio.to_thread(migrate, settings.database)
    return await open_core(stack, settings, clock, purpose=Purpose.SERVE, speed=1.0)


async def test_gateway_that_is_refused_has_sealed_nothing_that_others_could_not_open(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with AsyncExitStack() as stack:
        one = await opened(stack, tmp_path, clock, "one", [KEY])
        sealed = one.vault.seal_secret(new_secret(), ALICE)
        async with one.db.transaction(durable=True) as tx:
            await events.set_webhook(
                tx,
                Webhook(wallet=ALICE, url="https://example.com/", secret=sealed, created_at_ms=0),
            )
        with pytest.raises(ConfigurationInvalid, match="another key"):
            await opened(stack, tmp_path, clock, "two", [OTHER_KEY, KEY])
        found = await events.webhook_of(one.db, ALICE)
        assert found is not None
        assert found.secret == sealed


async def test_gateways_share_the_secret_of_challenges_and_store_it_sealed(db: Database) -> None:
    one, two = [await challenge_secret(db, Vault([KEY])) for _ in range(2)]
    assert one == two
    stored = await cluster.agree(db, "challenges", "")
    assert one.hex() not in stored
    assert stored.startswith(Vault([KEY]).mark)


async def test_secret_of_challenges_outlasts_the_key_that_sealed_it(db: Database) -> None:
    one = await challenge_secret(db, Vault([KEY]))
    assert await challenge_secret(db, Vault([OTHER_KEY, KEY])) == one
    assert await challenge_secret(db, Vault([OTHER_KEY])) == one


async def test_secret_of_challenges_that_no_key_opens_is_replaced(db: Database) -> None:
    one = await challenge_secret(db, Vault([KEY]))
    two = await challenge_secret(db, Vault([OTHER_KEY]))
    assert two != one
    assert await challenge_secret(db, Vault([OTHER_KEY, KEY])) == two
