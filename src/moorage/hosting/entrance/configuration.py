"""Configuration: what an app is started with beside its files, and how to change it.

A change is based on the deployment under way, or else on the one that serves. So the configuration
of a deployment that failed is dropped.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from moorage.acting import acted_by
from moorage.auth.rate_limit import RateLimiter
from moorage.clock import Clock
from moorage.engines.engine import WrittenFiles
from moorage.errors import (
    DeployFailed,
    FailureCause,
    InvalidField,
    OutOfCredits,
    ProjectBlocked,
    ProjectPaused,
)
from moorage.hosting.entrance.capacity import Capacity
from moorage.hosting.entrance.written import (
    Successor,
    begins_empty,
    finds_volume,
    refuse_loss,
    volume_of,
)
from moorage.hosting.work.failure import fail
from moorage.ledger import ledger
from moorage.ledger.delegated import require_as_cheap
from moorage.ledger.metering import Metering
from moorage.ledger.running_costs import hour_of
from moorage.planning.plan import Plan, Settings
from moorage.records.deployment import Deployment, DeploymentStatus, Finding, JobKind, Origin
from moorage.records.project import (
    NEVER_SLEEPS,
    Changes,
    Kind,
    Project,
    ProjectStatus,
    Variables,
)
from moorage.records.size import STANDARD, Sizes
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import accounts
from moorage.storage.money.accounts import WalletRow
from moorage.storage.vault import Vault
from moorage.unknown_keys import Suggestions, did_you_mean
from moorage.uploads.request import (
    check_health_path,
    check_size,
    check_sleep,
    check_variables,
    description,
    display_name,
)

NOT_REMOVED = "A volume cannot be removed; it is deleted with the project."
_SHOWN_LENGTH = 64


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; None leaves a field as it is."""

    display_name: str | None = None
    description: str | None = None
    health_path: str | None = None
    run_envs: Changes = {}
    build_vars: Changes = {}
    size: str | None = None
    volume: bool = False  # whether to add a volume; it is never removed
    sleep_after_seconds: int | UnsetType | None = UNSET  # None: it never sleeps
    restart: bool = False
    discard_written: bool = False  # whether files of the running version may be lost
    paused: bool | None = None  # alone: whether its owner wants it stopped


def change_request(document: object, *, min_sleep_seconds: int = 1) -> Change:
    """Returns the change. Raises InvalidField with the first wrong or unknown field.

    null means the default: no description, "/" as health path, no variable of this name, no sleep.
    """
    if not isinstance(document, dict):
        raise InvalidField("body", "must be a JSON object")
    for key in document:
        if key not in _FIELDS:
            advice = _SUGGESTIONS.advice(key) or f"cannot be changed; what can: {_CHANGEABLE}"
            raise InvalidField(key[:_SHOWN_LENGTH], advice)
    if "paused" in document and len(document) > 1:
        raise InvalidField("paused", "stands alone: change the rest before, or after")
    return Change(
        display_name=display_name(document) if "displayName" in document else None,
        description=description(document) if "description" in document else None,
        health_path=_health_path(document) if "healthPath" in document else None,
        size=_size(document) if "size" in document else None,
        run_envs=_variables(document, "runEnvs"),
        build_vars=_variables(document, "buildVars"),
        volume=_volume(document),
        sleep_after_seconds=_sleep(document, least=min_sleep_seconds),
        restart=_flag(document, "restart"),
        discard_written=_flag(document, "discard_written"),
        paused=_flag(document, "paused") if "paused" in document else None,
    )


_FIELDS = frozenset(
    (
        *("displayName", "description", "healthPath", "size", "runEnvs", "buildVars", "volume"),
        *("sleepAfterSeconds", "restart", "paused", "discard_written"),
    )
)
_CHANGEABLE = ", ".join(sorted(_FIELDS))
_DEPLOY_AGAIN = "POST /agent/deploy with the same uniqueName"
_SUGGESTIONS = Suggestions(
    {
        key: f"is set by a deploy: {_DEPLOY_AGAIN} and settings.{key}"
        for field in msgspec.structs.fields(Settings)
        if (key := field.encode_name) not in _FIELDS
    }
    | did_you_mean(_FIELDS)
    | {
        "settings": f"are a deploy's; here each key stands at the top: {_CHANGEABLE}",
        "months": "are not kept: a project runs as long as there are credits; "
        'buy some with POST /agent/credits and {"amount_usd": …}',
        "uniqueName": "cannot be changed; displayName can",
        "upload": f"is a deploy's: {_DEPLOY_AGAIN}",
    }
)


def _health_path(document: Mapping[str, Any]) -> str:
    value = document["healthPath"]
    if value is None:
        return "/"
    if not isinstance(value, str):
        raise InvalidField("healthPath", "must be a string")
    check_health_path("healthPath", value)
    return value


def _size(document: Mapping[str, Any]) -> str:
    value = document["size"]
    return STANDARD if value is None else check_size("size", value)


def _variables(document: Mapping[str, Any], field: str) -> Changes:
    value = document.get(field, {})
    if not isinstance(value, dict):
        raise InvalidField(field, "must be an object of strings, and nulls for what is to go")
    for name, item in value.items():
        if not (item is None or isinstance(item, str)):
            raise InvalidField(f"{field}.{name[:_SHOWN_LENGTH]}", "must be a string or null")
    if "PORT" in value:
        raise InvalidField(f"{field}.PORT", "is settings.port, which a deploy sets")
    check_variables(field, value)
    return value


def _volume(document: Mapping[str, Any]) -> bool:
    if document.get("volume", True) is not True:
        raise InvalidField("volume", NOT_REMOVED)
    return "volume" in document


def _sleep(document: Mapping[str, Any], *, least: int) -> int | UnsetType | None:
    seconds = document.get("sleepAfterSeconds", UNSET)
    if seconds is None or seconds is UNSET:
        return seconds
    if type(seconds) is not int:
        raise InvalidField("sleepAfterSeconds", "must be a whole number of seconds, or null")
    check_sleep("sleepAfterSeconds", seconds, least=least)
    return seconds


def _flag(document: Mapping[str, Any], field: str) -> bool:
    value = document.get(field, False)
    if not isinstance(value, bool):
        raise InvalidField(field, "must be true or false")
    return value


def copied_deployment(built: Deployment, origin: Origin, *, now_ms: int) -> Deployment:
    """Returns a new deployment of the files that an earlier one has built."""
    return msgspec.structs.replace(
        built,
        id=str(uuid.uuid4()),
        status=DeploymentStatus.QUEUED,
        request_digest="",  # never equal to that of an upload
        note="",
        log_tail="",
        created_at_ms=now_ms,
        origin=origin,
        copy_of=built.id,
        superseded_at_ms=None,
    )


async def queue_deployment(
    tx: Transaction,
    project: Project,
    deployment: Deployment,
    *,
    in_place_of: Sequence[Deployment],
    builds: bool = False,
) -> tuple[str, ...]:
    """Stores the deployment and its job, and ends `in_place_of` as superseded; returns their ids.

    `builds` is whether the owner's commands are run before the app.
    """
    now_ms = deployment.created_at_ms
    for earlier in in_place_of:
        late = DeployFailed(
            FailureCause.SUPERSEDED,
            f"A later deployment of this project, {deployment.id}, took its place "
            "before it was ready. Poll that one.",
        )
        await fail(tx, earlier, late, wallet=project.wallet, now_ms=now_ms)
        await jobs.revoke(tx, kind=JobKind.DEPLOY, subject_id=earlier.id)
    by = acted_by(project.wallet)
    await deployments.add(tx, msgspec.structs.replace(deployment, acted_by=by))
    if project.serving_deployment_id is None:
        await projects.set_status(tx, project.id, ProjectStatus.QUEUED)
    await jobs.add(
        tx,
        job_id=str(uuid.uuid4()),
        kind=JobKind.DEPLOY,
        subject_id=deployment.id,
        wallet=project.wallet,
        builds=builds,
        run_at_ms=now_ms,
    )
    return tuple(item.id for item in in_place_of)


class CurrentConfig(msgspec.Struct, frozen=True):
    """How a project is configured now: as its newest deployment is."""

    variables: Variables
    health_path: str
    size: str = STANDARD
    under_way: tuple[Deployment, ...] = ()
    """At most one."""
    serving: Deployment | None = None

    @property
    def newest(self) -> Deployment | None:
        """The one under way, or else the one that serves."""
        return self.under_way[0] if self.under_way else self.serving

    def with_settings(self, settings: Settings) -> Variables:
        """Returns the variables merged with a deploy's. Raises InvalidField for too many."""
        return self.variables.changed(
            build=settings.build_vars, run=settings.run_envs, field="settings."
        )


UNCONFIGURED = CurrentConfig(Variables(), "/")
"""The configuration of a project that does not exist yet."""


async def current_config(source: Source, vault: Vault, project: Project) -> CurrentConfig:
    """Returns how a project is configured now. Raises VariablesUnreadable.

    Variables of builds belong to no deployment: the next upload is built with the last ones set.
    """
    under_way = tuple(await deployments.under_way_of(source, project.id))
    serving_id = project.serving_deployment_id
    serving = await deployments.by_id(source, serving_id) if serving_id else None
    newest = under_way[0] if under_way else serving
    own = vault.open(project.variables, project.id)
    run = own.run if newest is None else vault.open(newest.variables, project.id).run
    return CurrentConfig(
        variables=Variables(build=own.build, run=run),
        health_path=project.health_path if newest is None else newest.health_path,
        size=project.size if newest is None else newest.size,
        under_way=under_way,
        serving=serving,
    )


def configured(
    project: Project, now: CurrentConfig, settings: Settings, vault: Vault, *, plan: Plan
) -> Project:
    """Returns the project with a deploy's settings merged over its own, and its plan's secrets.

    Raises InvalidField for too many variables.
    """
    return msgspec.structs.replace(
        project,
        variables=vault.seal(
            now.with_settings(settings).with_secrets(plan.secrets or ()), project.id
        ),
        health_path=settings.health_path or now.health_path,
        volume=project.volume or bool(settings.volume),
        sleep_after_seconds=settings.sleep_after_seconds or project.sleep_after_seconds,
    )


def refuse_stopped(wallet: WalletRow, project: Project | None) -> None:
    """Raises ProjectPaused if its owner has paused the project, else as `refuse_blocked`.

    Called before anybody is asked to pay.
    """
    refuse_blocked(wallet, project)
    if project is not None and project.paused_at_ms is not None:
        raise ProjectPaused


def refuse_blocked(wallet: WalletRow, project: Project | None) -> None:
    """Raises ProjectBlocked if the operator has suspended the project or its whole wallet."""
    why = wallet.blocked_reason or (None if project is None else project.blocked_reason)
    if why is not None:
        raise ProjectBlocked(why)


class Effect(StrEnum):
    """When a change takes effect."""

    NONE = "none"  # nothing changed
    AT_ONCE = "at_once"  # it does not concern the app
    NOTHING_RUNS = "nothing_runs"  # a restart of a project that never served
    DEPLOYING = "deploying"  # with a new deployment
    UNDER_WAY = "under_way"  # with the deployment that is under way already
    NEXT_UPLOAD = "next_upload"


class Changed(msgspec.Struct, frozen=True):
    """A change that was made, and the deployment that brings it to the app, if any."""

    effect: Effect
    deployment_id: str | None = None


class ProjectConfiguration:
    """Changes projects; each change is one transaction, and is based on the one before."""

    def __init__(
        self,
        *,
        db: Database,
        vault: Vault,
        sizes: Sizes,
        capacity: Capacity,
        metering: Metering,
        copies: RateLimiter,
        clock: Clock,
        on_queued: Callable[[], None],
    ) -> None:
        self._db = db
        self._vault = vault
        self._sizes = sizes
        self._capacity = capacity
        self._metering = metering
        self._copies = copies  # by wallet: each copies a whole disk
        self._clock = clock
        self._on_queued = on_queued

    async def show(self, project: Project) -> CurrentConfig:
        """Returns how a project is configured; callers must not show the values of variables."""
        return await current_config(self._db, self._vault, project)

    async def change(
        self, project: Project, change: Change, *, written: WrittenFiles | None = None
    ) -> Changed:
        """Makes the whole change, or none of it.

        `written` is what the running version has written, for a new volume to begin with. Raises
        FilesWouldBeLost, InvalidField, ProjectBlocked, ProjectPaused, ProjectNotFound,
        OutOfCredits, DelegateLimit, NoCapacity, RateLimited.
        """
        async with self._db.transaction(durable=True) as tx:
            await accounts.lock(tx, project.wallet)
            current = await projects.living(tx, project)
            refuse_stopped(await accounts.wallet_row(tx, current.wallet), current)
            await projects.describe(
                tx, current.id, display_name=change.display_name, description=change.description
            )
            changed = await self._configure(tx, current, change, written)
            sleeps_otherwise = await self._set_sleep(tx, current, change.sleep_after_seconds)
            if changed.effect is Effect.NONE and (sleeps_otherwise or _renames(current, change)):
                changed = Changed(Effect.AT_ONCE)
        if changed.effect is Effect.DEPLOYING:
            self._on_queued()
        return changed

    async def _set_sleep(
        self, tx: Transaction, project: Project, seconds: int | UnsetType | None
    ) -> bool:
        """Sets when a project sleeps, and wakes one that never is to; returns whether it differs.

        Raises NoCapacity where there is no memory for it awake, InvalidField for a worker.
        """
        if seconds is UNSET or seconds == project.sleep_after_seconds:
            return False
        if seconds is not None and project.kind is Kind.WORKER:
            raise InvalidField("sleepAfterSeconds", NEVER_SLEEPS)
        await projects.set_sleep_after(tx, project.id, seconds)
        if seconds is None and project.asleep_since_ms is not None:
            await self._capacity.require_memory(tx, project.size, project.id)
            await self._metering.wake(tx, project)
        return True

    async def _configure(
        self,
        tx: Transaction,
        project: Project,
        change: Change,
        written: WrittenFiles | None,
    ) -> Changed:
        now = await current_config(tx, self._vault, project)
        wanted = now.variables.changed(build=change.build_vars, run=change.run_envs)
        health_path = change.health_path or now.health_path
        size = self._sizes.chosen(
            change.size or now.size, now=now.size, has_volume=project.volume, field="size"
        )
        if size.name != now.size:
            month = (await self._metering.price_of(tx, project, size)).month
            await require_as_cheap(tx, project, month)
            reach = await ledger.reach(tx, project.id, wallet=project.wallet)
            if now.newest is not None and reach.total < hour_of(month):
                raise OutOfCredits  # at the switch it would be suspended
        new_volume = change.volume and not project.volume
        present = (now.variables.run, now.health_path, now.size)
        for_app = (wanted.run, health_path, size.name) != present or new_volume
        differs = for_app or wanted != now.variables
        if not (differs or change.restart):
            return Changed(Effect.NONE)
        if now.newest is None and not differs:
            return Changed(Effect.NOTHING_RUNS)
        variables = self._vault.seal(wanted, project.id)
        await projects.configure(tx, project.id, variables=variables, health_path=health_path)
        if new_volume:
            is_empty = False
            if now.newest is not None:
                by = _successor(now.newest, project, wanted, size.volume_mib * 1024**2)
                by = msgspec.structs.replace(by, discard=change.discard_written)
                refuse_loss(written, by)
                is_empty = begins_empty(written, by)
            await projects.give_volume(tx, project.id, is_empty=is_empty)
        if now.newest is None:
            await self._metering.resize(tx, project, size)
        if now.newest is None or not (for_app or change.restart):
            return Changed(Effect.NEXT_UPLOAD)
        if size.name != now.size or new_volume or not now.under_way:
            await self._capacity.require(
                tx, size.name, new_volume=new_volume, project_id=project.id
            )
        if now.under_way:
            await projects.configure_deployment(
                tx, now.newest.id, variables=variables, health_path=health_path, size=size.name
            )
            return Changed(Effect.UNDER_WAY, now.newest.id)
        if (await ledger.reach(tx, project.id, wallet=project.wallet)).total <= 0:
            raise OutOfCredits
        await self._copies.check(project.wallet)
        copy = copied_deployment(now.newest, Origin.CONFIGURATION, now_ms=self._clock.now_ms())
        deployment = msgspec.structs.replace(
            copy, variables=variables, health_path=health_path, size=size.name
        )
        await queue_deployment(tx, project, deployment, in_place_of=now.under_way)
        return Changed(Effect.DEPLOYING, deployment.id)


def _successor(
    newest: Deployment, project: Project, variables: Variables, volume_bytes: int
) -> Successor:
    """Returns what becomes of the files of the version that serves, by one with a new volume."""
    findings = msgspec.json.decode(newest.findings, type=tuple[Finding, ...])
    plan = msgspec.json.decode(newest.plan, type=Plan)
    return Successor(
        volume=volume_of(project, wanted=True),
        releases_kept=0,
        finds_volume=finds_volume(findings, plan, variables.run),
        volume_bytes=volume_bytes,
    )


def _renames(project: Project, change: Change) -> bool:
    """Returns whether the change gives the project another name or description."""
    asked = (change.display_name, change.description)
    present = (project.display_name, project.description)
    return any(new not in (None, old) for new, old in zip(asked, present, strict=True))
