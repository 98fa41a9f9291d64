"""A chain and its tokens, as configured."""

from typing import Annotated

import msgspec

from moorage.address import parse_address
from moorage.chains.eip3009 import Eip712Domain
from moorage.errors import InvalidField


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An ERC-20 token that is accepted. `address` is checksummed for display; compare by `key`."""

    name: str  # as clients name it: "usdc"
    symbol: str  # "USDC"
    address: str
    decimals: int
    authorization: Eip712Domain | None = None  # None: the token has no EIP-3009

    @property
    def key(self) -> str:
        """The address for comparisons: lower-case hex with 0x."""
        return self.address.lower()


class Chain(msgspec.Struct, frozen=True):
    """An EVM chain that payments arrive on."""

    name: str
    chain_id: int
    rpc_urls: tuple[str, ...]  # tried in order; the next one is used when one fails
    tokens: tuple[Token, ...]
    confirmations: int = 1  # a mined transaction has one
    finality_blocks: int = 4_800  # the depth that counts as final if nodes know no `finalized`
    watch_from_block: int | None = None  # where the first search begins; None: newest block
    closed: bool = False  # nobody is asked to pay here any more; what was paid is looked after
    max_fee_gwei: int = 5  # that the gateway pays for a gas at most

    def token(self, name: str) -> Token | None:
        """The token that clients call `name` (lower case), if this chain has it."""
        return next((token for token in self.tokens if token.name == name), None)

    def token_at(self, address: str) -> Token | None:
        """The token with this contract (lower-case hex), if this chain has it."""
        return next((token for token in self.tokens if token.key == address), None)


_USDC_DOMAIN = Eip712Domain(name="USD Coin", version="2")
"""Of USDC on the three chains below. It differs elsewhere: on Base Sepolia the name is "USDC"."""


def _dollar_tokens(usdc: str, usdt: str | None) -> tuple[Token, ...]:
    tokens = [
        Token(name="usdc", symbol="USDC", address=usdc, decimals=6, authorization=_USDC_DOMAIN)
    ]
    if usdt is not None:
        tokens.append(Token(name="usdt", symbol="USDT", address=usdt, decimals=6))
    return tuple(tokens)


KNOWN_CHAINS = {
    chain.name: chain
    for chain in (
        Chain(
            name="arbitrum",
            chain_id=42161,
            rpc_urls=(),
            tokens=_dollar_tokens(
                "0xaf88d065e77c8cC2239327C5EDb3A432268e5831",
                "0xFd086bC7CD5C481DCC9C85ebE478A1C0b69FCbb9",
            ),
        ),
        Chain(
            name="base",
            chain_id=8453,
            rpc_urls=(),
            tokens=_dollar_tokens(
                "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
                "0xfde4C96c8593536E31F229EA8f37b2ADa2699bb2",
            ),
        ),
        Chain(
            name="arbitrum-sepolia",
            chain_id=421614,
            rpc_urls=(),
            tokens=_dollar_tokens("0x75faf114eafb1BDbe2F0316DF893fd58CE46AA4d", None),
        ),
    )
}
"""The chains of the contract's table 1.6, without RPC URLs, which the operator configures."""


_MAX_DECIMALS = 36


class ChainSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One chain that accepts payments. A chain of the contract's table needs only `rpc_urls`."""

    rpc_urls: tuple[str, ...]
    chain_id: Annotated[int, msgspec.Meta(ge=1)] | None = None
    confirmations: Annotated[int, msgspec.Meta(ge=1)] = 1
    finality_blocks: Annotated[int, msgspec.Meta(ge=1)] = 4_800
    watch_from_block: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tokens: tuple[Token, ...] | None = None
    closed: bool = False
    max_fee_gwei: Annotated[int, msgspec.Meta(ge=1)] = 5

    def chain(self, name: str) -> Chain:
        """Returns the chain, completed from KNOWN_CHAINS. Raises InvalidField."""
        known = KNOWN_CHAINS.get(name)
        chain_id = self.chain_id or (known.chain_id if known else None)
        tokens = self.tokens or (known.tokens if known else None)
        field = f"chains.{name}"
        if name != name.lower():
            raise InvalidField(field, "must be lower case, as clients name it")
        if chain_id is None or not tokens or not self.rpc_urls:
            raise InvalidField(field, "needs rpc_urls, chain_id and tokens")
        if not all(url.startswith(("http://", "https://")) for url in self.rpc_urls):
            raise InvalidField(f"{field}.rpc_urls", "must be http:// or https:// URLs")
        if len(set(self.rpc_urls)) < len(self.rpc_urls):
            raise InvalidField(f"{field}.rpc_urls", "must differ: a node vouches for itself once")
        if len({token.name for token in tokens}) < len(tokens):
            raise InvalidField(f"{field}.tokens", "must have names of their own")
        for token in tokens:
            _check_token(f"{field}.tokens.{token.name}", token)
        return Chain(
            name=name,
            chain_id=chain_id,
            rpc_urls=self.rpc_urls,
            tokens=tokens,
            confirmations=self.confirmations,
            finality_blocks=self.finality_blocks,
            watch_from_block=self.watch_from_block,
            closed=self.closed,
            max_fee_gwei=self.max_fee_gwei,
        )


def _check_token(field: str, token: Token) -> None:
    if token.name != token.name.lower():
        raise InvalidField(field, "must be lower case, as clients name it")
    if not 0 <= token.decimals <= _MAX_DECIMALS:
        raise InvalidField(f"{field}.decimals", f"must be 0 to {_MAX_DECIMALS}")
    with InvalidField.of(f"{field}.address"):
        parse_address(token.address)
