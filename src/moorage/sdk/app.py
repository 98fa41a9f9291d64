"""Deploys a directory in one call, paid within a limit.

from moorage import deploy

app = deploy(".", name="shop", max_usd=1)
print(app.url)
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from decimal import Decimal
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec

from moorage.money import MicroUsd
from moorage.sdk.archive import read_upload
from moorage.sdk.budget import read_budget, read_dollars
from moorage.sdk.client import Settings
from moorage.sdk.connection import NOTHING_NAMED, Named, find_connection
from moorage.sdk.errors import AppFailed
from moorage.sdk.journal import Journal, Payment
from moorage.sdk.payer import Payer, PayStep, deploy_request
from moorage.sdk.payment import money_text
from moorage.sdk.signer import Signer
from moorage.wire.deployments import DeploymentProgress

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")

OnProgress = Callable[[str], None]
"""Takes a step when it begins: `paying 0.50 USDC on arbitrum`, `queued`, `building`, `ready`."""


class App(msgspec.Struct, frozen=True):
    """An app that answers at its address."""

    url: str
    name: str
    project_id: str
    deployment_id: str
    payment: Payment | None  # None where credits sufficed


async def deploy_async(
    directory: str | Path,
    *,
    name: str,
    max_usd: Decimal | float,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    months: int = 1,
    chain: str = "arbitrum",
    token: str = "usdc",  # noqa: S107 - a token that pays
    connection: Named = NOTHING_NAMED,
    on_progress: OnProgress | None = None,
) -> App:
    """Deploys a directory, or an export, and returns once it answers.

    Gateway, key and nodes are those of the environment, as the command line has them, unless
    `connection` names others. Pays at most `max_usd`, and never twice: after any error the same
    call continues where that one ended. Raises AppFailed, and the errors of `sdk.errors`.
    """
    tell = _once_each(on_progress or (lambda _step: None))
    ceiling = read_dollars(str(max_usd), of="max_usd", or_zero=True)
    found, here = read_upload(Path(directory)), find_connection(connection)
    async with here.signed_client() as client:
        request = await deploy_request(
            client,
            found,
            name=name,
            display_name=None,
            description=None,
            months=months,
            settings=settings,
        )
        payer = Payer(
            client,
            Signer(here.required_key()),
            chains=here.chains,
            journal=Journal(here.state_dir),
            approve=lambda _offer: True,
            ceiling=MicroUsd(ceiling),
            budget=read_budget(os.environ),
            on_step=lambda step, payment, _why: _tell_payment(tell, step, payment),
        )
        bought = await payer.deploy(request, chain=chain, token=token)
        ids = bought.answer.project_id, bought.answer.deployment_id
        status = await client.follow(*ids, on_status=lambda each: tell(_stage(each)))
    if status.status == "failed":
        raise AppFailed(status)
    return App(status.endpoint or "", name, *ids, bought.payment)


def _blocking(
    call: Callable[_Arguments, Coroutine[Any, Any, _Answer]],
) -> Callable[_Arguments, _Answer]:
    @wraps(call)
    def blocking(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Answer:
        return asyncio.run(call(*arguments, **named))

    return blocking


deploy = _blocking(deploy_async)
"""`deploy_async` for callers without an event loop."""


def _tell_payment(tell: OnProgress, step: PayStep, payment: Payment) -> None:
    if step is PayStep.SIGNED:
        amount = money_text(payment.amount, decimals=payment.decimals)
        tell(f"paying {amount} {payment.token.upper()} on {payment.chain}")


def _once_each(tell: OnProgress) -> OnProgress:
    """Returns what passes a step on unless it is the one before."""
    last = ""

    def changed(step: str) -> None:
        nonlocal last
        if step != last:
            last = step
            tell(step)

    return changed


def _stage(status: DeploymentProgress) -> str:
    return status.deployment_status or status.status
