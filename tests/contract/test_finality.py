"""Credited payments are looked at again: they become final, move, or are taken back."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from eth_account import Account

from moorage.chains.local.devchain import DevWallet
from moorage.clock import SystemClock
from moorage.errors import ChainUnavailable
from moorage.ledger import ledger
from moorage.ledger.ledger import Transfer
from moorage.ledger.metering import Metering
from moorage.money import AtomicUnits, MicroUsd
from moorage.records.payments import Finality, PaymentStatus
from moorage.records.project import ProjectStatus
from moorage.storage.apps import projects
from moorage.storage.database import Database
from moorage.storage.money import billing
from support.books.records_fixture import add_project
from support.chains.chain_fixture import LocalChains
from support.chains.paying import rpc, send_transaction, send_transfer, sign_authorization
from support.chains.rpc_proxy import RpcProxy
from support.chains.watching import Watched
from support.gateway.clock import HOUR_MS


@pytest.fixture
async def chain(
    local_chains: LocalChains, db: Database, pay_to: str, payer: DevWallet
) -> AsyncIterator[Watched]:
    watched = Watched(local_chains, db, pay_to, payer)
    await watched.watcher().look()
    yield watched
    await watched.close()


async def paid(chain: Watched, amount: int = 500_000, **options: Any) -> str:
    """A payment that is credited; its hash."""
    tx_hash = await chain.pay(amount, **options)
    await chain.watcher().look()
    return tx_hash


async def standing(chain: Watched, tx_hash: str) -> list[tuple[PaymentStatus, Finality]]:
    return [(one.status, one.finality) for one in await chain.payments(tx_hash)]


STRANGER = "0x" + "11" * 20
PROVISIONAL = (PaymentStatus.CREDITED, Finality.PROVISIONAL)
REVERSED = (PaymentStatus.REVERSED, Finality.PROVISIONAL)


async def test_payment_is_safe_then_finalized_as_its_chain_says(chain: Watched) -> None:
    """The local node calls a block safe that is one deep, and finalized that is two deep."""
    tx_hash = await paid(chain)
    look = chain.finality_check()
    seen = []
    for _ in range(3):
        await look.check()
        seen += [finality for _, finality in await standing(chain, tx_hash)]
        await chain.mine()
    assert seen == [Finality.PROVISIONAL, Finality.SAFE, Finality.FINALIZED]
    assert await chain.balance() == 500_000


async def test_many_payments_are_read_in_few_round_trips(
    chain: Watched, arbitrum_proxy: RpcProxy
) -> None:
    hashes = [await chain.pay(1) for _ in range(60)]
    await chain.mine(2)
    await chain.watcher().look()
    await chain.finality_check(arbitrum_proxy.url).check()
    assert {(await standing(chain, one))[0][1] for one in hashes} == {Finality.FINALIZED}
    assert arbitrum_proxy.requests <= 3


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_payment_that_a_reorganisation_dropped_is_taken_back(
    chain: Watched, depth: int
) -> None:
    kept = await paid(chain, 7, by=1)
    tx_hash = await chain.pay()
    await chain.mine(depth - 1)
    await chain.watcher().look()
    await chain.reorganise(depth)
    await chain.mine(3)
    look = chain.finality_check()
    await look.check()
    assert await standing(chain, tx_hash) == [PROVISIONAL]  # once might be a mistake
    await look.check()
    assert await standing(chain, tx_hash) == [REVERSED]
    assert (await chain.balance(), await chain.balance(by=1)) == (0, 7)
    assert await standing(chain, kept) == [(PaymentStatus.CREDITED, Finality.FINALIZED)]
    assert await chain.ledger_sum() == 0


async def test_payment_mined_again_after_it_was_taken_back_is_credited_again(
    chain: Watched,
) -> None:
    watcher, look = chain.watcher(), chain.finality_check()
    tx_hash = await paid(chain)
    raw = await chain.raw(tx_hash)
    await chain.reorganise(1)
    await chain.mine(2)
    for _ in range(2):
        await look.check()
    assert await chain.balance() == 0
    mined = await rpc(chain.url, "eth_sendRawTransactionSync", raw)
    assert mined["transactionHash"] == tx_hash
    for _ in range(2):
        await watcher.look()
    assert await chain.balance() == 500_000
    (payment,) = await chain.payments(tx_hash)
    assert (payment.status, payment.round) == (PaymentStatus.CREDITED, 2)
    assert await chain.ledger_sum() == 0


async def test_payment_that_was_taken_back_and_is_there_after_all_is_credited_again(
    chain: Watched,
) -> None:
    """In the very block it was first seen in."""
    tx_hash = await paid(chain)
    (payment,) = await chain.payments(tx_hash)
    async with chain.db.transaction(durable=True) as tx:
        await ledger.reverse_payment(tx, payment, now_ms=1)
    await chain.mine()
    await chain.watcher().look()
    (payment,) = await chain.payments(tx_hash)
    assert (payment.status, payment.round) == (PaymentStatus.CREDITED, 2)
    assert await chain.balance() == 500_000


async def test_payment_that_moved_is_followed(chain: Watched) -> None:
    """To another block and log index, while nobody searches."""
    first, second = await paid(chain, 5, by=1), await paid(chain, 7)
    raws = [await chain.raw(first), await chain.raw(second)]
    await chain.reorganise(2, [], raws)
    await chain.mine(2)
    await chain.finality_check().check()
    for tx_hash, amount in ((first, 5), (second, 7)):
        receipt = await rpc(chain.url, "eth_getTransactionReceipt", tx_hash)
        credited = [
            (one.block_hash, one.log_index, one.amount)
            for one in await chain.payments(tx_hash)
            if one.status is PaymentStatus.CREDITED
        ]
        index = int(receipt["logs"][0]["logIndex"], 16)
        assert credited == [(receipt["blockHash"], index, amount)]
    assert (await chain.balance(by=1), await chain.balance()) == (5, 7)
    assert await chain.ledger_sum() == 0


async def test_payment_that_is_reverted_where_it_lies_now_is_taken_back(chain: Watched) -> None:
    """What another sends by the payer's authorization comes first there, and leaves nothing."""
    poor = Account.create()
    await rpc(chain.url, "anvil_setBalance", poor.address, hex(10**18))
    await rpc(chain.url, "anvil_dealERC20", poor.address, chain.usdc.address, hex(10))
    await chain.mine()
    payment = await send_transfer(chain.url, poor.key.hex(), chain.usdc.address, chain.pay_to, 10)
    await chain.watcher().look()
    authorized = sign_authorization(
        poor.key.hex(), chain_id=42161, token_address=chain.usdc.address, to=STRANGER, value=10
    )
    relayed = await send_transaction(
        chain.url, chain.payer.private_key, to=chain.usdc.address, data=authorized.calldata
    )
    assert await standing(chain, payment) == [PROVISIONAL]
    await chain.reorganise(2, [await chain.raw(relayed), await chain.raw(payment)])
    assert (await rpc(chain.url, "eth_getTransactionReceipt", payment))["status"] == "0x0"
    await chain.mine()
    await checked(chain, chain.url)
    assert await standing(chain, payment) == [REVERSED]
    assert await chain.ledger_sum() == 0


async def test_held_payment_that_moved_is_still_held(chain: Watched) -> None:
    async def refuse(_: Transfer) -> str:
        return "listed"

    tx_hash = await chain.pay()
    await chain.watcher(screen=refuse).look()
    (before,) = await chain.payments(tx_hash)
    await chain.mine()
    await chain.reorganise(2, [], [await chain.raw(tx_hash)])
    await chain.mine(2)
    await checked(chain, chain.url, times=1)
    (payment,) = await chain.payments(tx_hash)
    assert payment.block_number == before.block_number + 1
    assert (payment.status, payment.held_reason) == (PaymentStatus.HELD, "listed")
    assert await chain.balance() == 0


# What runs unpaid.


async def running(chain: Watched, name: str) -> str:
    """A project of the payer's that is billed; its id."""
    project = await add_project(chain.db, chain.payer.address.lower(), name)
    async with chain.db.transaction(durable=True) as tx:
        await Metering(db=chain.db, clock=SystemClock()).begin(tx, project.id)
    return project.id


async def drop(chain: Watched) -> None:
    """Have the newest block's payments taken back."""
    await chain.reorganise(1)
    await chain.mine(2)
    look = chain.finality_check()
    for _ in range(2):
        await look.check()


async def status(chain: Watched, project_id: str) -> ProjectStatus:
    project = await projects.by_id(chain.db, project_id)
    assert project is not None
    return project.status


async def test_what_runs_unpaid_after_a_reversal_is_suspended(chain: Watched) -> None:
    await paid(chain)
    ids = [await running(chain, name) for name in ("one", "two")]
    other = await add_project(chain.db, "0x" + "0d" * 20, "three")
    await drop(chain)
    assert [await status(chain, one) for one in ids] == [ProjectStatus.SUSPENDED] * 2
    assert await billing.due(chain.db, charged_before_ms=2**60, limit=10) == []
    assert await status(chain, other.id) is ProjectStatus.ACTIVE


async def test_what_is_still_paid_for_goes_on(chain: Watched) -> None:
    await paid(chain, 1)
    await paid(chain, 500_000)
    project_id = await running(chain, "one")
    await drop(chain)
    assert await chain.balance() == 1
    assert await status(chain, project_id) is ProjectStatus.ACTIVE


async def test_what_was_spent_of_a_payment_taken_back_is_owed(chain: Watched) -> None:
    await paid(chain)
    wallet = chain.payer.address.lower()
    async with chain.db.transaction(durable=True) as tx:
        burn = ledger.Burn("a", wallet, MicroUsd(685), "burn:a:1", HOUR_MS)
        await ledger.burn(tx, [burn], now_ms=HOUR_MS)
    await drop(chain)
    assert await chain.balance() == -685
    await paid(chain, 1_000)
    await chain.watcher().look()  # the one before stepped back
    assert await chain.balance() == 315


# Who can't be believed reverses nothing.


async def checked(chain: Watched, *urls: str, times: int = 4) -> None:
    look = chain.finality_check(*urls)
    for _ in range(times):
        try:
            await look.check()
        except ChainUnavailable:
            continue


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"receipt": None}, id="receipt lost, block there"),
        pytest.param({"block": None}, id="block not there yet"),
        pytest.param({"block": {"hash": "0x" + "0f" * 32}}, id="receipt of a block that is not"),
        pytest.param({"receipt": {"blockHash": "0x" + "0f" * 32}}, id="receipt of another block"),
        pytest.param({"receipt": {"status": "0x0", "logs": []}}, id="reverted in the same block"),
    ],
)
async def test_node_that_contradicts_itself_changes_nothing(
    chain: Watched, arbitrum_proxy: RpcProxy, change: dict[str, Any]
) -> None:
    tx_hash = await paid(chain)
    await chain.mine(2)
    (payment,) = await chain.payments(tx_hash)
    number = hex(payment.block_number)

    def alter(method: str, result: Any) -> Any:
        of_payment = method == "eth_getBlockByNumber" and result["number"] == number
        kind = {"eth_getTransactionReceipt": "receipt"}.get(method, "block" if of_payment else "")
        if kind not in change:
            return result
        return None if change[kind] is None else {**result, **change[kind]}

    arbitrum_proxy.alter = alter
    await checked(chain, arbitrum_proxy.url)
    (after,) = await chain.payments(tx_hash)
    assert after == payment
    arbitrum_proxy.behave()
    await checked(chain, arbitrum_proxy.url, times=1)
    assert await standing(chain, tx_hash) == [(PaymentStatus.CREDITED, Finality.FINALIZED)]


async def test_payment_booked_with_another_value_than_its_receipt_tells_is_not_confirmed(
    chain: Watched,
) -> None:
    """As a node that lied when it was credited would have it."""
    tx_hash = await chain.pay(5)
    receipt = await rpc(chain.url, "eth_getTransactionReceipt", tx_hash)
    lie = Transfer(
        chain_id=42161,
        tx_hash=tx_hash,
        log_index=int(receipt["logs"][0]["logIndex"], 16),
        token="usdc",
        token_address=chain.usdc.key,
        payer=chain.payer.address.lower(),
        amount=AtomicUnits(50),
        decimals=6,
        block_number=int(receipt["blockNumber"], 16),
        block_hash=receipt["blockHash"],
        recipient=chain.pay_to.lower(),
    )
    async with chain.db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [lie], now_ms=1)
    await chain.mine(2)
    await checked(chain, chain.url)
    assert await standing(chain, tx_hash) == [PROVISIONAL]


async def test_payment_that_is_credited_anew_meanwhile_is_left_alone(
    chain: Watched, arbitrum_proxy: RpcProxy
) -> None:
    """Between the second look at the chain and what it writes, the watcher follows the payment."""
    tx_hash = await paid(chain)
    await chain.mine()
    await chain.reorganise(2, [], [await chain.raw(tx_hash)])
    await chain.mine(3)

    async def search_first(request: web.Request) -> web.StreamResponse:
        if b"eth_getTransactionReceipt" in await request.read():
            for _ in range(2):
                await chain.watcher().look()
        return await arbitrum_proxy.forward(request)

    arbitrum_proxy.respond = search_first
    await checked(chain, arbitrum_proxy.url, times=1)
    (payment,) = await chain.payments(tx_hash)
    assert (payment.round, payment.status) == (2, PaymentStatus.CREDITED)
    assert await chain.balance() == 500_000
    assert await chain.ledger_sum() == 0
