"""The payment services, and their loops."""

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from moorage.address import parse_address
from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.chains.chain import Chain
from moorage.chains.rpc import RpcClient
from moorage.clock import Clock
from moorage.core import Core
from moorage.errors import ChainUnavailable
from moorage.ledger.services import LedgerServices
from moorage.loop import Loop, Run, Scope
from moorage.metrics import REFUNDS_QUEUED
from moorage.money import MICRO_USD_PER_USD, MicroUsd
from moorage.payments.price.quotes import QUOTE_LIFETIME_MS, Holdings, Quotes
from moorage.payments.receipts import ReceiptSigner
from moorage.payments.relay.refund_requests import RefundLimits, RefundRequests
from moorage.payments.relay.refunds import RefundFollowUp, Refunds
from moorage.payments.relay.relayer import Relayer, key_in, limits_of, treasury_relayer
from moorage.payments.relay.settlements import SettlementFollowUp, Settlements
from moorage.payments.taking.payment_required import USUAL_CHAIN, Challenges, Seller
from moorage.payments.taking.paywall import Outcomes, Paywall
from moorage.payments.taking.screening import Screening
from moorage.payments.taking.topup import TopUp
from moorage.payments.taking.verification import Lookups, Verifier
from moorage.payments.watch.finality import BalanceCheck, FinalityCheck
from moorage.payments.watch.watcher import Watcher
from moorage.settings import Settings
from moorage.signing import host_of
from moorage.storage.database import Database
from moorage.storage.money import refunds
from moorage.storage.operation import configuration
from moorage.whole_file import create_file


async def note_recipient(db: Database, pay_to: str, *, clock: Clock) -> frozenset[str]:
    """Stores `pay_to`; returns its former values that are not retired.

    Addresses are spelled as `parse_address` does.
    """
    address = parse_address(pay_to)
    async with db.transaction(durable=True) as tx:
        await configuration.RECIPIENTS.add(tx, address, since_ms=clock.now_ms())
        return frozenset(await configuration.RECIPIENTS.in_use(tx)) - {address}


_SECRET_BYTES = 32
_LOOKUPS_PER_REQUEST = 4
"""How many lookups on chains an address of strangers has, for each request that a wallet has."""


@dataclass(frozen=True, kw_only=True)
class Payee:
    """Who is paid, and on which chains."""

    chains: Mapping[str, Chain]
    clients: Mapping[str, RpcClient]  # by the chain's name
    pay_to: str
    former: Collection[str]  # addresses that were `pay_to` before
    gateway_url: str
    terms_url: str = ""
    contact: str = ""
    signs_in: bool = True  # whether Sign-in-with-X is taken


class PaymentServices:
    """The services that handle payments; each is created on first use."""

    def __init__(
        self, core: Core, settings: Settings, *, payee: Payee, ledger: LedgerServices
    ) -> None:
        self._db, self._clock = core.db, core.clock
        self.receipts = ReceiptSigner(core.db, core.vault, core.clock)
        self._data_dir, self._speed = core.data_dir, core.speed
        self._shared_secret = core.challenges
        self._settings = settings
        self._payee = payee
        self._clients = payee.clients
        self._ledger = ledger
        self._metering = ledger.metering
        self._recipients = frozenset({parse_address(payee.pay_to), *payee.former})

    @cached_property
    def quotes(self) -> Quotes:
        strangers = MemoryRateLimiter(
            clock=self._clock,
            limit=self._settings.requests_per_minute,
            window_seconds=QUOTE_LIFETIME_MS // 1000,
        )
        return Quotes(db=self._db, strangers=strangers, clock=self._clock)

    @cached_property
    def holdings(self) -> Holdings:
        strangers = MemoryRateLimiter(clock=self._clock, limit=self._settings.requests_per_minute)
        return Holdings(self._clients, strangers=strangers, clock=self._clock)

    @property
    def runs(self) -> tuple[Run, ...]:
        return (self.holdings.run,)

    @cached_property
    def seller(self) -> Seller:
        payee = self._payee
        return Seller(
            pay_to=payee.pay_to,
            chains=tuple(chain for chain in payee.chains.values() if not chain.closed),
            settles=self._settlements.offered,
            terms_url=payee.terms_url,
            contact=payee.contact,
            preferred_chain=self._settings.offer_first or USUAL_CHAIN,
        )

    @cached_property
    def _secret(self) -> bytes:
        return self._shared_secret or _challenge_secret(self._data_dir / "challenges.key")

    def secret_of(self, use: str) -> bytes:
        """Returns a secret for another use, which all gateways of a database have as well."""
        return hmac.new(self._secret, use.encode(), hashlib.sha256).digest()

    @cached_property
    def challenges(self) -> Challenges:
        return Challenges(
            secret=self._secret,
            realm=host_of(self._payee.gateway_url),
            seller=self.seller,
            clock=self._clock,
            signs_in=self._payee.signs_in,
        )

    @cached_property
    def paywall(self) -> Paywall:
        looks = MemoryRateLimiter(
            clock=self._clock, limit=_LOOKUPS_PER_REQUEST * self._settings.requests_per_minute
        )
        return Paywall(
            db=self._db,
            chains=self._payee.chains,
            verifier=self._verifier,
            settlements=self._settlements,
            challenges=self.challenges,
            screen=self._screening.ask,
            lookups=Lookups(looks=looks, clock=self._clock),
            clock=self._clock,
        )

    @cached_property
    def outcomes(self) -> Outcomes:
        return Outcomes(db=self._db, paywall=self.paywall, chains=self._payee.chains)

    @cached_property
    def _verifier(self) -> Verifier:
        return Verifier(
            pay_to=self._payee.pay_to,
            former=self._payee.former,
            clients=self._clients,
            clock=self._clock,
            safe_above=self._safe_above,
            agree_above=self._safe_above,
            pending_wait_seconds=self._settings.payment_wait_seconds,
        )

    @cached_property
    def _screening(self) -> Screening:
        return Screening(self._settings.screening)

    @property
    def _safe_above(self) -> MicroUsd:
        return MicroUsd(self._settings.safe_above_micro_usd)

    @cached_property
    def top_up(self) -> TopUp:
        return TopUp(db=self._db, paywall=self.paywall, clock=self._clock)

    @cached_property
    def relayers(self) -> dict[str, Relayer]:
        """A relayer for each chain, by name; none without a key. Raises ConfigurationInvalid."""
        if not self._settings.relayer_key_file:
            return {}
        key = key_in(Path(self._settings.relayer_key_file), option="relayer_key_file")
        return {
            name: Relayer(
                db=self._db,
                client=client,
                key=key,
                limits=limits_of(client.chain),
                clock=self._clock,
            )
            for name, client in self._clients.items()
        }

    @cached_property
    def treasury(self) -> dict[str, Refunds]:
        """What sends refunds on each chain, by name; none without a key.

        Raises ConfigurationInvalid.
        """
        if not self._settings.refund_key_file:
            return {}
        key = key_in(Path(self._settings.refund_key_file), option="refund_key_file")
        return {
            name: Refunds(
                db=self._db,
                client=client,
                relayer=treasury_relayer(self._db, client, key, clock=self._clock),
                sender=key.address,
                recipients=self._recipients,
                clock=self._clock,
            )
            for name, client in self._clients.items()
        }

    @cached_property
    def refund_requests(self) -> RefundRequests:
        of_refund, of_wallet, in_all = self._settings.refund_limits_usd
        return RefundRequests(
            db=self._db,
            clients=self._clients,
            metering=self._metering,
            build_time=self._ledger.build_time,
            senders={
                self._clients[name].chain.chain_id: each.sender
                for name, each in self.treasury.items()
            },
            pay_to=self._payee.pay_to,
            limits=RefundLimits(
                *(MicroUsd(each * MICRO_USD_PER_USD) for each in (of_refund, of_wallet, in_all))
            ),
            secret=self.secret_of("refund quotes"),
            clock=self._clock,
        )

    @cached_property
    def _settlements(self) -> Settlements:
        return Settlements(
            db=self._db,
            clients=self._clients,
            relayers=self.relayers,
            pay_to=self._payee.pay_to,
            former=self._payee.former,
            clock=self._clock,
        )

    @cached_property
    def settlement_follow_up(self) -> SettlementFollowUp:
        return SettlementFollowUp(
            db=self._db,
            chains=self._payee.chains,
            clients=self._clients,
            relayers=self.relayers,
            credit=self.paywall.credit,
            clock=self._clock,
            speed=self._speed,
        )

    @cached_property
    def watchers(self) -> tuple[Watcher, ...]:
        return tuple(
            Watcher(
                db=self._db,
                client=client,
                recipients=self._recipients,
                safe_above=self._safe_above,
                agree_above=self._safe_above,
                clock=self._clock,
                screen=self._screening.ask,
            )
            for client in self._clients.values()
        )

    @cached_property
    def finality_checks(self) -> tuple[FinalityCheck, ...]:
        return tuple(
            FinalityCheck(
                db=self._db,
                client=client,
                recipients=self._recipients,
                metering=self._metering,
                clock=self._clock,
                screen=self._screening.ask,
            )
            for client in self._clients.values()
        )

    @cached_property
    def balance_checks(self) -> tuple[BalanceCheck, ...]:
        return tuple(
            BalanceCheck(db=self._db, client=client, recipients=self._recipients)
            for client in self._clients.values()
        )

    @property
    def loops(self) -> tuple[Loop, ...]:
        follow_up, one = self.settlement_follow_up, Scope.CLUSTER
        seconds = self._settings.watch_seconds
        balances = follow_up.check_balances
        return (
            Loop("settlements", every_seconds=3, tick=follow_up.resume, at_once=True, scope=one),
            Loop("relayer balances", every_seconds=60, tick=balances, scope=Scope.NODE),
            Loop("quotes", every_seconds=300, tick=self.quotes.purge, scope=one),
            *(loop for watcher in self.watchers for loop in self._of_watcher(watcher)),
            *(
                Loop(each.duty, every_seconds=seconds, tick=each.check, scope=one)
                for each in self.finality_checks
            ),
            *(
                Loop(each.duty, every_seconds=3_600, tick=each.check, scope=one)
                for each in self.balance_checks
            ),
            Loop("treasury", every_seconds=60, tick=self._check_treasury, scope=Scope.NODE),
            *(self._refunds_of(client) for client in self._clients.values()),
        )

    def _of_watcher(self, watcher: Watcher) -> Iterator[Loop]:
        seconds, one = self._settings.watch_seconds, Scope.CLUSTER
        look, again, lease = watcher.look, watcher.ask_again, watcher.duty
        yield Loop(lease, every_seconds=seconds, tick=look, at_once=True, scope=one)
        # Under the search's lease: what is set aside is in the memory of the gateway that searches.
        yield Loop(f"held, {lease}", every_seconds=seconds, tick=again, scope=one, lease=lease)

    def _refunds_of(self, client: RpcClient) -> Loop:
        """Returns the loop that follows refunds, and with the treasury's key sends those queued."""
        name, sends = client.chain.name, self.treasury.get(client.chain.name)
        follow_up = RefundFollowUp(
            db=self._db, client=client, recipients=self._recipients, clock=self._clock
        )
        return Loop(
            f"refunds of {name}",
            every_seconds=self._settings.watch_seconds,
            tick=follow_up.resume if sends is None else sends.resume,
            scope=Scope.CLUSTER,
        )

    async def _check_treasury(self) -> None:
        """Counts the refunds that wait, and reads what they are sent from."""
        waiting = [each.decided_by for each in await refunds.queued(self._db)]
        undecided = waiting.count("")
        REFUNDS_QUEUED.labels("gateway").set(len(waiting) - undecided)
        REFUNDS_QUEUED.labels("operator").set(undecided)
        for each in self.treasury.values():
            with suppress(ChainUnavailable):
                await each.check_balances()


def _challenge_secret(path: Path) -> bytes:
    """Returns the secret of challenges; creates it if missing. So challenges outlive a restart."""
    if not path.exists():
        create_file(path, secrets.token_bytes(_SECRET_BYTES))
    return path.read_bytes()
