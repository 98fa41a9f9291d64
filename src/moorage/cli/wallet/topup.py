"""`moorage topup`: credits bought with a transfer of one's own."""

import asyncio
import os
from typing import Annotated, Any

from cyclopts import Parameter
from msgspec import UNSET

from moorage.cli.connection import DEFAULTS, Options, find_connection
from moorage.cli.exits import Exit
from moorage.cli.paying import approver, payment_document, step_teller
from moorage.cli.screen import Screen
from moorage.sdk.budget import read_budget, read_dollars
from moorage.sdk.journal import Journal
from moorage.sdk.payer import Bought, Payer
from moorage.sdk.signer import Signer
from moorage.wire.credits import ToppedUp


def topup(
    amount: str,
    /,
    *,
    chain: str = "arbitrum",
    token: str = "usdc",  # noqa: S107 - a token that pays, not one that logs in
    yes: Annotated[bool, Parameter(alias="-y", negative=())] = False,
    options: Options = DEFAULTS,
) -> int:
    """Buy credits, which keep your projects running.

    The price is shown before it is paid, and asked about on a terminal.

    Run the same command again after any failure: a payment is never made twice.

    Parameters
    ----------
    amount
        How many dollars of credits, such as 5 or 2.50.
    chain
        The chain to pay on.
    token
        The token to pay with.
    yes
        Pay without asking.
    """
    screen = Screen(json=options.json)
    dollars = read_dollars(amount, of="AMOUNT")
    connection = find_connection(options)
    signer = Signer(connection.required_key())
    for warning in connection.warnings:
        screen.warn(warning)

    async def pay() -> Bought[ToppedUp]:
        async with connection.signed_client() as client:
            payer = Payer(
                client,
                signer,
                chains=connection.chains,
                journal=Journal(connection.state_dir),
                approve=approver(screen, allowed=yes, allow="--yes"),
                budget=read_budget(os.environ),
                on_step=step_teller(screen, then="credit it"),
            )
            return await payer.top_up(dollars, chain=chain, token=token)

    credited = asyncio.run(pay())
    screen.document(topup_document(credited))
    screen.result(topup_text(credited.answer))
    screen.result("Next: moorage credits")
    return Exit.OK


def topup_text(answer: ToppedUp) -> str:
    """What a top-up brought, in a sentence; gateways need not say the balance."""
    left = "" if answer.balance_usd is UNSET else f"; ${answer.balance_usd:.6f} in credits now"
    return f"${answer.credited_usd:.6f} credited{left}."


def topup_document(credited: Bought[ToppedUp]) -> dict[str, Any]:
    """The JSON document of a top-up."""
    balance = credited.answer.balance_usd
    return {
        "credited_usd": credited.answer.credited_usd,
        "balance_usd": None if balance is UNSET else balance,
        "payment": payment_document(credited.payment),
    }
