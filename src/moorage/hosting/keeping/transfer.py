"""Transfer of a project to another wallet: its giver offers it, and its taker accepts.

Accepting is one transaction. Billing of the giver ends at that moment, and that of the taker
begins; what opened the project to others ends: manage tokens, links to its pages, archives.
"""

import uuid
from collections.abc import Callable

import msgspec

from moorage.auth.recovery import require_unclaimed
from moorage.clock import Clock
from moorage.errors import (
    ProjectNotFound,
    TermsChanged,
    TransferNotFound,
    TransferRefused,
)
from moorage.hosting.entrance.capacity import Quotas
from moorage.hosting.entrance.configuration import (
    copied_deployment,
    queue_deployment,
    refuse_blocked,
)
from moorage.ledger import ledger
from moorage.ledger.metering import Metering
from moorage.money import NOTHING, MicroUsd
from moorage.planning.plan import Plan
from moorage.records.deployment import Deployment, Origin
from moorage.records.event import EventData, EventKind
from moorage.records.project import Project, ProjectStatus, Transfer, TransferState, Variables
from moorage.storage import delegations, events
from moorage.storage.apps import deployments, projects, transfers
from moorage.storage.database import Database, Transaction
from moorage.storage.money import accounts, billing
from moorage.storage.operation import exports
from moorage.storage.page_access import revoke_manage_tokens
from moorage.storage.vault import Vault

MAX_OFFERS = 20
"""How many of a project are kept, with those that are over: each is in its taker's list as well."""

_UNDER_WAY = (
    "A deployment of the project is under way: wait until it is ready or has failed, or cancel it, "
    "and try again. The offer stands."
)
_NOT_FINAL = (
    "A payment of the wallet that gives the project is not final yet, so its credits can't go "
    "along: try again in some minutes. The offer stands."
)
_LESS_IN_PURSE = (
    "Less than you expect goes along with the project. Nothing changed: look at the offer again "
    "(GET /agent/transfers)."
)
_GIVER_OWES = "The wallet that gives the project owes something, so its purse can't go along."
_PURSE_OWES = "The project's purse owes something since a payment was reversed: top it up first."


class Transfers:
    """Writes to rows whose project it is; the app runs on."""

    def __init__(
        self,
        *,
        db: Database,
        metering: Metering,
        quotas: Quotas,
        vault: Vault,
        owners_apart: bool,
        on_queued: Callable[[], None],
        clock: Clock,
    ) -> None:
        """`owners_apart` is whether the engine keeps what an app has in a place of its wallet."""
        self._db = db
        self._metering = metering
        self._quotas = quotas
        self._vault = vault
        self._owners_apart = owners_apart
        self._on_queued = on_queued
        self._clock = clock

    async def offer(
        self,
        of: Project,
        *,
        taker: str,
        with_purse: bool,
        with_variables: bool,
        not_after_ms: int,
    ) -> Transfer:
        """Offers a project to another wallet; an earlier open offer of it is withdrawn.

        Raises ProjectNotFound, ProjectBlocked, TransferRefused.
        """
        if self._owners_apart:
            raise TransferRefused(
                "This gateway keeps what an app has in a place of its wallet: export the project, "
                "and let the other wallet deploy the archive."
            )
        now_ms = self._clock.now_ms()
        transfer = Transfer(
            id=str(uuid.uuid4()),
            project_id=of.id,
            giver=of.wallet,
            taker=taker,
            with_purse=with_purse,
            with_variables=with_variables,
            created_at_ms=now_ms,
            not_after_ms=not_after_ms,
        )
        async with self._db.transaction(durable=True) as tx:
            await accounts.lock(tx, of.wallet)
            await _given(tx, transfer)
            await transfers.withdraw(tx, of.id, now_ms=now_ms)
            await transfers.add(tx, transfer, max_kept=MAX_OFFERS)
        return transfer

    async def withdraw(self, transfer_id: str, *, wallet: str) -> Transfer:
        """Ends an offer, by its giver or its taker. Raises TransferNotFound, TransferRefused."""
        async with self._db.transaction(durable=True) as tx:
            transfer = await self._open(tx, transfer_id, wallet=wallet)
            if not await transfers.withdraw(tx, transfer.project_id, now_ms=self._clock.now_ms()):
                raise TransferRefused("The offer is accepted already.")  # just now, elsewhere
        return msgspec.structs.replace(transfer, withdrawn_at_ms=self._clock.now_ms())

    async def accept(
        self, transfer_id: str, *, wallet: str, expected: MicroUsd = NOTHING
    ) -> Project:
        """Makes the project the taker's, who asks; returns it as it is then.

        Its purse must bring `expected` credits, or more.

        Without credits for its next hour it is suspended. Asked again, as when the answer was lost,
        it changes nothing. Raises TransferNotFound, TransferRefused, TermsChanged,
        ProjectBlocked, RecoveryPending, WalletNotListed, TooManyProjects and Maintenance, with
        nothing changed.
        """
        now_ms, queued = self._clock.now_ms(), False
        async with self._db.transaction(durable=True) as tx:
            if (taken := await _taken(tx, transfer_id, wallet=wallet)) is not None:
                return taken
            transfer = await self._open(tx, transfer_id, wallet=wallet, to_take=True)
            await accounts.ensure_wallet(tx, wallet, now_ms=now_ms)
            for each in sorted((transfer.giver, wallet)):  # in one order, as two may cross
                await accounts.lock(tx, each)
            await self._quotas.require(tx, wallet, None)
            refuse_blocked(await accounts.wallet_row(tx, wallet), None)
            before = await _given(tx, transfer)
            if await deployments.under_way_of(tx, before.id):
                raise TransferRefused(_UNDER_WAY)
            if not await transfers.accept(tx, transfer_id, now_ms=now_ms):
                raise TransferNotFound
            was_billed = await billing.open_of(tx, before.id) is not None
            await self._metering.regain(tx, before)  # to whom it burned from, not to the taker
            await self._metering.end(tx, before.id)
            if await self._part_purse(tx, before, transfer, now_ms=now_ms) < expected:
                raise TermsChanged(_LESS_IN_PURSE)
            if not await transfers.give(tx, before, taker=wallet):
                raise TransferNotFound
            after = msgspec.structs.replace(before, wallet=wallet)
            await self._close_doors(tx, before, now_ms=now_ms)
            if was_billed:
                await self._metering.begin_or_suspend(tx, after)
            if not transfer.with_variables:
                queued = await self._forget_variables(tx, after, now_ms=now_ms)
            await _record(tx, transfer, before, now_ms=now_ms)
            given = await projects.by_id(tx, before.id)
        if queued:
            self._on_queued()
        return given or after

    async def _open(
        self, tx: Transaction, transfer_id: str, *, wallet: str, to_take: bool = False
    ) -> Transfer:
        """Returns an open offer to a wallet; by it as well, unless it is `to_take` it.

        Raises TransferNotFound, TransferRefused.
        """
        transfer = await transfers.by_id(tx, transfer_id)
        if transfer is None or wallet not in (transfer.giver, transfer.taker):
            raise TransferNotFound
        if to_take and wallet != transfer.taker:
            raise TransferNotFound
        state = transfer.state(self._clock.now_ms())
        if state is not TransferState.OPEN:
            raise TransferRefused(f"The offer is {state} already. Ask for another.")
        return transfer

    async def _part_purse(
        self, tx: Transaction, project: Project, transfer: Transfer, *, now_ms: int
    ) -> MicroUsd:
        """Leaves the purse's credits to the giver, unless they go with the project; returns what
        goes.

        A limit of the giver's ends.
        """
        purse = await accounts.purse(tx, project.id)
        if purse is None:
            return NOTHING
        if purse.balance < 0:
            raise TransferRefused(_PURSE_OWES)
        goes_along = transfer.with_purse and purse.balance > 0
        if goes_along and await transfers.may_be_reversed(tx, transfer.giver):
            raise TransferRefused(_NOT_FINAL)
        if not await ledger.hand_over(tx, purse, transfer, now_ms=now_ms):
            raise TransferRefused(_GIVER_OWES)
        shared = purse.shared or not transfer.with_purse
        await accounts.set_terms(tx, project.id, shared=shared, limit=None)
        return purse.balance if goes_along else NOTHING

    async def _close_doors(self, tx: Transaction, project: Project, *, now_ms: int) -> None:
        """Ends what opened the project to others while it was its giver's."""
        await revoke_manage_tokens(tx, project.id)
        await delegations.end_of_project(tx, project.wallet, project.unique_name, now_ms=now_ms)
        export = await exports.of_project(tx, project.id, by_owner=True)
        if export is not None:
            await exports.put(tx, msgspec.structs.replace(export, until_ms=now_ms))

    async def _forget_variables(self, tx: Transaction, project: Project, *, now_ms: int) -> bool:
        """Removes the giver's variables, and starts the app again; returns whether it is to start.

        Secrets that the gateway itself makes for an app are made again.
        """
        await projects.forget_variables(tx, project.id)
        serving_id = project.serving_deployment_id
        serving = None if serving_id is None else await deployments.by_id(tx, serving_id)
        if serving is None:
            return False
        variables = self._vault.seal(Variables().with_secrets(_secrets_of(serving)), project.id)
        kept = {"variables": variables, "health_path": serving.health_path}
        await projects.configure(tx, project.id, **kept)
        await projects.configure_deployment(tx, serving.id, **kept)
        current = await projects.by_id(tx, project.id)
        runs = current is not None and current.status is ProjectStatus.ACTIVE
        if current is None or not runs or current.asleep_since_ms is not None:
            return False
        copy = copied_deployment(serving, Origin.CONFIGURATION, now_ms=now_ms)
        again = msgspec.structs.replace(copy, variables=variables)
        await queue_deployment(tx, current, again, in_place_of=())
        return True


def _secrets_of(deployment: Deployment) -> tuple[str, ...]:
    return tuple(msgspec.json.decode(deployment.plan, type=Plan).secrets or ())


async def _taken(tx: Transaction, transfer_id: str, *, wallet: str) -> Project | None:
    """Returns the project that the wallet has by this offer already, if so."""
    transfer = await transfers.by_id(tx, transfer_id)
    if transfer is None or transfer.taker != wallet or transfer.accepted_at_ms is None:
        return None
    project = await projects.by_id(tx, transfer.project_id)
    return project if project is not None and project.wallet == wallet else None


async def _given(tx: Transaction, transfer: Transfer) -> Project:
    """Returns the project that is offered.

    Raises ProjectNotFound, ProjectBlocked, RecoveryPending.
    """
    project = await projects.by_id(tx, transfer.project_id)
    if project is None or project.wallet != transfer.giver:
        raise ProjectNotFound
    if project.status is ProjectStatus.DELETING:
        raise ProjectNotFound
    await require_unclaimed(tx, transfer.giver)
    refuse_blocked(await accounts.wallet_row(tx, transfer.giver), project)
    return project


async def _record(tx: Transaction, transfer: Transfer, project: Project, *, now_ms: int) -> None:
    data: EventData = {
        "project_id": project.id,
        "name": project.unique_name,
        "from": transfer.giver,
        "to": transfer.taker,
    }
    for wallet in (transfer.giver, transfer.taker):
        await events.record(
            tx, wallet=wallet, kind=EventKind.PROJECT_TRANSFERRED, data=data, now_ms=now_ms
        )
