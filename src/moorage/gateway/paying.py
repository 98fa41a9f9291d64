"""The payment services, made from settings and wired."""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from moorage.auth.rate_limit import RateLimiter
from moorage.chains.address import parse_address
from moorage.chains.chain import Chain
from moorage.chains.rpc import RpcClient
from moorage.clock import Clock
from moorage.gateway.relaying import open_relayers
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.payments.price.quotes import QUOTE_LIFETIME_MS, Quotes
from moorage.payments.protocols.challenges import Challenges
from moorage.payments.relay.refund_follow_up import RefundFollowUp
from moorage.payments.relay.settlement_follow_up import SettlementFollowUp
from moorage.payments.relay.settlements import Settlements
from moorage.payments.taking.lookups import Lookups
from moorage.payments.taking.paywall import Paywall
from moorage.payments.taking.screening import Screening
from moorage.payments.taking.topup import TopUp
from moorage.payments.taking.verification import Verifier
from moorage.payments.watch.finality import FinalityCheck
from moorage.payments.watch.watcher import Watcher
from moorage.settings import Settings
from moorage.signed_request import host_of
from moorage.storage.database import Database
from moorage.whole_file import create_file

_SECRET_BYTES = 32
_LOOKS_AS_REQUESTS = 4
"""Questions to a chain about what strangers of one address show, for each request of a wallet's."""


@dataclass(frozen=True, kw_only=True)
class PaymentServices:
    """Everything that money passes through."""

    quotes: Quotes
    challenges: Challenges
    paywall: Paywall
    top_up: TopUp
    settlement_follow_up: SettlementFollowUp
    watchers: tuple[Watcher, ...]  # one a chain, as are the next two
    finality_checks: tuple[FinalityCheck, ...]
    refund_follow_ups: tuple[RefundFollowUp, ...]


def payment_services(
    settings: Settings,
    *,
    db: Database,
    clients: Mapping[str, RpcClient],
    chains: Mapping[str, Chain],
    pay_to: str,
    former: Collection[str],
    gateway_url: str,
    metering: Metering,
    clock: Clock,
) -> PaymentServices:
    """Wire them. Raises ConfigurationInvalid for a relayer's key that can't be used."""
    relayers = open_relayers(settings, db=db, clients=clients, clock=clock)
    settlements = Settlements(
        db=db,
        clients=clients,
        relayers=relayers,
        pay_to=pay_to,
        former=former,
        clock=clock,
    )
    recipients = frozenset({parse_address(pay_to), *former})
    every = tuple(clients.values())
    screening = _screening(settings)
    finality_check = partial(
        FinalityCheck,
        db=db,
        recipients=recipients,
        metering=metering,
        clock=clock,
        screen=screening.ask,
    )
    challenges = _challenges(settings, settlements, chains, pay_to, gateway_url, clock)
    paywall = Paywall(
        db=db,
        verifier=_verifier(settings, clients, pay_to=pay_to, former=former, clock=clock),
        settlements=settlements,
        challenges=challenges,
        screen=screening.ask,
        lookups=_lookups(settings, clock),
        clock=clock,
    )
    return PaymentServices(
        quotes=_quotes(settings, db, clock),
        challenges=challenges,
        paywall=paywall,
        top_up=TopUp(db=db, paywall=paywall, clock=clock),
        settlement_follow_up=SettlementFollowUp(
            db=db,
            chains=chains,
            clients=clients,
            relayers=relayers,
            credit=paywall.credit,
            clock=clock,
        ),
        watchers=tuple(
            Watcher(
                db=db,
                client=client,
                recipients=recipients,
                safe_above=MicroUsd(settings.safe_above_micro_usd),
                clock=clock,
                screen=screening.ask,
            )
            for client in every
        ),
        finality_checks=tuple(finality_check(client=client) for client in every),
        refund_follow_ups=tuple(RefundFollowUp(db=db, client=it, clock=clock) for it in every),
    )


def _verifier(
    settings: Settings,
    clients: Mapping[str, RpcClient],
    *,
    pay_to: str,
    former: Collection[str],
    clock: Clock,
) -> Verifier:
    return Verifier(
        pay_to=pay_to,
        former=former,
        clients=clients,
        clock=clock,
        safe_above=MicroUsd(settings.safe_above_micro_usd),
        pending_wait_seconds=settings.payment_wait_seconds,
    )


def _challenges(
    settings: Settings,
    settlements: Settlements,
    chains: Mapping[str, Chain],
    pay_to: str,
    gateway_url: str,
    clock: Clock,
) -> Challenges:
    return Challenges(
        secret=_challenge_secret(settings),
        realm=host_of(gateway_url),
        pay_to=pay_to,
        chains=chains,
        settles=settlements.offered,
        clock=clock,
    )


def _lookups(settings: Settings, clock: Clock) -> Lookups:
    limit = _LOOKS_AS_REQUESTS * settings.requests_per_minute
    return Lookups(looks=RateLimiter(clock=clock, limit=limit), clock=clock)


def _quotes(settings: Settings, db: Database, clock: Clock) -> Quotes:
    limit, window_seconds = settings.requests_per_minute, QUOTE_LIFETIME_MS // 1000
    strangers = RateLimiter(clock=clock, limit=limit, window_seconds=window_seconds)
    return Quotes(db=db, strangers=strangers, clock=clock)


def _screening(settings: Settings) -> Screening:
    return Screening(
        command=settings.screening_command,
        url=settings.screening_url,
        timeout_seconds=settings.screening_seconds,
    )


def _challenge_secret(settings: Settings) -> bytes:
    """The secret kept for challenges, made if there is none: they outlive a restart."""
    path = Path(settings.data_dir) / "challenges.key"
    if not path.exists():
        create_file(path, secrets.token_bytes(_SECRET_BYTES))
    return path.read_bytes()
