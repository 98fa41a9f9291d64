"""What an operator changed is recorded at the next start, and nothing of it loses money."""

from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from moorage.chains.chain import KNOWN_CHAINS
from moorage.errors import ConfigurationInvalid
from moorage.gateway.configuration import former_chains, take_configuration
from moorage.ledger import ledger
from moorage.records.payments import Finality
from moorage.records.size import SizeSetting
from moorage.settings import Settings, load_settings
from moorage.storage.database import Database, Statement
from moorage.storage.operation import configuration
from moorage.storage.schema import payments
from support.books.records_fixture import ARBITRUM, add_project, transfer
from support.gateway.clock import MovableClock

NODE = {"rpc_urls": ["https://node.example/v2/s3cret"]}
BASE = 8453


def settings(**given: Any) -> Settings:
    return load_settings(file=None, environ={}, **given)


async def changed(db: Database) -> list[tuple[str, Any, Any]]:
    """What starts recorded but the first, decoded."""

    def decoded(value: str | None) -> Any:
        return None if value is None else msgspec.json.decode(value)

    return [
        (each.setting, decoded(each.before), decoded(each.after))
        for each in await configuration.history(db)
        if each.before is not None
    ]


async def pay(db: Database, *, finality: Finality = Finality.PROVISIONAL) -> None:
    """A payment on Base, whose block is as certain as that."""
    paid = transfer(chain_id=BASE, token_address=KNOWN_CHAINS["base"].tokens[0].key)
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [paid], now_ms=1)
        await tx.execute(Statement(update(payments).values(finality=str(finality))))


async def test_a_start_with_the_same_settings_records_nothing(
    db: Database, clock: MovableClock
) -> None:
    for _ in range(2):
        await take_configuration(db, settings(chains={"base": NODE}), clock=clock)
    assert await changed(db) == []
    assert len(await configuration.history(db)) == len(await configuration.in_force(db))


async def test_a_changed_setting_is_recorded_with_both_values(
    db: Database, clock: MovableClock
) -> None:
    await take_configuration(db, settings(), clock=clock)
    await take_configuration(db, settings(app_memory_mib=1024, contact="a@b.example"), clock=clock)
    assert await changed(db) == [("app_memory_mib", 512, 1024), ("contact", "", "a@b.example")]


async def test_settings_that_each_gateway_has_for_itself_are_no_change(
    db: Database, clock: MovableClock
) -> None:
    await take_configuration(
        db, settings(gateway_name="a", operator_listen="127.0.0.1:1"), clock=clock
    )
    await take_configuration(
        db, settings(gateway_name="b", operator_listen="127.0.0.1:2"), clock=clock
    )
    assert await changed(db) == []


async def test_secrets_are_recorded_by_their_fingerprints(
    db: Database, clock: MovableClock
) -> None:
    for key in ("s3cret-1", "s3cret-2"):
        given = settings(
            chains={"base": {"rpc_urls": [f"https://user:{key}@node.example/v2/{key}?key={key}"]}},
            database_url=f"postgresql://moorage:{key}@db.example/moorage",
            screening=("/bin/screen", f"--token={key}"),
            build_env={"MIRROR": f"https://{key}@mirror.example"},
            alert_webhook=f"https://chat.example/services/{key}",
        )
        await take_configuration(db, given, clock=clock)
    names = {name for name, _, _ in await changed(db)}
    assert names == {
        *(
            "chains.base",
            "database_url",
            "screening",
            "build_env",
            "alert_webhook",
        ),
    }
    history = await configuration.history(db)
    assert "s3cret" not in str(history)
    assert "node.example" in str(history)
    assert "chat.example" in str(history)


async def test_chain_with_payments_that_are_not_final_can_not_be_taken_out(
    db: Database, clock: MovableClock
) -> None:
    both = {"base": NODE, "arbitrum": NODE}
    await take_configuration(db, settings(chains=both), clock=clock)
    await pay(db)
    before = await configuration.history(db)
    with pytest.raises(ConfigurationInvalid, match="1 payments whose block is not safe"):
        await take_configuration(db, settings(chains={"arbitrum": NODE}), clock=clock)
    assert await configuration.history(db) == before
    closed = {"arbitrum": NODE, "base": NODE | {"closed": True}}
    await take_configuration(db, settings(chains=closed), clock=clock)
    assert [name for name, _, _ in await changed(db)] == ["chains.base"]


@pytest.mark.parametrize("finality", [Finality.SAFE, Finality.FINALIZED])
async def test_chain_whose_payments_are_final_is_taken_out_and_stays_known(
    db: Database, clock: MovableClock, finality: Finality
) -> None:
    await take_configuration(db, settings(chains={"base": NODE, "arbitrum": NODE}), clock=clock)
    await pay(db, finality=finality)
    await take_configuration(db, settings(chains={"arbitrum": NODE}), clock=clock)
    former = former_chains(await configuration.history(db), now=[ARBITRUM])
    (base,) = [chain for chain in former if chain.chain_id == BASE]
    assert (base.name, base.rpc_urls) == ("base", ())
    assert [token.name for token in base.tokens] == ["usdc", "usdt"]


async def test_token_with_money_on_its_way_can_not_be_taken_out(
    db: Database, clock: MovableClock
) -> None:
    usdc = {
        "name": "usdc",
        "symbol": "U",
        "address": KNOWN_CHAINS["base"].tokens[0].address,
        "decimals": 6,
    }
    other = usdc | {"name": "other", "address": "0x" + "ab" * 20}
    given = NODE | {"tokens": [usdc, other], "chain_id": BASE}
    await take_configuration(db, settings(chains={"base": given}), clock=clock)
    await pay(db)
    left = settings(chains={"base": given | {"tokens": [other]}})
    with pytest.raises(ConfigurationInvalid, match="usdc on chain 8453"):
        await take_configuration(db, left, clock=clock)


async def test_former_base_domains_are_served_until_they_are_retired(
    db: Database, clock: MovableClock
) -> None:
    async def start(domain: str) -> tuple[str, ...]:
        given = settings(base_domain=domain)
        clock.advance(1000)
        return (await take_configuration(db, given, clock=clock)).former_domains

    assert await start("one.example") == ()
    assert await start("two.example") == ("one.example",)
    assert await start("three.example") == ("one.example", "two.example")
    async with db.transaction(durable=True) as tx:
        assert await configuration.BASE_DOMAINS.retire(tx, "one.example", at_ms=5)
        assert not await configuration.BASE_DOMAINS.retire(tx, "one.example", at_ms=6)
    assert await start("three.example") == ("two.example",)
    assert await start("one.example") == ("two.example", "three.example")
    assert await start("two.example") == ("one.example", "three.example")


async def test_each_gateways_place_is_its_own_and_what_all_share_is_everybodys(
    db: Database, clock: MovableClock
) -> None:
    one, two, other = (f"127.0.0.1:{port}" for port in (1001, 1002, 1003))
    for name, listen in (("one", one), ("two", two), ("one", one), ("two", other)):
        await take_configuration(db, settings(gateway_name=name, listen=listen), clock=clock)
    assert await changed(db) == [("two: listen", two, other)]
    await take_configuration(
        db, settings(gateway_name="one", listen=one, retention_days=9), clock=clock
    )
    assert [each[0] for each in await changed(db)] == ["two: listen", "retention_days"]


async def test_size_that_projects_have_and_pay_for_can_not_be_taken_out(
    db: Database, clock: MovableClock
) -> None:
    await add_project(db, size="large")
    alone = SizeSetting(name="huge", memory_mib=8192)
    with pytest.raises(ConfigurationInvalid, match="sizes: projects have large, and pay for it"):
        await take_configuration(db, settings(sizes=[alone]), clock=clock)
    kept = SizeSetting(name="large", sold=False)
    await take_configuration(db, settings(sizes=[alone, kept]), clock=clock)
