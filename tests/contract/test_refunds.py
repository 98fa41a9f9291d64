"""Refunds on a real chain: paid once, whatever crashes, repeats or runs beside."""

import asyncio
import secrets
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from moorage.chains.chain import Token
from moorage.chains.eip3009 import TransferAuthorization
from moorage.chains.local.devchain import DevWallet
from moorage.chains.rpc import RpcClient
from moorage.chains.signing import SigningKey
from moorage.cli.main import run
from moorage.clock import SystemClock
from moorage.errors import ChainUnavailable, DatabaseUnavailable, RefundRefused
from moorage.failpoints import armed
from moorage.ledger import ledger
from moorage.ledger.build_time import BuildTime
from moorage.ledger.metering import Metering
from moorage.money import AtomicUnits, MicroUsd
from moorage.operate.audit.report import run_audit
from moorage.payments.relay import refunds as relay_refunds
from moorage.payments.relay.refund_requests import RefundAsked, RefundLimits, RefundRequests
from moorage.payments.relay.refund_search import authorization_of, refund_nonce
from moorage.payments.relay.refunds import RefundFollowUp, Refunds, debit_of, left_of
from moorage.payments.relay.relayer import GWEI, Limits, Relayer
from moorage.payments.taking.verification import Verifier
from moorage.records.access import Recovery
from moorage.records.payments import Finality, Payment, PaymentStatus, Refund, RefundStatus
from moorage.settings import load_settings
from moorage.storage import events, recoveries
from moorage.storage import sqlite as books_file
from moorage.storage.database import Database, Transaction
from moorage.storage.money import accounts, payments, refunds, relays
from moorage.storage.opening import open_database
from support.books.records_fixture import ALICE, USDC, USDT, transfer
from support.chains.chain_fixture import LocalChains
from support.chains.paying import (
    mine,
    mine_safe_block,
    rpc,
    send_transaction,
    send_transfer,
    times_of_blocks,
    token_balance,
    until_mined,
)
from support.chains.rpc_proxy import RpcProxy
from support.gateway.clock import START_MS

PAID = Payment(
    chain_id=1,
    tx_hash="0x",
    log_index=0,
    payer=ALICE,
    token="x",
    token_address="0x",
    amount_atomic="1500000000001",
    credited_micro_usd=MicroUsd(1),
    block_number=1,
    block_hash="0x",
    claimed_at_ms=0,
    status=PaymentStatus.CREDITED,
    finality=Finality.SAFE,
    round=1,
    posting_id="",
    held_reason=None,
    recipient="0x",
)


def end_at(step: str) -> Callable[[str], None]:
    """Ends the process at a failpoint, as far as the test is concerned."""

    def act(reached: str) -> None:
        if reached == step:
            raise KeyboardInterrupt(step)

    return act


class Till:
    """A gateway's books, the key it is paid with, and a wallet that pays."""

    def __init__(
        self,
        chains: LocalChains,
        proxy: RpcProxy,
        db_path: Path,
        payer: DevWallet,
        stack: AsyncExitStack,
    ) -> None:
        self.chains = chains
        self.proxy = proxy
        self.url = chains.arbitrum.rpc_urls[0]
        self.directory = db_path.parent
        self.payer = payer
        self.private_key = secrets.token_hex(32)
        self.key = SigningKey(self.private_key)
        self.pay_to = self.key.address
        self.stack = stack
        self.db = self.database()
        self.spent = 0
        self.before = 0
        self.before_of: dict[str, int] = {}

    def database(self) -> Database:
        """One more that opens the file, as another process would."""
        db = open_database(self.directory / "moorage.db")
        self.stack.callback(db.close)
        return db

    def client(self, url: str) -> RpcClient:
        chain = msgspec.structs.replace(self.chains.arbitrum, rpc_urls=(url,))
        client = RpcClient(chain, timeout_seconds=30)
        self.stack.push_async_callback(client.close)
        return client

    def refunds(self, *, key: SigningKey | None = None) -> Refunds:
        """The service of one process."""
        key = key or self.key
        db, client = self.database(), self.client(self.proxy.url)
        return Refunds(
            db=db,
            client=client,
            relayer=Relayer(
                db=db,
                client=client,
                key=key,
                limits=Limits(gas=300_000, fee_wei=100 * GWEI, reserve_wei=0, reverted_wei=None),
                clock=SystemClock(),
            ),
            sender=key.address,
            recipients={self.pay_to},
            clock=SystemClock(),
        )

    async def paid(
        self,
        amount: int = 500_000,
        *,
        held: bool = False,
        safe: bool = True,
        token: Token = USDC,
    ) -> Payment:
        """A payment of the payer's, in the books."""
        tx_hash = await send_transfer(
            self.url, self.payer.private_key, token.address, self.pay_to, amount
        )
        self.spent += amount if token is USDC else 0
        if safe:
            await mine(self.url)
        verifier = Verifier(
            pay_to=self.pay_to,
            clients={"arbitrum": self.client(self.url)},
            clock=SystemClock(),
            safe_above=MicroUsd(10**12),
        )
        transfers = await verifier.transfers(
            chain=self.chains.arbitrum, token=token, tx_hash=tx_hash
        )
        reasons = {self.wallet: "on a list"} if held else {}
        async with self.db.transaction(durable=True) as tx:
            await ledger.credit_transfers(tx, transfers, held=reasons, now_ms=START_MS)
        return await self.payment(tx_hash)

    async def resume(self, *urls: str) -> None:
        """What the gateway does by itself, asking these nodes."""
        chain = msgspec.structs.replace(self.chains.arbitrum, rpc_urls=urls or (self.url,))
        client = RpcClient(chain, timeout_seconds=30)
        try:
            await RefundFollowUp(
                db=self.db, client=client, recipients={self.pay_to}, clock=SystemClock()
            ).resume()
        finally:
            await client.close()

    async def payment(self, tx_hash: str) -> Payment:
        (found,) = await payments.of_transaction(self.db, chain_id=42161, tx_hash=tx_hash)
        return found

    @property
    def wallet(self) -> str:
        return self.payer.address.lower()

    async def tokens(self, token: Token = USDC) -> int:
        return await token_balance(self.url, token.address, self.wallet)

    async def balance(self) -> int:
        return await accounts.balance(self.db, self.wallet)

    async def to_its_end(self, service: Refunds, refund: Refund) -> RefundStatus:
        async with asyncio.timeout(60):
            while True:
                status = await service.follow(refund)
                if status in (RefundStatus.REFUNDED, RefundStatus.FAILED):
                    return status
                await asyncio.sleep(0.02)

    async def restore(self, backup: Path) -> None:
        """Puts older books in the place of today's, as `moorage operator restore` does."""
        self.directory = self.directory / "restored"
        self.directory.mkdir()
        shutil.copy(backup, self.directory / "moorage.db")
        self.db = self.database()

    def backup(self) -> Path:
        """A copy of the books as they are now."""
        path = self.directory / f"backup-{secrets.token_hex(4)}.db"
        with (
            closing(sqlite3.connect(self.directory / "moorage.db")) as books,
            closing(sqlite3.connect(path)) as copy,
        ):
            books.backup(copy)
        return path

    async def authorization(self, refund: Refund) -> TransferAuthorization | None:
        """What a refund's transaction sends, unless it is a plain transfer."""
        (version, *_) = await relays.of_subject(self.db, refund.id)
        return authorization_of(version)

    def settings(self) -> Any:
        chains = {"arbitrum": {"rpc_urls": (self.proxy.url,)}}
        return load_settings(
            file=None,
            environ={},
            data_dir=str(self.directory),
            pay_to=self.pay_to,
            chains=chains,
            rpc_timeout_seconds=30,
        )

    async def check(self, *, returned: int, balance: int) -> None:
        """What came back, what is left, and books that agree with the chain."""
        assert await self.balance() == balance
        report = await run_audit(self.settings(), from_block=None, search=True)
        assert (report.findings, report.unknown) == ([], {})
        assert await self.tokens() == self.before - self.spent + returned


@pytest.fixture
async def till(
    local_chains: LocalChains,
    arbitrum_proxy: RpcProxy,
    db_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Till]:
    # Several write at once here, to a disk on which others build.
    monkeypatch.setattr(books_file, "_BUSY_WAIT_SECONDS", 60.0)
    async with AsyncExitStack() as stack:
        made = Till(local_chains, arbitrum_proxy, db_path, local_chains.wallets.wallets[6], stack)
        await rpc(made.url, "anvil_setBalance", made.pay_to, hex(10**18))
        made.before = await made.tokens()
        made.before_of = {token.name: await made.tokens(token) for token in (USDC, USDT)}
        yield made
        await until_mined(made.url)  # the next test begins with a node that has done all


async def begin(
    service: Refunds, payment: Payment, amount: int | None = None, reason: str = "asked for"
) -> Refund:
    units = None if amount is None else AtomicUnits(amount)
    return await service.begin(payment, amount=units, reason=reason, note=noted)


async def noted(_tx: Transaction) -> None:
    """Notes nothing beside the refund."""


@pytest.mark.parametrize(
    ("amount", "returned"), [(None, 500_000), (500_000, 500_000), (200_000, 200_000), (1, 1)]
)
async def test_payer_is_sent_tokens_back_and_loses_the_credits(
    till: Till, amount: int | None, returned: int
) -> None:
    payment = await till.paid()
    service = till.refunds()
    refund = await begin(service, payment, amount)
    assert await till.balance() == 500_000 - returned  # debited before it is known to arrive
    assert await till.to_its_end(service, refund) is RefundStatus.REFUNDED
    await till.check(returned=returned, balance=500_000 - returned)
    (stored,) = await refunds.of_payment(till.db, (42161, payment.tx_hash, payment.log_index))
    assert (stored.status, stored.reason) == (RefundStatus.REFUNDED, "asked for")


async def test_parts_add_up_to_the_payment_and_no_further(till: Till) -> None:
    payment = await till.paid()
    service = till.refunds()
    for amount in (200_000, 250_000):
        assert await till.to_its_end(service, await begin(service, payment, amount)) is (
            RefundStatus.REFUNDED
        )
    with pytest.raises(RefundRefused, match=r"0\.050000 usdc are left"):
        await begin(service, payment, 50_001)
    await till.to_its_end(service, await begin(service, payment))
    with pytest.raises(RefundRefused, match="nothing left"):
        await begin(service, payment)
    await till.check(returned=500_000, balance=0)


async def test_refund_that_cannot_be_noted_is_not_sent(till: Till) -> None:
    payment = await till.paid()

    async def fails(_tx: Transaction) -> None:
        raise DatabaseUnavailable

    with pytest.raises(DatabaseUnavailable):
        await till.refunds().begin(payment, amount=None, reason="x", note=fails)
    assert await refunds.to_follow(till.db, chain_id=42161) == []
    await till.check(returned=0, balance=500_000)


async def test_credits_that_were_burned_are_not_sent_back(till: Till) -> None:
    payment = await till.paid()
    async with till.db.transaction(durable=True) as tx:
        assert await accounts.change_balance(tx, till.wallet, -1)
    with pytest.raises(RefundRefused, match="fewer credits"):
        await begin(till.refunds(), payment)
    assert await refunds.to_follow(till.db, chain_id=42161) == []
    assert await till.tokens() == till.before - till.spent


async def test_held_payment_goes_back_as_a_whole(till: Till) -> None:
    payment = await till.paid(held=True)
    service = till.refunds()
    with pytest.raises(RefundRefused, match="as a whole"):
        await begin(service, payment, 499_999)
    assert await till.to_its_end(service, await begin(service, payment)) is RefundStatus.REFUNDED
    assert (await till.payment(payment.tx_hash)).status is PaymentStatus.REFUNDED
    with pytest.raises(RefundRefused, match="refunded already"):
        await begin(service, await till.payment(payment.tx_hash))
    await till.check(returned=500_000, balance=0)


@pytest.mark.parametrize("held", [False, True])
async def test_eight_operators_at_once_pay_once(till: Till, *, held: bool) -> None:
    payment = await till.paid(held=held)
    services = [till.refunds() for _ in range(8)]
    begun = await asyncio.gather(
        *(begin(service, payment) for service in services), return_exceptions=True
    )
    (refund,) = [one for one in begun if isinstance(one, Refund)]
    assert sum(isinstance(one, RefundRefused) for one in begun) == 7
    await asyncio.gather(*(till.to_its_end(service, refund) for service in services))
    await till.check(returned=500_000, balance=0)


async def test_other_credits_do_not_let_a_payment_go_back_twice(till: Till) -> None:
    payment = await till.paid()
    await till.paid()
    services = [till.refunds() for _ in range(4)]
    begun = await asyncio.gather(
        *(begin(service, payment) for service in services), return_exceptions=True
    )
    (refund,) = [one for one in begun if isinstance(one, Refund)]
    assert await till.to_its_end(services[0], refund) is RefundStatus.REFUNDED
    await till.check(returned=500_000, balance=500_000)


async def test_parts_sent_at_once_have_nonces_of_their_own(till: Till) -> None:
    payment = await till.paid()
    services = [till.refunds() for _ in range(6)]
    begun = await asyncio.gather(
        *(begin(service, payment, 100_000) for service in services), return_exceptions=True
    )
    sent = [one for one in begun if isinstance(one, Refund)]
    assert len(sent) == 5
    for refund in sent:
        assert await till.to_its_end(services[0], refund) is RefundStatus.REFUNDED
    await till.check(returned=500_000, balance=0)


@pytest.mark.parametrize("step", ["refund_signed", "refund_sent"])
async def test_crash_after_the_debit_is_resumed_and_pays_once(till: Till, step: str) -> None:
    payment = await till.paid()
    with pytest.raises(KeyboardInterrupt), armed(end_at(step)):
        await begin(till.refunds(), payment)
    (refund,) = await refunds.to_follow(till.db, chain_id=42161)
    for _ in range(2):  # resumed twice, by two processes
        service = till.refunds()
        assert await till.to_its_end(service, refund) is RefundStatus.REFUNDED
    await till.check(returned=500_000, balance=0)


async def test_crash_before_the_debit_leaves_nothing(till: Till) -> None:
    payment = await till.paid()

    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    service = till.refunds()
    till.proxy.respond = hang_up
    with pytest.raises(ChainUnavailable):
        await begin(service, payment)
    till.proxy.respond = None
    assert await refunds.to_follow(till.db, chain_id=42161) == []
    await till.check(returned=0, balance=500_000)


async def test_answer_that_is_lost_after_sending_pays_once(till: Till) -> None:
    payment = await till.paid()
    forward = till.proxy.forward

    async def lose(request: web.Request) -> web.StreamResponse:
        answer = await forward(request)
        if b"eth_sendRawTransaction" in await request.read():
            return web.Response(status=504)
        return answer

    service = till.refunds()
    till.proxy.respond = lose
    refund = await begin(service, payment)
    assert refund.status is RefundStatus.INTENDED
    till.proxy.respond = None
    assert await till.to_its_end(till.refunds(), refund) is RefundStatus.REFUNDED
    await till.check(returned=500_000, balance=0)


@asynccontextmanager
async def authorization_ended(till: Till, refund: Refund) -> AsyncIterator[None]:
    """A refund can't be undone before: until then anybody may send its authorization."""
    await till.resume()
    assert [each.id for each in await refunds.to_follow(till.db, chain_id=42161)] == [refund.id]
    authorization = await till.authorization(refund)
    assert authorization is not None
    async with times_of_blocks(till.url):
        await mine_safe_block(till.url, at=authorization.valid_before)
        yield


@pytest.mark.parametrize("held", [False, True])
async def test_nonce_that_went_elsewhere_undoes_the_debit(till: Till, *, held: bool) -> None:
    payment = await till.paid(held=held)
    with pytest.raises(KeyboardInterrupt), armed(end_at("refund_signed")):
        await begin(till.refunds(), payment)
    (refund,) = await refunds.to_follow(till.db, chain_id=42161)
    await send_transfer(till.url, till.private_key, USDC.address, ALICE, 1)  # the same nonce
    await mine(till.url)
    await mine(till.url)
    async with authorization_ended(till, refund):
        assert await till.to_its_end(till.refunds(), refund) is RefundStatus.FAILED
    assert (await till.payment(payment.tx_hash)) == payment
    await till.check(returned=0, balance=0 if held else 500_000)
    await send_transfer(till.url, till.payer.private_key, USDC.address, till.pay_to, 1)
    till.spent += 1
    service = till.refunds()
    assert await till.to_its_end(service, await begin(service, payment)) is RefundStatus.REFUNDED


async def test_reverted_transfer_undoes_the_debit_once_it_is_safe(till: Till) -> None:
    payment = await till.paid()
    with pytest.raises(KeyboardInterrupt), armed(end_at("refund_signed")):
        await begin(till.refunds(), payment)
    (refund,) = await refunds.to_follow(till.db, chain_id=42161)
    await rpc(till.url, "evm_setAutomine", False)
    try:
        # The tokens leave first: what was simulated is not so any more.
        (relayed,) = await relays.of_subject(till.db, refund.id)
        await rpc(till.url, "anvil_dealERC20", till.pay_to, USDC.address, hex(0))
        await rpc(till.url, "eth_sendRawTransaction", relayed.raw)
        await mine(till.url)
    finally:
        await rpc(till.url, "evm_setAutomine", True)
    service = till.refunds()
    assert await service.follow(refund) is not RefundStatus.FAILED  # it may yet be mined otherwise
    assert await till.balance() == 0
    await mine(till.url)
    async with authorization_ended(till, refund):
        assert await till.to_its_end(service, refund) is RefundStatus.FAILED
    await till.check(returned=0, balance=500_000)


async def test_refund_is_final_when_its_block_is_safe(till: Till) -> None:
    payment = await till.paid()
    service = till.refunds()
    refund = await begin(service, payment)
    seen = []
    for _ in range(2):
        await until_mined(till.url)
        await service.follow(refund)
        (stored,) = await refunds.of_payment(till.db, (42161, payment.tx_hash, payment.log_index))
        seen.append((stored.status, stored.finality))
        await mine(till.url)
    assert seen == [
        (RefundStatus.REFUNDED, Finality.PROVISIONAL),
        (RefundStatus.REFUNDED, Finality.SAFE),
    ]
    assert await refunds.to_follow(till.db, chain_id=42161) == []


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("follower", ["gateway", "command", "another process"])
async def test_refund_that_a_reorganisation_removes_is_sent_again(
    till: Till, follower: str, *, held: bool
) -> None:
    """Though it was refunded by then. The gateway has no key: what was signed is kept."""
    payment = await till.paid(held=held)
    await mine(till.url)
    service = till.refunds()
    refund = await begin(service, payment)
    await until_mined(till.url)
    assert await service.follow(refund) is RefundStatus.REFUNDED
    before = await till.tokens()
    await rpc(till.url, "anvil_reorg", 1, [])
    assert await till.tokens() == before - 500_000

    if follower == "gateway":
        await till.resume()
    else:
        again = service if follower == "command" else till.refunds()
        await again.follow(refund)
    await until_mined(till.url)
    await mine(till.url)
    await till.resume()

    assert await refunds.to_follow(till.db, chain_id=42161) == []
    await till.check(returned=500_000, balance=0)
    with pytest.raises(RefundRefused, match=r"nothing left|refunded already"):
        await begin(till.refunds(), await till.payment(payment.tx_hash))


async def test_dropped_refund_is_told_by_the_audit_as_pending(till: Till) -> None:
    payment = await till.paid()
    await mine(till.url)
    service = till.refunds()
    refund = await begin(service, payment)
    await until_mined(till.url)
    await service.follow(refund)
    await rpc(till.url, "anvil_reorg", 1, [])
    report = await run_audit(till.settings(), from_block=None, search=True)
    assert report.findings == []
    assert [item.row for item in report.pending] == [f"refund {refund.id}"]
    await service.follow(refund)


async def test_dropped_refund_whose_nonce_went_elsewhere_gives_the_credits_back(
    till: Till,
) -> None:
    payment = await till.paid()
    await mine(till.url)
    service = till.refunds()
    refund = await begin(service, payment)
    await until_mined(till.url)
    await service.follow(refund)
    await rpc(till.url, "anvil_reorg", 1, [])
    await send_transfer(till.url, till.private_key, USDC.address, ALICE, 1)
    await mine(till.url)
    await mine(till.url)
    async with authorization_ended(till, refund):
        await till.resume()
    await till.check(returned=0, balance=500_000)


async def test_refund_is_not_undone_on_one_nodes_word(till: Till) -> None:
    payment = await till.paid()
    await begin(till.refunds(), payment)
    await until_mined(till.url)
    await mine(till.url)

    def reverted(method: str, result: Any) -> Any:
        if method != "eth_getTransactionReceipt" or result is None:
            return result
        return {**result, "status": "0x0", "logs": []}

    till.proxy.alter = reverted
    await till.resume(till.proxy.url, till.url)
    assert await till.balance() == 0
    till.proxy.behave()
    await till.resume()
    await till.check(returned=500_000, balance=0)


async def test_payer_whom_the_token_refuses_is_sent_nothing_and_keeps_the_credits(
    till: Till,
) -> None:
    payment = await till.paid()
    async with refusing_token(till):
        with pytest.raises(RefundRefused, match="would fail"):
            await begin(till.refunds(), payment)
    assert await till.balance() == 500_000


async def test_payer_whom_the_token_refuses_meanwhile_gets_the_credits_back(till: Till) -> None:
    """Between the simulation and the block."""
    payment = await till.paid()
    with pytest.raises(KeyboardInterrupt), armed(end_at("refund_signed")):
        await begin(till.refunds(), payment)
    (refund,) = await refunds.to_follow(till.db, chain_id=42161)
    async with refusing_token(till):
        await till.resume()
        await until_mined(till.url)
        await mine(till.url)
    async with authorization_ended(till, refund):
        await till.resume()
    await till.check(returned=0, balance=500_000)


@asynccontextmanager
async def refusing_token(till: Till) -> AsyncIterator[None]:
    """As where the payer is on the token's blacklist: nothing but `authorizationState` answers."""
    code = await rpc(till.url, "eth_getCode", USDC.address, "latest")
    refusing = "60003560e01c63e94a01021460145760006000fd5b600060005260206000f3"
    await rpc(till.url, "anvil_setCode", USDC.address, f"0x{refusing}")
    try:
        yield
    finally:
        await rpc(till.url, "anvil_setCode", USDC.address, code)


async def test_payment_that_is_not_safe_waits(till: Till) -> None:
    payment = await till.paid(safe=False)
    with pytest.raises(RefundRefused, match="not safe yet"):
        await begin(till.refunds(), payment)
    await mine(till.url)
    await begin(till.refunds(), payment)


async def test_payment_that_the_chain_does_not_know_is_not_sent_back(till: Till) -> None:
    made_up = transfer(till.wallet, 500_000)
    async with till.db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [made_up], now_ms=START_MS)
    with pytest.raises(RefundRefused, match="shows no such transfer"):
        await begin(till.refunds(), await till.payment(made_up.tx_hash))
    assert await refunds.to_follow(till.db, chain_id=42161) == []


async def test_key_without_tokens_or_gas_is_refused_before_the_debit(till: Till) -> None:
    payment = await till.paid()
    with pytest.raises(RefundRefused, match="would fail"):
        await begin(till.refunds(key=SigningKey(secrets.token_hex(32))), payment)
    assert await till.balance() == 500_000


async def test_another_key_does_not_meddle_with_a_refund(till: Till) -> None:
    payment = await till.paid()
    with pytest.raises(KeyboardInterrupt), armed(end_at("refund_signed")):
        await begin(till.refunds(), payment)
    (refund,) = await refunds.to_follow(till.db, chain_id=42161)
    other = till.refunds(key=SigningKey(secrets.token_hex(32)))
    with pytest.raises(RefundRefused, match=till.pay_to):
        await other.follow(refund)


def test_parts_take_from_the_credits_what_the_whole_brought() -> None:
    """With 18 decimals, parts are worth fractions of a micro-USD."""
    assert left_of(PAID, []) == 1_500_000_000_001
    assert debit_of(PAID, [], AtomicUnits(1), decimals=18) == 0
    assert debit_of(PAID, [], AtomicUnits(500_000_000_002), decimals=18) == 1
    assert debit_of(PAID, [], AtomicUnits(1_500_000_000_001), decimals=18) == 1


async def sent_once(till: Till, token: Token, amount: int) -> bool:
    """Whether what the payer has is what it had, less payment, and one refund of `amount`."""
    return await till.tokens(token) == till.before_of[token.name] - 500_000 + amount


@pytest.mark.parametrize("token", [USDC, USDT], ids=["usdc", "usdt"])
@pytest.mark.parametrize("amount", [None, 200_000])
async def test_refund_that_a_restored_backup_forgot_is_recorded_and_not_paid_again(
    till: Till, token: Token, amount: int | None
) -> None:
    payment = await till.paid(token=token)
    backup = till.backup()
    service = till.refunds()
    first = await begin(service, payment, amount)
    assert await till.to_its_end(service, first) is RefundStatus.REFUNDED
    (paid_by,) = await relays.of_subject(till.db, first.id)
    await mine(till.url)
    await till.restore(backup)

    report = await run_audit(till.settings(), from_block=None, search=True)
    assert [item.row.split()[0] for item in report.findings] == ["transfer"]
    assert paid_by.tx_hash in report.findings[0].row

    again = await begin(till.refunds(), payment, amount)
    assert (again.status, again.refund_tx_hash) == (RefundStatus.REFUNDED, paid_by.tx_hash)
    assert again.amount == first.amount
    assert await sent_once(till, token, first.amount)
    assert await till.balance() == 500_000 - first.amount
    report = await run_audit(till.settings(), from_block=None, search=True)
    assert (report.findings, report.unknown) == ([], {})


async def test_part_that_a_restored_backup_forgot_is_not_sent_with_the_rest(till: Till) -> None:
    """In whatever part it is asked for: the token knows the first refund of a payment."""
    payment = await till.paid()
    backup = till.backup()
    service = till.refunds()
    await till.to_its_end(service, await begin(service, payment, 200_000))
    await mine(till.url)
    await till.restore(backup)
    found = await begin(till.refunds(), payment)
    assert (found.status, found.amount) == (RefundStatus.REFUNDED, 200_000)
    service = till.refunds()
    await till.to_its_end(service, await begin(service, payment))
    await till.check(returned=500_000, balance=0)


async def test_other_part_without_authorizations_is_refused_and_its_transaction_named(
    till: Till,
) -> None:
    payment = await till.paid(token=USDT)
    backup = till.backup()
    service = till.refunds()
    first = await begin(service, payment, 200_000)
    await till.to_its_end(service, first)
    await mine(till.url)
    (paid_by,) = await relays.of_subject(till.db, first.id)
    await till.restore(backup)
    with pytest.raises(RefundRefused, match=paid_by.tx_hash):
        await begin(till.refunds(), payment)
    await begin(till.refunds(), payment, 200_000)
    service = till.refunds()
    await till.to_its_end(service, await begin(service, payment))
    assert await sent_once(till, USDT, 500_000)


@pytest.mark.parametrize("amount", [500_000, 200_000])
async def test_token_refuses_a_second_refund_of_the_same_number(till: Till, amount: int) -> None:
    """Of books restored while the first one waited, so that nobody could find it."""
    payment = await till.paid()
    backup = till.backup()
    with pytest.raises(KeyboardInterrupt), armed(end_at("refund_signed")):
        await begin(till.refunds(), payment, amount)
    (first,) = await refunds.to_follow(till.db, chain_id=42161)
    (one,) = await relays.of_subject(till.db, first.id)
    await till.restore(backup)
    with pytest.raises(KeyboardInterrupt), armed(end_at("refund_signed")):
        await begin(till.refunds(), payment)
    stranger = till.chains.wallets.wallets[5].private_key
    await send_transaction(till.url, stranger, to=USDC.address, data=one.data)
    await mine(till.url)
    (second,) = await refunds.to_follow(till.db, chain_id=42161)
    status = await till.to_its_end(till.refunds(), second)
    if amount == 500_000:
        assert status is RefundStatus.REFUNDED
    else:  # its nonce is used for good: the next one finds what was paid
        assert status is RefundStatus.FAILED
        assert (await begin(till.refunds(), payment)).amount == amount
    await till.check(returned=amount, balance=500_000 - amount)


async def test_authorization_of_a_refund_that_somebody_else_sends_pays_it(till: Till) -> None:
    payment = await till.paid()
    with pytest.raises(KeyboardInterrupt), armed(end_at("refund_signed")):
        await begin(till.refunds(), payment)
    (refund,) = await refunds.to_follow(till.db, chain_id=42161)
    (version,) = await relays.of_subject(till.db, refund.id)
    stranger = till.chains.wallets.wallets[5].private_key
    theirs = await send_transaction(till.url, stranger, to=USDC.address, data=version.data)
    await mine(till.url)
    await till.resume()
    await till.resume()
    (stored,) = await refunds.of_payment(till.db, (42161, payment.tx_hash, payment.log_index))
    assert (stored.status, stored.refund_tx_hash) == (RefundStatus.REFUNDED, theirs)
    await till.check(returned=500_000, balance=0)


@pytest.mark.parametrize("follower", ["gateway", "command"])
async def test_refund_is_not_sent_while_its_payment_is_not_on_the_chain(
    till: Till, follower: str
) -> None:
    payment = await till.paid()
    with pytest.raises(KeyboardInterrupt), armed(end_at("refund_signed")):
        await begin(till.refunds(), payment)
    (refund,) = await refunds.to_follow(till.db, chain_id=42161)

    def gone(method: str, result: Any) -> Any:
        if method == "eth_getTransactionReceipt" and result is not None:
            return None if result["transactionHash"] == payment.tx_hash else result
        return result

    till.proxy.alter = gone
    for _ in range(2):
        if follower == "gateway":
            await till.resume(till.url, till.proxy.url)
        else:
            await till.refunds().follow(refund)
    await mine(till.url)
    assert await till.tokens() == till.before - till.spent
    till.proxy.behave()
    await till.resume()
    await until_mined(till.url)
    await mine(till.url)
    await till.resume()
    await till.check(returned=500_000, balance=0)


async def test_transfer_to_a_payer_that_no_refund_explains_is_named(till: Till) -> None:
    await till.paid()
    given = await send_transfer(till.url, till.private_key, USDC.address, till.wallet, 123)
    till.spent -= 123
    report = await run_audit(till.settings(), from_block=None, search=True)
    (finding,) = report.findings
    assert given in finding.row
    assert till.wallet in finding.problem


def test_parts_of_one_payment_have_nonces_of_their_own() -> None:
    payment = msgspec.structs.replace(PAID, tx_hash="0x" + "1f" * 32)
    other = msgspec.structs.replace(payment, log_index=1)
    named = [refund_nonce(each, n) for each in (payment, other) for n in range(3)]
    assert len(set(named)) == 6


@pytest.fixture
def command(till: Till) -> list[str]:
    config = till.directory / "moorage.toml"
    config.write_text(
        f'data_dir = "{till.directory}"\n[payments]\npay_to = "{till.pay_to}"\n'
        f'[chains.arbitrum]\nrpc_urls = ["{till.proxy.url}"]\n'
    )
    key_file = till.directory / "key"
    key_file.touch(mode=0o600)
    key_file.write_text(f"0x{till.private_key}\n")
    return ["operator", "refund", "--config", str(config), "--key-file", str(key_file)]


async def moorage(*arguments: str) -> int:
    return await asyncio.to_thread(run, arguments)


async def test_command_sends_back_and_says_so(
    till: Till, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    payment = await till.paid()
    part = [payment.tx_hash, "--reason", "broken", "--amount", "0.2", "--to", till.payer.address]
    assert await moorage(*command, *part) == 0
    assert capsys.readouterr().out.startswith("refunded: 0.200000 USDC on arbitrum to 0x")
    await till.check(returned=200_000, balance=300_000)
    assert await moorage(*command, "--resume") == 0
    assert till.private_key not in capsys.readouterr().out


async def test_command_sends_what_a_customer_waits_for(
    till: Till, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    refund = await asked_back(till, await till.paid())
    assert await moorage(*command, "--queued") == 0
    assert capsys.readouterr().out.startswith(f"{refund.request_id}: queued: 0.490000 USDC")
    assert await moorage(*command, refund.request_id, "--reason", "asked for") == 0
    assert "refunded: 0.490000 USDC on arbitrum to 0x" in capsys.readouterr().out
    await till.check(returned=500_000 - GAS, balance=0)
    assert await moorage(*command, refund.request_id, "--reason", "again") != 0


async def test_command_sends_back_all_that_was_not_spent(
    till: Till, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    payment = await till.paid()
    async with till.db.transaction(durable=True) as tx:
        await payments.set_finality(tx, payment, Finality.SAFE)
    assert await moorage(*command, "--all-unspent", "--reason", "we close") == 0
    assert capsys.readouterr().out.startswith("refunded: 0.490000 USDC on arbitrum to 0x")
    await till.check(returned=500_000 - GAS, balance=0)
    assert await moorage(*command, "--all-unspent", "--reason", "again") == 0
    await till.check(returned=500_000 - GAS, balance=0)


async def test_all_that_was_not_spent_of_a_claimed_wallet_waits_for_a_word_of_its_own(
    till: Till, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    payment = await till.paid()
    claimed = Recovery(
        wallet=till.wallet, address=ALICE, wait_days=7, claim_at_ms=1, claim_billed_ms=1
    )
    async with till.db.transaction(durable=True) as tx:
        await payments.set_finality(tx, payment, Finality.SAFE)
        await recoveries.put(tx, claimed)
    assert await moorage(*command, "--all-unspent", "--reason", "we close") == 0
    await till.check(returned=0, balance=500_000)
    async with till.db.transaction(durable=True) as tx:
        await recoveries.put(tx, msgspec.structs.replace(claimed, taken_over_at_ms=1))
    assert await moorage(*command, "--all-unspent", "--reason", "we close") == 0
    assert "taken over" in capsys.readouterr().out
    await till.check(returned=0, balance=0)
    (held,) = await refunds.queued(till.db)
    assert await moorage(*command, held.request_id, "--reason", "the key was found") == 0
    await till.check(returned=500_000 - GAS, balance=0)


async def test_command_that_declines_gives_the_credits_back(
    till: Till, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    refund = await asked_back(till, await till.paid())
    assert await moorage(*command, refund.request_id, "--decline", "--reason", "fraud") == 0
    assert capsys.readouterr().out.startswith("failed: 0.490000 USDC")
    await till.check(returned=0, balance=500_000)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--reason", " "],
        ["--reason", "x", "--amount", "0.2.1"],
        ["--reason", "x", "--amount", "-1"],
        ["--reason", "x", "--amount", "0.0000001"],
        ["--reason", "x", "--amount", "0"],
        ["--reason", "x", "--amount", "0.500001"],
        ["--reason", "x", "--to", ALICE],
        ["--reason", "x", "--to", "0x12"],
        ["--reason", "x", "--chain", "base"],
        ["--reason", "x", "--log-index", "999"],
    ],
)
async def test_order_that_is_wrong_sends_nothing(
    till: Till, command: list[str], wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    payment = await till.paid()
    assert await moorage(*command, payment.tx_hash, *wrong) == 2
    assert capsys.readouterr().err.startswith("error: ")
    await till.check(returned=0, balance=500_000)


async def test_key_that_others_may_read_is_refused(till: Till, command: list[str]) -> None:
    payment = await till.paid()
    Path(command[-1]).chmod(0o640)
    assert await moorage(*command, payment.tx_hash, "--reason", "x") == 2
    assert await till.balance() == 500_000


async def test_command_exits_with_3_while_the_outcome_is_open_and_resume_ends_it(
    till: Till, command: list[str]
) -> None:
    payment = await till.paid()
    await rpc(till.url, "evm_setAutomine", False)
    try:
        code = await moorage(*command, payment.tx_hash, "--reason", "x", "--wait-seconds", "0.5")
        assert code == 3
    finally:
        await rpc(till.url, "evm_setAutomine", True)
    await mine(till.url)
    assert await moorage(*command, "--resume") == 0
    await till.check(returned=500_000, balance=0)


async def test_command_exits_with_3_when_the_database_goes_away_after_it_sent(
    till: Till, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await till.paid()

    async def gone(*_: object, **_given: object) -> list[Refund]:
        raise DatabaseUnavailable

    with monkeypatch.context() as patched:

        def lose_database(step: str) -> None:
            if step == "refund_sent":
                patched.setattr(refunds, "of_payment", gone)

        with armed(lose_database):
            assert await moorage(*command, payment.tx_hash, "--reason", "x") == 3
    await mine(till.url)
    await moorage(*command, "--resume")
    await till.check(returned=500_000, balance=0)


async def test_chain_that_is_silent_is_told_apart_from_a_refusal(
    till: Till, command: list[str]
) -> None:
    payment = await till.paid()

    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=503)

    till.proxy.respond = refuse
    assert await moorage(*command, payment.tx_hash, "--reason", "x") == 4
    assert await till.balance() == 500_000


GAS = 10_000


def requests_of(till: Till) -> RefundRequests:
    """What takes the customer's requests, in one process."""
    db, client, clock = till.database(), till.client(till.url), SystemClock()
    plenty = MicroUsd(10**9)
    return RefundRequests(
        db=db,
        clients={"arbitrum": client},
        metering=Metering(db=db, clock=clock),
        build_time=BuildTime(db=db, minutes_per_usd=60, monthly_price=MicroUsd(1), clock=clock),
        senders={42161: till.key.address},
        pay_to=till.pay_to,
        limits=RefundLimits(plenty, plenty, plenty),
        secret=b"secret",
        clock=clock,
    )


async def asked_back(till: Till, payment: Payment, amount: int = 500_000) -> Refund:
    """A refund that its payer has asked for, of so many credits with its gas."""
    async with till.db.transaction(durable=True) as tx:
        await payments.set_finality(tx, payment, Finality.SAFE)
    service = requests_of(till)
    quote = await service.quote(RefundAsked(till.wallet, max_=MicroUsd(amount)))
    asked = await service.request(till.wallet, quote.id, expected=quote.refundable, suspend=None)
    (queued,) = await service.one(till.wallet, asked.id)
    return queued


async def state_of(till: Till, refund: Refund) -> RefundStatus:
    found = await refunds.one(till.db, refund.id)
    assert found is not None
    return found.status


async def until_ended(till: Till, refund: Refund, *, key: SigningKey | None = None) -> RefundStatus:
    """Has the gateway look after the treasury until a refund has ended."""
    async with asyncio.timeout(60):
        while True:
            await till.refunds(key=key).resume()
            status = await state_of(till, refund)
            if status in (RefundStatus.REFUNDED, RefundStatus.FAILED):
                return status
            await asyncio.sleep(0.02)


async def test_customer_gets_tokens_back_less_the_gas(till: Till) -> None:
    refund = await asked_back(till, await till.paid(), 300_000)
    assert await till.balance() == 200_000  # with the request: nothing is sent yet
    await till.check(returned=0, balance=200_000)
    assert await until_ended(till, refund) is RefundStatus.REFUNDED
    await mine(till.url)
    await till.refunds().resume()
    await till.check(returned=300_000 - GAS, balance=200_000)
    told = await events.of_wallet(till.db, till.wallet, after=0, limit=10)
    assert [each.kind.value for each in told][1:] == [
        "refund.queued",
        "refund.sent",
        "refund.mined",
        "refund.final",
    ]


@pytest.mark.parametrize("step", ["refund_signed", "refund_sent"])
async def test_treasury_that_crashes_while_it_sends_pays_a_customer_once(
    till: Till, step: str
) -> None:
    refund = await asked_back(till, await till.paid())
    with pytest.raises(KeyboardInterrupt), armed(end_at(step)):
        await till.refunds().resume()
    for _ in range(2):
        assert await until_ended(till, refund) is RefundStatus.REFUNDED
    await till.check(returned=500_000 - GAS, balance=0)


async def test_eight_treasuries_at_once_pay_a_customer_once(till: Till) -> None:
    refund = await asked_back(till, await till.paid())
    services = [till.refunds() for _ in range(8)]
    await asyncio.gather(*(service.resume() for service in services), return_exceptions=True)
    assert await until_ended(till, refund) is RefundStatus.REFUNDED
    assert len(await relays.of_subject(till.db, refund.id)) == 1
    await till.check(returned=500_000 - GAS, balance=0)


@pytest.mark.parametrize("token", [USDC, USDT], ids=["usdc", "usdt"])
@pytest.mark.parametrize("backup_of", ["before the request", "before it was sent"])
async def test_customers_refund_that_a_restored_backup_forgot_is_not_paid_again(
    till: Till, backup_of: str, token: Token
) -> None:
    payment = await till.paid(token=token)
    before = till.backup()
    refund = await asked_back(till, payment)
    backup = before if backup_of == "before the request" else till.backup()
    await until_ended(till, refund)
    await mine(till.url)
    await till.restore(backup)
    if backup_of == "before the request":
        refund = await asked_back(till, payment)  # the credits are there again
    assert await state_of(till, refund) is RefundStatus.QUEUED
    assert await until_ended(till, refund) is RefundStatus.REFUNDED
    assert await sent_once(till, token, 500_000 - GAS)
    assert await till.balance() == 0
    report = await run_audit(till.settings(), from_block=None, search=True)
    assert (report.findings, report.unknown) == ([], {})


async def test_other_amount_that_a_restored_backup_forgot_is_recorded_instead(till: Till) -> None:
    payment = await till.paid()
    backup = till.backup()
    await until_ended(till, await asked_back(till, payment, 200_000))
    await mine(till.url)
    await till.restore(backup)
    again = await asked_back(till, payment, 500_000)
    assert await until_ended(till, again) is RefundStatus.FAILED
    await till.check(returned=200_000 - GAS, balance=500_000 - (200_000 - GAS))


async def test_refund_of_an_earlier_key_that_a_restored_backup_forgot_is_not_paid_again(
    till: Till,
) -> None:
    keys = [SigningKey(secrets.token_hex(32)) for _ in range(2)]  # the first was stolen
    for key in keys:
        await rpc(till.url, "anvil_setBalance", key.address, hex(10**18))
        await send_transfer(till.url, till.payer.private_key, USDC.address, key.address, 1_000_000)
    await until_ended(till, await asked_back(till, await till.paid()), key=keys[0])
    refund = await asked_back(till, await till.paid())
    backup = till.backup()
    await until_ended(till, refund, key=keys[0])
    await mine(till.url)
    await till.restore(backup)
    assert await until_ended(till, refund, key=keys[1]) is RefundStatus.REFUNDED
    assert await token_balance(till.url, USDC.address, keys[0].address) == 2 * GAS
    assert await token_balance(till.url, USDC.address, keys[1].address) == 1_000_000


async def test_refund_that_waits_holds_up_no_other(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_refunds, "_QUEUED_AT_ONCE", 1)
    for payment in (await till.paid(), await till.paid(token=USDT)):
        async with till.db.transaction(durable=True) as tx:
            await payments.set_finality(tx, payment, Finality.SAFE)
    requests = requests_of(till)
    quote = await requests.quote(RefundAsked(till.wallet))
    await requests.request(till.wallet, quote.id, expected=None, suspend=None)
    waits, other = await refunds.to_send(till.db, chain_id=42161, limit=2)
    key = SigningKey(secrets.token_hex(32))  # which has tokens for the other alone
    await rpc(till.url, "anvil_setBalance", key.address, hex(10**18))
    await send_transfer(till.url, till.payer.private_key, other.token_address, key.address, 500_000)
    treasury = till.refunds(key=key)
    for _ in range(2):
        await treasury.resume()
    assert await state_of(till, waits) is RefundStatus.QUEUED
    assert await state_of(till, other) is not RefundStatus.QUEUED


async def test_refund_whose_payment_left_the_chain_is_given_up(till: Till) -> None:
    payment = await till.paid()
    refund = await asked_back(till, payment)
    async with till.db.transaction(durable=True) as tx:
        await ledger.reverse_payment(tx, payment, now_ms=START_MS)
    assert await till.balance() == -500_000
    assert await until_ended(till, refund) is RefundStatus.FAILED
    assert await till.balance() == 0
    assert await till.tokens() == till.before - till.spent


async def test_empty_treasury_keeps_a_refund_queued_and_sends_it_once_filled(till: Till) -> None:
    refund = await asked_back(till, await till.paid())
    empty = till.refunds(key=SigningKey(secrets.token_hex(32)))
    await empty.resume()
    waits = await refunds.one(till.db, refund.id)
    assert waits is not None
    assert (waits.status, bool(waits.waits_because)) == (RefundStatus.QUEUED, True)
    assert await until_ended(till, refund) is RefundStatus.REFUNDED
    await till.check(returned=500_000 - GAS, balance=0)


async def test_what_nobody_decided_is_not_sent(till: Till) -> None:
    refund = await asked_back(till, await till.paid())
    async with till.db.transaction(durable=True) as tx:
        await refunds.decide(tx, refund.request_id, by="")
    await till.refunds().resume()
    assert await state_of(till, refund) is RefundStatus.QUEUED
    async with till.db.transaction(durable=True) as tx:
        await refunds.decide(tx, refund.request_id, by="operator")
    assert await until_ended(till, refund) is RefundStatus.REFUNDED
