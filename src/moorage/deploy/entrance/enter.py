"""Enter: an accepted attempt becomes a project, a deployment and a job."""

import uuid

import msgspec

from moorage.deploy.entrance import succession
from moorage.deploy.entrance.attempt import Admitted, DeployAttempt
from moorage.deploy.entrance.configuration import configured
from moorage.deploy.entrance.loss import begins_empty
from moorage.deploy.entrance.situation import Situation
from moorage.deploy.entrance.warnings import of_attempt
from moorage.events import outbox
from moorage.money import MicroUsd, usd_number
from moorage.payments.taking.outcome import PaymentReceipt
from moorage.records.deployment import Deployment, DeploymentStatus, kept
from moorage.records.event import EventData, EventKind
from moorage.records.project import SHARING_STATUSES, Project, ProjectStatus
from moorage.storage import idempotency
from moorage.storage.apps import configuration, projects
from moorage.storage.database import Transaction
from moorage.storage.money import payments, quotes
from moorage.storage.vault import Vault
from moorage.uploads.request import DeployRequest


class AcceptedAttempt(msgspec.Struct, frozen=True):
    """An attempt that will be carried out."""

    attempt: DeployAttempt
    situation: Situation
    deployment_id: str
    """The id of its deployment, unless one with the same body is under way already."""
    monthly: MicroUsd
    """What a month of the project burns, if it is new."""
    receipt: PaymentReceipt | None
    now_ms: int


async def enter(
    tx: Transaction, accepted: AcceptedAttempt, vault: Vault
) -> tuple[Admitted, tuple[str, ...]]:
    """Queues the deployment; also returns the ids of the deployments that it supersedes.

    Raises UniqueViolation when the payment has paid for another deployment, or another wallet has
    the name; IdempotencyInProgress when another request has the key.
    """
    attempt, situation = accepted.attempt, accepted.situation
    own, under_way = situation.own, situation.now.under_way
    project = configured(
        own or _new_project(accepted), situation.now, attempt.request.settings, vault
    )
    if own is None:
        await projects.add(tx, project)
        await quotes.release(tx, wallet=project.wallet, unique_name=project.unique_name)
        await _tell_payer(tx, accepted, project)
    same = [each.id for each in under_way if each.request_digest == attempt.request_digest]
    others = situation.active - (own is not None and own.status in SHARING_STATUSES)
    admitted = Admitted(
        project.id,
        same[0] if same else accepted.deployment_id,
        0 if attempt.is_veiled else others,
        redeploys=own is not None and not same,
        months=attempt.request.months,
        by_choice=attempt.use_existing_credits and attempt.evidence is None,
        receipt=accepted.receipt,
        warnings=of_attempt(attempt, situation),
    )
    await _use_up(tx, admitted, attempt.wallet)
    await idempotency.carried_out(tx, attempt.claim, admitted)
    if same:
        return admitted, ()
    if own is not None:
        await _reconfigure(tx, attempt.request, project)
        if project.volume:
            is_empty = begins_empty(attempt.written, situation.successor(attempt))
            await configuration.give_volume(tx, project.id, is_empty=is_empty)
    plan = attempt.plan
    return admitted, await succession.queue(
        tx,
        project,
        _new_deployment(accepted, project),
        in_place_of=under_way,
        builds=bool(plan.install or plan.build),
    )


async def _tell_payer(tx: Transaction, accepted: AcceptedAttempt, project: Project) -> None:
    """Tells the wallet of a project that a payment alone has opened: it may not know of it."""
    receipt = accepted.receipt
    if receipt is None or not accepted.attempt.is_open:
        return
    data: EventData = {
        "project_id": project.id,
        "name": project.unique_name,
        "amount_usd": usd_number(receipt.credited),
        "chain": receipt.chain,
        "tx_hash": receipt.tx_hash,
    }
    await outbox.record(
        tx,
        wallet=project.wallet,
        kind=EventKind.DEPLOYED_BY_PAYMENT,
        data=data,
        now_ms=accepted.now_ms,
    )


async def _use_up(tx: Transaction, admitted: Admitted, wallet: str) -> None:
    """Records what the request's payment paid for."""
    if admitted.receipt is not None:
        await payments.add_use(
            tx,
            chain_id=admitted.receipt.chain_id,
            tx_hash=admitted.receipt.tx_hash,
            wallet=wallet,
            project_id=admitted.project_id,
            deployment_id=admitted.deployment_id,
        )


def _new_project(accepted: AcceptedAttempt) -> Project:
    request, receipt = accepted.attempt.request, accepted.receipt
    purse = receipt.purse if receipt is not None and accepted.attempt.is_open else None
    return Project(
        id=purse or str(uuid.uuid4()),
        wallet=accepted.attempt.wallet,
        unique_name=request.unique_name,
        display_name=request.display_name,
        description=request.description or "",
        status=ProjectStatus.QUEUED,
        monthly_price_micro_usd=accepted.monthly,
        serving_deployment_id=None,
        created_at_ms=accepted.now_ms,
        months=request.months,
    )


async def _reconfigure(tx: Transaction, request: DeployRequest, project: Project) -> None:
    """Gives an existing project the names and configuration of its new version."""
    await configuration.describe(
        tx, project.id, display_name=request.display_name, description=request.description
    )
    await configuration.configure(
        tx, project.id, variables=project.variables, health_path=project.health_path
    )


def _new_deployment(accepted: AcceptedAttempt, project: Project) -> Deployment:
    return Deployment(
        id=accepted.deployment_id,
        project_id=project.id,
        status=DeploymentStatus.QUEUED,
        request_digest=accepted.attempt.request_digest,
        plan=msgspec.json.encode(accepted.attempt.plan).decode(),
        findings=msgspec.json.encode(kept(accepted.attempt.findings)).decode(),
        note="",
        reason=None,
        reason_code=None,
        log_tail="",
        created_at_ms=accepted.now_ms,
        health_path=project.health_path,
        variables=project.variables,
    )
