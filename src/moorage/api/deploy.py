"""The endpoints of the contract's part 1, under `/agent`."""

import asyncio

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.connections.arrival import ARRIVAL, Arrival
from moorage.api.credits import allowance_body
from moorage.api.http.caller import Caller, authenticate, count, limit_address, use_nonce, verify
from moorage.api.http.owned import owned_project
from moorage.api.http.paid_refusals import accounted
from moorage.api.http.payment_headers import OfferedPayment, paid_headers, read_payment
from moorage.api.http.problems import json_response
from moorage.api.services import Gateway
from moorage.api.status import progress
from moorage.chains.address import checksum_address, parse_address
from moorage.chains.balances import token_balances
from moorage.clock import iso_utc
from moorage.deploy.addresses.reserved_names import is_reserved
from moorage.deploy.entrance.attempt import Admitted, DeployAttempt
from moorage.errors import (
    DeploymentNotFound,
    InvalidField,
    InvalidRequest,
    ProjectNotFound,
    WrongWallet,
)
from moorage.money import NOTHING, charge_to_atomic_units, decimal_text, usd_number
from moorage.parsers.turns import Party
from moorage.parsers.uploads import UploadParser
from moorage.payments.protocols.demand import chain_body, sharing_warning
from moorage.payments.protocols.evidence import named_chain
from moorage.records.deployment import DeploymentView
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import projects
from moorage.uploads import Upload, read_upload
from moorage.wire.deploy import Deployed, Quoted
from moorage.wire.projects import ProjectDeleted, ProjectItem, ProjectList
from moorage.wire.public import Balances, ChainItem, ChainList, Health, TokenBalance


async def deploy(gateway: Gateway, request: Request) -> Response:
    """`POST /agent/deploy`: deploy, or say what it costs."""
    caller = await authenticate(gateway, request)
    if _flag(request, "x-dry-run"):
        return await _dry_run(gateway, request, caller)
    payment = read_payment(gateway, request, stranger_at=caller.stranger_at)
    async with accounted(gateway.paywall, payment.evidence, wallet=caller.wallet):
        attempt, upload = await _read_bid(gateway, request, caller, payment)
        try:
            return await _deployed(gateway, request, attempt, upload)
        finally:
            await _close(upload)


async def quote(gateway: Gateway, request: Request) -> Response:
    """`POST /agent/quote`: all checks and the price, with no side effect."""
    caller = await authenticate(gateway, request)
    return await _dry_run(gateway, request, caller)


async def status(gateway: Gateway, request: Request) -> Response:
    """`GET /agent/deploy/{projectId}/{deploymentId}/status`: where a deployment stands."""
    signed = await verify(gateway, request)
    try:
        found = await _own_standing(gateway, request, signed.wallet)
    except (DeploymentNotFound, ProjectNotFound, WrongWallet):
        await count(gateway, request, signed.wallet)
        await use_nonce(gateway, signed)
        raise
    gateway.limiters.polls.check(request.path_params["deploymentId"])
    await use_nonce(gateway, signed)
    return json_response(await progress(gateway, found))


async def list_projects(gateway: Gateway, request: Request) -> Response:
    """`GET /agent/projects`: the wallet's projects."""
    wallet, _ = await authenticate(gateway, request)
    found = await projects.of_wallet(gateway.db, wallet)
    return json_response(
        ProjectList(
            wallet=checksum_address(wallet),
            count=len(found),
            projects=[_project_item(gateway, project) for project in found],
        )
    )


async def delete_project(gateway: Gateway, request: Request) -> Response:
    """`DELETE /agent/projects/{projectId}`: stop the app and forget the project."""
    project = await owned_project(gateway, request)
    await gateway.deletion.delete(project)
    return json_response(ProjectDeleted(project_id=project.id))


async def balance(gateway: Gateway, request: Request) -> Response:
    """`GET /agent/balance/{address}`: token balances on one chain."""
    limit_address(gateway, request)
    try:
        address = parse_address(request.path_params["address"])
    except ValueError as error:
        raise InvalidField("address", "must be 0x and 40 hex digits") from error
    chain = named_chain(request.query_params.get("chain"), gateway.chains, field="chain")
    async with gateway.balance_questions.one():
        found = await token_balances(gateway.clients[chain.name], chain, address)
    return json_response(
        Balances(
            address=checksum_address(address),
            chain=chain.name,
            chain_id=chain.chain_id,
            balances=[
                TokenBalance(
                    token=token.name,
                    symbol=token.symbol,
                    address=token.address,
                    balance=decimal_text(amount, decimals=token.decimals),
                    balance_raw=str(amount),
                    decimals=token.decimals,
                )
                for token, amount in found
            ],
        )
    )


async def chains(gateway: Gateway, request: Request) -> Response:
    """`GET /agent/chains`: the chains that payments are taken on."""
    limit_address(gateway, request)
    listed = [ChainItem(**chain_body(chain)) for chain in gateway.chains.values()]
    return json_response(ChainList(chains=listed))


async def health(_gateway: Gateway, _request: Request) -> Response:
    """`GET /health`: the process answers."""
    return json_response(Health())


async def _own_standing(gateway: Gateway, request: Request, wallet: str) -> DeploymentView:
    """How the wallet's deployment stands.

    Raises DeploymentNotFound, ProjectNotFound and WrongWallet.
    """
    found = await projects.standing(gateway.db, request.path_params["deploymentId"])
    if found is None or found.project_id != request.path_params["projectId"]:
        raise DeploymentNotFound
    if found.project_status in (ProjectStatus.DELETING, ProjectStatus.DELETED):
        raise ProjectNotFound
    if found.wallet != wallet:
        raise WrongWallet
    return found


async def _dry_run(gateway: Gateway, request: Request, caller: Caller) -> Response:
    payment = read_payment(gateway, request, stranger_at=caller.stranger_at)
    attempt, upload = await _read_bid(gateway, request, caller, payment)
    await _close(upload)
    return await _quoted(gateway, attempt)


async def _read_bid(
    gateway: Gateway, request: Request, caller: Caller, payment: OfferedPayment
) -> tuple[DeployAttempt, Upload]:
    """The request's body and headers, checked, with the plan made; the upload is to be closed."""
    party = _party(caller)
    arrival: Arrival = request.scope[ARRIVAL]
    received = await read_upload(
        request.stream(),
        content_length=_content_length(request),
        limits=gateway.upload_limits,
        spool_dir=gateway.spool_dir,
        parser=UploadParser(gateway.parsers, party),
        allowance=gateway.spool_room.allowance(arrival.identify(), arrival),
    )
    try:
        checked = received.request
        await _refuse_reserved(gateway, checked.unique_name)
        if checked.settings.volume:
            gateway.require_volumes("settings.volume")
        attempt = DeployAttempt(
            wallet=caller.wallet,
            stranger_at=caller.stranger_at,
            request=checked,
            request_digest=received.digest,
            plan=await gateway.plans.plan(
                received.upload,
                received.tree_digest,
                checked.settings,
                await gateway.inventory.known(),
                party,
            ),
            means=payment.means,
            evidence=payment.evidence,
            use_existing_credits=_flag(request, "x-use-existing-credits"),
        )
    except BaseException:
        await _close(received.upload)
        raise
    return attempt, received.upload


def _party(caller: Caller) -> Party:
    """On whose account the parsing is: keys are free, so a stranger's is its address's."""
    if caller.stranger_at is None:
        return Party(caller.wallet, is_stranger=False)
    return Party(caller.stranger_at, is_stranger=True)


async def _refuse_reserved(gateway: Gateway, name: str) -> None:
    """Raise InvalidField for a name that is nobody's to have; a project that has it keeps it."""
    own = gateway.hosts.unique_name(gateway.host.partition(":")[0])
    if is_reserved(name, own=own) and await projects.by_name(gateway.db, name) is None:
        raise InvalidField("uniqueName", "is reserved; choose another")


async def _close(upload: Upload) -> None:
    if upload.on_disk:
        await asyncio.to_thread(upload.close)
    else:
        upload.close()


async def _deployed(
    gateway: Gateway, request: Request, attempt: DeployAttempt, upload: Upload
) -> Response:
    """The answer of a deploy, or what the same request was answered before."""
    async with gateway.idempotency.attempt(
        request,
        wallet=attempt.wallet,
        body_digest=attempt.request_digest,
        outcome=Admitted,
        render=accepted,
    ) as keyed:
        if keyed.answer is not None:
            await gateway.admission.credit(attempt)
            return keyed.answer
        claimed = msgspec.structs.replace(attempt, claim=keyed.claim)
        return keyed.answered(await gateway.admission.admit(claimed, upload))


async def _quoted(gateway: Gateway, attempt: DeployAttempt) -> Response:
    offer = await gateway.admission.quote(attempt)
    token = attempt.means.token
    allowance = await gateway.build_time.allowance(
        gateway.db, attempt.wallet, to_come=offer.amount if offer.payment_required else NOTHING
    )
    return json_response(
        Quoted(
            amount_usd=usd_number(offer.amount),
            amount_token=str(charge_to_atomic_units(offer.amount, decimals=token.decimals)),
            current_credit_balance_usd=usd_number(offer.balance),
            active_projects=offer.active_projects,
            payment_required=offer.payment_required,
            warning=sharing_warning(offer.active_projects) if offer.shares else UNSET,
            pay_to=gateway.pay_to,
            payment_chain=attempt.means.chain.name,
            token=token.name,
            decimals=token.decimals,
            build_allowance=allowance_body(allowance),
            plan=attempt.plan,
        )
    )


def _content_length(request: Request) -> int | None:
    declared = request.headers.get("content-length")
    if declared is None:
        return None
    if not (declared.isascii() and declared.isdigit()) or len(declared) > 18:
        raise InvalidRequest("Content-Length must be a number.")
    return int(declared)


def _flag(request: Request, header: str) -> bool:
    """A header that is `true` or `false`, in any letter case; absent is false."""
    value = request.headers.get(header, "false").strip().lower()
    if value not in ("true", "false"):
        raise InvalidField(header.title(), "must be true or false")
    return value == "true"


def accepted(admitted: Admitted) -> Response:
    """The answer to a deploy that is carried out."""
    message = "Deployment started. Poll status for updates."
    if admitted.by_choice and admitted.sharing_with:
        message += (
            f" It shares your credits with {admitted.sharing_with} other active project(s)"
            " and will reduce their runtime."
        )
    if admitted.redeploys and admitted.months != 1:
        message += " A redeploy takes no credits, so months does not count."
    return json_response(
        Deployed(
            project_id=admitted.project_id, deployment_id=admitted.deployment_id, message=message
        ),
        headers=paid_headers(admitted.receipt),
    )


def _project_item(gateway: Gateway, project: Project) -> ProjectItem:
    deployed = project.serving_deployment_id is not None
    return ProjectItem(
        id=project.id,
        name=project.unique_name,
        display_name=project.display_name,
        description=project.description,
        status=project.status,
        url=gateway.hosts.url(project.unique_name) if deployed else None,
        created_at=iso_utc(project.created_at_ms),
    )
