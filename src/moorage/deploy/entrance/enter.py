"""Entrance: an attempt that is paid for becomes a project, a deployment and a job."""

import uuid

import msgspec

from moorage.deploy.entrance import succession
from moorage.deploy.entrance.attempt import Admitted, DeployAttempt
from moorage.deploy.entrance.configuration import configured
from moorage.deploy.entrance.situation import Situation
from moorage.money import MicroUsd
from moorage.payments.taking.receipt import PaymentReceipt
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.project import SHARING_STATUSES, Project, ProjectStatus
from moorage.storage import idempotency
from moorage.storage.apps import configuration, projects
from moorage.storage.database import Transaction
from moorage.storage.money import payments, quotes
from moorage.storage.vault import Vault


class Entry(msgspec.Struct, frozen=True):
    """An attempt that may be carried out."""

    attempt: DeployAttempt
    situation: Situation
    deployment_id: str
    """Unless the same body is under way already."""
    monthly: MicroUsd
    """What a month of it burns, if it makes a project."""
    receipt: PaymentReceipt | None
    now_ms: int


async def enter(tx: Transaction, entry: Entry, vault: Vault) -> tuple[Admitted, tuple[str, ...]]:
    """Queues the deployment; also returns the ids of those that are given up for it.

    Raises UniqueViolation when the payment has paid for something already, or another wallet has
    the name; IdempotencyInProgress when another request has the key.
    """
    attempt, situation = entry.attempt, entry.situation
    own, under_way = situation.own, situation.now.under_way
    project = await _new_project(tx, entry) if own is None else own
    same = [each.id for each in under_way if each.request_digest == attempt.request_digest]
    admitted = Admitted(
        project.id,
        same[0] if same else entry.deployment_id,
        situation.active - (own is not None and own.status in SHARING_STATUSES),
        redeploys=own is not None and not same,
        months=attempt.request.months,
        by_choice=attempt.use_existing_credits and attempt.evidence is None,
        receipt=entry.receipt,
    )
    if entry.receipt is not None:
        await payments.add_use(
            tx,
            chain_id=entry.receipt.chain_id,
            tx_hash=entry.receipt.tx_hash,
            wallet=attempt.wallet,
            project_id=project.id,
            deployment_id=admitted.deployment_id,
        )
    await idempotency.carried_out(tx, attempt.claim, admitted)
    if same:
        return admitted, ()
    project = await _configured(tx, entry, project, vault)
    deployment = _new_deployment(entry, project)
    return admitted, await succession.queue(tx, project, deployment, in_place_of=under_way)


async def _new_project(tx: Transaction, entry: Entry) -> Project:
    request, wallet = entry.attempt.request, entry.attempt.wallet
    project = Project(
        id=str(uuid.uuid4()),
        wallet=wallet,
        unique_name=request.unique_name,
        display_name=request.display_name,
        description=request.description or "",
        status=ProjectStatus.QUEUED,
        monthly_price_micro_usd=entry.monthly,
        serving_deployment_id=None,
        created_at_ms=entry.now_ms,
    )
    await projects.add(tx, project)
    await quotes.release(tx, wallet=wallet, unique_name=request.unique_name)
    return project


async def _configured(tx: Transaction, entry: Entry, project: Project, vault: Vault) -> Project:
    """The project, named and configured by what the attempt says over what there is."""
    request = entry.attempt.request
    await configuration.describe(
        tx, project.id, display_name=request.display_name, description=request.description
    )
    project = configured(project, entry.situation.now, request.settings, vault)
    await configuration.configure(
        tx, project.id, variables=project.variables, health_path=project.health_path
    )
    if project.volume:
        await configuration.give_volume(tx, project.id)
    return project


def _new_deployment(entry: Entry, project: Project) -> Deployment:
    return Deployment(
        id=entry.deployment_id,
        project_id=project.id,
        status=DeploymentStatus.QUEUED,
        request_digest=entry.attempt.request_digest,
        plan=msgspec.json.encode(entry.attempt.plan).decode(),
        note="",
        reason=None,
        reason_code=None,
        log_tail="",
        created_at_ms=entry.now_ms,
        health_path=project.health_path,
        variables=project.variables,
    )
