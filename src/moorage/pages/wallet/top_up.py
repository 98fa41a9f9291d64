"""Topping up: by the wallet in this browser, by a QR code, or by a sentence for the agent."""

import re
import secrets
from base64 import b64encode
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from markupsafe import Markup
from msgspec import UNSET
from starlette.responses import Response

from moorage.chains.chain import Chain, Token
from moorage.money import MicroUsd, decimal_text
from moorage.pages.rendering.formatting import ms
from moorage.pages.wallet.api import ApiRefused
from moorage.pages.wallet.view import View
from moorage.payments.taking.payment_required import Seller
from moorage.records.payments import PaymentStatus
from moorage.wire import calls
from moorage.wire.problems import PaymentDemand, PaymentState

VALID_SECONDS = 600
"""How long a signed authorization lasts: as long as x402's offers allow."""

_TRANSFER = "0xa9059cbb"  # transfer(address,uint256)
_FIELDS = (
    ("from", "address"),
    ("to", "address"),
    ("value", "uint256"),
    ("validAfter", "uint256"),
    ("validBefore", "uint256"),
    ("nonce", "bytes32"),
)
_DOMAIN_FIELDS = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)


class Means(NamedTuple):
    """A chain and one of its tokens."""

    chain: Chain
    token: Token

    @property
    def key(self) -> str:
        """What forms call it."""
        return f"{self.chain.name}/{self.token.name}"

    @property
    def text(self) -> str:
        """What people call it."""
        return f"{self.token.symbol} on {self.chain.name}"


def means_of(seller: Seller) -> list[Means]:
    """Returns all that may be paid with."""
    return [
        Means(chain, token) for chain in seller.chains if not chain.closed for token in chain.tokens
    ]


def chosen(key: str, offered: Sequence[Means]) -> Means:
    """Returns the means of that key, or the first."""
    return next((each for each in offered if each.key == key), offered[0])


class Transfer(NamedTuple):
    """The one transfer that pays a demand: from any program that holds the wallet's key."""

    chain_id: int
    token_address: str
    pay_to: str
    amount: int  # atomic units
    amount_text: str  # with the token's decimals

    @property
    def url(self) -> str:
        """The transfer as EIP-681 writes it, for QR codes."""
        return (
            f"ethereum:{self.token_address}@{self.chain_id}/transfer"
            f"?address={self.pay_to}&uint256={self.amount}"
        )

    @property
    def transaction(self) -> dict[str, str]:
        """What `eth_sendTransaction` takes, except `from`."""
        to = self.pay_to[2:].lower().rjust(64, "0")
        return {
            "to": self.token_address,
            "value": "0x0",
            "data": f"{_TRANSFER}{to}{self.amount:064x}",
        }


def transfer_of(demand: PaymentDemand) -> Transfer:
    """Returns the transfer that a demand asks for."""
    amount = int(demand.amount_token)
    return Transfer(
        demand.chain_id,
        demand.token_address,
        demand.pay_to,
        amount,
        decimal_text(amount, decimals=demand.decimals),
    )


@lru_cache(maxsize=256)
def qr_code(text: str) -> Markup:
    """Returns a text as a picture in SVG, without style or script. To draw one takes 10 ms."""
    import segno  # noqa: PLC0415  (2 MiB, for who pays on a page)

    drawn = segno.make(text, error="m", micro=False)
    return Markup(  # noqa: S704 (segno writes digits and path commands alone)
        drawn.svg_inline(scale=1, border=4, omitsize=True, svgclass=None, lineclass=None)
    )


def new_authorization(
    wallet: str, transfer: Transfer, means: Means, *, now_ms: int
) -> dict[str, Any] | None:
    """Returns what `eth_signTypedData_v4` takes, for a payment without gas (EIP-712, EIP-3009).

    None for a token that knows no such authorization.
    """
    domain = means.token.authorization
    if domain is None:
        return None
    return {
        "primaryType": "TransferWithAuthorization",
        "types": {
            "EIP712Domain": _typed(_DOMAIN_FIELDS),
            "TransferWithAuthorization": _typed(_FIELDS),
        },
        "domain": {
            "name": domain.name,
            "version": domain.version,
            "chainId": transfer.chain_id,
            "verifyingContract": transfer.token_address,
        },
        "message": {
            "from": wallet,
            "to": transfer.pay_to,
            "value": str(transfer.amount),
            "validAfter": "0",
            "validBefore": str(now_ms // 1000 + VALID_SECONDS),
            "nonce": "0x" + secrets.token_hex(32),
        },
    }


def x402_payload(
    message: dict[str, Any], *, signature: str, chain_id: int, token: str
) -> dict[str, Any]:
    """Returns what PAYMENT-SIGNATURE holds (x402 v2, scheme exact)."""
    return {
        "x402Version": 2,
        "accepted": {
            "scheme": "exact",
            "network": f"eip155:{chain_id}",
            "asset": token,
            "extra": {"assetTransferMethod": "eip3009"},
        },
        "payload": {
            "signature": signature,
            "authorization": {name: message.get(name, "") for name, _ in _FIELDS},
        },
    }


def _typed(fields: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in fields]


_PAYMENTS_WATCHED = 20
_MAX_FIELD = 20_000
_TOO_MANY_REQUESTS = 429
_LOOK_BACK_MS = 600_000
_HASH = re.compile(r"(?:0x)?[0-9a-fA-F]{64}")
_SUGGESTED = (5, 10, 25, 50)


async def ask_amount(view: View) -> Response:
    """`GET /wallet/top-up`: how much, and with what."""
    return await _amount_page(view, amount=view.query.get("amount", "10"))


async def show_ways(view: View) -> Response:
    """`GET /wallet/top-up/pay`: the three ways to pay so much."""
    amount = view.query.get("amount", "")[:32].strip()
    if not view.session.may_change:
        return view.page("wallet/money/ask_agent.html", amount=amount or "10")
    means = chosen(view.query.get("means", ""), means_of(view.facts.seller))
    try:
        demand = await _demand(view, amount, means)
    except ApiRefused as refused:
        return await _amount_page(view, amount=amount, error=refused.problem.error)
    transfer, typed, now_ms = transfer_of(demand), None, view.clock.now_ms()
    arrivals = await _arrivals(view, min(_since_ms(view, default=now_ms), now_ms))
    if view.facts.seller.settles(means.chain, means.token):
        typed = new_authorization(view.session.who, transfer, means, now_ms=now_ms)
    return view.page(
        "wallet/money/ways.html",
        amount=amount,
        means=means,
        demand=demand,
        transfer=transfer,
        qr=qr_code(transfer.url),
        typed_json=None if typed is None else _json(typed),
        transaction_json=_json(transfer.transaction),
        **arrivals,
    )


async def _amount_page(view: View, *, amount: str, error: str | None = None) -> Response:
    account = await view.api.call(calls.CREDITS, limit=1)
    offered = means_of(view.facts.seller)
    return view.page(
        "wallet/money/top_up.html",
        status=400 if error else 200,
        runway=view.runway(account),
        choices=[(each.key, each.text) for each in offered],
        means=chosen(view.query.get("means", ""), offered),
        minimum=view.facts.prices.minimum_charge,
        suggested=_SUGGESTED,
        error=error,
        amount=amount,
        since=_since_ms(view, default=view.clock.now_ms()),
    )


async def watch(view: View) -> Response:
    """`GET /wallet/top-up/watch`: what arrived since the page was opened; asked again and again."""
    arrivals = await _arrivals(view, _since_ms(view, default=0))
    return view.page("wallet/money/arrived.html", **arrivals)


async def _arrivals(view: View, since_ms: int) -> dict[str, Any]:
    """Returns what `arrived.html` shows: the payments since then, and the credits now."""
    found = await view.api.call(calls.PAYMENTS, limit=_PAYMENTS_WATCHED)
    arrived = [each for each in found.payments if ms(each.at) >= since_ms]
    account = await view.api.call(calls.CREDITS, limit=1)
    return {
        "arrived": arrived,
        "credited": MicroUsd(
            sum(
                each.credited_micro_usd for each in arrived if each.status is PaymentStatus.CREDITED
            )
        ),
        "account": account,
        "since": since_ms,
    }


def _since_ms(view: View, *, default: int) -> int:
    """Returns when the page was opened first, as its address says, which a reload repeats."""
    text = view.query.get("since", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else default


async def show_transaction(view: View) -> Response:
    """`POST /wallet/top-up/sent`: a transaction that was sent, by its hash."""
    form = view.form
    transaction = form.get("transaction", "").strip()[:200]
    headers = {"X-Payment-Tx": transaction, **_named_means(view)}
    return await _take(view, headers, transaction=transaction)


async def take_authorization(view: View) -> Response:
    """`POST /wallet/top-up/signed`: an authorization that the wallet in the browser signed."""
    try:
        message = msgspec.json.decode(
            view.form.get("message", "")[:_MAX_FIELD], type=dict[str, str]
        )
    except msgspec.DecodeError:
        message = {}
    means = chosen(view.form.get("means", ""), means_of(view.facts.seller))
    payload = x402_payload(
        message,
        signature=view.form.get("signature", "")[:_MAX_FIELD],
        chain_id=means.chain.chain_id,
        token=means.token.address,
    )
    written = b64encode(msgspec.json.encode(payload)).decode()
    return await _take(view, {"PAYMENT-SIGNATURE": written})


async def show_outcome(view: View) -> Response:
    """`GET /wallet/top-up/outcome`: what became of a payment, and what is known of it by now."""
    state = next((each for each in PaymentState if each == view.query.get("state")), None)
    tx_hash = view.query.get("transaction", "")
    is_hash = _HASH.fullmatch(tx_hash) is not None
    return view.page(
        "wallet/money/outcome.html",
        state=state or PaymentState.PENDING,
        transaction=tx_hash if is_hash else "",
        means=chosen(view.query.get("means", ""), means_of(view.facts.seller)),
        since=view.clock.now_ms() - _LOOK_BACK_MS,
    )


async def _take(view: View, headers: dict[str, str], *, transaction: str = "") -> Response:
    """Shows the payment to the gateway; the next page says what became of it."""
    body = _body(view.form.get("amount", ""))
    try:
        taken = await view.api.call(calls.TOP_UP, body=body, headers=headers)
    except ApiRefused as refused:
        payment = refused.problem.payment
        is_known = refused.status < 500 and refused.status != _TOO_MANY_REQUESTS
        if payment is UNSET and is_known:  # the request itself was at fault: nothing was looked at
            return view.page("error.html", status=refused.status, message=refused.problem.error)
        state = PaymentState.PENDING if payment is UNSET else payment.state
        if state is PaymentState.CREDITED and payment is not UNSET and payment.tx:
            return view.redirect(f"/wallet/payments/{payment.tx}", "credited")
        found = {
            "state": state,
            "transaction": transaction,
            "means": view.form.get("means", ""),
        }
        return view.redirect(f"/wallet/top-up/outcome?{urlencode(found)}")
    return view.redirect(f"/wallet/payments/{taken.tx_hash}", "credited")


async def _demand(view: View, amount: str, means: Means) -> PaymentDemand:
    """Returns what the API asks for so much. Raises ApiRefused when it asks for nothing."""
    headers = {"X-Payment-Chain": means.chain.name, "X-Payment-Token": means.token.name}
    try:
        await view.api.call(calls.TOP_UP, body=_body(amount), headers=headers)
    except ApiRefused as refused:
        if refused.status != 402:
            raise
        return refused.body(PaymentDemand)
    raise AssertionError("a top-up without a payment is answered by a demand")


def _named_means(view: View) -> dict[str, str]:
    means = chosen(view.form.get("means", ""), means_of(view.facts.seller))
    return {"X-Payment-Chain": means.chain.name, "X-Payment-Token": means.token.name}


def _body(amount: str) -> dict[str, Any]:
    """Returns the request's body; an amount that is no number is left to the API to refuse."""
    cleaned = amount.strip().removeprefix("$").replace(",", "")
    if not cleaned:
        return {}
    try:
        number = Decimal(cleaned)
    except InvalidOperation:
        return {"amount_usd": cleaned}
    return {"amount_usd": msgspec.Raw(f"{number:f}".encode()) if number.is_finite() else cleaned}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
