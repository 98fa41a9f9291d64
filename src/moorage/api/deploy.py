"""The endpoints that deploy, with an account or by a payment alone, and that quote a deploy."""

import asyncio
import contextlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from moorage.address import checksum_address
from moorage.api.http.caller import Caller, PaidFront, Payer, require_version_2
from moorage.api.http.connections import ARRIVAL, Arrival
from moorage.api.http.idempotency import Idempotency
from moorage.api.http.payment import refuse_misplaced, repeated
from moorage.api.http.problems import json_response, with_body
from moorage.api.http.request import content_length, flag
from moorage.api.money import allowance_body
from moorage.engines.engine import WrittenFiles
from moorage.errors import DatabaseUnavailable, InvalidField, UploadNotFound
from moorage.hosting.addresses.addresses import Hosts, is_reserved
from moorage.hosting.entrance.admission import Admission
from moorage.hosting.entrance.attempt import Admitted, DeployAttempt, DryRun, refuse_credentials
from moorage.hosting.entrance.written import Written
from moorage.hosting.exports import ExportFiles
from moorage.hosting.sources import SharedUploads
from moorage.ledger.build_time import BuildTime
from moorage.money import NOTHING, charge_to_atomic_units, usd_number, usd_text
from moorage.parsers.plans import Plans, UploadParser
from moorage.parsers.pool import ParserPool
from moorage.payments.taking.outcome import outcome_of
from moorage.payments.taking.payment_required import (
    credits_fall_short,
    paid_headers,
    purchase_body,
    sharing_warning,
)
from moorage.planning.dockerfile.app import FILE as DOCKERFILE
from moorage.planning.plan import Plan, Settings, confidence
from moorage.planning.static import said
from moorage.records.project import Kind, Project
from moorage.storage.apps import projects
from moorage.storage.operation import exports
from moorage.toolchains.inventory import Inventory
from moorage.uploads.reader import Exports, ExportSource, Upload, read_upload
from moorage.uploads.request import check_sleep, read_sha256
from moorage.uploads.room import SpoolRoom, UploadLimits
from moorage.wire.deploy import Deployed, DigestUpload, Quoted, Understood, UploadStored


@dataclass(frozen=True, kw_only=True)
class Uploads:
    """What reads the files of a deploy, and their limits."""

    limits: UploadLimits
    spool_dir: Path
    spool_room: SpoolRoom
    stored: SharedUploads
    parsers: ParserPool
    plans: Plans
    exports: ExportFiles


@dataclass(frozen=True, kw_only=True)
class DeployRoom(PaidFront):
    """What the handlers of deploys need."""

    pay_to: str
    admission: Admission
    build_time: BuildTime
    idempotency: Idempotency
    hosts: Hosts
    inventory: Inventory
    written: Written
    refuse_secrets: bool
    min_sleep_seconds: int
    uploads: Uploads


async def store_upload(room: DeployRoom, request: Request, caller: Caller) -> UploadStored:
    """`PUT /agent/uploads/{sha256}`: store an upload for an hour, by the SHA-256 of this body."""
    arrival: Arrival = request.scope[ARRIVAL]
    stored = await room.uploads.stored.put(
        request.stream(),
        wallet=caller.speaker,
        sha256=read_sha256("sha256", request.path_params["sha256"]),
        content_length=content_length(request),
        uploader=arrival.identify(),
        arriving=arrival,
    )
    return UploadStored(
        sha256=stored.sha256,
        bytes=stored.size,
        expires_at=stored.expires_at_ms // 1000,
        upload=DigestUpload(sha256=stored.sha256),
    )


async def deploy(room: DeployRoom, request: Request, payer: Payer) -> Response:
    """`POST /agent/deploy`: deploy, or say what it costs."""
    attempt, upload = await _read_attempt(room, request, payer)
    try:
        if payer.is_dry_run:
            return await _quoted(room, attempt)
        if payer.caller.is_open:
            if attempt.evidence is None:
                raise await room.admission.demand_openly(attempt)
            answer, admitted = await _deployed(room, request, attempt, upload)
            opens = admitted is not None and payer.is_fresh and not admitted.again
            token = await _token(room, admitted.project_id) if admitted and opens else UNSET
            return _opened(room, attempt, answer, token=token)
        require_bound_purse(request, attempt)
        await payer.check_body(attempt.request_digest)
        answer, _ = await _deployed(room, request, attempt, upload)
        return answer
    finally:
        await _close_upload(upload)


def require_bound_purse(request: Request, attempt: DeployAttempt) -> None:
    """Raises SignatureUnbound if credits are to move by a signature that could be passed on."""
    purse = attempt.request.purse
    if purse is None or purse.amount == 0 or attempt.managed is not None:
        return
    require_version_2(request)


async def pay_to_deploy(room: DeployRoom, request: Request, payer: Payer) -> Response:
    """`POST /deploy`: deploy by paying alone, or say what it costs; no wallet headers needed."""
    return await deploy(room, request, payer)


async def quote(room: DeployRoom, request: Request, payer: Payer) -> Response:
    """`POST /agent/quote`: all checks and the price, with no side effect."""
    return await deploy(room, request, payer)


async def _read_attempt(
    room: DeployRoom, request: Request, payer: Payer
) -> tuple[DeployAttempt, Upload]:
    """Reads and checks the request, and makes the plan; the caller closes the upload."""
    caller, payment = payer.caller, payer.payment
    _refuse_near_misses(request)
    arrival: Arrival = request.scope[ARRIVAL]
    uploader = arrival.identify()
    received = await read_upload(
        request.stream(),
        content_length=content_length(request),
        limits=room.uploads.limits,
        spool_dir=room.uploads.spool_dir,
        parser=UploadParser(room.uploads.parsers, uploader),
        allowance=room.uploads.spool_room.allowance(uploader, arrival),
        open_stored=partial(room.uploads.stored.open, caller.speaker, uploader, arrival),
        exports=Exports(partial(_open_export, room, request, caller), room.written.volume_bytes),
    )
    try:
        if payment.evidence is None:
            refuse_misplaced(received.misplaced)
        checked = received.request
        if (idle_seconds := checked.settings.sleep_after_seconds) is not None:
            least = room.min_sleep_seconds
            check_sleep("settings.sleepAfterSeconds", idle_seconds, least=least)
        caller = caller.about(checked.unique_name)
        project = await projects.by_name(room.db, checked.unique_name)
        if project is None:
            _refuse_reserved(room, checked.unique_name)
        leaves_volume = _leaves_volume(received.upload, project)
        made = await room.uploads.plans.plan(
            received.upload,
            received.tree_digest,
            checked.settings,
            await room.inventory.known(),
            uploader,
        )
        if room.refuse_secrets:
            refuse_credentials(made.findings)
        attempt = DeployAttempt(
            wallet=caller.wallet,
            stranger_at=caller.stranger_at,
            request=checked,
            request_digest=received.digest,
            managed=caller.project_id,
            delegation=caller.delegations[0] if caller.delegations else None,
            leaves_volume=leaves_volume,
            plan=made.plan,
            findings=made.findings,
            ignored_dockerfile=_ignored_dockerfile(received.upload, checked.settings, made.plan),
            written=None if caller.is_open else await _written(room, caller.wallet, project),
            releases_kept=room.written.releases_kept,
            volume_bytes=room.written.volume_bytes,
            means=payment.means,
            evidence=payment.evidence,
            refused=payment.refused,
            use_existing_credits=flag(request, "x-use-existing-credits"),
        )
    except BaseException:
        await _close_upload(received.upload)
        raise
    return attempt, received.upload


async def _open_export(
    room: DeployRoom, request: Request, caller: Caller, sha256: str
) -> ExportSource:
    """Opens an archive that this caller stored, or that is an export of its wallet's projects."""
    arrival: Arrival = request.scope[ARRIVAL]
    owner = caller.speaker
    try:
        file = await room.uploads.stored.open(owner, arrival.identify(), arrival, sha256)
        return ExportSource(file, is_own=False)
    except UploadNotFound:
        if owner != caller.wallet or not owner:
            raise
        found = await exports.by_sha256(room.db, owner, sha256, now_ms=room.clock.now_ms())
        if found is None:
            raise
        with suppress(FileNotFoundError):
            path = await room.uploads.exports.path(found)
            return ExportSource(await asyncio.to_thread(path.open, "rb"), is_own=True)
        raise


def _leaves_volume(upload: Upload, project: Project | None) -> bool:
    """Drops an export's volume where the project has one of its own; returns whether it did."""
    if upload.volume is None or project is None or project.serving_deployment_id is None:
        return False
    upload.leave_volume()
    return True


def _ignored_dockerfile(upload: Upload, settings: Settings, plan: Plan) -> str:
    """Returns the path of the app's own Dockerfile, if there is one that is not asked for."""
    places = () if settings.has_dockerfile else (f"{plan.directory}/{DOCKERFILE}", DOCKERFILE)
    return next((path for it in places if (path := it.lstrip("/")) in upload.paths), "")


def _refuse_reserved(room: DeployRoom, name: str) -> None:
    """Raises InvalidField for a reserved name."""
    own = room.hosts.unique_name(room.host.partition(":")[0])
    if is_reserved(name, own=own):
        raise InvalidField("uniqueName", "is reserved; choose another")


async def _written(room: DeployRoom, wallet: str, project: Project | None) -> WrittenFiles | None:
    """Returns what the wallet's own running version has written, if the engine can tell."""
    if project is None or project.wallet != wallet:
        return None
    return await room.written.by(project.serving_deployment_id, freshly=True)


async def _close_upload(upload: Upload) -> None:
    """Closes the upload's files."""
    if upload.on_disk:
        await asyncio.to_thread(upload.close)
    else:
        upload.close()


async def _deployed(
    room: DeployRoom, request: Request, attempt: DeployAttempt, upload: Upload
) -> tuple[Response, Admitted | None]:
    """Deploys; returns the answer, and what was admitted.

    A repeated request gets the first one's answer, and None: it admits nothing. Wallet, tokens and
    payments without a signature have keys apart.
    """
    async with room.idempotency.attempt(
        request, attempt.request_digest, Admitted, wallet=attempt.speaker, render=accepted
    ) as keyed:
        if keyed.answer is not None:
            first = await repeated(
                room.outcomes,
                keyed.answer,
                attempt.evidence,
                wallet=attempt.wallet,
                unique_name=attempt.request.unique_name,
            )
            return first, None
        claimed = msgspec.structs.replace(attempt, claim=keyed.claim)
        admitted = await room.admission.admit(claimed, upload)
        return keyed.answered(admitted), admitted


async def _quoted(room: DeployRoom, attempt: DeployAttempt) -> Response:
    """Returns the answer to a dry run."""
    dry_run = await room.admission.quote(attempt)
    token = attempt.means.token
    allowance = await room.build_time.allowance(
        room.db,
        "" if attempt.is_veiled else attempt.wallet,
        to_come=dry_run.amount if dry_run.payment_required else NOTHING,
    )
    return json_response(
        Quoted(
            amount_usd=usd_number(dry_run.amount),
            amount_token=str(charge_to_atomic_units(dry_run.amount, decimals=token.decimals)),
            current_credit_balance_usd=usd_number(dry_run.balance),
            active_projects=dry_run.active_projects,
            payment_required=dry_run.payment_required,
            warning=sharing_warning(dry_run.active_projects) if dry_run.shares else UNSET,
            pay_to=room.pay_to,
            payment_chain=attempt.means.chain.name,
            token=token.name,
            decimals=token.decimals,
            build_allowance=allowance_body(allowance),
            message=_cost(dry_run),
            buys=purchase_body(dry_run.buys),
            understood=_understood(attempt, dry_run),
            warnings=list(dry_run.warnings) or UNSET,
            confidence=confidence(dry_run.risks),
            risks=list(dry_run.risks) or UNSET,
            plan=attempt.plan,
        )
    )


def _cost(dry_run: DryRun) -> str:
    """Returns what the deploy costs, in a sentence."""
    if dry_run.payment_required:
        why = credits_fall_short(dry_run.balance, price=dry_run.amount) if dry_run.is_price else ""
        return f"To deploy, pay {usd_text(dry_run.amount)}. {why}".rstrip()
    if dry_run.redeploys:
        return "Nothing is to be paid: a redeploy is free while there are credits."
    return (
        f"Nothing is to be paid: your credits, {usd_text(dry_run.balance)}, cover the price of "
        f"{usd_text(dry_run.amount)}. They burn while the app runs."
    )


def _understood(attempt: DeployAttempt, dry_run: DryRun) -> Understood:
    plan = attempt.plan
    return Understood(
        run_env_names=sorted(dry_run.variables.run),
        build_var_names=sorted(dry_run.variables.build),
        volume=dry_run.volume,
        health_path=dry_run.health_path,
        size=dry_run.size,
        port=plan.port,
        months=attempt.request.months,
        directory=plan.directory,
        install_command=plan.install,
        build_command=plan.build,
        run_command=said(plan.start),
        release_command=None if plan.release is UNSET else plan.release,
        kind=Kind.WEB if plan.listens else Kind.WORKER,
    )


def _refuse_near_misses(request: Request) -> None:
    """Raises InvalidField for a header that another name was meant by."""
    for header in request.headers:
        meant = _meant(header) if len(header) <= _LONGEST_NAME else None
        if meant is not None:
            raise InvalidField(header.title(), f"is not known here; did you mean {meant}?")


@lru_cache(maxsize=1024)
def _meant(header: str) -> str | None:
    """Returns the header that was meant by this other one."""
    meant = _MEANT_HEADERS.get(header.removeprefix("x-").replace("-", ""))
    return None if meant is None or header == meant.lower() else meant


_LONGEST_NAME = 64  # longer ones are nobody's mistake, and are not to be remembered
_MEANT_HEADERS = dict.fromkeys(("dryrun", "dry"), "X-Dry-Run") | dict.fromkeys(
    ("usecredits", "usecredit", "useexistingcredit", "useexistingcredits", "existingcredits"),
    "X-Use-Existing-Credits",
)


_STARTED = "Deployment started."


def accepted(admitted: Admitted) -> Response:
    """Returns the answer to a deploy that was admitted."""
    started = "This payment has started this deployment before." if admitted.again else _STARTED
    message = f"{started} Poll status for updates."
    if admitted.by_choice and admitted.sharing_with:
        message += (
            f" It shares your credits with {admitted.sharing_with} other active project(s)"
            " and will reduce their runtime."
        )
    if admitted.redeploys:
        message += (
            " The title is now this displayName; variables, health path, description and volume "
            "that the request does not name are kept."
        )
    if admitted.redeploys and admitted.months != 1:
        message += " A redeploy takes no credits, so months does not count."
    return json_response(
        Deployed(
            project_id=admitted.project_id,
            deployment_id=admitted.deployment_id,
            message=message,
            payment=UNSET if admitted.receipt is None else outcome_of(admitted.receipt).told,
            warnings=list(admitted.warnings) or UNSET,
        ),
        headers=paid_headers(admitted.receipt),
    )


_WITHOUT = (
    " This answer has no manage_token: the wallet makes one with "
    "POST /agent/projects/{projectId}/tokens."
)


async def _token(room: DeployRoom, project_id: str) -> str | UnsetType:
    """Returns a new token; none if it can't be stored, as the deploy is done all the same."""
    with contextlib.suppress(DatabaseUnavailable):
        return (await room.manage_tokens.make(project_id)).token
    return UNSET


def _opened(
    room: DeployRoom, attempt: DeployAttempt, answer: Response, *, token: str | UnsetType
) -> Response:
    """Returns the answer with the wallet, where to poll, and the token, which is stored nowhere."""
    told = msgspec.json.decode(bytes(answer.body), type=Deployed)
    path = f"/agent/deploy/{told.project_id}/{told.deployment_id}/status"
    without = _WITHOUT.format(projectId=told.project_id) if token is UNSET else ""
    opened = msgspec.structs.replace(
        told,
        message=told.message + without,
        wallet=checksum_address(attempt.wallet),
        status_url=room.public_url + path,
        manage_token=token,
    )
    return with_body(answer, opened, uncached=True)
