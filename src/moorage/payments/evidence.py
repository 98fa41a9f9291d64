"""What a request offers as payment, read from its headers."""

from collections.abc import Mapping

import msgspec

from moorage.chains.chain import Chain, Token
from moorage.chains.erc20 import normalise_tx_hash
from moorage.errors import PaymentMalformed

DEFAULT_CHAIN = "arbitrum"
DEFAULT_TOKEN = "usdc"  # noqa: S105  (a coin, not a secret)


class PaymentMeans(msgspec.Struct, frozen=True):
    """The chain and token that a client pays, or would pay, with."""

    chain: Chain
    token: Token


class Evidence(msgspec.Struct, frozen=True):
    """A transaction that is said to pay; `tx_hash` is normalised."""

    means: PaymentMeans
    tx_hash: str


def named_chain(name: str | None, chains: Mapping[str, Chain], *, field: str) -> Chain:
    """The chain of that name, or the default one. Raises PaymentMalformed, naming `field`."""
    default = DEFAULT_CHAIN if DEFAULT_CHAIN in chains else next(iter(chains))
    chain = chains.get(default if name is None else name.strip().lower())
    if chain is None:
        raise PaymentMalformed(field, f"must be one of {', '.join(chains)}")
    return chain


def payment_means(headers: Mapping[str, str], chains: Mapping[str, Chain]) -> PaymentMeans:
    """Chain and token named by X-Payment-Chain and X-Payment-Token, or the defaults (1.2).

    Raises PaymentMalformed for a chain or token that this gateway does not take.
    """
    chain = named_chain(headers.get("x-payment-chain"), chains, field="X-Payment-Chain")
    token = chain.token(headers.get("x-payment-token", DEFAULT_TOKEN).strip().lower())
    if token is None:
        names = ", ".join(token.name for token in chain.tokens)
        raise PaymentMalformed("X-Payment-Token", f"must be one of {names} on {chain.name}")
    return PaymentMeans(chain=chain, token=token)


def evidence(headers: Mapping[str, str], means: PaymentMeans) -> Evidence | None:
    """The transaction named by X-Payment-Tx, if any. Raises PaymentMalformed."""
    named = headers.get("x-payment-tx")
    if named is None:
        return None
    try:
        return Evidence(means=means, tx_hash=normalise_tx_hash(named))
    except ValueError as error:
        raise PaymentMalformed("X-Payment-Tx", "must be 32 bytes of hex") from error
