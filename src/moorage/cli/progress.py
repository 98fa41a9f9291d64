"""Shows the steps of a payment and the stages of a deployment, and asks before money is spent."""

import os
from typing import Annotated, Any

from cyclopts import Parameter

from moorage.cli.connection import Session
from moorage.cli.flags import in_cli_words
from moorage.cli.main import Exit
from moorage.cli.screen import Screen
from moorage.money import MicroUsd
from moorage.sdk.budget import read_budget
from moorage.sdk.client import Client
from moorage.sdk.errors import FollowTimedOut, PaymentRefused
from moorage.sdk.journal import Journal, Payment
from moorage.sdk.payer import Approve, OnStep, Payer, PayStep
from moorage.sdk.payment import Offer, money_text
from moorage.sdk.signer import Signer
from moorage.wire.deployments import DeploymentProgress

Chain = Annotated[str, Parameter(help="The chain to pay on.")]
Token = Annotated[str, Parameter(help="The token to pay with.")]
Yes = Annotated[bool, Parameter(help="Pay without asking.", alias="-y", negative=())]
Follow = Annotated[bool, Parameter(help="Wait until the address answers.")]

_STARTING = {"building": "starting", "deploying": "starting"}


async def follow(
    client: Client, screen: Screen, project_id: str, deployment_id: str, *, copies: bool = False
) -> DeploymentProgress:
    """Shows a deployment's stages until it is over; `deploying` if that takes too long.

    With `copies` it builds nothing: it starts what was built before.
    """
    names = _STARTING if copies else {}

    def show(status: DeploymentProgress) -> None:
        stage = status.deployment_status or status.status
        progress.stage(names.get(stage, stage))

    with screen.progress("queued") as progress:
        try:
            return await client.follow(project_id, deployment_id, on_status=show)
        except FollowTimedOut:
            return DeploymentProgress(status="deploying", deployment_id=deployment_id)


def exit_of(status: DeploymentProgress, *, followed: bool) -> Exit:
    """The exit code for where a deployment stands at the end of a command."""
    if status.status == "failed":
        return Exit.FAILED
    return Exit.TRY_AGAIN if followed and status.status != "ready" else Exit.OK


_STAGES = {
    PayStep.RESUMED: "an earlier payment is still open; using it",
    PayStep.SIGNED: "paying",
    PayStep.MINED: "paid; asking the gateway to {then}",
    PayStep.WAITING: "paid; the gateway does not count it yet: {why}",
}
_TELLING = frozenset({PayStep.RESUMED, PayStep.SIGNED})


def payer_of(
    client: Client,
    session: Session,
    *,
    allowed: bool,
    allow: str,
    then: str,
    ceiling: MicroUsd | None = None,
) -> Payer:
    """Pays as the wallet within the environment's budget; see `approver` and `step_teller`."""
    screen, connection = session.screen, session.connection
    return Payer(
        client,
        Signer(connection.required_key()),
        chains=connection.chains,
        journal=Journal(connection.state_dir),
        approve=approver(screen, allowed=allowed, allow=allow),
        ceiling=ceiling,
        budget=read_budget(os.environ),
        on_step=step_teller(screen, then=then),
    )


def approver(screen: Screen, *, allowed: bool, allow: str) -> Approve:
    """Approves a payment if the flags do, else asks the person at the terminal.

    `allow` names the flags that would have, for those who can't be asked.
    """

    def approve(offer: Offer) -> bool:
        screen.note(offer_text(offer))
        for warning in offer.warnings:
            screen.warn(in_cli_words(warning))
        if allowed:
            return True
        if not screen.can_ask():
            raise PaymentRefused(
                f"{offer.price_text} to pay, no terminal to ask at: pass {allow}. Nothing was paid."
            )
        return screen.confirm(f"Pay {offer.amount_text}?")

    return approve


def offer_text(offer: Offer) -> str:
    """The price in a sentence: `hello: $0.50 for 1 month on arbitrum (0.50 USDC), …`."""
    months = {None: "", 1: " for 1 month"}.get(offer.months, f" for {offer.months} months")
    held = money_text(offer.balance, decimals=offer.token.decimals)
    return (
        f"{offer.name}: {offer.price_text}{months} on {offer.chain.name} "
        f"({offer.amount_text}), your wallet holds {held}{_bought(offer)}"
    )


def _bought(offer: Offer) -> str:
    """What the price buys, as the gateway says: `; 0.25 CPU, 512 MiB, until …`."""
    buys = offer.buys
    if buys is None:
        return ""
    said = [f"{buys.cpu_millis / 1000:g} CPU"] if buys.cpu_millis else []
    if buys.memory_mib:
        said.append(f"{buys.memory_mib} MiB of memory")
    if buys.until:
        said.append(f"until {buys.until[:16].replace('T', ' ')} UTC")
    return f"; it buys {', '.join(said)}" if said else ""


def step_teller(screen: Screen, *, then: str) -> OnStep:
    """Tells each step of a payment, and why it has to wait, once.

    `then` is what the gateway does once it is paid.
    """
    told = set[str]()

    def tell(step: PayStep, payment: Payment, why: str) -> None:
        amount = money_text(payment.amount, decimals=payment.decimals)
        what = f"{amount} {payment.token.upper()} on {payment.chain}, {payment.reference}"
        stage = _STAGES[step].format(then=then, why=in_cli_words(why))
        if stage not in told:
            screen.note(f"{stage} ({what})" if step in _TELLING else stage)
        told.add(stage)

    return tell


def payment_document(payment: Payment | None) -> dict[str, Any] | None:
    """A payment in a command's JSON document."""
    if payment is None:
        return None
    return {
        "chain": payment.chain,
        "token": payment.token,
        "amount_token": str(payment.amount),
        "tx_hash": payment.tx_hash or None,
    } | ({"authorization_nonce": payment.authorization_nonce} if payment.authorization else {})
