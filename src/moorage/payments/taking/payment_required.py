"""The 402, whole: the record of what is asked for, and its answer's headers, body and next actions.

What an answer says of a payment that came along is here too, as a 402 says it first of all.
"""

import math
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import UNSET

from moorage.address import checksum_address
from moorage.chains.chain import Chain, Token
from moorage.clock import Clock, iso_utc
from moorage.errors import (
    AuthorizationRefused,
    MoorageError,
    PayerMismatch,
    PaymentAlreadyUsed,
    PaymentError,
    PaymentHeld,
    PaymentMalformed,
    PaymentPending,
    PaymentShort,
)
from moorage.ledger.running_costs import HOUR_MS, MONTH_MS
from moorage.money import MicroUsd, charge_to_atomic_units, usd_number, usd_text
from moorage.payments.price.quotes import NOTHING_KNOWN, Held, Holdings, PaymentOption
from moorage.payments.protocols import mpp, x402
from moorage.payments.protocols.evidence import PaymentMeans, PaymentWay
from moorage.payments.protocols.mpp import CredentialType
from moorage.payments.taking.outcome import PaymentOutcome, PaymentReceipt
from moorage.records.size import Size
from moorage.signing import host_of
from moorage.wire.problems import Bought, PaymentState
from moorage.wire.shape import WarningItem

STATUS = 402

Header = tuple[str, str]

UNCACHED: Header = ("Cache-Control", "no-store")
SERVICE_NAME = "Moorage"
TAGS = ("hosting", "deploy", "web")
_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
_BODIES: dict[str, dict[str, Any]] = {
    "deploy": {
        "uniqueName": "my-app",
        "displayName": "My app",
        "upload": {
            "type": "files",
            "files": [{"path": "index.html", "content": "PGgxPkhpPC9oMT4="}],
        },
    },
    "credits": {"amount_usd": 5},
}
_ANSWERS: dict[str, dict[str, Any]] = {
    "deploy": {"projectId": "…", "deploymentId": "…", "status": "deploying"},
    "credits": {"credited_usd": 5, "balance_usd": 5},
}


def resource(url: str, description: str, *, introduced: bool) -> dict[str, Any]:
    """Returns the resource at `url`; `description` is what the payment is for.

    `introduced` adds what a list of services tells of it.
    """
    told = {"url": url, "description": description, "mimeType": "application/json"}
    return told | ({"serviceName": SERVICE_NAME, "tags": TAGS} if introduced else {})


def extensions(url: str, *, introduced: bool) -> dict[str, Any]:
    """Returns the extensions of the endpoint at `url`, with `bazaar` if it is `introduced`."""
    bazaar = _BAZAARS.get(url.rpartition("/")[2]) if introduced else None
    return {"payment-identifier": _IDENTIFIER} | ({"bazaar": bazaar} if bazaar else {})


def sign_in(url: str, chain_ids: Iterable[int], *, nonce: str, issued_at: str) -> dict[str, Any]:
    """Returns the extension that offers to name the wallet by SIGN-IN-WITH-X at `url`.

    `nonce` has letters and digits, `issued_at` is in ISO 8601; the sign-in repeats both.
    """
    return {
        "sign-in-with-x": {
            "info": {
                "domain": host_of(url),
                "uri": url,
                "version": "1",
                "nonce": nonce,
                "issuedAt": issued_at,
            },
            "supportedChains": [
                {"chainId": f"eip155:{chain_id}", "type": "eip191"} for chain_id in chain_ids
            ],
            "schema": _SIGNED_IN,
        }
    }


def _bazaar(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "info": {
            "input": {"type": "http", "method": "POST", "bodyType": "json", "body": body},
            "output": {"type": "json", "example": answer},
        },
        "schema": {
            "$schema": _SCHEMA,
            "type": "object",
            "properties": {
                "input": {
                    "type": "object",
                    "properties": {
                        "type": {"const": "http"},
                        "method": {"const": "POST"},
                        "bodyType": {"const": "json"},
                        "body": {"type": "object", "required": _required(body)},
                    },
                    "required": ["type", "method", "bodyType", "body"],
                },
                "output": {
                    "type": "object",
                    "properties": {
                        "type": {"const": "json"},
                        "example": {"type": "object", "required": list(answer)},
                    },
                },
            },
            "required": ["input"],
        },
    }


def _required(body: dict[str, Any]) -> list[str]:
    return [name for name in body if name != "amount_usd"]


_IDENTIFIER = {
    "info": {"required": False},
    "schema": {
        "$schema": _SCHEMA,
        "type": "object",
        "properties": {
            "required": {"type": "boolean"},
            "id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{16,128}$"},
        },
        "required": ["required"],
    },
}
_SIGNED_IN = {
    "$schema": _SCHEMA,
    "type": "object",
    "required": [
        *("domain", "address", "uri", "version", "chainId", "type", "nonce", "issuedAt"),
        "signature",
    ],
}
_BAZAARS = {name: _bazaar(body, _ANSWERS[name]) for name, body in _BODIES.items()}


class Preference(msgspec.Struct, frozen=True):
    """What decides which chain and token a demand offers first."""

    chain_named: bool = False
    """Whether the request named the chain of the demand's means."""
    token_named: bool = False
    held: Held = NOTHING_KNOWN


class Purchase(msgspec.Struct, frozen=True):
    """What the amount of a demand buys, together with the credits on hand."""

    hours: int | None
    """How long all that will run then lasts; None if nothing runs."""
    until_ms: int | None
    """When that ends, if it begins now."""
    size: Size | None
    """The size of the app; None for a top-up."""
    sizes: dict[str, MicroUsd] = {}
    """What a deploy of each size costs, by its name."""


def purchase(
    credits_left: MicroUsd,
    monthly_prices: Sequence[MicroUsd],
    *,
    now_ms: int,
    size: Size | None = None,
    sizes: dict[str, MicroUsd] | None = None,
) -> Purchase:
    """Returns how long `credits_left` lasts for projects at these prices, in whole hours."""
    a_month = sum(monthly_prices)
    if a_month <= 0:
        return Purchase(hours=None, until_ms=None, size=size, sizes=sizes or {})
    hours = max(0, credits_left) * MONTH_MS // (a_month * HOUR_MS)
    until_ms = now_ms + hours * HOUR_MS
    return Purchase(hours=hours, until_ms=until_ms, size=size, sizes=sizes or {})


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """All that a 402 says: what is to be paid for, by whom, until when. Made once."""

    amount: MicroUsd
    balance: MicroUsd
    active_projects: int
    means: PaymentMeans
    expires_at_ms: int
    wallet: str | None
    """The wallet that must pay; authorizations of others are refused. None: any may pay."""
    body_digest: str
    """SHA-256 of the request's body, in hex; the payment is bound to it."""
    purpose: str = "Credits"
    """What the payment is for, in ASCII."""
    reference: str = ""
    """The quote's id, if there is a quote."""
    buys: Purchase | None = None
    warn_of_sharing: bool = False
    credited: MicroUsd | None = None
    """The credits of the payment that came with the request; it was too little."""
    because: PaymentError | PaymentMalformed | None = None
    """What was wrong with the payment that came with the request."""
    warnings: tuple[WarningItem, ...] = ()
    """What to know of the files before they are deployed."""
    reason: str = ""
    """Why credits on hand don't suffice, if that needs to be said."""
    preference: Preference = Preference()
    """What decides the order of its options; known when it is answered."""

    @property
    def message(self) -> str:
        """Returns what is wrong, in a sentence."""
        return self.because.message if self.because else str(PaymentRequired.__doc__)

    @property
    def warning(self) -> str | None:
        """The contract's warning (1.2), if credits suffice but are shared with other projects."""
        return sharing_warning(self.active_projects) if self.warn_of_sharing else None


class PaymentRequired(MoorageError):
    """Payment required"""

    def __init__(self, demand: Demand) -> None:
        super().__init__(demand.message)
        self.demand = demand

    @property
    def because(self) -> PaymentError | PaymentMalformed | None:
        """What was wrong with the payment that came with the request."""
        return self.demand.because


def credits_fall_short(balance: MicroUsd, *, price: MicroUsd) -> str:
    """Returns why the whole price is asked for beside credits that are less; "" without any."""
    if not 0 < balance < price:
        return ""
    return (
        f"Your credits, {usd_text(balance)}, are less than the price. Payments have a minimum: the "
        f"whole price is asked for, {usd_text(price)}; all of it is added to your credits."
    )


def sharing_warning(active_projects: int) -> str:
    """Returns the warning of 1.2 in the contract's words."""
    return (
        f"You have {active_projects} active project(s) sharing credits. "
        "Paying extends total runtime. To deploy using existing credits (will reduce other "
        "projects' runtime), retry with header X-Use-Existing-Credits: true"
    )


USUAL_CHAIN = "base"
"""The chain that the tables of all clients know; some read the first offer alone."""


class Seller(msgspec.Struct):
    """What every demand says of who is paid; terms and contact may change while it runs."""

    pay_to: str
    chains: tuple[Chain, ...]
    settles: Callable[[Chain, Token], bool]
    """Tells whether an authorization of a token would be settled right now."""
    terms_url: str = ""
    contact: str = ""
    preferred_chain: str = USUAL_CHAIN
    """The chain that is offered first to clients that sign, where nothing says otherwise."""

    def transfer(self, demand: Demand) -> PaymentOption:
        """Returns the chain and token that the body of a 402 names, with the amount to pay.

        They are the contract's defaults (1.2) unless the request or the wallet's tokens say else.
        """
        return self._ordered(demand, first=demand.means.chain.name)[0]

    def options(self, demand: Demand) -> list[PaymentOption]:
        """Returns every chain and token with the amount to pay, the best for the client first.

        First what the request named, then what the wallet can pay with, then the preferred chain
        (after a payment, that payment's). A chain that has just refused an authorization is last.
        """
        has_chosen = demand.preference.chain_named or demand.credited is not None or demand.because
        means = demand.means.chain.name
        return self._ordered(demand, first=means if has_chosen else self.preferred_chain)

    def protocols(self, chain: Chain) -> list[str]:
        """Returns the ways to pay on a chain right now: `tx` and `mpp` (by a hash) everywhere."""
        signed = any(self.settles(chain, token) for token in chain.tokens)
        return ["tx", "mpp", "x402"] if signed else ["tx", "mpp"]

    def _ordered(self, demand: Demand, *, first: str) -> list[PaymentOption]:
        options = [
            PaymentOption(
                chain=chain,
                token=token,
                amount=charge_to_atomic_units(demand.amount, decimals=token.decimals),
            )
            for chain in self.chains
            for token in chain.tokens
        ]
        return sorted(options, key=lambda option: _rank(option, demand, first))

    @property
    def refunds(self) -> str:
        """Returns the rule of refunds, in one sentence."""
        ask = f"; else ask {self.contact}" if self.contact else ""
        return (
            "Credits that you do not use stay in your wallet's balance, and go back to the wallet "
            "that paid, and to no other, when it asks: POST /agent/refunds/quote, or `moorage "
            f"refund`. An exchange's address can't ask: pay from a wallet of your own{ask}."
        )


def _rank(option: PaymentOption, demand: Demand, first: str) -> tuple[bool, ...]:
    """Returns what an option is sorted by; False comes first. `first` names a chain."""
    preference, because = demand.preference, demand.because
    other_chain = option.chain.name != demand.means.chain.name
    other_token = option.token.name != demand.means.token.name
    refused = isinstance(because, AuthorizationRefused) and because.by_chain
    held = preference.held.get((option.chain.name, option.token.name))
    return (
        preference.chain_named and other_chain,
        preference.token_named and other_token,
        refused and not other_chain,
        held is None or held < option.amount,
        option.chain.name != first,
        other_chain,
        other_token,
    )


def demand_body(demand: Demand, seller: Seller) -> dict[str, Any]:
    """Returns the body; `amount_token` is in the token's atomic units."""
    best = seller.transfer(demand)
    chain, token = best.chain, best.token
    body: dict[str, Any] = {
        "error": f"{demand.message}. {demand.reason}" if demand.reason else demand.message,
        "amount_usd": usd_number(demand.amount),
        "amount_token": str(best.amount),
        "current_credit_balance_usd": usd_number(demand.balance),
        "active_projects": demand.active_projects,
        "pay_to": seller.pay_to,
        "payment_chain": chain.name,
        "token": token.name,
        "decimals": token.decimals,
        "supported_chains": [chain_body(chain) for chain in seller.chains],
        "token_address": token.address,
        "chain_id": chain.chain_id,
        "expires_at": math.floor(demand.expires_at_ms / 1000),
        "refunds": seller.refunds,
    }
    if demand.wallet is not None:
        body["pay_from"] = checksum_address(demand.wallet)
    if demand.buys is not None:
        body["buys"] = purchase_body(demand.buys)
    if seller.terms_url:
        body["terms"] = seller.terms_url
    if seller.contact:
        body["contact"] = seller.contact
    if demand.warning:
        body["warning"] = demand.warning
    if demand.warnings:
        body["warnings"] = demand.warnings
    if demand.credited is not None:
        body["credited_usd"] = usd_number(demand.credited)
    body["next_actions"] = _ways_to_pay(demand, seller, best)
    return body


def chain_body(chain: Chain) -> dict[str, Any]:
    """Returns a chain as `supported_chains` and `GET /agent/chains` show it."""
    return {
        "chain": chain.name,
        "chain_id": chain.chain_id,
        "tokens": [token.name for token in chain.tokens],
    }


def purchase_body(buys: Purchase) -> Bought:
    """Returns what a price buys, as a 402 and a quote show it."""
    size = buys.size
    return Bought(
        hours=buys.hours,
        until=UNSET if buys.until_ms is None else iso_utc(buys.until_ms),
        size=UNSET if size is None else size.name,
        sizes={name: usd_number(price) for name, price in buys.sizes.items()} or UNSET,
        memory_mib=UNSET if size is None else size.memory_mib,
        cpu_millis=UNSET if size is None else size.cpu_millis,
        disk_mib=UNSET if size is None else size.disk_mib,
    )


def _ways_to_pay(demand: Demand, seller: Seller, best: PaymentOption) -> list[str]:
    """Returns a sentence for each way to pay: without gas first, sharing credits last."""
    chain, token = best.chain, best.token
    ways = []
    if any(seller.settles(chain, token) for chain in seller.chains for token in chain.tokens):
        ways.append(
            "Pay without gas: sign the transfer that the header PAYMENT-REQUIRED (x402) or "
            "WWW-Authenticate (MPP) asks for, and send the same request with PAYMENT-SIGNATURE or "
            "Authorization: Payment. Clients of x402 and MPP do so by themselves. The first offer "
            f"is on {seller.options(demand)[0].chain.name}; the header X-Payment-Chain names "
            f"another: {', '.join(chain.name for chain in seller.chains)}."
        )
    if demand.wallet is None:
        ways.append(
            "Or transfer the tokens yourself; then sign the request: POST /agent/deploy or "
            "/agent/credits with X-Payment-Tx."
        )
        return ways
    ways.append(
        f"{'Or transfer' if ways else 'Transfer'} amount_token of {token.symbol} "
        f"({token.address}) on {chain.name} to {seller.pay_to}, from pay_from itself, not from an "
        "exchange; then send the same request with X-Payment-Tx, X-Payment-Chain and "
        "X-Payment-Token."
    )
    if demand.warn_of_sharing:
        ways.append("Or send the same request with X-Use-Existing-Credits: true.")
    return ways


_SIGNED, _SENT = (CredentialType.AUTHORIZATION,), (CredentialType.HASH,)


@dataclass(frozen=True, kw_only=True)
class Challenges:
    """Makes and checks this gateway's challenges; only the gateway knows `secret`."""

    secret: bytes
    realm: str
    seller: Seller
    clock: Clock
    signs_in: bool = True  # whether Sign-in-with-X is taken here

    def answer(
        self,
        error: "PaymentRequired",
        *,
        code: str,
        retryable: bool,
        resource_url: str,
        details: Mapping[str, Any] = MappingProxyType({}),
        came: Iterable[Header] = (),
    ) -> tuple[list[Header], dict[str, Any]]:
        """Returns headers and body of the 402.

        `details` are those of what was wrong with the payment that came with the request; the
        headers `came` tell of it.
        """
        demand = error.demand
        body = {
            **self.body(demand, resource_url=resource_url),
            "code": code,
            "retryable": retryable,
            **problem_members(demand.because, demand.message),
            **details,
            **payment_member(error),
        }
        body["next_actions"] = payment_actions(error, body["next_actions"])
        warning = [("X-CreateOS-Credit-Warning", demand.warning)] if demand.warning else []
        asks = self.headers(demand, resource_url=resource_url)
        return [UNCACHED, *warning, *came, *asks], body

    def headers(self, demand: Demand, *, resource_url: str) -> Iterator[Header]:
        """Yields the MPP challenges, and one x402 header with all options.

        Tokens to pay by authorization come first, the one that the client named before others: mppx
        answers the first challenge only, by authorization. Those paid by hash follow. A token has
        one challenge, although a hash may answer the first kind as well.
        """
        settled, sent = self._options(demand)
        if demand.wallet is None:  # a hash does not say who sends it
            sent = []
        for option, types in (
            *((option, _SIGNED) for option in settled),
            *((option, _SENT) for option in sent),
        ):
            challenge = mpp.make_challenge(
                self.secret,
                realm=self.realm,
                option=option,
                pay_to=self.seller.pay_to,
                expires_at_ms=demand.expires_at_ms,
                body_digest=demand.body_digest,
                wallet=demand.wallet,
                credential_types=types,
                purpose=demand.purpose,
                reference=demand.reference,
            )
            yield "WWW-Authenticate", mpp.challenge_header(challenge)
        window_seconds = self._window_seconds(demand)
        if settled and window_seconds > 0:
            yield (
                "PAYMENT-REQUIRED",
                x402.payment_required_header(
                    resource=resource(
                        resource_url, demand.purpose, introduced=demand.wallet is None
                    ),
                    options=settled,
                    pay_to=self.seller.pay_to,
                    window_seconds=window_seconds,
                    error=demand.message,
                    extensions=self._extensions(demand, resource_url),
                ),
            )

    def body(self, demand: Demand, *, resource_url: str) -> dict[str, Any]:
        """Returns the body, with what clients of x402's first version read: they read no header."""
        body = demand_body(demand, self.seller)
        window_seconds = self._window_seconds(demand)
        if window_seconds > 0:
            settled, _ = self._options(demand)
            body |= x402.demand_members_v1(
                settled,
                resource_url=resource_url,
                purpose=demand.purpose,
                pay_to=self.seller.pay_to,
                window_seconds=window_seconds,
            )
        return body

    def _window_seconds(self, demand: Demand) -> int:
        """Returns how long clients may make an authorization valid; 0 or less: not at all."""
        left_seconds = (demand.expires_at_ms - self.clock.now_ms()) // 1000
        return min(left_seconds, x402.MAX_WINDOW_SECONDS)

    def _extensions(self, demand: Demand, resource_url: str) -> dict[str, object]:
        """Returns x402's extensions; to sign in, only if nothing said yet whose the request is.

        To others that would do harm: their clients send it beside the headers that they signed.
        """
        offered = extensions(resource_url, introduced=demand.wallet is None)
        if demand.wallet is not None or not self.signs_in:
            return offered
        return offered | sign_in(
            resource_url,
            [chain.chain_id for chain in self.seller.chains],
            nonce=secrets.token_hex(16),
            issued_at=iso_utc(self.clock.now_ms()),
        )

    def check(self, credential: mpp.Credential, *, wallet: str, body_digest: str) -> None:
        """Raises ChallengeInvalid, ChallengeExpired, PayerMismatch or AuthorizationRefused."""
        mpp.check_credential(
            credential,
            secret=self.secret,
            realm=self.realm,
            now_ms=self.clock.now_ms(),
            body_digest=body_digest,
            wallet=wallet,
        )

    def _options(self, demand: Demand) -> tuple[list[PaymentOption], list[PaymentOption]]:
        """Returns the options to pay by authorization, then those to pay by hash."""
        settled: list[PaymentOption] = []
        sent: list[PaymentOption] = []
        for option in self.seller.options(demand):
            is_settled = self.seller.settles(option.chain, option.token)
            (settled if is_settled else sent).append(option)
        return settled, sent


async def preferred(demand: Demand, headers: Mapping[str, str], holdings: Holdings) -> Demand:
    """Returns the demand with what decides the order of its options.

    That is what the request's headers name, and what the wallet holds.
    """
    if isinstance(demand.because, AuthorizationRefused) and demand.wallet is not None:
        holdings.forget(demand.wallet)
    preference = Preference(
        chain_named="x-payment-chain" in headers,
        token_named="x-payment-token" in headers,
        held=NOTHING_KNOWN if demand.wallet is None else await holdings.known(demand.wallet),
    )
    return msgspec.structs.replace(demand, preference=preference)


def error_headers(error: MoorageError, *, signature: str | None = None) -> Iterator[Header]:
    """Yields what an answer tells of the payment that came along; `signature` is x402's, if any."""
    if isinstance(error.receipt, PaymentReceipt):
        yield from receipt_headers(error.receipt)
    elif signature is not None:
        yield from _failed_headers(error, signature)


def _failed_headers(error: MoorageError, signature: str) -> Iterator[Header]:
    """Yields what x402 clients read of an authorization that did not pay, or not yet."""
    because = error.because if isinstance(error, PaymentRequired) else None
    tx_hash = error.payment.tx_hash if isinstance(error.payment, PaymentOutcome) else None
    with suppress(PaymentMalformed):
        authorization = x402.parse_payment_signature(signature)
        header = x402.payment_failed_header(
            authorization, error=because or error, tx_hash=tx_hash or ""
        )
        yield "PAYMENT-RESPONSE", header


def paid_headers(receipt: PaymentReceipt | None) -> Iterator[Header]:
    """Yields the headers of a success that a payment brought; not to be cached by others."""
    if receipt is not None:
        yield "Cache-Control", "private"
        yield from receipt_headers(receipt)


def receipt_headers(receipt: PaymentReceipt) -> Iterator[Header]:
    """Yields the receipt in the client's protocol; nothing for a payment by plain hash."""
    if receipt.way is PaymentWay.TX_HASH:
        return
    if receipt.way is PaymentWay.X402 and receipt.authorized is not None:
        yield (
            "PAYMENT-RESPONSE",
            x402.payment_response_header(
                tx_hash=receipt.tx_hash,
                chain_id=receipt.chain_id,
                payer=receipt.payer,
                amount=receipt.authorized,
            ),
        )
    if receipt.way is PaymentWay.X402_V1:
        yield (
            "X-PAYMENT-RESPONSE",
            x402.payment_response_header_v1(
                tx_hash=receipt.tx_hash, chain_id=receipt.chain_id, payer=receipt.payer
            ),
        )
    yield (
        "Payment-Receipt",
        mpp.receipt_header(
            challenge_id=receipt.challenge_id,
            tx_hash=receipt.tx_hash,
            chain_id=receipt.chain_id,
            timestamp_ms=receipt.at_ms,
            reference=receipt.reference,
        ),
    )


def payment_member(error: MoorageError) -> dict[str, Any]:
    """Returns what became of the payment that came with the request (contract 1.5).

    One that was short counts: its payer pays the rest alone.
    """
    outcome = error.payment
    if not isinstance(outcome, PaymentOutcome):
        return {}
    is_short = isinstance(error, PaymentRequired) and isinstance(error.because, PaymentShort)
    told = outcome.told
    return {"payment": msgspec.structs.replace(told, do_not_pay_again=False) if is_short else told}


def problem_members(because: MoorageError | None, detail: str) -> dict[str, str | int]:
    """Returns the members of RFC 9457 that a 402 has besides ours."""
    kind = mpp.problem_type(because)
    return {
        "type": kind.type,
        "title": kind.title,
        "status": STATUS,
        "detail": detail,
    }


_SAME_AGAIN = "Send the same request with the same payment again. Do not pay again."
_MEND = "Fix the request as `error` says and send it with the same payment. Do not pay again."
_RELEASE = "Ask the operator to release or refund it. Do not pay again."
_AS_THE_PAYER = "Sign the request with the wallet that paid: the payment is credited to that one."
_AS_ITS_WALLET = (
    "Sign the request with the wallet that paid, and send it without this payment: the credits "
    "that it brought count. Do not pay again."
)
_WITHOUT_IT = "If that wallet is not yours, send the request without this payment."
_REMAINDER = (
    "Your payment is credited. Pay the rest only, amount_token, from the same wallet before "
    "expires_at, and send the same body with that payment."
)
_OWN_AUTHORIZATION = "Nothing was spent: sign authorization and request with the same wallet."
_UNREADABLE = (
    "Nothing of this payment was used. If you have transferred tokens already, do not pay again: "
    "send the same request with X-Payment-Tx, the hash of your transaction."
)
_BEFORE_PAYING: dict[type[MoorageError], tuple[str]] = {
    PayerMismatch: (_OWN_AUTHORIZATION,),
    PaymentMalformed: (_UNREADABLE,),
}
_BRINGS_NOTHING = "Compare looked_for with what you sent: this transaction brings nothing here."
_AS_A_HEADER = "Send the same request with the header X-Payment-Tx: {tx_hash}. Do not pay again."
_NO_PAYMENT = "Leave the hash out: its transaction brings nothing here."
_UNSEEN = (
    (
        "If it stays unknown for minutes, look the hash up in your wallet: a transaction that was "
        "replaced has another hash, so send that one; one that is confirmed is found without you."
    ),
    "Only if your wallet never sent it: send the request without X-Payment-Tx.",
)
_FOR_ANOTHER = (
    "Send the request without this payment: credits that are left count, and the answer says what "
    "is due for this project, if anything. Do not pay again before that."
)
_CREDITS_PAY = (
    "Send the request without this payment: the credits that it brought count. Do not pay again."
)
_SENT_BACK = "Send the request without this payment: the answer says what is due."


def payment_actions(error: MoorageError, ways: Iterable[str] = ()) -> list[str]:
    """Returns what to do next; `ways` are those to pay what a 402 asks for. May be empty."""
    outcome = error.payment if isinstance(error.payment, PaymentOutcome) else None
    cause = (error.because or error) if isinstance(error, PaymentRequired) else error
    state = _state(cause, outcome)
    if isinstance(cause, PaymentShort):
        return [_REMAINDER, *ways]
    if state is PaymentState.NOT_FOUND and isinstance(cause, PaymentMalformed):
        return [_NO_PAYMENT]
    if state is PaymentState.NOT_FOUND:
        return [_SENT_BACK] if isinstance(cause, PaymentAlreadyUsed) else [_BRINGS_NOTHING, *ways]
    if state is PaymentState.UNUSED:
        return [*_BEFORE_PAYING.get(type(cause), ()), *ways]
    if state is None:
        return list(ways)
    openly = outcome is not None and outcome.openly
    return _while_money_is_there(cause, state, openly=openly)


def _state(cause: MoorageError, outcome: PaymentOutcome | None) -> PaymentState | None:
    if outcome is not None:
        return outcome.state
    if isinstance(cause, PaymentHeld):
        return PaymentState.HELD
    return PaymentState.PENDING if isinstance(cause, PaymentPending) else None


def _while_money_is_there(cause: MoorageError, state: PaymentState, *, openly: bool) -> list[str]:
    match state:
        case PaymentState.FOREIGN:
            return [_AS_THE_PAYER, _WITHOUT_IT]
        case PaymentState.HELD:
            return [_RELEASE]
    if openly and not isinstance(cause, PaymentPending):
        return [_AS_ITS_WALLET]
    match cause:
        case PaymentAlreadyUsed():
            return [_once_used(cause)]
        case PaymentPending():
            return [_SAME_AGAIN, *(() if cause.seen else _UNSEEN)]
        case PaymentMalformed(tx_hash=str()):
            return [_AS_A_HEADER.format(tx_hash=cause.tx_hash)]
    return [_MEND]


def _once_used(used: PaymentAlreadyUsed) -> str:
    if used.for_another:
        return _FOR_ANOTHER
    if used.project_id is None:
        return _CREDITS_PAY
    status = f"/agent/deploy/{used.project_id}/{used.deployment_id}/status"
    return f"Follow what it paid for: GET {status}. Do not pay again."
