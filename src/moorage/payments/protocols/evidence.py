"""Reads the payment of a request from its headers."""

import re
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from functools import lru_cache

import msgspec
from msgspec import UNSET, UnsetType

from moorage.chains.chain import Chain, Token
from moorage.chains.eip3009 import TransferAuthorization
from moorage.chains.receipt import normalise_tx_hash
from moorage.errors import InvalidField, PaymentMalformed
from moorage.money import MicroUsd, credit_from_atomic_units
from moorage.payments.protocols import mpp, x402
from moorage.payments.protocols.authorization import decode_base64url

DEFAULT_CHAIN = "arbitrum"
DEFAULT_TOKEN = "usdc"  # noqa: S105  (a coin, not a secret)

TX_HEADER = "X-Payment-Tx"

_LIKE_TX = re.compile(
    r"x?(?:payment|pay)(?:(?:tx|txn|transaction)?(?:hash|id|proof)|tx|txn|transaction)"
    r"|x?(?:tx|txn|transaction)hash"
)
"""Names like X-Payment-Tx, without hyphens; X-Transaction-Id is a tracer's."""

_LONGEST_NAME = 64  # longer ones are nobody's mistake, and are not to be remembered
_LIKE_X402 = re.compile(r"payment|xpaymentsignature|x?paymentpayload")

_PAYMENTS = ("x-payment-tx", "x-payment", "payment-signature")
_URL_SAFE = str.maketrans("+/", "-_")
_CREDENTIAL = re.compile(r"(?:^|,)[ \t]*payment(?:[ \t]|$)", re.IGNORECASE)


class PaymentWay(StrEnum):
    """The protocol that a client pays by."""

    TX_HASH = "tx_hash"  # X-Payment-Tx (contract 1.3)
    MPP = "mpp"  # Authorization: Payment
    X402 = "x402"  # PAYMENT-SIGNATURE
    X402_V1 = "x402_v1"  # X-PAYMENT


class PaymentMeans(msgspec.Struct, frozen=True):
    """The chain and token that a client pays with, or would pay with."""

    chain: Chain
    token: Token


class TransactionEvidence(msgspec.Struct, frozen=True):
    """A transaction that the client says pays; `tx_hash` is normalised."""

    means: PaymentMeans
    tx_hash: str
    credential: mpp.Credential | None = None  # if it answers a challenge
    stranger_at: str | None = None  # the client's address, if its wallet never paid

    @property
    def way(self) -> PaymentWay:
        """The protocol that it was sent by."""
        return PaymentWay.TX_HASH if self.credential is None else PaymentWay.MPP


class AuthorizationEvidence(msgspec.Struct, frozen=True):
    """A signed authorization to take the money; no money has moved yet."""

    means: PaymentMeans
    authorization: TransferAuthorization
    credential: mpp.Credential | None = None
    stranger_at: str | None = None  # the client's address, if its wallet never paid
    openly: bool = False  # nothing else says who sent the request
    by_v1: bool = False  # sent by version 1 of x402

    @property
    def worth(self) -> MicroUsd:
        """The credits that it would bring."""
        return credit_from_atomic_units(
            self.authorization.value, decimals=self.means.token.decimals
        )

    @property
    def way(self) -> PaymentWay:
        """The protocol that it was sent by."""
        if self.credential is not None:
            return PaymentWay.MPP
        return PaymentWay.X402_V1 if self.by_v1 else PaymentWay.X402


Evidence = TransactionEvidence | AuthorizationEvidence


class _ShownPayload(msgspec.Struct):
    hash: msgspec.Raw | UnsetType = UNSET
    type: msgspec.Raw = msgspec.Raw()


class _Shown(msgspec.Struct):
    """A credential, as far as it shows a transaction."""

    payload: _ShownPayload


def named_chain(name: str | None, chains: Mapping[str, Chain], *, field: str) -> Chain:
    """Returns the chain of that name; None is the default. Raises InvalidField, naming `field`."""
    default = DEFAULT_CHAIN if DEFAULT_CHAIN in chains else next(iter(chains))
    chain = chains.get(default if name is None else name.strip().lower())
    if chain is None:
        raise InvalidField(field, _one_of(chains))
    return chain


def _one_of(chains: Mapping[str, Chain]) -> str:
    return f"must be one of {', '.join(chains)}"


def default_means(chains: Mapping[str, Chain]) -> PaymentMeans:
    """Returns the chain and token of a payment that names none."""
    chain = named_chain(None, chains, field="X-Payment-Chain")
    return PaymentMeans(chain, chain.token(DEFAULT_TOKEN) or chain.tokens[0])


def payment_means(headers: Mapping[str, str], chains: Mapping[str, Chain]) -> PaymentMeans:
    """Returns the chain and token of X-Payment-Chain and X-Payment-Token, or the defaults (1.2).

    Raises PaymentMalformed for a chain or token that this gateway does not accept.
    """
    try:
        chain = named_chain(headers.get("x-payment-chain"), chains, field="X-Payment-Chain")
    except InvalidField as error:
        raise PaymentMalformed(error.field, _one_of(chains)) from error
    token = chain.token(headers.get("x-payment-token", DEFAULT_TOKEN).strip().lower())
    if token is None:
        names = ", ".join(token.name for token in chain.tokens)
        raise PaymentMalformed("X-Payment-Token", f"must be one of {names} on {chain.name}")
    return PaymentMeans(chain=chain, token=token)


def offered_payment(
    headers: Mapping[str, str], means: PaymentMeans, chains: Mapping[str, Chain]
) -> Evidence | None:
    """Returns the payment that came with the request, if any.

    `means` are those that the headers name; a credential names its own. Raises PaymentMalformed,
    also for more than one payment.
    """
    named = headers.get("x-payment-tx")
    credential = headers.get("authorization", "")
    signature, first_version = headers.get("payment-signature"), headers.get("x-payment")
    by_mpp = is_credential(credential)
    ways = (named is not None, by_mpp, signature is not None, first_version is not None)
    if sum(ways) > 1:
        raise PaymentMalformed(
            "X-Payment-Tx",
            "is one way to pay; Authorization, PAYMENT-SIGNATURE and X-PAYMENT are others",
        )
    if named is not None:
        return _transaction(named, means)
    if by_mpp:
        return _credential(credential, chains)
    if first_version is not None:
        return _of_first_version(first_version, chains)
    return None if signature is None else _authorization(signature, chains)


def near_miss(headers: Mapping[str, str]) -> tuple[str, str, str | None] | None:
    """Returns a header that looks like a payment, the one to send instead, and its hash, if any."""
    for name in headers:
        right = _meant(name) if len(name) <= _LONGEST_NAME else None
        if right is not None:
            return name, right, _tx_hash(headers[name]) if right == TX_HEADER else None
    return None


@lru_cache(maxsize=1024)
def _meant(name: str) -> str | None:
    """Returns the header of a payment that this one looks like, to be sent instead."""
    spelled = re.sub(r"[^a-z0-9]", "", name.lower())
    if _LIKE_TX.fullmatch(spelled):
        return TX_HEADER
    return "PAYMENT-SIGNATURE, as x402 version 2 has it" if _LIKE_X402.fullmatch(spelled) else None


def shown_transaction(
    headers: Mapping[str, str], chains: Mapping[str, Chain]
) -> TransactionEvidence | None:
    """Returns the transaction that malformed payment headers show all the same, if they do.

    Which chain it is on is found out, whatever they name. A hash in place of a signed payment is
    one, too.
    """
    credential = _credential_text(headers)
    for written in (*map(headers.get, _PAYMENTS), credential, _shown_hash(_shown(credential))):
        if (tx_hash := _tx_hash(written)) is not None:
            return TransactionEvidence(default_means(chains), tx_hash)
    return None


def may_have_paid(headers: Mapping[str, str]) -> bool:
    """Whether payment headers say that the payer has sent a transaction, also if it can't be read.

    A credential that is no JSON at all, nor a hash, says nothing: nothing of it was used.
    """
    credential = _credential_text(headers)
    if "x-payment-tx" in headers or _tx_hash(credential) is not None:
        return True
    shown = _shown(credential)
    return shown is not None and (shown.hash is not UNSET or bytes(shown.type) == b'"hash"')


def is_credential(authorization: str) -> bool:
    """Whether a value of Authorization holds a credential of MPP, also one that can't be read."""
    return _CREDENTIAL.search(authorization) is not None


def _credential_text(headers: Mapping[str, str]) -> str:
    """Returns what stands behind the scheme of MPP; "" if it is not there."""
    found = _CREDENTIAL.search(header := headers.get("authorization", ""))
    return header[found.end() :].strip() if found else ""


def _shown(credential: str) -> _ShownPayload | None:
    """Returns what a credential shows of a transaction; None if there is none to be read.

    Padding and the other alphabet of base64, which are refused, hide nothing.
    """
    text = credential.rstrip("=").translate(_URL_SAFE)
    try:
        return decode_base64url(text, _Shown, field="Authorization").payload
    except PaymentMalformed:
        return None


def _shown_hash(shown: _ShownPayload | None) -> str | None:
    if shown is None or shown.hash is UNSET:
        return None
    with suppress(ValueError):
        return msgspec.json.decode(shown.hash, type=str)
    return None


def _tx_hash(written: str | None) -> str | None:
    with suppress(ValueError):
        return normalise_tx_hash(written or "")
    return None


def _transaction(named: str, means: PaymentMeans) -> Evidence:
    with PaymentMalformed.of("X-Payment-Tx", "must be 32 bytes of hex"):
        return TransactionEvidence(means=means, tx_hash=normalise_tx_hash(named))


def _credential(header: str, chains: Mapping[str, Chain]) -> Evidence:
    credential = mpp.parse_credential(header)
    asked, payload = credential.request, credential.payload
    means = _means(asked.chain_id, asked.token_address, chains, field="Authorization")
    if isinstance(payload, TransferAuthorization):
        return AuthorizationEvidence(means, payload, credential)
    return TransactionEvidence(means, payload.tx_hash, credential)


def _authorization(header: str, chains: Mapping[str, Chain]) -> Evidence:
    signed = x402.parse_payment_signature(header)
    means = _means(signed.chain_id, signed.token_address, chains, field="PAYMENT-SIGNATURE")
    return AuthorizationEvidence(means, signed)


def _of_first_version(header: str, chains: Mapping[str, Chain]) -> Evidence:
    signed = x402.parse_payment_v1(header, chains)
    means = _means(signed.chain_id, signed.token_address, chains, field=x402.HEADER_V1)
    return AuthorizationEvidence(means, signed, by_v1=True)


def _means(
    chain_id: int, token_address: str, chains: Mapping[str, Chain], *, field: str
) -> PaymentMeans:
    for chain in chains.values():
        token = chain.token_at(token_address)
        if chain.chain_id == chain_id and token is not None:
            return PaymentMeans(chain=chain, token=token)
    raise PaymentMalformed(
        field, f"pays with {token_address} on chain {chain_id}, which is not taken here"
    )
