"""`moorage mcp`: the tools for agents, on standard input and output."""

import asyncio
import logging
import os
import sys
from importlib.util import find_spec

from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.exits import Exit
from moorage.sdk.budget import read_budget
from moorage.sdk.errors import ClientMisconfigured
from moorage.sdk.journal import Journal
from moorage.sdk.signer import Signer


def mcp(*, options: Options = DEFAULTS) -> int:
    """Serve the tools for agents (Model Context Protocol) on standard input and output.

    It pays unasked within MOORAGE_MAX_USD_PER_CALL ($5 unless set) and MOORAGE_BUDGET_USD for
    24 hours ($20 unless set).
    """
    if find_spec("mcp") is None:
        raise ClientMisconfigured("the tools need the package mcp: pip install 'moorage[mcp]'")
    from moorage.mcp.local.purchases import Wallet
    from moorage.mcp.local.server import serve

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    connection = find_connection(options)
    wallet = Wallet(
        signer=Signer(connection.required_key()),
        chains=connection.chains,
        journal=Journal(connection.state_dir),
        budget=read_budget(os.environ),
    )
    asyncio.run(serve(connection.signed_client(), wallet))
    return Exit.OK
