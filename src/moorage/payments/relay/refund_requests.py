"""Refund requests: a wallet has what it paid and did not use sent back to where it came from.

A quote is a signed text, so that it takes no row. A request books what burned up to this
millisecond, takes the credits and queues the refunds of its payments in one transaction, so that
credits and refund never both exist. `Refunds` sends what is queued.

Credits that were given (by the operator, or with another wallet's purse) burn first, and are never
sent back. At most what a payment brought goes back of it.
"""

import base64
import binascii
import hashlib
import hmac
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from moorage.auth.recovery import require_unclaimed
from moorage.chains.chain import Chain
from moorage.chains.receipt import transfer_calldata
from moorage.chains.rpc import RpcClient, revert_reason
from moorage.clock import Clock
from moorage.errors import (
    ChainUnavailable,
    InvalidField,
    RefundInProgress,
    RefundNotFound,
    TermsChanged,
)
from moorage.ledger import ledger
from moorage.ledger.build_time import BuildTime
from moorage.ledger.metering import Metering
from moorage.ledger.running_costs import HOUR_MS, charge_up_to, owed, runs_out_at
from moorage.money import (
    MICRO_USD_PER_USD,
    NOTHING,
    AtomicUnits,
    MicroUsd,
)
from moorage.payments.relay.refunds import (
    backing,
    brought_of,
    debit_of,
    left_of,
    may_be_taken_back,
    tell,
)
from moorage.records.event import EventKind
from moorage.records.payments import Finality, Payment, Refund, RefundStatus
from moorage.storage import idempotency, recoveries
from moorage.storage.apps import projects
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.idempotency import Claim
from moorage.storage.money import accounts, billing, payments, refunds
from moorage.storage.money.billing import RunInterval

GATEWAY = "gateway"
"""Who decided, where the limits let the gateway send a refund by itself."""

GAS = MicroUsd(10_000)
"""What a customer pays for the gas of one refund: as no price of ether is known, always as much."""

QUOTE_MS = 600_000
DECIDED_IN_MS = 7 * 24 * 3_600_000
"""By when an operator decides what the gateway does not send by itself."""

_DAY_MS = 24 * 3_600_000
_MAX_ITEMS = 20
_MAC_CHARACTERS = 32


class RefundLimits(NamedTuple):
    """What the gateway sends back by itself; beyond that its operator decides."""

    refund: MicroUsd
    wallet_day: MicroUsd
    day: MicroUsd


class Item(msgspec.Struct, frozen=True):
    """What goes back of one payment, to its payer."""

    payment: Payment
    earlier: int  # how many refunds of it there are
    amount: AtomicUnits  # that its payer gets
    debited: MicroUsd  # the credits that this takes, without those for its gas

    @property
    def gross(self) -> MicroUsd:
        """The credits that it takes in all."""
        return MicroUsd(self.debited + GAS)


class RefundAsked(NamedTuple):
    """What a wallet asks a quote for."""

    wallet: str
    project_id: str = ""  # whose purse; "" is the wallet's credits
    max_: MicroUsd | None = None  # credits to take at most
    suspend: bool = False  # whether what runs of these credits is suspended for it


class Ending(NamedTuple):
    """When a project that runs of the credits stops after the refund; None is never."""

    project_id: str
    at_ms: int | None


class RefundQuote(msgspec.Struct, frozen=True, kw_only=True):
    """What would go back, what would not and why, and what would stop."""

    id: str
    items: list[Item]
    kept: dict[str, MicroUsd]  # by why
    ends: list[Ending]
    contracts: set[str]  # chains on which the payer is a contract
    expires_at_ms: int

    @property
    def refundable(self) -> MicroUsd:
        """What the payer gets in all."""
        return _sum(each.debited for each in self.items)


class Requested(msgspec.Struct, frozen=True):
    """The outcome of a request, for repeats of it."""

    id: str


class _Terms(msgspec.Struct, frozen=True, array_like=True):
    """What a quote's id holds."""

    wallet: str
    project_id: str
    apart: bool  # whether a payment alone had opened the project: what filled its purse goes back
    suspend: bool
    expires_at_ms: int
    gross: int
    digest: str


Suspend = Callable[[Transaction, Collection[str]], Awaitable[Callable[[], None]]]
"""Suspends projects in a transaction; returns what is to be called after it."""


class RefundRequests:
    """Quotes and takes refund requests.

    `senders` maps the chains on which the gateway sends by itself to the address it sends from.
    `secret` signs quotes, and is that of all gateways on the database.
    """

    def __init__(
        self,
        *,
        db: Database,
        clients: Mapping[str, RpcClient],
        metering: Metering,
        build_time: BuildTime,
        senders: Mapping[int, str],
        pay_to: str,
        limits: RefundLimits,
        secret: bytes,
        clock: Clock,
    ) -> None:
        self._db = db
        self._clients = {client.chain.chain_id: client for client in clients.values()}
        self._metering = metering
        self._build_time = build_time
        self._senders = senders
        self._pay_to = pay_to
        self._limits = limits
        self._secret = secret
        self._clock = clock

    async def quote(self, asked: RefundAsked) -> RefundQuote:
        """Returns what would go back now; changes nothing. Raises InvalidField."""
        holder, apart = asked.wallet, False
        if asked.project_id:
            if await accounts.purse(self._db, asked.project_id) is None:
                raise InvalidField("project_id", "has no purse of its own: leave it out")
            holder = accounts.purse_of(asked.project_id)
            apart = await ledger.opened_apart(self._db, asked.project_id)
        purse = asked.project_id if apart else None
        found = await self._payments(self._db, asked.wallet, purse)
        refusing, contracts = await self._who_cannot_receive(asked.wallet, found)
        burning, now_ms = (
            await billing.open_of_holder(self._db, holder),
            self._metering.time.now_ms(),
        )
        burned = owed(burning, at_ms=now_ms)
        balance = MicroUsd(max(0, await accounts.balance(self._db, holder) - burned))
        later_ms = now_ms + (QUOTE_MS if asked.suspend else HOUR_MS)
        running = min(balance, owed(burning, at_ms=later_ms) - burned)
        payer = holder if apart else asked.wallet
        builds = min(balance - running, await self._builds(self._db, payer, balance, asked.max_))
        available = MicroUsd(balance - running - builds)
        asked_for = available if asked.max_ is None else min(available, asked.max_)
        paid, unsure = await backing(
            self._db, asked.wallet, purse, clients=self._clients, burned=burned
        )
        wanted = MicroUsd(min(asked_for, max(0, paid - unsure)))
        not_final = min(asked_for - wanted, unsure)
        items = _allot(found, wanted, refusing, self._clients)
        gross = _sum(each.gross for each in items)
        kept = {
            "burned_until_now": burned,
            "running_apps": running,
            "builds_beyond_allowance": builds,
            **_why_kept(found, items, MicroUsd(wanted - gross), refusing, self._clients),
            "held": await accounts.sum_of_account(self._db, ledger.held_account(asked.wallet)),
        }
        for why, more in (("not_final", not_final), ("grant", asked_for - wanted - not_final)):
            kept[why] = MicroUsd(kept.get(why, NOTHING) + more)
        terms = _Terms(
            wallet=asked.wallet,
            project_id=asked.project_id,
            apart=apart,
            suspend=asked.suspend,
            expires_at_ms=self._clock.now_ms() + QUOTE_MS,
            gross=gross,
            digest=_digest(items),
        )
        return RefundQuote(
            id=self._written(terms),
            items=items,
            kept={why: MicroUsd(amount) for why, amount in kept.items() if amount > 0},
            ends=self._ends(burning, MicroUsd(balance + burned - gross), suspend=asked.suspend),
            contracts=contracts,
            expires_at_ms=terms.expires_at_ms,
        )

    def check(self, wallet: str, quote_id: str, *, suspend: bool) -> None:
        """Raises InvalidField for what is no quote for a wallet, TermsChanged if it ended."""
        self._read(wallet, quote_id, suspend=suspend)

    async def request(
        self,
        wallet: str,
        quote_id: str,
        *,
        expected: MicroUsd | None,
        suspend: Suspend | None,
        claim: Claim | None = None,
    ) -> Requested:
        """Takes the credits of a quote, and queues its refunds; `suspend` ends what burns them.

        Raises InvalidField, TermsChanged, RefundInProgress and RecoveryPending, with
        nothing changed.
        """
        terms = self._read(wallet, quote_id, suspend=suspend is not None)
        if not terms.gross:
            raise InvalidField("quote", "sends nothing back: its `kept` says why")
        gross, purse = MicroUsd(terms.gross), terms.project_id if terms.apart else None
        asked_of = await self._payments(self._db, wallet, purse)
        refusing, _ = await self._who_cannot_receive(wallet, asked_of)
        requested = Requested(str(uuid.uuid4()))
        suspended: Callable[[], None] | None = None
        async with self._db.transaction(durable=True) as tx:
            await require_unclaimed(tx, wallet)
            if await refunds.is_on_its_way(tx, wallet):
                raise RefundInProgress
            found = await self._payments(tx, wallet, purse)
            payer = await ledger.holder_of(tx, found[0][0]) if found else wallet
            holder = await self._giver(tx, terms)
            own_purse = purse if holder == payer != wallet else None
            if suspend is not None:
                burning = await billing.open_of_holder(tx, holder)
                suspended = await suspend(tx, [each.project_id for each in burning])
            await self._metering.settle(tx, holder)
            items = _allot(found, gross, refusing, self._clients)
            refundable = _sum(each.debited for each in items)
            balance = await accounts.balance(tx, holder)
            builds = await self._builds(tx, payer, balance, gross)
            paid, unsure = await backing(tx, wallet, own_purse, clients=self._clients)
            if (
                _digest(items) != terms.digest
                or expected not in (None, refundable)
                or balance < gross + builds
                or paid - unsure < gross
            ):
                raise TermsChanged
            if holder != payer:
                await self._take_from_purse(tx, terms)
            await self._queue(tx, wallet, requested.id, items)
            await self._metering.suspend_unpaid(tx, holder)
            await idempotency.carried_out(tx, claim, requested)
        if suspended is not None:
            suspended()
        return requested

    async def _giver(self, tx: Transaction, terms: _Terms) -> str:
        """Returns whose credits a quote takes now: those of a deleted project are its wallet's."""
        if not terms.project_id or await projects.by_id(tx, terms.project_id) is None:
            return terms.wallet
        if terms.apart and not await ledger.opened_apart(tx, terms.project_id):
            return terms.wallet  # it was adopted meanwhile, which emptied the purse
        return accounts.purse_of(terms.project_id)

    async def _take_from_purse(self, tx: Transaction, terms: _Terms) -> None:
        """Moves what a quote takes of a purse to its wallet's credits, whose payments go back."""
        purse, gross = await accounts.purse(tx, terms.project_id), MicroUsd(terms.gross)
        now_ms = self._clock.now_ms()
        if (
            purse is None
            or purse.wallet != terms.wallet
            or not await ledger.move(
                tx, accounts.purse_of(purse.project_id), purse.wallet, gross, now_ms=now_ms
            )
        ):
            raise TermsChanged

    async def one(self, wallet: str, request_id: str) -> list[Refund]:
        """Returns the refunds of a wallet's request. Raises RefundNotFound."""
        found = await refunds.of_request(self._db, request_id, wallet=wallet) if request_id else []
        if not found:
            raise RefundNotFound
        return found

    async def _queue(
        self, tx: Transaction, wallet: str, request_id: str, items: Sequence[Item]
    ) -> None:
        now_ms = self._clock.now_ms()
        waits_because = await _why_operator(tx, wallet)
        decided_by = "" if waits_because else await self._decider(tx, wallet, items)
        for each in items:
            refund = Refund(
                id=str(uuid.uuid4()),
                chain_id=each.payment.chain_id,
                tx_hash=each.payment.tx_hash,
                log_index=each.payment.log_index,
                recipient=each.payment.payer,
                token_address=each.payment.token_address,
                amount_atomic=str(each.amount),
                debited_micro_usd=each.debited,
                reason="asked for by its payer",
                status=RefundStatus.QUEUED,
                refund_tx_hash=None,
                created_at_ms=now_ms,
                ended_at_ms=None,
                finality=Finality.PROVISIONAL,
                request_id=request_id,
                gas_micro_usd=GAS,
                decided_by=decided_by,
                waits_because=waits_because,
            )
            taken = await ledger.refund(
                tx,
                each.payment,
                refund_id=refund.id,
                amount=each.debited,
                gas=GAS,
                now_ms=now_ms,
            )
            if not taken:
                raise TermsChanged
            await refunds.add(tx, refund)
            await tell(tx, refund, EventKind.REFUND_QUEUED, now_ms=now_ms)

    async def _decider(self, tx: Transaction, wallet: str, items: Sequence[Item]) -> str:
        """Returns `GATEWAY` if it sends these by itself; "" if the operator is to decide."""
        if any(each.payment.chain_id not in self._senders for each in items):
            return ""
        total = sum(each.debited for each in items)
        since_ms = self._clock.now_ms() - _DAY_MS
        in_all, to_wallet = await refunds.decided_since(
            tx, by=GATEWAY, wallet=wallet, since_ms=since_ms
        )
        limits = self._limits
        within = (
            total <= limits.refund
            and to_wallet + total <= limits.wallet_day
            and in_all + total <= limits.day
        )
        return GATEWAY if within else ""

    async def _payments(
        self, source: Source, wallet: str, purse: str | None
    ) -> list[tuple[Payment, list[Refund]]]:
        """Returns the newest payments of which something may go back, with their refunds."""
        return await payments.refundable(
            source, wallet, purse=purse, above=GAS, limit=3 * _MAX_ITEMS
        )

    async def _builds(
        self, source: Source, holder: str, balance: MicroUsd, max_: MicroUsd | None
    ) -> MicroUsd:
        """Returns what builds cost that the rest of the payments would not have allowed."""
        goes = balance if max_ is None else min(balance, max_)
        allowance = await self._build_time.allowance(
            source, holder, to_come=MicroUsd(-max(0, goes))
        )
        beyond_ms = allowance.used_ms - max(0, allowance.allowed_ms)
        return charge_up_to(beyond_ms, monthly_price=allowance.monthly_price)

    async def _who_cannot_receive(
        self, wallet: str, found: Iterable[tuple[Payment, list[Refund]]]
    ) -> tuple[set[tuple[int, str]], set[str]]:
        """Returns the tokens that refuse a transfer to the payer, and chains that have code there.

        A chain that does not answer is asked again before anything is sent.
        """
        refusing: set[tuple[int, str]] = set()
        contracts: set[str] = set()
        paid = [payment for payment, _ in found]
        for chain_id in {each.chain_id for each in paid} & self._clients.keys():
            client, data = self._clients[chain_id], transfer_calldata(wallet, AtomicUnits(0))
            sender = self._senders.get(chain_id, self._pay_to)
            tokens = sorted({one.token_address for one in paid if one.chain_id == chain_id})
            calls = [{"from": sender, "to": token, "data": data} for token in tokens]
            with suppress(ChainUnavailable):
                code, *answers = await client.batch(
                    [
                        ("eth_getCode", [wallet, "latest"]),
                        *(("eth_call", [each, "latest"]) for each in calls),
                    ]
                )
                refused = [
                    each for each, it in zip(tokens, answers, strict=True) if revert_reason(it)
                ]
                refusing |= {(chain_id, each) for each in refused}
                if isinstance(code, str) and code not in ("", "0x"):
                    contracts.add(client.chain.name)
        return refusing, contracts

    def _ends(
        self, burning: Sequence[RunInterval], left: MicroUsd, *, suspend: bool
    ) -> list[Ending]:
        now_ms = self._metering.time.now_ms()
        at_ms = None if not burning else runs_out_at(left, burning, now_ms=now_ms)
        if suspend:
            at_ms = now_ms
        wall_ms = None if at_ms is None else self._metering.time.wall_ms(at_ms)
        return [Ending(each.project_id, wall_ms) for each in burning]

    def _written(self, terms: _Terms) -> str:
        text = base64.urlsafe_b64encode(msgspec.json.encode(terms)).decode().rstrip("=")
        return f"{text}.{self._mac(text)}"

    def _mac(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()[:_MAC_CHARACTERS]

    def _read(self, wallet: str, quote_id: str, *, suspend: bool) -> _Terms:
        text, _, mac = quote_id.partition(".")
        if not hmac.compare_digest(self._mac(text).encode(), mac.encode()):
            raise InvalidField("quote", "must be the id of a quote of this gateway")
        try:
            decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            terms = msgspec.json.decode(decoded, type=_Terms)
        except (binascii.Error, msgspec.DecodeError) as error:
            raise InvalidField("quote", "must be the id of a quote of this gateway") from error
        if terms.wallet != wallet:
            raise InvalidField("quote", "is another wallet's")
        if terms.suspend != suspend:
            raise InvalidField("suspend", "must be as the quote was asked for")
        if terms.expires_at_ms <= self._clock.now_ms():
            raise TermsChanged
        return terms


async def _why_operator(source: Source, wallet: str) -> str | None:
    """Returns why the gateway sends this wallet nothing by itself, or None."""
    if (await accounts.wallet_row(source, wallet)).blocked_reason:
        return "The operator has suspended this wallet."
    recovery = await recoveries.of_wallet(source, wallet)
    if recovery is not None and recovery.taken_over_at_ms is not None:
        return "The wallet was taken over, and a payment goes back to its payer alone."
    return None


def _sum(amounts: Iterable[int]) -> MicroUsd:
    return MicroUsd(sum(amounts))


def _allot(
    found: Iterable[tuple[Payment, list[Refund]]],
    wanted: MicroUsd,
    refusing: Collection[tuple[int, str]],
    clients: Mapping[int, RpcClient],
) -> list[Item]:
    """Returns what goes back of which payments, the newest first, for at most `wanted` credits."""
    items: list[Item] = []
    for payment, earlier in found:
        if len(items) == _MAX_ITEMS:
            break
        if _hindrance(payment, refusing, clients) is None:
            item = _item(payment, earlier, wanted, clients[payment.chain_id].chain)
            if item is not None:
                items.append(item)
                wanted = MicroUsd(wanted - item.gross)
    return items


def _item(
    payment: Payment, earlier: Sequence[Refund], wanted: MicroUsd, chain: Chain
) -> Item | None:
    """Returns what goes back of a payment; None if its gas would cost as much."""
    token = chain.token_at(payment.token_address)
    if token is None:
        return None
    left = left_of(payment, earlier)
    worth = min(wanted, brought_of(payment, earlier)) - GAS
    unit = 10**token.decimals
    amount = AtomicUnits(min(left, max(0, worth) * unit // MICRO_USD_PER_USD))
    debited = debit_of(payment, earlier, amount, decimals=token.decimals)
    if amount <= 0 or debited <= 0 or debited > worth:
        return None
    return Item(payment, len(earlier), amount, debited)


def _hindrance(
    payment: Payment, refusing: Collection[tuple[int, str]], clients: Mapping[int, RpcClient]
) -> str | None:
    """Returns why nothing of a payment can go back now, or None."""
    client = clients.get(payment.chain_id)
    if client is None or client.chain.token_at(payment.token_address) is None:
        return "chain_closed"
    if (payment.chain_id, payment.token_address) in refusing:
        return "payer_refused_by_token"
    return "not_final" if may_be_taken_back(payment.finality, client) else None


def _why_kept(
    found: Sequence[tuple[Payment, list[Refund]]],
    items: Sequence[Item],
    rest: MicroUsd,
    refusing: Collection[tuple[int, str]],
    clients: Mapping[int, RpcClient],
) -> dict[str, MicroUsd]:
    """Returns why credits that were wanted do not go back; `rest` is how many."""
    kept: dict[str, MicroUsd] = {}
    for payment, earlier in found:
        why = _hindrance(payment, refusing, clients)
        amount = MicroUsd(min(rest, brought_of(payment, earlier)))
        if why is not None and amount > 0:
            kept[why] = MicroUsd(kept.get(why, NOTHING) + amount)
            rest = MicroUsd(rest - amount)
    chosen = {payments.key_of(each.payment) for each in items}
    others = [
        brought_of(payment, earlier)
        for payment, earlier in found
        if payments.key_of(payment) not in chosen and _hindrance(payment, refusing, clients) is None
    ]
    if len(items) == _MAX_ITEMS and others:
        kept["another_request"] = rest
    elif rest <= GAS:
        kept["too_small"] = rest
    else:
        kept["grant"] = rest
    return kept


def _digest(items: Iterable[Item]) -> str:
    named = [
        (
            *payments.key_of(each.payment),
            each.payment.round,
            each.earlier,
            each.amount,
            each.debited,
        )
        for each in items
    ]
    return hashlib.sha256(msgspec.json.encode(named)).hexdigest()[:_MAC_CHARACTERS]
