"""`moorage balance` and `chains`: what a wallet can pay with, and where."""

import asyncio

from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.exits import Exit
from moorage.cli.screen import Screen
from moorage.sdk.signer import Signer
from moorage.wire.public import Balances, ChainList


def balance(
    address: str | None = None, /, *, chain: str | None = None, options: Options = DEFAULTS
) -> int:
    """Show what a wallet holds on chain.

    Parameters
    ----------
    address
        The wallet; your own, if not given.
    chain
        One chain; all that the gateway takes payments on, if not given.
    """
    screen = Screen(json=options.json)
    connection = find_connection(options)
    wallet = address or Signer(connection.required_key()).address

    async def ask() -> list[Balances]:
        async with connection.public_client() as client:
            names = [chain] if chain else [each.chain for each in (await client.chains()).chains]
            return [await client.balance(wallet, chain=name) for name in names]

    found = asyncio.run(ask())
    screen.document({"address": wallet, "chains": found})
    screen.result(wallet)
    rows = [
        (on_chain.chain, each.symbol, each.balance)
        for on_chain in found
        for each in on_chain.balances
    ]
    screen.table(("CHAIN", "TOKEN", "BALANCE"), rows)
    return Exit.OK


def chains(*, options: Options = DEFAULTS) -> int:
    """List the chains and tokens the gateway takes."""
    screen = Screen(json=options.json)
    connection = find_connection(options)

    async def ask() -> ChainList:
        async with connection.public_client() as client:
            return await client.chains()

    found = asyncio.run(ask())
    screen.document(found)
    rows = [(each.chain, str(each.chain_id), ", ".join(each.tokens)) for each in found.chains]
    screen.table(("CHAIN", "ID", "TOKENS"), rows)
    return Exit.OK
