"""How a payment is made: an offer of the 402 is read, signed, sent to a node, and followed."""

import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple, Self, TypeVar

import msgspec

from moorage.address import checksum_address
from moorage.chains.chain import Chain, Token
from moorage.chains.eip3009 import (
    Eip712Domain,
    TransferAuthorization,
    authorization_digest,
    authorization_state_calldata,
)
from moorage.chains.receipt import (
    balance_of_calldata,
    decode_uint256,
    parse_quantity,
    transfer_calldata,
)
from moorage.chains.rpc import Call, OtherChain, RpcClient, RpcError
from moorage.chains.signing import ChainTransaction
from moorage.errors import ChainUnavailable
from moorage.money import MICRO_USD_PER_USD, AtomicUnits, MicroUsd, decimal_text
from moorage.sdk.errors import (
    AuthorizationUnspent,
    BalanceShort,
    ClientError,
    ClientMisconfigured,
    GasShort,
    NodeError,
    NodeRefused,
    NodeUnreachable,
    PaymentRequired,
    PaymentUncertain,
    QuoteInconsistent,
)
from moorage.sdk.journal import Payment, PaymentKey
from moorage.sdk.signer import Signer
from moorage.sdk.transport import Pause
from moorage.wire.problems import Bought, PaymentDemand
from moorage.wire.public import Balances

_TIMEOUT_SECONDS = 20.0

Value = TypeVar("Value")


class Holdings(NamedTuple):
    """A wallet's balance of a token, and of wei for gas."""

    tokens: AtomicUnits
    wei: int


class SendingTerms(NamedTuple):
    """What the next transaction of a wallet needs. Fees are in wei per gas."""

    nonce: int
    gas: int  # an estimate of what the call uses
    max_fee_per_gas: int
    max_priority_fee_per_gas: int | None  # None: the chain has only legacy transactions
    wei: int  # the wallet's balance for gas


class Node:
    """Asks the nodes of one chain. Use it as an async context.

    Every method raises NodeUnreachable without a credible answer, and NodeRefused when a node
    answers with an error. No message names a URL, because URLs hold API keys.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._client = RpcClient(chain, timeout_seconds=_TIMEOUT_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def check_chain(self) -> None:
        """Raises ClientMisconfigured when the RPC URLs belong to another chain."""
        try:
            await self._client.batch([])  # the client asks for the chain id by itself
        except OtherChain as error:
            raise ClientMisconfigured(
                f"the RPC URL for {self._chain.name} is no node of it ({error.reasons}). "
                "Nothing was paid."
            ) from error
        except ChainUnavailable as error:
            raise self._unreachable(error) from error

    async def holdings(self, wallet: str, token: Token) -> Holdings:
        """Returns what `wallet` holds of `token`, in atomic units, and of wei for gas."""
        balance_of = {"to": token.key, "data": balance_of_calldata(wallet)}
        tokens, wei = await self._ask(
            ("eth_call", [balance_of, "latest"]), ("eth_getBalance", [wallet, "latest"])
        )
        return Holdings(AtomicUnits(self._read(decode_uint256, tokens)), self._quantity(wei))

    async def sending_terms(self, wallet: str, call: dict[str, str]) -> SendingTerms:
        """Returns what sending `call` needs, with fees that suffice until the base fee doubles.

        That takes at least six full blocks: each raises it by an eighth at most (EIP-1559).
        """
        count, gas, block, tip, gas_price, wei = await self._ask(
            ("eth_getTransactionCount", [wallet, "pending"]),
            ("eth_estimateGas", [call]),
            ("eth_getBlockByNumber", ["latest", False]),
            ("eth_maxPriorityFeePerGas", []),
            ("eth_gasPrice", []),
            ("eth_getBalance", [wallet, "latest"]),
        )
        base_fee = block.get("baseFeePerGas") if isinstance(block, dict) else None
        if base_fee is None:
            max_fee, max_tip = self._quantity(gas_price), None
        else:  # not every node can suggest a tip; these chains mine without one
            max_tip = 0 if isinstance(tip, RpcError) else self._quantity(tip)
            max_fee = 2 * self._quantity(base_fee) + max_tip
        return SendingTerms(
            nonce=self._quantity(count),
            gas=self._quantity(gas),
            max_fee_per_gas=max_fee,
            max_priority_fee_per_gas=max_tip,
            wei=self._quantity(wei),
        )

    async def send_raw(self, raw_transaction: str) -> None:
        """Broadcasts a transaction. After NodeUnreachable it is unknown whether it was sent."""
        (answer,) = await self._ask(("eth_sendRawTransaction", [raw_transaction]))
        self._result(answer)

    async def is_replaced(self, wallet: str, *, nonce: int, tx_hash: str) -> bool:
        """Whether another transaction used up the nonce, in a final block.

        The same node answers both questions: one that lags would not have the receipt of a
        transaction that another has counted. False from a node without finality.
        """
        count, receipt = await self._ask(
            ("eth_getTransactionCount", [wallet, "finalized"]),
            ("eth_getTransactionReceipt", [tx_hash]),
        )
        if isinstance(count, RpcError):
            return False
        return self._quantity(count) > nonce and self._result(receipt) is None

    async def succeeded(self, tx_hash: str) -> bool | None:
        """Whether a mined transaction succeeded; None while it is not mined."""
        (answer,) = await self._ask(("eth_getTransactionReceipt", [tx_hash]))
        receipt = self._result(answer)
        return self._quantity(receipt.get("status")) == 1 if isinstance(receipt, dict) else None

    async def knows(self, tx_hash: str) -> bool:
        """Whether the node holds the transaction, mined or waiting."""
        (answer,) = await self._ask(("eth_getTransactionByHash", [tx_hash]))
        return isinstance(self._result(answer), dict)

    async def is_unused(self, payment: Payment, token: Token) -> bool:
        """Whether an authorization was never carried out, and is past its end on the chain too."""
        data = authorization_state_calldata(payment.wallet, payment.authorization_nonce)
        state, block = await self._ask(
            ("eth_call", [{"to": token.key, "data": data}, "latest"]),
            ("eth_getBlockByNumber", ["latest", False]),
        )
        time = self._quantity(block.get("timestamp") if isinstance(block, dict) else block)
        return self._read(decode_uint256, state) == 0 and time >= payment.valid_before

    async def _ask(self, *calls: Call) -> list[Any]:
        try:
            return await self._client.batch(calls)
        except ChainUnavailable as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: ChainUnavailable) -> NodeUnreachable:
        return NodeUnreachable(f"the chain {self._chain.name} gives no answer: {error.message}")

    def _quantity(self, answer: object) -> int:
        return self._read(parse_quantity, answer)

    def _read(self, parse: Callable[[object], Value], answer: object) -> Value:
        try:
            return parse(self._result(answer))
        except ValueError as error:
            raise NodeUnreachable(f"a node of {self._chain.name} answers oddly: {error}") from error

    def _result(self, answer: Any) -> Any:
        if isinstance(answer, RpcError):
            raise NodeRefused(f"the node refused {answer.method}: {answer.detail}")
        return answer


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


_PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.5, *[1.0] * 30, *[3.0] * 30)
_SEND_AGAIN_EVERY = 10  # looks for the receipt


class Sighting(StrEnum):
    """What the node has seen of a payment."""

    MINED = "mined"
    REVERTED = "reverted"  # mined, but no token moved
    REPLACED = "replaced"  # its account nonce is used up finally: it can never be mined
    UNSEEN = "unseen"  # the node does not know yet; the payment may still be mined


def sign_transfer(
    offer: Offer, terms: SendingTerms, signer: Signer, key: PaymentKey, *, now_ms: int
) -> Payment:
    """Returns the signed transfer of `offer`, to be journaled and then broadcast.

    Raises GasShort.
    """
    signed = signer.sign_transaction(unsigned_transfer(offer, terms))
    return msgspec.structs.replace(
        payment_of(offer, key, signed_at_ms=now_ms),
        nonce=terms.nonce,
        tx_hash=signed.tx_hash,
        raw_transaction=signed.raw,
    )


async def send(node: Node, payment: Payment) -> NodeRefused | None:
    """Broadcasts the signed transaction; returns the node's refusal, if any.

    A lost answer is not a failure: the journal holds the transaction, and it is sent again.
    """
    try:
        await node.send_raw(payment.raw_transaction)
    except NodeRefused as refused:
        return refused
    except NodeError:
        return None
    return None


async def see_mined(node: Node, payment: Payment, *, pause: Pause) -> Sighting:
    """Waits for about two minutes, sending the payment again while it is not mined.

    Raises PaymentUncertain when the node refuses a payment that it does not know.
    """
    for look, pause_seconds in enumerate(_PAUSES_SECONDS):
        try:
            succeeded = await node.succeeded(payment.tx_hash)
            if succeeded is None and look % _SEND_AGAIN_EVERY == 0:
                refused = await _send_again(node, payment)
                if refused is not None and await node.is_replaced(
                    payment.wallet, nonce=payment.nonce, tx_hash=payment.tx_hash
                ):
                    return Sighting.REPLACED
                if refused is not None:
                    raise uncertain(payment, refused) from refused
        except NodeError:
            return Sighting.UNSEEN
        if succeeded is not None:
            return Sighting.MINED if succeeded else Sighting.REVERTED
        await pause(pause_seconds)
    return Sighting.UNSEEN


def uncertain(payment: Payment, cause: ClientError | None) -> PaymentUncertain:
    """Returns the error that keeps `payment` open, and says why its outcome is unknown."""
    amount = money_text(payment.amount, decimals=payment.decimals)
    why = f": {cause.message}" if cause is not None else ""
    return PaymentUncertain(
        f"{amount} {payment.token} on {payment.chain} may have been paid ({payment.reference}), "
        f"but the gateway has not taken it{why}. Do not pay again: the same command resumes "
        "this payment.",
        chain=payment.chain,
        tx_hash=payment.tx_hash,
        cause=cause,
    )


async def _send_again(node: Node, payment: Payment) -> NodeRefused | None:
    """Broadcasts again; returns the node's refusal, unless it holds the payment already."""
    refused = await send(node, payment)
    if refused is None or await node.knows(payment.tx_hash):
        return None
    return refused


HEADER = "PAYMENT-SIGNATURE"
VALID_SECONDS = 600  # the longest that gateways ask for

_EXPIRED_MS = 120_000  # after its end: clocks and chains differ by less
_VERSION = 2


class _Extra(msgspec.Struct):
    name: str = ""
    version: str = ""


class _Accepts(msgspec.Struct):
    scheme: str
    network: str
    asset: str
    extra: _Extra = msgspec.field(default_factory=_Extra)


class _Required(msgspec.Struct):
    accepts: list[_Accepts]


def accepted_domain(header: str | None, offer: Offer, *, refusal: ClientError) -> Eip712Domain:
    """Returns the token's domain, if the 402's PAYMENT-REQUIRED offers to settle `offer`.

    It is the one of the client's own configuration. Raises `refusal` if the gateway settles no
    authorization in this token, QuoteInconsistent if it names another domain.
    """
    domain = offer.token.authorization
    found = next((each for each in _accepts(header) if _is_for(each, offer)), None)
    if domain is None or found is None:
        raise refusal
    if (found.extra.name, found.extra.version) != (domain.name, domain.version):
        raise QuoteInconsistent(
            f"the gateway calls the token {found.extra.name!r}, it is {domain.name!r}. "
            "Nothing was paid."
        )
    return domain


def node_needed(offer: Offer) -> ClientMisconfigured:
    """Returns the error for a payment that only a transfer makes, where no node is known."""
    chain = offer.chain.name
    variable = f"MOORAGE_RPC_URL_{chain.upper().replace('-', '_')}"
    return ClientMisconfigured(
        f"this gateway takes {offer.token.symbol} on {chain} by transfer alone, which needs a "
        f"node: set {variable} to its RPC URL, or choose another --chain or --token. "
        "Nothing was paid."
    )


def authorize(
    offer: Offer, domain: Eip712Domain, signer: Signer, key: PaymentKey, *, now_ms: int
) -> Payment:
    """Returns the signed payment of `offer`, to be journaled and then shown to the gateway."""
    valid_before = now_ms // 1000 + VALID_SECONDS
    unsigned = TransferAuthorization(
        chain_id=offer.chain.chain_id,
        token_address=offer.token.key,
        payer=signer.address.lower(),
        recipient=offer.pay_to.lower(),
        value=AtomicUnits(offer.amount),
        valid_after=0,
        valid_before=valid_before,
        nonce="0x" + secrets.token_hex(32),
        signature=b"",
    )
    signature = signer.sign_digest(authorization_digest(unsigned, domain))
    return msgspec.structs.replace(
        payment_of(offer, key, signed_at_ms=now_ms),
        authorization=_header(unsigned, domain, signature),
        authorization_nonce=unsigned.nonce,
        valid_before=valid_before,
    )


def is_expired(payment: Payment, *, now_ms: int) -> bool:
    """Whether no chain carries the authorization out any more, if none has yet."""
    return now_ms >= payment.valid_before * 1000 + _EXPIRED_MS


def unspent(error: PaymentRequired, *, expired: bool) -> AuthorizationUnspent:
    """Returns the error for an authorization that the gateway refused and has not carried out."""
    if expired:
        return AuthorizationUnspent(f"{error.message} It has expired: the same command pays again.")
    return AuthorizationUnspent(
        f"{error.message} The same command shows this authorization again; once it has expired, "
        f"{VALID_SECONDS // 60} minutes after it was signed, it pays again."
    )


def _accepts(header: str | None) -> list[_Accepts]:
    try:
        return msgspec.json.decode(b64decode(header or "", validate=True), type=_Required).accepts
    except (ValueError, RecursionError):
        return []


def _is_for(accepts: _Accepts, offer: Offer) -> bool:
    asked = (accepts.scheme, accepts.network, accepts.asset.lower())
    return asked == ("exact", f"eip155:{offer.chain.chain_id}", offer.token.key)


def _header(authorization: TransferAuthorization, domain: Eip712Domain, signature: str) -> str:
    document: dict[str, Any] = {
        "x402Version": _VERSION,
        "accepted": {
            "scheme": "exact",
            "network": f"eip155:{authorization.chain_id}",
            "amount": str(authorization.value),
            "asset": authorization.token_address,
            "payTo": authorization.recipient,
            "maxTimeoutSeconds": VALID_SECONDS,
            "extra": {"name": domain.name, "version": domain.version},
        },
        "payload": {
            "signature": signature,
            "authorization": {
                "from": authorization.payer,
                "to": authorization.recipient,
                "value": str(authorization.value),
                "validAfter": str(authorization.valid_after),
                "validBefore": str(authorization.valid_before),
                "nonce": authorization.nonce,
            },
        },
    }
    return b64encode(msgspec.json.encode(document)).decode()
