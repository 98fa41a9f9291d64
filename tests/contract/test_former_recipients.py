"""`pay_to` may change at any start: payments to what it was before stay payments."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from moorage.chains.local.devchain import DevWallet
from moorage.clock import SystemClock
from moorage.errors import ConfigurationInvalid, RefundRefused
from moorage.gateway.configuration import take_configuration
from moorage.operate.audit.report import Report, run_audit
from moorage.operate.books import acts, with_books
from moorage.operate.refunds import RefundOrder, run_refund
from moorage.operate.retiring import retire_recipient
from moorage.payments.protocols.evidence import PaymentMeans, TransactionEvidence
from moorage.payments.services import note_recipient
from moorage.payments.taking.verification import Verifier
from moorage.records.payments import Finality, PaymentStatus
from moorage.settings import Settings, load_settings
from moorage.storage.database import Database
from support.chains.chain_fixture import LocalChains
from support.chains.paying import send_transfer
from support.chains.watching import SAFE_ABOVE, Watched
from support.gateway.fakes import paywall_of


@pytest.fixture
async def before(
    local_chains: LocalChains, db: Database, pay_to: str, payer: DevWallet
) -> AsyncIterator[Watched]:
    """The gateway as it was, with the first address."""
    watched = Watched(local_chains, db, pay_to, payer)
    await note_recipient(db, pay_to, clock=SystemClock())
    await watched.watcher().look()
    yield watched
    await watched.close()


@pytest.fixture
async def after(before: Watched) -> AsyncIterator[Watched]:
    """The gateway as it is started again, with another address."""
    watched = Watched(before.chains, before.db, Account.create().address, before.payer)
    yield watched
    await watched.close()


async def former(after: Watched) -> frozenset[str]:
    """What the start finds."""
    return await note_recipient(after.db, after.pay_to, clock=SystemClock())


def settings_of(after: Watched, db_path: Path, **changed: Any) -> Settings:
    given = {
        "data_dir": str(db_path.parent),
        "pay_to": after.pay_to,
        "chains": {"arbitrum": {"rpc_urls": (after.url,)}},
        "rpc_timeout_seconds": 30,
    }
    return load_settings(file=None, environ={}, **given | changed)


async def audited(after: Watched, db_path: Path) -> Report:
    return await run_audit(settings_of(after, db_path), from_block=None, search=True)


async def test_a_start_finds_every_address_but_todays(before: Watched, after: Watched) -> None:
    assert await former(before) == set()
    assert await former(after) == {before.pay_to.lower()}
    assert await former(before) == {after.pay_to.lower()}


@pytest.mark.parametrize("blocks_later", [1, 3])
async def test_payment_to_the_former_address_that_moves_is_followed(
    before: Watched, after: Watched, db_path: Path, blocks_later: int
) -> None:
    tx_hash = await before.pay()
    raw = await before.raw(tx_hash)
    await before.watcher().look()
    known = await former(after)

    await after.mine(blocks_later)
    await after.reorganise(1 + blocks_later, *[[] for _ in range(blocks_later)], [raw])
    await after.mine(2)
    for _ in range(3):
        await after.watcher(former=known).look()
        await after.finality_check(former=known).check()

    (payment,) = await after.payments(tx_hash)
    assert (payment.status, payment.finality) == (PaymentStatus.CREDITED, Finality.FINALIZED)
    assert await after.balance() == 500_000
    report = await audited(after, db_path)
    assert (report.findings, report.pending, report.unknown) == ([], [], {})


async def test_payments_own_address_decides_even_if_nothing_else_knows_it(
    before: Watched, after: Watched
) -> None:
    tx_hash = await before.pay()
    raw = await before.raw(tx_hash)
    await before.watcher().look()

    await after.mine()
    await after.reorganise(2, [], [raw])
    await after.mine(2)
    look = after.finality_check()
    for _ in range(3):
        await look.check()

    assert [one.status for one in await after.payments(tx_hash)] == [PaymentStatus.CREDITED]
    assert await after.balance() == 500_000


async def test_payment_to_the_former_address_is_found(
    before: Watched, after: Watched, db_path: Path
) -> None:
    tx_hash = await before.pay()
    new_hash = await after.pay(7)

    await after.watcher(former=await former(after)).look()

    assert [one.recipient for one in await after.payments(tx_hash)] == [before.pay_to.lower()]
    assert [one.recipient for one in await after.payments(new_hash)] == [after.pay_to.lower()]
    assert await after.balance() == 500_007
    assert (await audited(after, db_path)).findings == []


async def test_payment_to_the_former_address_counts_for_who_presents_it(
    before: Watched, after: Watched
) -> None:
    tx_hash = await before.pay()
    chain = after.chains.arbitrum
    verifier = Verifier(
        pay_to=after.pay_to,
        former=await former(after),
        clients={"arbitrum": after.client()},
        clock=SystemClock(),
        safe_above=SAFE_ABOVE,
    )
    receipt = await paywall_of(after.db, verifier, clock=SystemClock()).take(
        TransactionEvidence(PaymentMeans(chain, after.usdc), tx_hash),
        wallet=after.payer.address.lower(),
        body_digest="",
        unique_name="hello",
    )
    assert receipt.credited == 500_000


async def test_payment_to_the_former_address_that_nobody_recorded_is_found_by_the_audit(
    before: Watched, after: Watched, db_path: Path
) -> None:
    await before.pay(5)
    payer = before.payer.address.lower()
    await former(after)
    report = await audited(after, db_path)
    told = [item.problem for item in (*report.findings, *report.pending)]
    assert [one.rpartition(",")[0] for one in told] == [
        f"5 from {payer} arrived and is not recorded"
    ]


async def test_own_money_that_is_moved_to_the_new_address_is_no_payment(
    before: Watched, after: Watched, db_path: Path
) -> None:
    """The operator empties the old address into the new one."""
    emptied = Watched(
        before.chains, before.db, before.chains.wallets.wallets[3].address, before.payer
    )
    await former(emptied)
    known = await former(after)
    await send_transfer(
        after.url, after.chains.wallets.wallets[3].private_key, after.usdc.address, after.pay_to, 9
    )
    assert await after.watcher(former=known).look() == 0
    assert await after.balance(by=3) == 0
    report = await audited(after, db_path)
    assert (report.findings, report.pending) == ([], [])


async def test_former_address_is_retired_once_it_is_empty_and_all_is_final(
    before: Watched, after: Watched, db_path: Path
) -> None:
    settings = settings_of(after, db_path)
    await before.pay()
    await before.watcher().look()
    known = await former(after)

    with pytest.raises(ConfigurationInvalid, match="set another first"):
        await with_books(settings, retire_recipient, after.pay_to.lower(), reason="no")
    with pytest.raises(ConfigurationInvalid, match=r"0\.500000 usdc on arbitrum"):
        await with_books(settings, retire_recipient, before.pay_to.lower(), reason="not yet")

    empty = Account.create().address.lower()
    await note_recipient(after.db, empty, clock=SystemClock())
    with pytest.raises(ConfigurationInvalid, match="not safe yet"):
        await with_books(settings, retire_recipient, empty, reason="not yet")
    await after.mine(2)
    for _ in range(3):
        await after.finality_check(former=known).check()
    await with_books(settings, retire_recipient, empty, reason="moved")

    assert await former(after) == {before.pay_to.lower()}
    (act,) = await with_books(settings, acts, since_ms=0)
    assert (act.act, act.subject, act.reason) == ("recipient retire", empty, "moved")
    assert (await audited(after, db_path)).findings == []


async def test_chain_that_was_taken_out_stays_in_the_audit(before: Watched, db_path: Path) -> None:
    await take_configuration(before.db, settings_of(before, db_path), clock=SystemClock())
    tx_hash = await before.pay()
    await before.watcher().look()
    node = {"rpc_urls": (before.url,), "chain_id": 7, "tokens": [before.usdc]}
    without = settings_of(before, db_path, chains={"other": node})

    with pytest.raises(ConfigurationInvalid, match="usdc on chain 42161"):
        await take_configuration(before.db, without, clock=SystemClock())
    assert "money is on its way" in (await unasked(without)).unknown["arbitrum"]

    await before.mine(2)
    await before.finality_check().check()
    await take_configuration(before.db, without, clock=SystemClock())
    report = await unasked(without)
    assert "arbitrum" not in report.unknown
    assert "1 payments" in report.former["arbitrum"]
    (total,) = [each for each in report.totals if (each.chain, each.token) == ("arbitrum", "usdc")]
    assert total.received == "500000"
    order = RefundOrder(
        tx_hash=tx_hash, chain=None, log_index=None, amount=None, recipient=None, reason="x"
    )
    key = db_path.parent / "key"
    key.write_text("1" * 64)
    key.chmod(0o600)
    with pytest.raises(RefundRefused, match="chain 42161 is not configured any more"):
        await run_refund(without, order, key_file=key, wait_seconds=0)


async def unasked(settings: Settings) -> Report:
    """An audit in which a chain of the wrong id is no finding of its own."""
    return await run_audit(settings, from_block=None, search=False)
