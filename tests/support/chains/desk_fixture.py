"""A payment desk that settles authorizations on a real node, and can be begun anew."""

import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from eth_account import Account

from moorage.chains.chain import KNOWN_CHAINS, Chain, Token
from moorage.chains.eip3009 import TransferAuthorization
from moorage.chains.rpc import RpcClient
from moorage.chains.signing import SigningKey
from moorage.clock import SystemClock
from moorage.failpoints import armed
from moorage.ledger import ledger
from moorage.money import AtomicUnits, MicroUsd
from moorage.payments.relay.relayer import GWEI, Limits, Relayer
from moorage.payments.relay.settlements import SettlementFollowUp, Settlements
from moorage.payments.taking.verification import Verifier
from moorage.records.payments import RelayTransaction, Settlement
from moorage.storage.database import Database
from moorage.storage.money import relays, settlements
from support.chains.chain_fixture import LocalChains
from support.chains.paying import (
    Authorization,
    mine,
    rpc,
    sign_authorization,
    token_balance,
    until_mined,
)
from support.gateway.clock import MovableClock

USDC, _ = KNOWN_CHAINS["arbitrum"].tokens
LIMITS = Limits(gas=500_000, fee_wei=50 * GWEI, reserve_wei=10**14, reverted_wei=10**18)


Sign = Callable[..., TransferAuthorization]


class Crash(BaseException):
    """The gateway ends here, as far as the test is concerned."""


def clock_from_now() -> MovableClock:
    """It stands still, however long a test takes; the chain's goes on."""
    return MovableClock(SystemClock().now_ms())


@dataclass
class Desk:
    """A gateway's payment desk: settles, verifies, credits; begun anew as after a restart."""

    db: Database
    chain: Chain
    pay_to: str
    key: str
    url: str  # the node itself
    clock: MovableClock = field(default_factory=clock_from_now)
    limits: Limits = LIMITS
    crash_at: str = ""
    timeout_seconds: float = 30.0
    blocks_held: bool = False  # they come only when a test mines them
    clients: list[RpcClient] = field(default_factory=list)

    async def open(self, *urls: str) -> "Desk":
        """Begin, or begin anew, asking the nodes at `urls`."""
        chain = msgspec.structs.replace(self.chain, rpc_urls=urls or (self.url,))
        self.client = RpcClient(chain, timeout_seconds=self.timeout_seconds)
        self.clients.append(self.client)
        clients, chains = {chain.name: self.client}, {chain.name: chain}
        self.relayer = Relayer(
            db=self.db,
            client=self.client,
            key=SigningKey(self.key),
            limits=self.limits,
            clock=self.clock,
        )
        relayers = {chain.name: self.relayer}
        self.settlements = Settlements(
            db=self.db,
            clients=clients,
            relayers=relayers,
            pay_to=self.pay_to,
            clock=self.clock,
        )
        self.verifier = Verifier(
            pay_to=self.pay_to,
            clients=clients,
            clock=self.clock,
            safe_above=MicroUsd(10**9),
            pending_wait_seconds=0,
        )
        self.settlement_follow_up = SettlementFollowUp(
            db=self.db,
            chains=chains,
            clients=clients,
            relayers=relayers,
            credit=self.credit,
            clock=self.clock,
        )
        await self.settlement_follow_up.check_balances()
        return self

    async def close(self) -> None:
        for client in self.clients:
            await client.close()

    def reach(self, step: str) -> None:
        """A failpoint."""
        if step == self.crash_at:
            raise Crash

    async def settle(self, authorization: TransferAuthorization, **changes: Any) -> str:
        given: dict[str, Any] = {
            "chain": self.chain,
            "token": USDC,
            "unique_name": "hello",
        } | changes
        return await self.settlements.settle(authorization=authorization, **given)

    async def credit(
        self, *, chain: Chain, token: Token, tx_hash: str, **_: str | None
    ) -> dict[str, Any]:
        """What the paywall does with a transaction."""
        transfers = await self.verifier.transfers(chain=chain, token=token, tx_hash=tx_hash)
        async with self.db.transaction(durable=True) as tx:
            gained = await ledger.credit_transfers(tx, transfers, now_ms=self.clock.now_ms())
            await self.settlements.conclude(
                tx, chain=chain, tx_hash=tx_hash, block_number=transfers[0].block_number
            )
        return dict(gained)

    async def pay(self, authorization: TransferAuthorization) -> dict[str, Any]:
        """The whole road."""
        tx_hash = await self.settle(authorization)
        await self.until_mined()
        return await self.credit(chain=self.chain, token=USDC, tx_hash=tx_hash)

    async def resume(self, *, after_ms: int = 5_000) -> None:
        """Look after everything once, when so much time has passed."""
        await self.until_mined()
        self.clock.advance(after_ms)
        await self.settlement_follow_up.resume()

    async def until_mined(self) -> None:
        """Wait for the block of what the node has taken, unless blocks are held."""
        if not self.blocks_held:
            await until_mined(self.url)

    async def row(self, authorization: TransferAuthorization) -> Settlement:
        found = await settlements.one(
            self.db,
            chain_id=authorization.chain_id,
            token_address=authorization.token_address,
            payer=authorization.payer,
            nonce=authorization.nonce,
        )
        assert found is not None
        return found

    async def versions(self, authorization: TransferAuthorization) -> list[RelayTransaction]:
        return await relays.of_subject(self.db, (await self.row(authorization)).id)

    async def received(self) -> int:
        await self.until_mined()
        return await token_balance(self.url, USDC.address, self.pay_to)


@pytest.fixture
async def desk(local_chains: LocalChains, db: Database, pay_to: str) -> AsyncIterator[Desk]:
    """With a relayer of its own, that has gas."""
    key = "0x" + secrets.token_hex(32)
    url = local_chains.arbitrum.rpc_urls[0]
    await rpc(url, "anvil_setBalance", Account.from_key(key).address, hex(10**18))
    made = await Desk(db=db, chain=local_chains.arbitrum, pay_to=pay_to, key=key, url=url).open()
    with armed(made.reach):
        yield made
    await made.until_mined()  # the next test begins with a node that has done all
    await made.close()


@pytest.fixture
def signs(local_chains: LocalChains, pay_to: str) -> Sign:
    """Makes signed authorizations of 0.5 USDC."""

    def sign(**changes: Any) -> TransferAuthorization:
        given: dict[str, Any] = {
            "private_key": local_chains.wallets.wallets[0].private_key,
            "chain_id": 42161,
            "token_address": USDC.address,
            "to": pay_to,
            "value": 500_000,
            "valid_before": int(time.time()) + 3_600,
        }
        return as_read(sign_authorization(**(given | changes)))

    return sign


@pytest.fixture
async def paused(desk: Desk) -> AsyncIterator[None]:
    """Blocks come only when a test mines them."""
    await rpc(desk.url, "evm_setAutomine", False)
    desk.blocks_held = True
    yield
    await rpc(desk.url, "anvil_dropAllTransactions")
    await rpc(desk.url, "evm_setAutomine", True)
    await mine(desk.url)


def as_read(signed: Authorization) -> TransferAuthorization:
    """What the gateway makes of what a client sent."""
    wish = signed.message
    return TransferAuthorization(
        chain_id=42161,
        token_address=USDC.key,
        payer=wish["from"].lower(),
        recipient=wish["to"].lower(),
        value=AtomicUnits(wish["value"]),
        valid_after=wish["validAfter"],
        valid_before=wish["validBefore"],
        nonce="0x" + wish["nonce"].hex(),
        signature=signed.signature,
    )
