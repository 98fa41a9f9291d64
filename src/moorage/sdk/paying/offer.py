"""Turns a 402 into an offer to approve, and an offer into a transaction. Pure; sends nothing."""

from decimal import Decimal

import msgspec

from moorage.chains.address import checksum_address
from moorage.chains.chain import Chain, Token
from moorage.chains.erc20 import transfer_calldata
from moorage.chains.signing import ChainTransaction
from moorage.money import MICRO_USD_PER_USD, AtomicUnits, MicroUsd, decimal_text
from moorage.sdk.errors import BalanceShort, GasShort, QuoteInconsistent
from moorage.sdk.journal import Payment, PaymentKey
from moorage.sdk.paying.node import SendingTerms
from moorage.wire.problems import Bought, PaymentDemand
from moorage.wire.public import Balances

_USD_DECIMALS = 6
_UNITS_DIGITS = 78  # of the largest uint256
_GAS_MARGIN_PERCENT = 130  # of the estimate, because the chain's state changes


class Offer(msgspec.Struct, frozen=True):
    """What would be paid. `price` is the worth of `amount`, computed here, not as the 402 says."""

    name: str
    months: int | None  # None for credits, which have no duration
    chain: Chain
    token: Token
    amount: AtomicUnits
    price: MicroUsd
    pay_to: str
    balance: AtomicUnits  # of the token, in the wallet
    warnings: tuple[str, ...] = ()
    buys: Bought | None = None  # as the gateway says
    gasless: bool = False  # paid by an authorization; the gateway pays the gas

    @property
    def amount_text(self) -> str:
        """The amount with its token: `0.50 USDC`."""
        return f"{money_text(self.amount, decimals=self.token.decimals)} {self.token.symbol}"

    @property
    def price_text(self) -> str:
        """The price in dollars: `$0.50`."""
        return f"${money_text(self.price, decimals=_USD_DECIMALS)}"


def read_offer(
    quote: PaymentDemand, *, name: str, months: int | None, chain: Chain, token: Token, wallet: str
) -> Offer:
    """Returns the offer of `quote`, with the balance still 0.

    Chain, token contract and decimals come from the caller's own configuration, so that a gateway
    can't turn a small price into a large transfer. Raises QuoteInconsistent when the quote is for
    another chain or token, asks for more than the dollars it names, or has no recipient.
    """
    if (quote.payment_chain, quote.token.lower()) != (chain.name, token.name):
        raise QuoteInconsistent(
            f"asked for a price in {token.name} on {chain.name}, the gateway quotes "
            f"{quote.token} on {quote.payment_chain}. Nothing was paid."
        )
    if quote.decimals != token.decimals:
        raise QuoteInconsistent(
            f"the gateway says {token.name} has {quote.decimals} decimals, "
            f"it has {token.decimals}. Nothing was paid."
        )
    amount = _read_price(quote.amount_token)
    price = dollars_up(amount, decimals=token.decimals)
    _check_price(quote, price=price, decimals=token.decimals)
    return Offer(
        name=name,
        months=months,
        chain=chain,
        token=token,
        amount=amount,
        price=price,
        pay_to=_read_recipient(quote.pay_to, wallet=wallet),
        balance=AtomicUnits(0),
        warnings=_warnings(quote),
        buys=quote.buys or None,
    )


def _warnings(quote: PaymentDemand) -> tuple[str, ...]:
    told = [each.message for each in quote.warnings or []]
    return tuple([quote.warning, *told] if quote.warning else told)


def said_balance(balances: Balances, token: Token) -> AtomicUnits:
    """Returns what the gateway says that a wallet holds of `token`. Raises QuoteInconsistent."""
    held = next((e.balance_raw for e in balances.balances if e.token == token.name), "0")
    return read_units(held, what=f"the balance of {token.name}")


def with_balance(offer: Offer, balance: AtomicUnits, *, gasless: bool = False) -> Offer:
    """Returns the offer with the wallet's balance. Raises BalanceShort, naming what is missing."""
    if balance >= offer.amount:
        return msgspec.structs.replace(offer, balance=balance, gasless=gasless)
    held = money_text(balance, decimals=offer.token.decimals)
    raise BalanceShort(
        f"{offer.name} costs {offer.amount_text} on {offer.chain.name}, your wallet holds {held}. "
        "Fund it, or choose another --chain or --token. Nothing was paid."
    )


def payment_of(offer: Offer, key: PaymentKey, *, signed_at_ms: int) -> Payment:
    """Returns the journal's record of paying `offer`, without what is signed."""
    return Payment(
        gateway=key.gateway,
        wallet=key.wallet,
        name=key.name,
        chain=offer.chain.name,
        chain_id=offer.chain.chain_id,
        token=offer.token.name,
        decimals=offer.token.decimals,
        amount=offer.amount,
        pay_to=offer.pay_to,
        signed_at_ms=signed_at_ms,
    )


def transfer_call(offer: Offer, *, wallet: str) -> dict[str, str]:
    """Returns the transfer as `eth_estimateGas` takes it."""
    data = transfer_calldata(offer.pay_to, offer.amount)
    return {"from": wallet, "to": offer.token.address, "data": data}


def unsigned_transfer(offer: Offer, terms: SendingTerms) -> ChainTransaction:
    """Returns the transaction to sign. Raises GasShort when the wallet can't pay its gas."""
    gas_limit = terms.gas * _GAS_MARGIN_PERCENT // 100
    check_gas_balance(offer, needed=gas_limit * terms.max_fee_per_gas, wei=terms.wei)
    return ChainTransaction(
        chain_id=offer.chain.chain_id,
        nonce=terms.nonce,
        recipient=offer.token.key,
        data=transfer_calldata(offer.pay_to, offer.amount),
        gas_limit=gas_limit,
        max_fee_per_gas=terms.max_fee_per_gas,
        max_priority_fee_per_gas=terms.max_priority_fee_per_gas,
    )


def check_gas_balance(offer: Offer, *, needed: int, wei: int) -> None:
    """Raises GasShort when the wallet's `wei` are less than the gas `needed`, in wei."""
    if wei >= needed:
        return
    raise GasShort(
        f"your wallet needs {decimal_text(needed, decimals=18)} of {offer.chain.name}'s own coin "
        f"for gas and holds {decimal_text(wei, decimals=18)}. Nothing was paid."
    )


def money_text(amount: int, *, decimals: int) -> str:
    """Writes `amount` with as many places as it needs, at least two: 500000 → "0.50"."""
    text = decimal_text(amount, decimals=decimals)
    whole, dot, fraction = text.partition(".")
    return f"{whole}{dot}{fraction.rstrip('0').ljust(2, '0')}" if dot else text


def read_units(text: str, *, what: str) -> AtomicUnits:
    """Reads an amount in atomic units, as the gateway writes it. Raises QuoteInconsistent."""
    if len(text) > _UNITS_DIGITS or not (text.isascii() and text.isdigit()):
        raise QuoteInconsistent(
            f"the gateway says that {what} is {text[:_UNITS_DIGITS]!r}, which is no amount of a "
            "token. Nothing was paid."
        )
    return AtomicUnits(int(text))


def _read_price(text: str) -> AtomicUnits:
    amount = read_units(text, what="the price")
    if amount == 0:
        raise QuoteInconsistent("the gateway asks for 0 of a token. Nothing was paid.")
    return amount


def _read_recipient(text: str, *, wallet: str) -> str:
    try:
        recipient = checksum_address(text)
    except ValueError as error:
        raise QuoteInconsistent(f"{text!r} is nobody to pay. Nothing was paid.") from error
    if int(recipient, 16) == 0 or recipient.lower() == wallet.lower():
        raise QuoteInconsistent(f"the gateway asks to pay {recipient}. Nothing was paid.")
    return recipient


def dollars_up(amount: AtomicUnits, *, decimals: int) -> MicroUsd:
    """Returns what `amount` of a dollar token is worth, rounded up to the micro-USD."""
    return MicroUsd(-(-amount * 10**_USD_DECIMALS // 10**decimals))


def _check_price(quote: PaymentDemand, *, price: MicroUsd, decimals: int) -> None:
    said = Decimal(repr(quote.amount_usd)) * MICRO_USD_PER_USD
    rounding = 1 + 10 ** max(0, _USD_DECIMALS - decimals)  # one atomic unit and one micro-USD
    if price > said + rounding:
        raise QuoteInconsistent(
            f"the gateway says ${quote.amount_usd} and asks for "
            f"${money_text(price, decimals=_USD_DECIMALS)} in tokens. Nothing was paid."
        )
