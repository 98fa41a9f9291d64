"""Who is named by a payment that nothing else came with: whoever alone can have sent it."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from eth_account import Account
from starlette.requests import Request

from moorage.api.http.caller import Caller, PaidFront, Payer, identify
from moorage.api.http.payment import OfferedPayment
from moorage.auth.authenticator import Authenticator
from moorage.auth.rate_limit import TrustedProxies
from moorage.auth.wallet import ContractWallets
from moorage.chains.chain import Chain, Token
from moorage.chains.eip3009 import TransferAuthorization
from moorage.errors import AuthMissing, RateLimited
from moorage.payments.protocols.authorization import encode_base64
from moorage.payments.relay.settlements import Settlements
from moorage.storage.database import Database
from support.books.records_fixture import ARBITRUM, BOB, PAY_TO, USDC
from support.chains.paying import sign_authorization
from support.gateway.believed import NOBODY_RECOVERS, limiters_of
from support.gateway.clock import MovableClock
from support.gateway.fakes import FakeSettlements, FakeVerifier, paywall_of

KEY = "0x" + "11" * 32
PAYER = Account.from_key(KEY).address.lower()
LIMIT = 3


class Known(FakeSettlements):
    """The product's own checks, before anything is stored."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        super().__init__(FakeVerifier())
        relayers = cast("Any", {ARBITRUM.name: SimpleNamespace(solvent=True)})
        self._own = Settlements(db=db, clients={}, relayers=relayers, pay_to=PAY_TO, clock=clock)
        self.seen = False

    def check(self, authorization: TransferAuthorization, *, chain: Chain, token: Token) -> None:
        self._own.check(authorization, chain=chain, token=token)

    async def known(self, authorization: TransferAuthorization) -> bool:
        return self.seen


class Door:
    def __init__(self, db: Database, clock: MovableClock) -> None:
        self.clock = clock
        self.settlements = Known(db, clock)
        contracts = cast("ContractWallets", SimpleNamespace(accept=_refuse))
        self.front = cast(
            "PaidFront",
            SimpleNamespace(
                db=db,
                chains={ARBITRUM.name: ARBITRUM},
                authenticator=Authenticator(
                    nonces=cast("Any", None), contracts=contracts, bound_only=False
                ),
                recoveries=NOBODY_RECOVERS,
                paid_wallets=SimpleNamespace(has_paid=_yes),
                limiters=limiters_of(clock, limit=LIMIT),
                trusted_proxies=TrustedProxies(()),
                paywall=paywall_of(
                    db, FakeVerifier(), clock, ARBITRUM, settlements=self.settlements
                ),
            ),
        )

    async def named(
        self, *, is_dry_run: bool = False, owner: str | None = None, **changes: Any
    ) -> Payer:
        seconds = self.clock.now_ms() // 1000
        given: dict[str, Any] = {
            "to": PAY_TO,
            "value": 500_000,
            "valid_before": seconds + 600,
        } | changes
        signed = sign_authorization(
            KEY, chain_id=ARBITRUM.chain_id, token_address=USDC.key, **given
        )
        message = {
            name: f"0x{value.hex()}" if isinstance(value, bytes) else str(value)
            for name, value in signed.message.items()
        }
        document = {
            "x402Version": 2,
            "accepted": {"scheme": "exact", "network": "eip155:42161", "asset": USDC.key},
            "payload": {"signature": f"0x{signed.signature.hex()}", "authorization": message},
        }
        shown = encode_base64(msgspec.json.encode(document)).encode()
        scope = {"type": "http", "method": "POST", "path": "/deploy", "client": ("192.0.2.1", 1)}
        headers = [(b"payment-signature", shown), (b"x-dry-run", str(is_dry_run).encode())]
        headers += [] if owner is None else [(b"x-on-behalf-of", owner.encode())]
        request = Request(scope | {"headers": headers})
        return await identify(self.front, request)


async def _yes(_: str) -> bool:
    return True


async def _refuse(*_: object, **__: object) -> bool:
    return False


@pytest.fixture
def door(db: Database, clock: MovableClock) -> Door:
    return Door(db, clock)


async def test_new_payment_names_its_signer(door: Door) -> None:
    payer = await door.named()
    assert (payer.caller.wallet, payer.is_fresh) == (PAYER, True)


async def test_payment_alone_acts_for_no_other_wallet(door: Door) -> None:
    """Else what an agent pays for its owner would open a project of the agent's own."""
    with pytest.raises(AuthMissing):
        await door.named(owner=BOB)


@pytest.mark.parametrize("changes", [{"to": BOB}, {"valid_before": 1_000_000_000}])
async def test_payment_that_was_made_elsewhere_names_nobody(
    door: Door, changes: dict[str, Any]
) -> None:
    """All that its signer ever paid by authorization is on chains, for everybody to send here."""
    payer = await door.named(**changes)
    assert (payer.caller.wallet, payer.payment.evidence) == ("", None)
    assert payer.payment.refused is not None


async def test_payments_count_for_the_address_that_shows_them_and_not_for_their_signer(
    door: Door,
) -> None:
    """Whoever was handed an authorization could use up its signer's requests with it."""
    for _ in range(LIMIT):
        await door.named()
    with pytest.raises(RateLimited):
        await door.named()
    await door.front.limiters.proofs.check(PAYER)
    await door.front.limiters.wallets.check(PAYER)


async def test_payments_that_name_nobody_are_counted_as_requests_without_one(door: Door) -> None:
    for _ in range(LIMIT):
        await door.named(to=BOB)
    with pytest.raises(RateLimited):
        await door.front.limiters.addresses.check("192.0.2.1")


@pytest.mark.parametrize("seen", [False, True])
async def test_dry_run_names_nobody_whatever_payment_comes_along(door: Door, seen: bool) -> None:
    door.settlements.seen = seen
    payer = await door.named(is_dry_run=True)
    nothing = OfferedPayment(payer.payment.means, None)
    assert payer == Payer(Caller("", "192.0.2.1", is_open=True), nothing, is_dry_run=True)
