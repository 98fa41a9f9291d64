"""`moorage deploy`: a directory becomes an address, paid for if credits fall short."""

import asyncio
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from moorage.cli import following
from moorage.cli.connection import DEFAULTS, Connection, Options, find_connection
from moorage.cli.exits import Exit
from moorage.cli.flags import NO_FLAGS, AppFlags
from moorage.cli.paying import approver, payment_document, step_teller
from moorage.cli.screen import Screen, counted
from moorage.cli.variables import VariableReader
from moorage.cli.wording import in_cli_words
from moorage.money import MicroUsd
from moorage.sdk.archive import Collected, collect
from moorage.sdk.budget import read_budget, read_dollars
from moorage.sdk.errors import FilesWouldBeLost
from moorage.sdk.journal import Journal
from moorage.sdk.payer import Approve, Bought, Payer
from moorage.sdk.paying.purchase import titled
from moorage.sdk.request import DeployRequest
from moorage.sdk.signer import Signer
from moorage.wire.deploy import Deployed
from moorage.wire.deployments import DeploymentProgress


def deploy(
    directory: Path,
    /,
    *,
    name: str,
    display_name: str | None = None,
    description: str | None = None,
    months: int = 1,
    chain: str = "arbitrum",
    token: str = "usdc",  # noqa: S107 - a token that pays, not one that logs in
    use_existing_credits: Annotated[bool, Parameter(negative=())] = False,
    discard_written: Annotated[bool, Parameter(negative=())] = False,
    yes: Annotated[bool, Parameter(alias="-y", negative=())] = False,
    max_usd: str | None = None,
    follow: bool = True,
    app: AppFlags = NO_FLAGS,
    options: Options = DEFAULTS,
) -> int:
    """Deploy a directory and print its address.

    The price is shown before it is paid, and asked about on a terminal.

    Run the same command again after any failure: a payment is never made twice.

    Parameters
    ----------
    directory
        What to deploy. .gitignore and .moorageignore are respected; .env* files stay behind.
    name
        Its name, unique at the gateway and part of its address: 4-32 of a-z, 0-9, -.
    display_name
        A title for people; if not given, the one it has, else the name.
    description
        What it is.
    months
        How many months to pay for, 1-24.
    chain
        The chain to pay on.
    token
        The token to pay with.
    use_existing_credits
        Deploy from credits that other projects also live on, instead of paying.
    discard_written
        Lose what the running version has written outside its volume, without asking.
    yes
        Pay without asking.
    max_usd
        Pay without asking up to this many dollars, and never more.
    follow
        Wait until the address answers.
    """
    screen = Screen(json=options.json)
    ceiling = None if max_usd is None else read_dollars(max_usd, of="--max-usd")
    connection = find_connection(options)
    signer = Signer(connection.required_key())
    collected = collect(directory)
    for warning in (*connection.warnings, *collected.warnings):
        screen.warn(warning)
    request = DeployRequest(
        unique_name=name,
        display_name=display_name or name,
        description=description,
        months=months,
        settings=app.settings(VariableReader(os.environ, sys.stdin.buffer)),
        upload=collected.upload,
        discard_written=discard_written,
    )
    screen.note(_uploading(directory, collected))
    session = _Session(connection, signer, screen)
    approve = approver(
        screen, allowed=yes or ceiling is not None, allow="--yes, or --max-usd with a limit"
    )
    means = _Means(chain=chain, token=token, use_existing_credits=use_existing_credits)
    untitled = display_name is None
    return asyncio.run(
        session.deploy(request, means, approve, untitled=untitled, ceiling=ceiling, follow=follow)
    )


class _Means(msgspec.Struct, frozen=True):
    """How the person wants to pay."""

    chain: str
    token: str
    use_existing_credits: bool


class _Session:
    """One run of the command."""

    def __init__(self, connection: Connection, signer: Signer, screen: Screen) -> None:
        self._connection = connection
        self._signer = signer
        self._screen = screen

    async def deploy(
        self,
        request: DeployRequest,
        means: _Means,
        approve: Approve,
        *,
        untitled: bool,
        ceiling: MicroUsd | None,
        follow: bool,
    ) -> Exit:
        """Deploys, pays if asked to, follows if `follow`, and prints the outcome."""
        async with self._connection.signed_client() as client:
            if untitled:
                request = await titled(client, request)
            payer = Payer(
                client,
                self._signer,
                chains=self._connection.chains,
                journal=Journal(self._connection.state_dir),
                approve=approve,
                ceiling=ceiling,
                budget=read_budget(os.environ),
                on_step=step_teller(self._screen, then="deploy"),
            )
            named = msgspec.structs.asdict(means)
            try:
                deployed = await payer.deploy(request, **named)
            except FilesWouldBeLost as lost:
                self._require_consent(lost)
                request = msgspec.structs.replace(request, discard_written=True)
                deployed = await payer.deploy(request, **named)
            accepted_seconds = time.monotonic()
            if deployed.payment is None:  # else the price came with them
                for warning in deployed.answer.warnings or ():
                    self._screen.warn(in_cli_words(warning.message))
            status = _begun(deployed)
            if follow:
                ids = deployed.answer.project_id, deployed.answer.deployment_id
                status = await following.follow(client, self._screen, *ids)
        took_seconds = time.monotonic() - accepted_seconds
        return self._conclude(request.unique_name, deployed, status, took_seconds, follow=follow)

    def _require_consent(self, lost: FilesWouldBeLost) -> None:
        """Asks whether files may be lost. Raises `lost` if not, or if there is nobody to ask."""
        if self._screen.can_ask():
            self._screen.warn(in_cli_words(lost.message))
            if self._screen.confirm("Deploy without these files?"):
                return
        raise lost

    def _conclude(
        self,
        name: str,
        deployed: Bought[Deployed],
        status: DeploymentProgress,
        took_seconds: float,
        *,
        follow: bool,
    ) -> Exit:
        self._screen.document(deploy_document(name, deployed, status))
        for line in deploy_lines(name, deployed, status, took_seconds):
            self._screen.result(line)
        return following.exit_of(status, followed=follow)


def deploy_document(
    name: str, deployed: Bought[Deployed], status: DeploymentProgress
) -> dict[str, Any]:
    """The JSON document of a deploy."""
    return {
        "status": status.status,
        "name": name,
        "projectId": deployed.answer.project_id,
        "deploymentId": deployed.answer.deployment_id,
        "endpoint": status.endpoint or None,
        "reason": status.reason or None,
        "reason_code": status.reason_code or None,
        "message": status.message or deployed.answer.message,
        "log_tail": status.log_tail or None,
        "next_actions": status.next_actions or None,
        "next_settings": status.next_settings or None,
        "payment": payment_document(deployed.payment),
    }


def deploy_lines(
    name: str, deployed: Bought[Deployed], status: DeploymentProgress, took_seconds: float
) -> Iterable[str]:
    """The outcome and what to do next, for a person."""
    if status.status == "ready":
        yield f"{name} is live after {took_seconds:.1f} s: {status.endpoint}"
        if status.message:
            yield in_cli_words(status.message)
        yield f"Next: moorage status {name} · moorage projects · moorage delete {name}"
    elif status.status == "failed":
        yield f"{name} failed: {in_cli_words(status.reason or '')}"
        if status.log_tail:
            yield status.log_tail.rstrip()
        for action in (status.next_actions or [])[:-1]:  # the last is what follows
            yield f"Next: {in_cli_words(action)}"
        yield "Unspent credits stay with your wallet. Fix it and run the same command again."
    else:
        yield f"{name} is deploying. {deployed.answer.message}".rstrip()
        answer = deployed.answer
        yield f"Next: moorage status {answer.project_id} {answer.deployment_id}"


def _uploading(directory: Path, collected: Collected) -> str:
    files = counted(collected.file_count, "file")
    return f"Uploading {files} from {directory} ({collected.total_bytes / 1000:.1f} kB)"


def _begun(deployed: Bought[Deployed]) -> DeploymentProgress:
    return DeploymentProgress(status="deploying", deployment_id=deployed.answer.deployment_id)
