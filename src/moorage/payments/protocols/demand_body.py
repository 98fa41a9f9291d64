"""The contract's body of a 402 (1.2): the price, what it buys, who pays, and every way to."""

import math
from typing import Any

from msgspec import UNSET

from moorage.chains.address import checksum_address
from moorage.chains.chain import Chain
from moorage.clock import iso_utc
from moorage.money import usd_number
from moorage.payments.price.option import PaymentOption
from moorage.payments.protocols.demand import PaymentRequired, Purchase
from moorage.payments.protocols.seller import Seller
from moorage.wire.problems import Bought


def demand_body(demand: PaymentRequired, seller: Seller) -> dict[str, Any]:
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
        memory_mib=UNSET if size is None else size.memory_mib,
        cpu_millis=UNSET if size is None else size.cpu_millis,
        disk_mib=UNSET if size is None else size.disk_mib,
    )


def _ways_to_pay(demand: PaymentRequired, seller: Seller, best: PaymentOption) -> list[str]:
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
