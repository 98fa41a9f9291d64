"""Serves the tools on standard input and output."""

import msgspec
from mcp.server.stdio import stdio_server

from moorage.mcp.local.arguments import DeployDirectory, QuoteDirectory
from moorage.mcp.local.calls import LocalCalls
from moorage.mcp.local.purchases import Wallet
from moorage.mcp.tools.catalog import Tool, catalog
from moorage.mcp.tools.server import make_server
from moorage.money import MicroUsd
from moorage.sdk.budget import Budget
from moorage.sdk.client import Client

USUAL_BUDGET = Budget(per_call=MicroUsd(5_000_000), per_day=MicroUsd(20_000_000))
"""What counts for a limit that the environment does not set: a model pays unasked."""


def local_tools() -> tuple[Tool, ...]:
    """Returns the tools as this server lists them."""
    return catalog(deploys=DeployDirectory, quotes=QuoteDirectory, files="a directory")


def with_limits(budget: Budget) -> Budget:
    """Returns `budget` with the usual limits in place of those it lacks."""
    return Budget(
        per_call=USUAL_BUDGET.per_call if budget.per_call is None else budget.per_call,
        per_day=USUAL_BUDGET.per_day if budget.per_day is None else budget.per_day,
    )


async def serve(client: Client, wallet: Wallet) -> None:
    """Answers on standard output until standard input ends."""
    limited = msgspec.structs.replace(wallet, budget=with_limits(wallet.budget))
    async with client:
        server = make_server(local_tools(), LocalCalls(client, limited).call)
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
