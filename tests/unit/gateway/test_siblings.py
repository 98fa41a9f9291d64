"""Gateways on one database have the same keys, or do not start."""

from pathlib import Path

import pytest

from clock import MovableClock
from moorage.core import Core
from moorage.errors import ConfigurationInvalid
from moorage.gateway.siblings import Siblings, challenge_secret
from moorage.settings import Settings, load_settings
from moorage.storage import cluster
from moorage.storage.cluster import SILENT_MS
from moorage.storage.database import Database
from moorage.storage.leases import Leases
from moorage.storage.vault import Vault

KEY, OTHER_KEY = (bytes([number]) * 32 for number in (1, 2))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return with_relayer(tmp_path, "11" * 32)


def with_relayer(directory: Path, key: str) -> Settings:
    path = directory / key[:2]
    path.touch(mode=0o600)
    path.write_text(key)
    return load_settings(file=None, environ={}, relayer_key_file=str(path))


def gateway(db: Database, clock: MovableClock, name: str, *, key: bytes = KEY) -> Core:
    return Core(
        db=db,
        vault=Vault([key]),
        leases=Leases(db=db, holder=f"id-{name}", clock=clock),
        clock=clock,
        data_dir=Path("/nowhere"),
        name=name,
    )


async def test_gateways_with_the_same_keys_run_and_are_known(
    db: Database, clock: MovableClock, settings: Settings
) -> None:
    for name in ("one", "two", "one"):
        await Siblings(gateway(db, clock, name), settings).enter()
    found = await cluster.running(db, now_ms=clock.now_ms())
    assert [(each.id, each.name) for each in found] == [("id-one", "one"), ("id-two", "two")]
    assert found[0].keys == found[1].keys
    assert set(found[0].keys) == {"variables", "relayer"}


async def test_gateway_with_another_key_does_not_start_and_is_told_which(
    db: Database, clock: MovableClock, settings: Settings, tmp_path: Path
) -> None:
    await Siblings(gateway(db, clock, "one"), settings).enter()
    with pytest.raises(ConfigurationInvalid, match="secrets_key_file: the gateway one"):
        await Siblings(gateway(db, clock, "two", key=OTHER_KEY), settings).enter()
    with pytest.raises(ConfigurationInvalid, match="relayer_key_file: the gateway one"):
        await Siblings(gateway(db, clock, "two"), with_relayer(tmp_path, "22" * 32)).enter()
    assert len(await cluster.running(db, now_ms=clock.now_ms())) == 1


async def test_gateway_that_has_ended_holds_no_new_key_up(
    db: Database, clock: MovableClock, settings: Settings, tmp_path: Path
) -> None:
    first = Siblings(gateway(db, clock, "one"), settings)
    await first.enter()
    clock.advance(SILENT_MS)
    await first.say()
    clock.advance(SILENT_MS)
    newer = Siblings(gateway(db, clock, "two"), with_relayer(tmp_path, "22" * 32))
    with pytest.raises(ConfigurationInvalid):
        await newer.enter()
    clock.advance(1)
    await newer.enter()


async def test_gateways_share_the_secret_of_challenges_and_store_it_sealed(db: Database) -> None:
    one, two = [await challenge_secret(db, Vault([KEY])) for _ in range(2)]
    assert one == two
    stored = await cluster.agree(db, "challenges", "")
    assert one.hex() not in stored
    assert stored.startswith(Vault([KEY]).mark)


async def test_secret_of_challenges_that_no_key_opens_is_replaced(db: Database) -> None:
    one = await challenge_secret(db, Vault([KEY]))
    two = await challenge_secret(db, Vault([OTHER_KEY]))
    assert two != one
    assert await challenge_secret(db, Vault([OTHER_KEY, KEY])) == two
