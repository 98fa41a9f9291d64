"""Settlements: turn a signed authorization into one transaction of the gateway's relayer.

An authorization is refused before anything is stored, or not at all. Once stored, the same
authorization always gives the same settlement, and its outcome is read from the chain, whatever
happens to the gateway, its node or its transaction.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from weakref import WeakValueDictionary

import msgspec
import structlog

from moorage.address import parse_address
from moorage.chains.authorization_use import (
    AuthorizationUse,
    find_use,
    find_use_onwards,
    is_used,
    state_call,
)
from moorage.chains.chain import Chain, Token
from moorage.chains.eip3009 import TransferAuthorization, signer_of, transfer_calldata
from moorage.chains.heads import block_call, parse_block, parse_tagged_block, read_block, read_heads
from moorage.chains.receipt import parse_quantity, parse_receipt
from moorage.chains.rpc import RpcClient, RpcError
from moorage.clock import Clock
from moorage.errors import (
    AuthorizationRefused,
    ChainUnavailable,
    DatabaseUnavailable,
    MoorageError,
    PaymentAlreadyUsed,
    PaymentHeld,
    PaymentNotFound,
    PaymentPending,
    UniqueViolation,
)
from moorage.failpoints import failpoint
from moorage.ledger.ledger import max_units, transfers_in
from moorage.metrics import SETTLEMENTS, UNRESOLVED_SETTLEMENTS
from moorage.money import AtomicUnits, MicroUsd, credit_from_atomic_units
from moorage.payments.relay.relayer import Relayer
from moorage.records.payments import RelayStatus, RelayTransaction, Settlement, SettlementStatus
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import payments, relays, settlements

_MIN_SECONDS_LEFT = 20  # of validity, so that it can be mined in time
_MIN_WORTH = MicroUsd(10_000)  # about what the gas costs
_SEARCHED_BLOCKS = 50_000  # for the transaction that used an authorization never seen here
_MAX_AT_STAKE = 4  # for one payer: a reverted one costs the gateway gas, and the payer nothing
_REVERTS_REMEMBERED_MS = 24 * 3_600_000
SPENT_ELSEWHERE = "its nonce was used by a transaction that paid nothing here"
_PUBLIC = (
    "This payment was used before: for another request, or by somebody else on the chain. It opens "
    "nothing more; what it paid is the wallet's that paid. Do not pay again: sign the request with "
    "that wallet."
)
_UNDEPLOYED_WALLET = bytes.fromhex("6492" * 16)  # ERC-6492 ends such a signature with it


class Settlements:
    """Settles authorizations to `pay_to` through `relayers` (by chain name).

    A chain without a relayer takes no new authorizations. Those already stored are followed up even
    so, also to `former` addresses, earlier values of `pay_to`. New ones must pay today's `pay_to`.
    """

    def __init__(
        self,
        *,
        db: Database,
        clients: Mapping[str, RpcClient],
        relayers: Mapping[str, Relayer],
        pay_to: str,
        former: Collection[str] = (),
        clock: Clock,
    ) -> None:
        self._db = db
        self._clients = clients
        self._relayers = relayers
        self._pay_to = parse_address(pay_to)
        self._recipients = frozenset({self._pay_to, *former})
        self._clock = clock
        self._locks: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()

    def offered(self, chain: Chain, token: Token) -> bool:
        """Whether an authorization of this token would be settled now."""
        relayer = self._relayers.get(chain.name)
        return token.authorization is not None and relayer is not None and relayer.solvent

    async def known(self, authorization: TransferAuthorization) -> bool:
        """Whether it was ever accepted: then only the chain shows whether it is spent."""
        return await self._known(authorization) is not None

    async def settled_by(
        self, authorization: TransferAuthorization, *, open_body: str | None = None
    ) -> str | None:
        """Returns the hash of the transaction that has settled it, if one has.

        With `open_body` only one that came without a signature, with this body, counts.
        """
        known = await self._known(authorization)
        if known is None or known.status is not SettlementStatus.SETTLED:
            return None
        if authorization_of(known) != authorization or open_body not in (None, known.open_body):
            return None
        return known.tx_hash

    async def purse_of(self, authorization: TransferAuthorization) -> str | None:
        """Returns the project whose purse it fills, as its first sender said."""
        known = await self._known(authorization)
        return None if known is None else known.purse

    async def unresolved(self, wallet: str, *, source: Source | None = None) -> bool:
        """Whether the outcome of an authorization of this wallet is still unknown.

        Until it is known, the wallet must not be asked to pay again.
        """
        return await settlements.is_unresolved(source or self._db, payer=wallet)

    def check(self, authorization: TransferAuthorization, *, chain: Chain, token: Token) -> None:
        """Raises AuthorizationRefused for what is refused without asking the chain."""
        now = self._clock.now_ms() // 1000
        if not self.offered(chain, token):
            raise AuthorizationRefused(
                f"{token.name} on {chain.name} is not settled by this gateway right now; "
                "transfer the tokens and send the transaction's hash"
            )
        if (authorization.chain_id, authorization.token_address) != (chain.chain_id, token.key):
            raise AuthorizationRefused(f"it is not for {token.name} on {chain.name}")
        if authorization.recipient != self._pay_to:
            raise AuthorizationRefused(f"it pays {authorization.recipient}, not {self._pay_to}")
        if authorization.payer in self._recipients:
            raise AuthorizationRefused("it is the gateway's own money")
        if credit_from_atomic_units(authorization.value, decimals=token.decimals) < _MIN_WORTH:
            raise AuthorizationRefused(
                "it pays less than a cent; transfer so little yourself, and send the "
                "transaction's hash"
            )
        if authorization.value > max_units(token):
            raise AuthorizationRefused("it pays more than a billion tokens")
        if authorization.valid_after >= now:
            raise AuthorizationRefused("it is not valid yet")
        if authorization.valid_before < now + _MIN_SECONDS_LEFT:
            raise AuthorizationRefused(
                f"it is valid for less than {_MIN_SECONDS_LEFT} seconds from now"
            )
        if authorization.signature.endswith(_UNDEPLOYED_WALLET):
            raise AuthorizationRefused(
                "its wallet is not deployed on this chain (ERC-6492): deploy it, then sign again"
            )

    async def settle(
        self,
        *,
        chain: Chain,
        token: Token,
        authorization: TransferAuthorization,
        unique_name: str | None,
        open_body: str | None = None,
        purse: str | None = None,
    ) -> str:
        """Returns the hash of the transaction that settles it: sent, but perhaps not mined yet.

        `open_body` is the digest of the body of a request without a signature: the authorization
        opens something for this body only, as it is public once it is sent. `purse` is the project
        whose purse it fills. The first request decides both.

        The same authorization gives the same settlement, also concurrently and after restarts.
        Two round trips. If that transaction is reverted, the hash is not final: the follow-up finds
        out whether another transaction used the authorization.

        Raises AuthorizationRefused, with nothing spent; PaymentAlreadyUsed if another transaction
        used it and can't be found; PaymentPending if it may have been sent; ChainUnavailable,
        DatabaseUnavailable if nothing was sent.
        """
        async with self._lock(authorization):
            known = await self._known(authorization)
            if known is None:
                self.check(authorization, chain=chain, token=token)
                try:
                    return await self._begin(
                        chain, token, authorization, unique_name, open_body=open_body, purse=purse
                    )
                except AuthorizationRefused:
                    SETTLEMENTS.labels(chain.name, "refused").inc()
                    raise
                except UniqueViolation:  # another process was first
                    known = await self._known(authorization)
                    if known is None:
                        raise
            same = authorization_of(known) == authorization and open_body == known.open_body
            if open_body is None or same:
                return await self._again(known, chain)
            failed = known.status is SettlementStatus.FAILED  # then it may have paid nobody
            raise PaymentAlreadyUsed(
                _PUBLIC, used_by=await self._again(known, chain) if failed else None
            )

    async def conclude(
        self, tx: Transaction, *, chain: Chain, tx_hash: str, block_number: int
    ) -> None:
        """Records, in the database transaction that credits it, that a settlement was mined.

        Does nothing for a transaction that the relayer did not send.
        """
        relayed = await relays.one(tx, chain_id=chain.chain_id, tx_hash=tx_hash)
        if relayed is None:
            return
        await relays.mined(tx, relayed, succeeded=True, block_number=block_number)
        if await settlements.settled(
            tx, relayed.subject_id, tx_hash=tx_hash, now_ms=self._clock.now_ms()
        ):
            SETTLEMENTS.labels(chain.name, "settled").inc()

    async def _known(self, authorization: TransferAuthorization) -> Settlement | None:
        return await settlements.one(
            self._db,
            chain_id=authorization.chain_id,
            token_address=authorization.token_address,
            payer=authorization.payer,
            nonce=authorization.nonce,
        )

    def _lock(self, authorization: TransferAuthorization) -> asyncio.Lock:
        key = (authorization.chain_id, authorization.token_address, authorization.payer)
        return self._locks.setdefault((*key, authorization.nonce), asyncio.Lock())

    async def _begin(
        self,
        chain: Chain,
        token: Token,
        authorization: TransferAuthorization,
        unique_name: str | None,
        *,
        open_body: str | None,
        purse: str | None,
    ) -> str:
        relayer = self._relayers[chain.name]
        prepared, (state, code) = await relayer.prepare(
            *authorized_call(authorization, token),
            state_call(authorization, "pending"),
            ("eth_getCode", [authorization.payer, "latest"]),
        )
        if is_used(self._clients[chain.name], state):
            used_by = await self._used_before(authorization, chain, head=prepared.block_number)
            if open_body is not None:
                raise PaymentAlreadyUsed(_PUBLIC, used_by=used_by)
            return used_by
        if prepared.refusal is not None:
            raise AuthorizationRefused(prepared.refusal, by_chain=True)
        settlement = _new_settlement(
            authorization,
            token,
            unique_name=unique_name,
            block_number=prepared.block_number,
            now_ms=self._clock.now_ms(),
            open_body=open_body,
            purse=purse,
        )
        names = {settlement.payer, relayer.name}
        async with self._db.transaction(durable=True, of=names) as tx:
            nonce = await relayer.claim_nonce(tx, prepared, subject_id=settlement.id)
            await self._check_stake(tx, settlement)
            if refusal := await relayer.refusal_for(tx, prepared, of_contract=is_contract(code)):
                raise AuthorizationRefused(refusal)
            await settlements.add(tx, settlement)
            relayed = await relayer.sign(tx, prepared, nonce=nonce, subject_id=settlement.id)
        failpoint("settlement_signed")
        await self._send(relayer, settlement, relayed)
        return relayed.tx_hash

    async def _check_stake(self, tx: Transaction, settlement: Settlement) -> None:
        """Raises AuthorizationRefused for a payer whose authorizations may lose too much gas.

        A simulation can't show that: the money may be gone a moment later, and a contract wallet
        can accept a simulation and refuse the transaction.
        """
        since_ms = settlement.created_at_ms - _REVERTS_REMEMBERED_MS
        at_stake = await settlements.at_stake(tx, payer=settlement.payer, since_ms=since_ms)
        if at_stake >= _MAX_AT_STAKE:
            if settlement.open_body is not None:  # what else its payer has is told its payer
                raise AuthorizationRefused("it needs its payer's signature of the request")
            raise AuthorizationRefused(
                f"{at_stake} others of this wallet are being settled, or were reverted today; "
                "transfer the tokens and send the transaction's hash"
            )

    async def _send(
        self, relayer: Relayer, settlement: Settlement, relayed: RelayTransaction
    ) -> None:
        try:
            await relayer.send(relayed)
        except ChainUnavailable as silence:
            raise PaymentPending(
                "The authorization is being settled, and the chain's node does not answer. "
                "Do not pay again: send the same request again."
            ) from silence
        with contextlib.suppress(DatabaseUnavailable):  # it only tells the operator
            async with self._db.transaction(durable=False, of=[settlement.payer]) as tx:
                await settlements.sent(tx, settlement.id)
        failpoint("settlement_sent")

    async def _again(self, settlement: Settlement, chain: Chain) -> str:
        """Returns the hash for an authorization that was accepted before."""
        match settlement.status:
            case SettlementStatus.SETTLED if settlement.tx_hash is not None:
                return settlement.tx_hash
            case SettlementStatus.FAILED if settlement.tx_hash is not None:  # spent for good
                raise AuthorizationRefused(settlement.failure or "it failed before", by_chain=True)
            case SettlementStatus.FAILED:
                return await self._used_after_all(settlement, chain)
        versions = await relays.of_subject(self._db, settlement.id)
        mined = [one for one in versions if one.status is RelayStatus.MINED]
        return (mined or versions)[-1].tx_hash

    async def _used_after_all(self, settlement: Settlement, chain: Chain) -> str:
        """Returns the hash of another transaction that used an authorization that failed here.

        Until it expires, anybody can send it. Raises AuthorizationRefused if nobody did.
        """
        client, authorization = self._clients[chain.name], authorization_of(settlement)
        state, head = await client.batch(
            [state_call(authorization, "latest"), ("eth_blockNumber", [])]
        )
        if not is_used(client, state):
            raise AuthorizationRefused(settlement.failure or "it failed before", by_chain=True)
        with client.reading():
            return await self._used_before(authorization, chain, head=parse_quantity(head))

    async def _used_before(
        self, authorization: TransferAuthorization, chain: Chain, *, head: int
    ) -> str:
        """Returns the hash of the transaction that used an authorization not settled by us.

        Raises AuthorizationRefused for one that its payer canceled, or that paid nothing here.
        """
        client = self._clients[chain.name]
        use = await find_use(client, authorization, from_block=max(0, head - _SEARCHED_BLOCKS))
        if use is not None and use.canceled:
            raise AuthorizationRefused("its payer has canceled it")
        if use is not None:
            if await self._is_spent_elsewhere(client, use):
                raise AuthorizationRefused(SPENT_ELSEWHERE)
            return use.tx_hash
        (state,) = await client.batch([state_call(authorization, "latest")])
        if is_used(client, state):
            was_safe = await self._was_used_long_ago(client, authorization)
            brought = await payments.brought(
                self._db,
                chain_id=authorization.chain_id,
                token_address=authorization.token_address,
                payer=authorization.payer,
                amount_atomic=str(authorization.value),
            )
            if was_safe and brought is None:  # long ago, and the books would have it
                raise AuthorizationRefused(SPENT_ELSEWHERE)
            raise PaymentAlreadyUsed(
                "This authorization was used before it came here. What it paid here is in your "
                "credits by now; if it is not, send its transaction's hash. Do not pay again.",
                used_by=brought,
            )
        raise PaymentPending(
            "The authorization is being used by a transaction that is not mined yet. "
            "Do not pay again: send the same request again."
        )

    async def _was_used_long_ago(
        self, client: RpcClient, authorization: TransferAuthorization
    ) -> bool:
        """Whether it was used in a safe block, as every node says: no node alone is believed."""
        views = await client.each([state_call(authorization, "safe")])
        return len(views) >= client.quorum and all(
            not isinstance(state, RpcError) and is_used(client, state) for (state,) in views
        )

    async def _is_spent_elsewhere(self, client: RpcClient, use: AuthorizationUse) -> bool:
        """Whether it was used in a safe block and paid us nothing, as every node says."""
        if use.block_number > (await read_heads(client)).safe:
            return False
        views = await client.each([("eth_getTransactionReceipt", [use.tx_hash])])
        if len(views) < client.quorum:
            return False
        if any(answer is None or isinstance(answer, RpcError) for (answer,) in views):
            return False
        receipts = [parse_receipt(answer, tx_hash=use.tx_hash) for (answer,) in views]
        chain, recipients = client.chain, self._recipients
        return not any(transfers_in(one, chain, recipients=recipients) for one in receipts)


def is_contract(code: object) -> bool:
    """Whether an account with this code (the answer to eth_getCode) is a contract."""
    return code not in ("0x", "0x0", None)


def authorized_call(authorization: TransferAuthorization, token: Token) -> tuple[str, str]:
    """Returns the contract to call, and the calldata for a key's or a contract's signature.

    Contract wallets check their signatures themselves, also those of 65 bytes.
    """
    domain = token.authorization
    by_key = domain is not None and signer_of(authorization, domain) == authorization.payer
    return token.key, transfer_calldata(authorization, by_key=by_key)


def authorization_of(settlement: Settlement) -> TransferAuthorization:
    """The authorization that the payer signed."""
    return TransferAuthorization(
        chain_id=settlement.chain_id,
        token_address=settlement.token_address,
        payer=settlement.payer,
        recipient=settlement.recipient,
        value=AtomicUnits(int(settlement.amount_atomic)),
        valid_after=int(settlement.valid_after),
        valid_before=int(settlement.valid_before),
        nonce=settlement.nonce,
        signature=bytes.fromhex(settlement.signature[2:]),
    )


def _new_settlement(
    authorization: TransferAuthorization,
    token: Token,
    *,
    unique_name: str | None,
    block_number: int,
    now_ms: int,
    open_body: str | None,
    purse: str | None,
) -> Settlement:
    return Settlement(
        id=str(uuid.uuid4()),
        chain_id=authorization.chain_id,
        token=token.name,
        token_address=authorization.token_address,
        payer=authorization.payer,
        recipient=authorization.recipient,
        amount_atomic=str(authorization.value),
        valid_after=str(authorization.valid_after),
        valid_before=str(authorization.valid_before),
        nonce=authorization.nonce,
        signature="0x" + authorization.signature.hex(),
        from_block=block_number,
        unique_name=unique_name,
        status=SettlementStatus.INTENDED,
        tx_hash=None,
        failure=None,
        created_at_ms=now_ms,
        ended_at_ms=None,
        open_body=open_body,
        purse=purse,
    )


log = structlog.get_logger()

Credit = Callable[..., Awaitable[object]]
"""Verifies and credits a transaction, by `chain`, `token`, `tx_hash`, `wallet`, `unique_name`."""

_LEFT_TO_ITS_REQUEST_MS = 3_000  # the request that brought a settlement has this long to end it
_MAX_AT_ONCE = 50  # settlements checked in one round trip
_CREDITED_AT_ONCE = 16  # each may take as long as a request waits for its payment
_SEARCHED_AT_ONCE = 20_000  # blocks, for the transaction that used one authorization


class _AuthorizationState(msgspec.Struct, frozen=True, kw_only=True):
    """An authorization as one answer shows it."""

    used: bool  # at the newest block
    safe_block: int
    safe_time: int  # Unix seconds


class SettlementFollowUp:
    """Follows up settlements on every chain; `relayers` are by chain name, where there is one."""

    def __init__(
        self,
        *,
        db: Database,
        chains: Mapping[str, Chain],
        clients: Mapping[str, RpcClient],
        relayers: Mapping[str, Relayer],
        credit: Credit,
        clock: Clock,
        speed: float = 1.0,
    ) -> None:
        """`speed` divides how long a settlement is left to the request that brought it."""
        self._left_to_its_request_ms = round(_LEFT_TO_ITS_REQUEST_MS / speed)
        self._db = db
        self._chains = chains
        self._clients = clients
        self._relayers = relayers
        self._credit = credit
        self._clock = clock
        self._searched: dict[str, int] = {}  # the last block searched, by settlement

    async def resume(self) -> None:
        """Checks every settlement without a known outcome once. Raises DatabaseUnavailable."""
        for chain in self._chains.values():
            try:
                await self._resume(chain)
            except ChainUnavailable as silence:
                log.warning("settlements wait", chain=chain.name, error=silence.message)

    async def check_balances(self) -> None:
        """Checks how much gas each relayer has left."""
        for name, relayer in self._relayers.items():
            try:
                await relayer.check_balance()
            except ChainUnavailable as silence:
                log.warning("relayer's balance unknown", chain=name, error=silence.message)

    async def _resume(self, chain: Chain) -> None:
        await self._reopen_dropped(chain)
        if chain.name in self._relayers:
            await self._relayers[chain.name].tend()
        waiting, mined_ones = [], []
        for settlement in await settlements.unresolved(
            self._db,
            chain_id=chain.chain_id,
            before_ms=self._clock.now_ms() - self._left_to_its_request_ms,
        ):
            versions = await relays.of_subject(self._db, settlement.id)
            mined = next((one for one in versions if one.status is RelayStatus.MINED), None)
            if mined is None:
                waiting.append((settlement, versions))
            else:
                mined_ones.append((settlement, mined.tx_hash))
        for at in range(0, len(mined_ones), _CREDITED_AT_ONCE):
            some = mined_ones[at : at + _CREDITED_AT_ONCE]
            ends = await asyncio.gather(
                *(self._end_settled(chain, *one) for one in some), return_exceptions=True
            )
            for problem in ends:
                if isinstance(problem, BaseException):
                    raise problem
        for at in range(0, len(waiting), _MAX_AT_ONCE):
            await self._judge(chain, waiting[at : at + _MAX_AT_ONCE])
        unresolved = await settlements.count_unresolved(self._db, chain_id=chain.chain_id)
        UNRESOLVED_SETTLEMENTS.labels(chain.name).set(unresolved)

    async def _reopen_dropped(self, chain: Chain) -> None:
        """Reopens settlements credited from a block that is no longer part of the chain."""
        for settlement_id in await settlements.dropped(self._db, chain_id=chain.chain_id):
            log.warning("settlement dropped from the chain", settlement=settlement_id)
            async with self._db.transaction(durable=True) as tx:
                await settlements.reopen(tx, settlement_id)
                await relays.reopen(tx, settlement_id)

    async def _end_settled(self, chain: Chain, settlement: Settlement, tx_hash: str) -> bool:
        """Credits what a transaction moved, then ends its settlement; nothing if it can't yet.

        Returns False if the transaction pays us nothing, as every node says.
        """
        token = chain.token_at(settlement.token_address)
        if token is None:
            log.error("settlement of a token that is not configured", settlement=settlement.id)
            return True
        failpoint("settlement_mined")
        try:
            await self._credit(
                chain=chain,
                token=token,
                tx_hash=tx_hash,
                wallet=settlement.payer,
                unique_name=settlement.unique_name,
            )
        except PaymentHeld:
            pass  # it is recorded even so
        except PaymentNotFound:
            return False
        except MoorageError as later:
            log.info("settlement not credited yet", settlement=settlement.id, error=later.message)
            return True
        async with self._db.transaction(durable=True) as tx:
            if await settlements.settled(
                tx, settlement.id, tx_hash=tx_hash, now_ms=self._clock.now_ms()
            ):
                SETTLEMENTS.labels(chain.name, "settled").inc()
        return True

    async def _judge(
        self, chain: Chain, waiting: Sequence[tuple[Settlement, list[RelayTransaction]]]
    ) -> None:
        """Ends the settlements that another transaction settled, or that can no longer settle.

        Used authorizations, which take a search, come last, so that they don't delay the others.
        """
        states = await self._states(chain, [settlement for settlement, _ in waiting])
        judged = [(*one, state) for one, state in zip(waiting, states, strict=True)]
        for settlement, versions, state in sorted(judged, key=lambda one: one[2].used):
            try:
                await self._end(chain, settlement, versions, state)
            except ChainUnavailable as silence:
                log.info("settlement waits", settlement=settlement.id, error=silence.message)

    async def _end(
        self,
        chain: Chain,
        settlement: Settlement,
        versions: Sequence[RelayTransaction],
        state: _AuthorizationState,
    ) -> None:
        if state.used:
            await self._end_used(chain, settlement, state)
        elif state.safe_time >= int(settlement.valid_before):
            await self._end_unused(chain, settlement, "it expired before it was mined")
        elif any(_is_reverted(one, safe_block=state.safe_block) for one in versions):
            await self._end_unused(chain, settlement, "its transaction was reverted")
        elif all(one.status is RelayStatus.REPLACED for one in versions):
            await self._send_anew(chain, settlement)

    async def _states(
        self, chain: Chain, waiting: Sequence[Settlement]
    ) -> list[_AuthorizationState]:
        client = self._clients[chain.name]
        calls = [state_call(authorization_of(settlement), "latest") for settlement in waiting]
        safe, latest, *answers = await client.batch(
            [block_call("safe"), block_call("latest"), *calls]
        )
        used = [is_used(client, answer) for answer in answers]
        with client.reading():
            block, newest = parse_tagged_block(safe), parse_block(latest)
        if newest is None:
            raise client.contradiction("there is no newest block")
        if block is None:  # the node knows no safe block: use one that is `finality_blocks` deep
            block = await read_block(client, max(0, newest.number - chain.finality_blocks))
        return [
            _AuthorizationState(used=one, safe_block=block.number, safe_time=block.time)
            for one in used
        ]

    async def _end_used(
        self, chain: Chain, settlement: Settlement, state: _AuthorizationState
    ) -> None:
        use = await self._find_use(chain, settlement, state)
        if use is None:
            log.warning("authorization used, but nobody knows by what", settlement=settlement.id)
        elif use.canceled:
            await self._end_spent(chain, settlement, use, state, "its payer has canceled it")
        elif not await self._end_settled(chain, settlement, use.tx_hash):
            await self._end_spent(chain, settlement, use, state, SPENT_ELSEWHERE)

    async def _find_use(
        self, chain: Chain, settlement: Settlement, state: _AuthorizationState
    ) -> AuthorizationUse | None:
        """Searches forwards for the transaction that used it: a bounded number of blocks a call.

        Safe blocks are not searched again.
        """
        use, last = await find_use_onwards(
            self._clients[chain.name],
            authorization_of(settlement),
            from_block=max(settlement.from_block, self._searched.get(settlement.id, -1) + 1),
            limit=_SEARCHED_AT_ONCE,
        )
        if use is None:
            self._searched[settlement.id] = min(last, state.safe_block)
        return use

    async def _end_spent(
        self,
        chain: Chain,
        settlement: Settlement,
        use: AuthorizationUse,
        state: _AuthorizationState,
        failure: str,
    ) -> None:
        """Ends one whose nonce was used without paying us in a safe block, if every node agrees."""
        client = self._clients[chain.name]
        if use.block_number > state.safe_block:
            return
        views = await client.each([state_call(authorization_of(settlement), "latest")])
        if len(views) >= client.quorum and all(is_used(client, answer) for (answer,) in views):
            await self._end_failed(chain, settlement, failure, spent_by=use.tx_hash)
        else:
            log.warning("nodes disagree on an authorization", settlement=settlement.id)

    async def _end_unused(self, chain: Chain, settlement: Settlement, failure: str) -> None:
        """Ends one that moved nothing, if every node agrees: its payer may then be asked to pay."""
        client = self._clients[chain.name]
        views = await client.each([state_call(authorization_of(settlement), "latest")])
        if len(views) < client.quorum or any(is_used(client, answer) for (answer,) in views):
            log.warning("nodes disagree on an authorization", settlement=settlement.id)
        else:
            await self._end_failed(chain, settlement, failure)

    async def _end_failed(
        self, chain: Chain, settlement: Settlement, failure: str, *, spent_by: str | None = None
    ) -> None:
        log.info("settlement failed", settlement=settlement.id, failure=failure)
        async with self._db.transaction(durable=True) as tx:
            if await settlements.failed(
                tx,
                settlement.id,
                failure=failure,
                now_ms=self._clock.now_ms(),
                spent_by=spent_by,
            ):
                SETTLEMENTS.labels(chain.name, "failed").inc()
        self._searched.pop(settlement.id, None)

    async def _send_anew(self, chain: Chain, settlement: Settlement) -> None:
        """Signs and sends it with a new nonce, as another transaction used the old one for good."""
        relayer = self._relayers.get(chain.name)
        token = chain.token_at(settlement.token_address)
        if relayer is None or token is None:
            return
        prepared, (code,) = await relayer.prepare(
            *authorized_call(authorization_of(settlement), token),
            ("eth_getCode", [settlement.payer, "latest"]),
        )
        async with self._db.transaction(durable=True) as tx:
            refusal = prepared.refusal or await relayer.refusal_for(
                tx, prepared, of_contract=is_contract(code)
            )
            if refusal is not None:
                log.info("settlement waits", settlement=settlement.id, refusal=refusal)
                return
            nonce = await relayer.claim_nonce(tx, prepared, subject_id=settlement.id)
            relayed = await relayer.sign(tx, prepared, nonce=nonce, subject_id=settlement.id)
        await relayer.send(relayed)


def _is_reverted(relayed: RelayTransaction, *, safe_block: int) -> bool:
    """Whether the transaction was reverted in a safe block."""
    return (
        relayed.status is RelayStatus.REVERTED
        and relayed.block_number is not None
        and relayed.block_number <= safe_block
    )
