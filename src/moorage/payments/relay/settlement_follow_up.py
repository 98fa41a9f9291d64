"""Brings settlements to their end after the request that began them is over.

The client may have left, the gateway crashed, a node gone silent, a transaction got stuck or lost,
or the chain reorganised: in each case the chain shows what became of the authorization. A settled
one is credited as every payment is. One that can no longer settle, and moved nothing, has failed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import structlog

from moorage.chains.authorization_use import (
    AuthorizationUse,
    find_use_onwards,
    is_used,
    state_call,
)
from moorage.chains.chain import Chain
from moorage.chains.heads import block_call, parse_block, parse_tagged_block, read_block
from moorage.chains.rpc import RpcClient
from moorage.clock import Clock
from moorage.errors import ChainUnavailable, MoorageError, PaymentHeld, PaymentNotFound
from moorage.failpoints import failpoint
from moorage.metrics import record_settlement, record_unresolved
from moorage.payments.relay.relayer import Relayer
from moorage.payments.relay.settlements import (
    SPENT_ELSEWHERE,
    authorization_of,
    authorized_call,
    is_contract,
)
from moorage.records.payments import RelayStatus, RelayTransaction, Settlement
from moorage.storage.database import Database
from moorage.storage.money.chains import relays, settlements

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
        record_unresolved(
            chain.name, await settlements.count_unresolved(self._db, chain_id=chain.chain_id)
        )

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
                record_settlement(chain.name, "settled")
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
        try:
            block, newest = parse_tagged_block(safe), parse_block(latest)
        except ValueError as problem:
            raise client.contradiction(problem) from problem
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
                record_settlement(chain.name, "failed")
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
