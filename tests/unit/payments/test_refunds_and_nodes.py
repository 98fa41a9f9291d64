"""A refund that no row tells of is believed two nodes, where there are two; one undoes none."""

from collections.abc import Sequence
from typing import Any

import pytest

from moorage.chains.chain import Token
from moorage.chains.eip3009 import (
    TransferAuthorization,
    authorization_used_topics,
    transfer_calldata,
)
from moorage.chains.receipt import TRANSFER_TOPIC
from moorage.chains.rpc import RpcClient
from moorage.money import AtomicUnits, MicroUsd
from moorage.payments.relay.refund_search import refund_nonce, sent_before
from moorage.payments.relay.refunds import RefundFollowUp
from moorage.records.payments import (
    Finality,
    Payment,
    PaymentStatus,
    Refund,
    RefundStatus,
    RelayStatus,
    RelayTransaction,
)
from moorage.storage.database import Database
from moorage.storage.money import accounts, payments, refunds, relays
from support.books.records_fixture import ALICE, ARBITRUM, PAY_TO, USDC, USDT
from support.chains.chain_in_memory import ChainInMemory, Sent
from support.chains.nodes_in_memory import HONEST, LIAR, NodesInMemory, Silent
from support.gateway.clock import MovableClock

AMOUNT = 500_000
PAID_BACK = "0x" + "ab" * 32


class Till:
    """A payment on a chain that two nodes tell of, the liar first; and its refund, if begun."""

    def __init__(self, db: Database, token: Token) -> None:
        self.db, self.token = db, token
        self.chain = ChainInMemory(ARBITRUM, PAY_TO)
        self.nodes = NodesInMemory(self.chain)
        self.clock = MovableClock()
        self.paid = self.chain.fresh_hash()
        self.chain.mine({self.paid: (Sent(ALICE, token, AMOUNT),)})
        for _ in range(8):
            self.chain.mine()

    @property
    def client(self) -> RpcClient:
        return self.nodes.client(self.clock, LIAR, HONEST)

    @property
    def payment(self) -> Payment:
        number = next(n for n, block in enumerate(self.chain.blocks) if self.paid in block.holds)
        return Payment(
            chain_id=ARBITRUM.chain_id,
            tx_hash=self.paid,
            log_index=0,
            payer=ALICE,
            token=self.token.name,
            token_address=self.token.key,
            amount_atomic=str(AMOUNT),
            credited_micro_usd=MicroUsd(AMOUNT),
            block_number=number,
            block_hash=self.chain.blocks[number].hash,
            claimed_at_ms=1,
            status=PaymentStatus.CREDITED,
            finality=Finality.FINALIZED,
            round=1,
            posting_id="payment:1",
            held_reason=None,
            recipient=PAY_TO,
        )

    def paid_back(self) -> dict[str, Any]:
        """A log of a transfer to the payer, in a safe block, that there is not."""
        number = len(self.chain.blocks) - 7
        return {
            "address": self.token.key,
            "topics": [TRANSFER_TOPIC, word(PAY_TO), word(ALICE)],
            "data": f"0x{AMOUNT:064x}",
            "transactionHash": PAID_BACK,
            "blockHash": self.chain.blocks[number].hash,
            "blockNumber": hex(number),
            "logIndex": "0x0",
        }

    def receipt(self, *logs: dict[str, Any]) -> dict[str, Any]:
        places = {name: self.paid_back()[name] for name in ("blockHash", "blockNumber")}
        return {"transactionHash": PAID_BACK, "status": "0x1", "logs": list(logs), **places}

    async def begun(self) -> Refund:
        """A refund by an authorization, signed and sent; the honest node has gone."""
        payment = self.payment
        refund = Refund(
            id="refund",
            chain_id=payment.chain_id,
            tx_hash=payment.tx_hash,
            log_index=0,
            recipient=ALICE,
            token_address=self.token.key,
            amount_atomic=str(AMOUNT),
            debited_micro_usd=MicroUsd(AMOUNT),
            reason="asked for",
            status=RefundStatus.SENT,
            refund_tx_hash="0x" + "cd" * 32,
            created_at_ms=1,
            ended_at_ms=None,
            finality=Finality.PROVISIONAL,
        )
        version = RelayTransaction(
            chain_id=payment.chain_id,
            tx_hash="0x" + "cd" * 32,
            sender=PAY_TO,
            nonce=0,
            subject_id=refund.id,
            recipient=self.token.key,
            data=transfer_calldata(self.authorization, by_key=True),
            gas_limit=1,
            max_fee_per_gas="1",
            max_priority_fee_per_gas="1",
            raw="0x",
            status=RelayStatus.SIGNED,
            block_number=None,
            signed_at_ms=1,
        )
        async with self.db.transaction(durable=True) as tx:
            await accounts.ensure_wallet(tx, ALICE, now_ms=1)
            await payments.add(tx, payment)
            await refunds.add(tx, refund)
            await relays.add(tx, version)
        self.nodes.lies[HONEST] = silent
        return refund

    @property
    def authorization(self) -> TransferAuthorization:
        return TransferAuthorization(
            chain_id=ARBITRUM.chain_id,
            token_address=self.token.key,
            payer=PAY_TO,
            recipient=ALICE,
            value=AtomicUnits(AMOUNT),
            valid_after=0,
            valid_before=2_000_000_000,
            nonce=refund_nonce(self.payment, 0),
            signature=bytes(31) + b"\1" + bytes(31) + b"\1" + b"\x1b",
        )

    def follow_up(self) -> RefundFollowUp:
        return RefundFollowUp(db=self.db, client=self.client, recipients=[PAY_TO], clock=self.clock)


def word(address: str) -> str:
    return "0x" + address[2:].rjust(64, "0")


def silent(*_: object) -> Any:
    raise Silent


@pytest.mark.parametrize("token", [USDC, USDT], ids=["usdc", "usdt"])
async def test_a_refund_that_one_node_alone_shows_is_not_recorded(
    db: Database, token: Token
) -> None:
    till = Till(db, token)
    transfer = till.paid_back()
    used, *which = authorization_used_topics(PAY_TO, refund_nonce(till.payment, 0))
    use = {**transfer, "topics": [used, *which], "data": "0x", "logIndex": "0x1"}

    def lie(method: str, params: Sequence[Any], truth: Any) -> Any:
        match method:
            case "eth_getTransactionReceipt" if params[0] == PAID_BACK:
                return till.receipt(transfer, use)
            case "eth_getLogs" if USDC.key == params[0]["address"]:
                return [use]
            case "eth_getLogs":
                return [transfer]
            case "eth_getTransactionCount" | "eth_call":
                return "0x" + "1".rjust(64, "0") if method == "eth_call" else "0x1"
        return truth

    till.nodes.lies[LIAR] = lie
    found = await sent_before(
        db,
        till.client,
        till.payment,
        token,
        amount=AtomicUnits(AMOUNT),
        earlier=(),
        senders=[PAY_TO],
    )
    assert found.found is not None
    assert (found.found.tx_hash, found.found.is_safe) == (PAID_BACK, False)


@pytest.mark.parametrize("says", ["it has ended unused", "it was used, and paid nothing"])
async def test_a_refund_is_not_undone_while_one_node_alone_answers(db: Database, says: str) -> None:
    till = Till(db, USDC)
    refund = await till.begun()
    used, *which = authorization_used_topics(PAY_TO, till.authorization.nonce)
    use = {**till.paid_back(), "topics": [used, *which], "data": "0x"}

    def lie(method: str, params: Sequence[Any], truth: Any) -> Any:
        match method:
            case "eth_getBlockByNumber" if "used," not in says:
                return {**truth, "timestamp": hex(till.authorization.valid_before + 1)}
            case "eth_call" if "used," in says:
                return "0x" + "1".rjust(64, "0")
            case "eth_getLogs":
                return [use]
            case "eth_getTransactionReceipt" if params[0] == PAID_BACK:
                return till.receipt(use)
            case "eth_getTransactionReceipt":
                return None
        return truth

    till.nodes.lies[LIAR] = lie
    assert await till.follow_up().look(refund) is RefundStatus.SENT
