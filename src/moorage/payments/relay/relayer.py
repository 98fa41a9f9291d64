"""The relayer: sends transactions of one of the gateway's own keys, and sees them mined.

Each is stored before it is sent, and every version of it is kept: whatever a node says, or fails
to say, its outcome is read from the chain. A nonce belongs to one subject for good.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from moorage.chains.encoding import parse_quantity
from moorage.chains.fees import Fees, GasPrice, parse_gas_price
from moorage.chains.receipt import Receipt
from moorage.chains.rpc import Call, RpcClient, RpcError, revert_reason
from moorage.chains.signing import ChainTransaction, SigningKey
from moorage.clock import Clock
from moorage.metrics import record_fee_bump, record_relayer_balance
from moorage.payments.relay.account import PRICE_CALLS, Account, read_account
from moorage.payments.relay.gas_losses import GasLosses
from moorage.payments.relay.relay_versions import by_nonce, fees_of, with_fees
from moorage.records.relay_transaction import RelayStatus, RelayTransaction
from moorage.storage.database import Database, Transaction
from moorage.storage.money import relays

log = structlog.get_logger()

GWEI = 10**9

_TOO_DEAR = "gas costs more right now than this gateway pays"
_NO_GAS = "this gateway has run out of gas to settle it with"
_STUCK_MS = 30_000  # not mined for so long: offer more
_MAX_AT_ONCE = 50  # nonces looked after in one round trip
_MAX_FILLED = 16  # nonces filled in one look


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the relayer may spend."""

    gas: int  # of one transaction
    fee_wei: int  # for one gas
    reserve_wei: int  # with less left, it begins nothing new
    reverted_wei: int = 0  # of a day, for what did nothing; half of it for contract wallets


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was simulated at the pending block and can be signed, or why it can't."""

    recipient: str
    data: str
    gas_limit: int
    fees: Fees
    nonce: int  # the first that no transaction known to the node has
    block_number: int  # the newest block then
    refusal: str | None  # part of a sentence for the payer; then the rest is not to be used


class Relayer:
    """Sends for one key on one chain. Others may use the key as well: nonces may move on."""

    def __init__(
        self, *, db: Database, client: RpcClient, key: SigningKey, limits: Limits, clock: Clock
    ) -> None:
        self._db = db
        self._client = client
        self._chain_id = client.chain.chain_id
        self._key = key
        self._limits = limits
        self._clock = clock
        self._balance_wei = 0
        self._losses = GasLosses(
            client.chain,
            sender=key.address,
            max_wei=limits.reverted_wei,
            contract_gas=limits.gas // 2,
            clock=clock,
        )
        self._tip: int | None = None

    @property
    def solvent(self) -> bool:
        """Whether it had gas enough, when it was last looked at, to begin something new.

        And has lost no more today than it may.
        """
        rich = self._balance_wei >= self._limits.reserve_wei
        return rich and not self._losses.exceeded

    async def refusal_for(
        self, tx: Transaction, prepared: Prepared, *, of_contract: bool
    ) -> str | None:
        """Why what was prepared is not sent, for what it may lose; part of a sentence."""
        fee_wei = prepared.fees.max_fee_per_gas
        return await self._losses.refusal(
            tx, gas=prepared.gas_limit, fee_wei=fee_wei, of_contract=of_contract
        )

    async def prepare(
        self, recipient: str, data: str, *others: Call
    ) -> tuple[Prepared, Sequence[Any]]:
        """Simulate a call of `recipient` and price it; gives also the answers to `others`.

        One round trip. Raises ChainUnavailable.
        """
        sender = self._key.address
        # A call that could tell a simulation by its price would do something else when it is mined.
        offer = self._offer()
        gas, nonce, balance, block, tip, *answers = await self._client.batch(
            [
                (
                    "eth_estimateGas",
                    [{"from": sender, "to": recipient, "data": data, **offer}, "pending"],
                ),
                ("eth_getTransactionCount", [sender, "pending"]),
                ("eth_getBalance", [sender, "latest"]),
                *PRICE_CALLS,
                *others,
            ]
        )
        reason = revert_reason(gas)
        for answer in (nonce, balance, block, tip, *answers):
            if isinstance(answer, RpcError):
                raise answer
        try:
            self._saw_balance(parse_quantity(balance))
            price = parse_gas_price(block, tip)
            self._tip = price.tip
            reason = reason or self._too_dear(price, gas)
            prepared = Prepared(
                recipient=recipient,
                data=data,
                gas_limit=0 if reason else _with_margin(parse_quantity(gas)),
                fees=price.fees(max_=self._limits.fee_wei) or Fees(0, 0),
                nonce=parse_quantity(nonce),
                block_number=parse_quantity(block["number"]),
                refusal=reason,
            )
        except (ValueError, KeyError) as problem:
            raise self._client.contradiction(problem) from problem
        return msgspec.structs.replace(prepared, refusal=reason or self._refusal(prepared)), answers

    def _offer(self) -> dict[str, str]:
        """The fees of a simulation: the tip as it was last, and what the balance bears."""
        bearable = min(self._limits.fee_wei, self._balance_wei // self._limits.gas)
        if self._tip is None or bearable < self._tip:
            return {}
        return {"maxFeePerGas": hex(bearable), "maxPriorityFeePerGas": hex(self._tip)}

    def _too_dear(self, price: GasPrice, gas: object) -> str | None:
        """Why a node may have refused to simulate with those fees; raises what is none of it."""
        if not isinstance(gas, RpcError):
            return None
        if price.fees(max_=self._limits.fee_wei) is None:
            return _TOO_DEAR
        if self._balance_wei < self._limits.gas * (price.base_fee + price.tip):
            return _NO_GAS
        raise gas

    def _refusal(self, prepared: Prepared) -> str | None:
        if prepared.gas_limit > self._limits.gas:
            return f"it takes {prepared.gas_limit} gas, and this gateway pays {self._limits.gas}"
        if prepared.fees.max_fee_per_gas == 0:
            return _TOO_DEAR
        if self._balance_wei < prepared.gas_limit * prepared.fees.max_fee_per_gas:
            return _NO_GAS
        return None

    async def claim_nonce(self, tx: Transaction, prepared: Prepared, *, subject_id: str) -> int:
        """A nonce for what was prepared; other transactions wait for one until this one ends.

        So what is decided in between, such as how much may be lost, no other decides meanwhile.
        """
        return await relays.claim_nonce(
            tx,
            chain_id=self._chain_id,
            sender=self._key.address,
            min_=prepared.nonce,
            subject_id=subject_id,
        )

    async def sign(
        self, tx: Transaction, prepared: Prepared, *, nonce: int, subject_id: str
    ) -> RelayTransaction:
        """Signs what was prepared, with a nonce that was claimed for it, and stores it."""
        return await self._sign(
            tx,
            ChainTransaction(
                chain_id=self._chain_id,
                nonce=nonce,
                recipient=prepared.recipient,
                data=prepared.data,
                gas_limit=prepared.gas_limit,
                max_fee_per_gas=prepared.fees.max_fee_per_gas,
                max_priority_fee_per_gas=prepared.fees.max_priority_fee_per_gas,
            ),
            subject_id,
        )

    async def send(self, relayed: RelayTransaction) -> None:
        """Have a node take it, once it is stored. What a node says against it proves nothing.

        Raises ChainUnavailable when none answers; it may have been sent all the same.
        """
        (answer,) = await self._client.batch([_sending(relayed)])
        self._log_refusal(relayed, answer)

    async def tend(self) -> None:
        """Note what was mined, send again what was not, and offer more for what is stuck.

        Raises ChainUnavailable, DatabaseUnavailable.
        """
        waiting = await relays.unmined(self._db, chain_id=self._chain_id, sender=self._key.address)
        if not waiting:
            return
        grouped = by_nonce(waiting)[:_MAX_AT_ONCE]
        account = await read_account(
            self._client,
            self._key.address,
            [one for _, versions in grouped for one in versions],
        )
        unsent = []
        for nonce, versions in grouped:
            mined = next((one for one in versions if one.tx_hash in account.receipts), None)
            if mined is not None:
                await self._note_mined(mined, account.receipts[mined.tx_hash])
            elif nonce < account.safe:
                await self._note_replaced(versions[-1])
            elif nonce >= account.mined:
                unsent.append(versions)
        if unsent:
            await self._send_to_every_node(await self._to_be_sent(unsent, account))

    async def check_balance(self) -> None:
        """Look how much gas is left, and was lost today.

        Raises ChainUnavailable, DatabaseUnavailable.
        """
        await self._losses.look(self._db)
        balance, block, tip = await self._client.batch(
            [("eth_getBalance", [self._key.address, "latest"]), *PRICE_CALLS]
        )
        for answer in (balance, block, tip):
            if isinstance(answer, RpcError):
                raise answer
        try:
            self._saw_balance(parse_quantity(balance))
            self._tip = parse_gas_price(block, tip).tip
        except ValueError as problem:
            raise self._client.contradiction(problem) from problem
        if not self.solvent:
            log.warning(
                "relayer is short of gas: no authorizations are offered",
                chain=self._client.chain.name,
                relayer=self._key.address,
                balance_gwei=self._balance_wei // GWEI,
                reserve_gwei=self._limits.reserve_wei // GWEI,
            )

    def _saw_balance(self, wei: int) -> None:
        self._balance_wei = wei
        record_relayer_balance(self._client.chain.name, wei)

    async def _note_mined(self, relayed: RelayTransaction, receipt: Receipt) -> None:
        async with self._db.transaction(durable=False) as tx:
            await relays.mined(
                tx, relayed, succeeded=receipt.succeeded, block_number=receipt.block_number
            )

    async def _note_replaced(self, relayed: RelayTransaction) -> None:
        """Somebody else's transaction has the nonce, in a block that stays."""
        log.warning("nonce used elsewhere", chain=self._client.chain.name, nonce=relayed.nonce)
        async with self._db.transaction(durable=False) as tx:
            await relays.replaced(tx, relayed)

    async def _to_be_sent(
        self, unsent: Sequence[Sequence[RelayTransaction]], account: Account
    ) -> Sequence[RelayTransaction]:
        """What nodes are to be sent, by nonce, for these that wait."""
        missing = range(account.pending, unsent[0][0].nonce)[:_MAX_FILLED]
        if missing and self._has_waited(unsent[0][0]):
            fillers = await self._fillers(missing, account.price)
            return [*fillers, *(versions[-1] for versions in unsent)]
        return [await self._latest_version(versions, account.price) for versions in unsent]

    def _has_waited(self, relayed: RelayTransaction) -> bool:
        return self._clock.now_ms() - relayed.signed_at_ms >= _STUCK_MS

    async def _latest_version(
        self, versions: Sequence[RelayTransaction], price: GasPrice
    ) -> RelayTransaction:
        """The version to send: a new one that offers more, if the last has waited long enough."""
        newest = versions[-1]
        if not self._has_waited(newest):
            return newest
        fees = price.raised(fees_of(newest), max_=self._limits.fee_wei)
        if fees is None:
            log.warning("transaction stuck", chain=self._client.chain.name, tx_hash=newest.tx_hash)
            return newest
        record_fee_bump(self._client.chain.name)
        async with self._db.transaction(durable=True) as tx:
            return await self._sign(tx, with_fees(newest, fees), newest.subject_id)

    async def _fillers(self, missing: Sequence[int], price: GasPrice) -> Sequence[RelayTransaction]:
        """Transactions for nonces that nothing has, so that what has the next ones can be mined.

        That is so when a node counted too many once, or has forgotten what was reorganised away.
        """
        fees = price.fees(max_=self._limits.fee_wei)
        if fees is None:
            return []
        fillers: list[RelayTransaction] = []
        for nonce in missing:
            async with self._db.transaction(durable=True) as tx:
                gap, sender = f"gap:{nonce}", self._key.address
                if await relays.reopen_nonce(
                    tx, chain_id=self._chain_id, sender=sender, nonce=nonce
                ) or not await relays.take_nonce(
                    tx, chain_id=self._chain_id, sender=sender, nonce=nonce, subject_id=gap
                ):
                    continue  # the next look sends what has it
                call = Prepared(
                    recipient=sender,
                    data="0x",
                    gas_limit=self._limits.gas,
                    fees=fees,
                    nonce=nonce,
                    block_number=0,
                    refusal=None,
                )
                fillers.append(await self.sign(tx, call, nonce=nonce, subject_id=gap))
        return fillers

    async def _sign(
        self, tx: Transaction, transaction: ChainTransaction, subject_id: str
    ) -> RelayTransaction:
        signed = self._key.sign(transaction)
        relayed = RelayTransaction(
            chain_id=transaction.chain_id,
            tx_hash=signed.tx_hash,
            sender=self._key.address,
            nonce=transaction.nonce,
            subject_id=subject_id,
            recipient=transaction.recipient,
            data=transaction.data,
            gas_limit=transaction.gas_limit,
            max_fee_per_gas=str(transaction.max_fee_per_gas),
            max_priority_fee_per_gas=str(transaction.max_priority_fee_per_gas),
            raw=signed.raw,
            status=RelayStatus.SIGNED,
            block_number=None,
            signed_at_ms=self._clock.now_ms(),
        )
        await relays.add(tx, relayed)
        return relayed

    async def _send_to_every_node(self, unsent: Sequence[RelayTransaction]) -> None:
        """One node may say that it knows a transaction and never pass it on."""
        for view in await self._client.each([_sending(relayed) for relayed in unsent]):
            for relayed, answer in zip(unsent, view, strict=True):
                self._log_refusal(relayed, answer)

    def _log_refusal(self, relayed: RelayTransaction, answer: object) -> None:
        """What a node says against a transaction, such as that it is known already."""
        if isinstance(answer, RpcError):
            log.info(
                "node refuses a transaction",
                chain=self._client.chain.name,
                tx_hash=relayed.tx_hash,
                code=answer.code,
                detail=answer.detail[:200],
            )


def _sending(relayed: RelayTransaction) -> Call:
    return "eth_sendRawTransaction", [relayed.raw]


def _with_margin(gas: int) -> int:
    """A simulation's gas, and a fifth: another block's may need a little more."""
    return gas + gas // 5
