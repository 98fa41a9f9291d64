"""`pay_to` may change at any start: payments to what it was before stay payments."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eth_account import Account

from chain_fixture import LocalChains
from fakes import paywall_of
from moorage.chains.local.dev_wallet import DevWallet
from moorage.clock import SystemClock
from moorage.operate.audit.report import Report, run_audit
from moorage.payments.protocols.evidence import PaymentMeans, TransactionEvidence
from moorage.payments.taking.recipients import note_recipient
from moorage.payments.taking.verification import Verifier
from moorage.records.payment import Finality, PaymentStatus
from moorage.settings import load_settings
from moorage.storage.database import Database
from paying import send_transfer
from watching import SAFE_ABOVE, Watched


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


async def audited(after: Watched, db_path: Path) -> Report:
    settings = load_settings(
        file=None,
        environ={},
        data_dir=str(db_path.parent),
        pay_to=after.pay_to,
        chains={"arbitrum": {"rpc_urls": (after.url,)}},
        rpc_timeout_seconds=30,
    )
    return await run_audit(settings, from_block=None, search=True)


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
    assert told == [f"5 from {payer} arrived and is not recorded"]


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
