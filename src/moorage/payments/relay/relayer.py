"""The relayer: sends transactions of one of the gateway's keys until they are mined.

Each version of a transaction is stored before it is sent, and is kept. The outcome is always read
from the chain, not from a node's answer to sending. A nonce belongs to one subject for good.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import structlog
from prometheus_client import Gauge

from moorage import metrics
from moorage.chains.chain import Chain
from moorage.chains.eip3009 import (
    Eip712Domain,
    TransferAuthorization,
    authorization_digest,
    judged_by_contract,
)
from moorage.chains.receipt import Receipt, parse_quantity, parse_receipt
from moorage.chains.rpc import Call, RpcClient, RpcError, revert_reason
from moorage.chains.signing import ChainTransaction, Fees, GasPrice, SigningKey, parse_gas_price
from moorage.clock import Clock
from moorage.errors import ConfigurationInvalid
from moorage.records.payments import RelayStatus, RelayTransaction
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import relays
from moorage.whole_file import secret_text

PRICE_CALLS: tuple[Call, ...] = (
    ("eth_getBlockByNumber", ["latest", False]),
    ("eth_maxPriorityFeePerGas", []),
)


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The nonces and receipts of an account, and what gas costs."""

    mined: int  # nonces used up to the newest block
    pending: int  # the same, and those of pending transactions
    safe: int  # nonces used up to the safe block; 0 if the node knows no safe block
    price: GasPrice
    receipts: dict[str, Receipt]  # of mined transactions, by hash


async def read_account(
    client: RpcClient, sender: str, waiting: Sequence[RelayTransaction]
) -> Account:
    """Reads the account, and which of `waiting` are mined. Raises ChainUnavailable."""
    counts = [("eth_getTransactionCount", [sender, at]) for at in ("latest", "pending", "safe")]
    looks = [("eth_getTransactionReceipt", [one.tx_hash]) for one in waiting]
    mined, pending, safe, block, tip, *receipts = await client.batch(
        [*counts, *PRICE_CALLS, *looks]
    )
    for answer in (mined, pending, block, tip, *receipts):
        if isinstance(answer, RpcError):
            raise answer
    with client.reading():
        return Account(
            mined=parse_quantity(mined),
            pending=parse_quantity(pending),
            safe=0 if isinstance(safe, RpcError) else parse_quantity(safe),
            price=parse_gas_price(block, tip),
            receipts={
                one.tx_hash: parse_receipt(receipt, tx_hash=one.tx_hash)
                for one, receipt in zip(waiting, receipts, strict=True)
                if receipt is not None
            },
        )


_DAY_MS = 24 * 3_600_000
_LOST_TODAY = "too much gas was lost today to authorizations that did nothing"


class GasLosses:
    """What one key lost at most on one chain since midnight, UTC.

    Contract wallets, whose own code decides whether a call reverts, may cost half of `max_wei`, and
    `contract_gas` for one call.
    """

    def __init__(
        self, chain: Chain, *, sender: str, max_wei: int, contract_gas: int, clock: Clock
    ) -> None:
        self._chain = chain
        self._sender = sender
        self._max_wei = max_wei
        self._contract_gas = contract_gas
        self._clock = clock
        self._lost_wei = 0

    @property
    def exceeded(self) -> bool:
        """Whether the day's limit was reached at the last `look`."""
        return self._lost_wei >= self._max_wei

    async def look(self, source: Source) -> int:
        """Returns the wei lost today, and remembers it for `exceeded`."""
        now_ms = self._clock.now_ms()
        reverted = await relays.reverted_since(
            source,
            chain_id=self._chain.chain_id,
            sender=self._sender,
            since_ms=now_ms - now_ms % _DAY_MS,
        )
        self._lost_wei = sum(map(_max_cost_wei, reverted))
        metrics.RELAYER_REVERTED.labels(self._chain.name).set(self._lost_wei)
        return self._lost_wei

    async def refusal(
        self, tx: Transaction, *, gas: int, fee_wei: int, of_contract: bool
    ) -> str | None:
        """Returns why a call of so much gas must not be sent, as part of a sentence, or None.

        Calls of contract wallets that are not mined yet count as lost.
        """
        lost = await self.look(tx)
        if not of_contract:
            return _LOST_TODAY if self.exceeded else None
        if gas > self._contract_gas:
            return f"it takes {gas} gas, and for contract wallets {self._contract_gas} is paid"
        waiting = await relays.unmined(tx, chain_id=self._chain.chain_id, sender=self._sender)
        theirs = _last_versions(one for one in waiting if judged_by_contract(one.data))
        at_stake = lost + sum(map(_max_cost_wei, theirs)) + gas * fee_wei
        return _LOST_TODAY if at_stake > self._max_wei // 2 else None


def _max_cost_wei(relayed: RelayTransaction) -> int:
    """The most that a transaction may have cost."""
    return relayed.gas_limit * int(relayed.max_fee_per_gas)


def _last_versions(relayed: Iterable[RelayTransaction]) -> Iterable[RelayTransaction]:
    """The last version of each nonce, as only one version is mined."""
    return {one.nonce: one for one in relayed}.values()


def by_nonce(waiting: Iterable[RelayTransaction]) -> list[tuple[int, list[RelayTransaction]]]:
    """Groups versions by nonce; expects them in ascending order, the newest version last."""
    return [(nonce, list(versions)) for nonce, versions in groupby(waiting, attrgetter("nonce"))]


def fees_of(relayed: RelayTransaction) -> Fees:
    """The fees that a version offers."""
    return Fees(int(relayed.max_fee_per_gas), int(relayed.max_priority_fee_per_gas))


def with_fees(relayed: RelayTransaction, fees: Fees) -> ChainTransaction:
    """The same transaction with other fees."""
    return ChainTransaction(
        chain_id=relayed.chain_id,
        nonce=relayed.nonce,
        recipient=relayed.recipient,
        data=relayed.data,
        gas_limit=relayed.gas_limit,
        max_fee_per_gas=fees.max_fee_per_gas,
        max_priority_fee_per_gas=fees.max_priority_fee_per_gas,
    )


def key_in(path: Path, *, option: str) -> SigningKey:
    """Returns the key in a file that the setting `option` names.

    Raises ConfigurationInvalid for a file that others may read, or that contains no key. The file's
    content is never part of the message.
    """
    text = secret_text(path, option=option)
    try:
        return SigningKey(text)
    except ValueError:
        raise ConfigurationInvalid(
            f"{option}: {path} must hold a private key, 64 hex digits."
        ) from None


log = structlog.get_logger()

GWEI = 10**9

_TOO_DEAR = "gas costs more right now than this gateway pays"
_NO_GAS = "this gateway has run out of gas to settle it with"
_STUCK_MS = 30_000  # the fees are raised if a transaction is not mined for this long
_MAX_AT_ONCE = 50  # nonces checked in one round trip
_MAX_FILLED = 16  # gaps between nonces filled at a time


_MAX_GAS = 500_000  # of one settlement; a contract wallet's may take several times a plain one's
_RESERVE_GWEI = 100_000  # with less, some settlements may not be sent any more
_REVERTED_GWEI = 1_000_000  # a day, UTC, lost to transactions that did nothing


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the relayer may spend."""

    gas: int  # of one transaction
    fee_wei: int  # for one gas
    reserve_wei: int  # with less left, no new authorizations are offered
    reverted_wei: int | None  # a day, for reverted transactions; half of it for contract wallets


def limits_of(chain: Chain) -> Limits:
    """Returns what the relayer of a chain may spend."""
    return Limits(
        gas=_MAX_GAS,
        fee_wei=chain.max_fee_gwei * GWEI,
        reserve_wei=_RESERVE_GWEI * GWEI,
        reverted_wei=_REVERTED_GWEI * GWEI,
    )


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was simulated at the pending block, and can be signed unless it was refused."""

    recipient: str
    data: str
    gas_limit: int
    fees: Fees
    nonce: int  # the first that no transaction known to the node has
    block_number: int  # the newest block at that time
    refusal: str | None  # why not, as part of a sentence for the payer; then ignore the rest


class Relayer:
    """Sends for one key on one chain. Others may use the same key, and so its nonces."""

    def __init__(
        self,
        *,
        db: Database,
        client: RpcClient,
        key: SigningKey,
        limits: Limits,
        clock: Clock,
        balances: Gauge = metrics.RELAYER_BALANCE,
    ) -> None:
        self._db = db
        self._balances = balances
        self._client = client
        self._chain_id = client.chain.chain_id
        self._key = key
        self._limits = limits
        self._clock = clock
        self._balance_wei = 0
        self._losses: GasLosses | None = None
        if limits.reverted_wei is not None:
            self._losses = GasLosses(
                client.chain,
                sender=key.address,
                max_wei=limits.reverted_wei,
                contract_gas=limits.gas // 2,
                clock=clock,
            )
        self._tip: int | None = None

    @property
    def address(self) -> str:
        """The address that sends, and pays the gas."""
        return self._key.address

    @property
    def balance_wei(self) -> int:
        """The gas money that it had when last looked at."""
        return self._balance_wei

    @property
    def solvent(self) -> bool:
        """Whether it last had enough gas to begin something new, and is within the day's loss."""
        rich = self._balance_wei >= self._limits.reserve_wei
        return rich and not (self._losses and self._losses.exceeded)

    async def refusal_for(
        self, tx: Transaction, prepared: Prepared, *, of_contract: bool
    ) -> str | None:
        """Returns why the gas that a call may lose is too much, as part of a sentence, or None."""
        if self._losses is None:
            return None
        fee_wei = prepared.fees.max_fee_per_gas
        return await self._losses.refusal(
            tx, gas=prepared.gas_limit, fee_wei=fee_wei, of_contract=of_contract
        )

    async def prepare(
        self, recipient: str, data: str, *others: Call
    ) -> tuple[Prepared, Sequence[Any]]:
        """Simulates a call of `recipient` and prices it; returns also the answers to `others`.

        One round trip. Raises ChainUnavailable.
        """
        sender = self._key.address
        # With real fees: without them, a contract could tell a simulation from a transaction.
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
        """The fees of a simulation: the last known tip, and what the balance can pay."""
        bearable = min(self._limits.fee_wei, self._balance_wei // self._limits.gas)
        if self._tip is None or bearable < self._tip:
            return {}
        return {"maxFeePerGas": hex(bearable), "maxPriorityFeePerGas": hex(self._tip)}

    def _too_dear(self, price: GasPrice, gas: object) -> str | None:
        """Returns why a node refused to simulate with those fees; raises any other error."""
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

    @property
    def name(self) -> str:
        """By which transactions name the rows of its nonces and of what may be lost."""
        return f"relayer {self._chain_id}"

    async def claim_nonce(self, tx: Transaction, prepared: Prepared, *, subject_id: str) -> int:
        """Claims a nonce for a prepared call, and a lock on nonces until `tx` ends.

        So only one transaction at a time decides, for example, how much gas may be lost.
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
        """Signs a prepared call, with a nonce that was claimed for it, and stores it."""
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

    def authorize(
        self, authorization: TransferAuthorization, domain: Eip712Domain
    ) -> TransferAuthorization:
        """Returns the authorization, of tokens of this key's address, signed by the key."""
        signature = self._key.sign_digest(authorization_digest(authorization, domain))
        return msgspec.structs.replace(authorization, signature=signature)

    async def send(self, relayed: RelayTransaction) -> None:
        """Sends a stored transaction to a node. A refusal by the node proves nothing.

        Raises ChainUnavailable when no node answers; even then it may have been sent.
        """
        (answer,) = await self._client.batch([_sending(relayed)])
        self._log_refusal(relayed, answer)

    async def tend(self, *, withheld: Collection[str] = ()) -> None:
        """Records what was mined, sends the rest again, and raises the fees of what is stuck.

        What was signed for the subjects in `withheld` is not sent, so their nonces stay open.

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
            elif nonce >= account.mined and versions[-1].subject_id not in withheld:
                unsent.append(versions)
        if unsent:
            await self._send_to_every_node(await self._to_be_sent(unsent, account))

    async def check_balance(self) -> None:
        """Reads how much gas is left, and how much was lost today.

        Raises ChainUnavailable, DatabaseUnavailable.
        """
        if self._losses is not None:
            await self._losses.look(self._db)
        balance, block, tip = await self._client.batch(
            [("eth_getBalance", [self._key.address, "latest"]), *PRICE_CALLS]
        )
        for answer in (balance, block, tip):
            if isinstance(answer, RpcError):
                raise answer
        with self._client.reading():
            self._saw_balance(parse_quantity(balance))
            self._tip = parse_gas_price(block, tip).tip
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
        self._balances.labels(self._client.chain.name).set(wei)

    async def _note_mined(self, relayed: RelayTransaction, receipt: Receipt) -> None:
        async with self._db.transaction(durable=False) as tx:
            await relays.mined(
                tx, relayed, succeeded=receipt.succeeded, block_number=receipt.block_number
            )

    async def _note_replaced(self, relayed: RelayTransaction) -> None:
        """Records that another transaction has the nonce, in a safe block."""
        log.warning("nonce used elsewhere", chain=self._client.chain.name, nonce=relayed.nonce)
        async with self._db.transaction(durable=False) as tx:
            await relays.replaced(tx, relayed)

    async def _to_be_sent(
        self, unsent: Sequence[Sequence[RelayTransaction]], account: Account
    ) -> Sequence[RelayTransaction]:
        """Returns what to send for the transactions that wait, in order of nonce."""
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
        """Returns the version to send: one with higher fees, if the last has waited too long."""
        newest = versions[-1]
        if not self._has_waited(newest):
            return newest
        fees = price.raised(fees_of(newest), max_=self._limits.fee_wei)
        if fees is None:
            log.warning("transaction stuck", chain=self._client.chain.name, tx_hash=newest.tx_hash)
            return newest
        metrics.FEE_BUMPS.labels(self._client.chain.name).inc()
        async with self._db.transaction(durable=True) as tx:
            return await self._sign(tx, with_fees(newest, fees), newest.subject_id)

    async def _fillers(self, missing: Sequence[int], price: GasPrice) -> Sequence[RelayTransaction]:
        """Returns transactions for unused nonces, so that those with later nonces can be mined.

        Such gaps arise when a node reported too high a nonce, or forgot a transaction that a
        reorganisation removed.
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
                    continue  # the next `tend` sends the transaction that has this nonce
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
        """Sends to every node, as one may accept a transaction and never pass it on."""
        for view in await self._client.each([_sending(relayed) for relayed in unsent]):
            for relayed, answer in zip(unsent, view, strict=True):
                self._log_refusal(relayed, answer)

    def _log_refusal(self, relayed: RelayTransaction, answer: object) -> None:
        """Logs a node's refusal of a transaction, for example because the node has it already."""
        if isinstance(answer, RpcError):
            log.info(
                "node refuses a transaction",
                chain=self._client.chain.name,
                tx_hash=relayed.tx_hash,
                code=answer.code,
                detail=answer.detail[:200],
            )


def treasury_relayer(db: Database, client: RpcClient, key: SigningKey, *, clock: Clock) -> Relayer:
    """Returns what sends for the treasury: it offers nothing, and spends its last gas as well."""
    limits = msgspec.structs.replace(limits_of(client.chain), reserve_wei=0, reverted_wei=None)
    return Relayer(
        db=db,
        client=client,
        key=key,
        limits=limits,
        clock=clock,
        balances=metrics.TREASURY_GAS,
    )


def _sending(relayed: RelayTransaction) -> Call:
    return "eth_sendRawTransaction", [relayed.raw]


def _with_margin(gas: int) -> int:
    """Adds a fifth to a simulation's gas, as the call may need a little more in a later block."""
    return gas + gas // 5
