"""An operator's settings for one chain."""

from typing import Annotated

import msgspec

from moorage.chains.address import parse_address
from moorage.chains.chain import KNOWN_CHAINS, Chain, Token
from moorage.errors import InvalidField

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
        )


def _check_token(field: str, token: Token) -> None:
    if token.name != token.name.lower():
        raise InvalidField(field, "must be lower case, as clients name it")
    if not 0 <= token.decimals <= _MAX_DECIMALS:
        raise InvalidField(f"{field}.decimals", f"must be 0 to {_MAX_DECIMALS}")
    try:
        parse_address(token.address)
    except ValueError as error:
        raise InvalidField(f"{field}.address", str(error)) from error
