"""The gateway's calls, one method each (contract §1.2 and §1.4), and what is sent with them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from decimal import Decimal
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from moorage.address import checksum_address
from moorage.chains.eip3009 import key_signer
from moorage.sdk.errors import (
    AnswerLost,
    AnswerUnreadable,
    ClientError,
    ClientMisconfigured,
    FollowTimedOut,
    GatewayError,
    ReceiptInvalid,
    RequestRefused,
)
from moorage.sdk.payment import HEADER as AUTHORIZATION
from moorage.sdk.transport import Answer, Transport, read_answer, read_events
from moorage.signing import Delegation, host_of
from moorage.wire import calls
from moorage.wire.calls import ApiRequest, Call
from moorage.wire.credits import Credits, PurseBody, PurseChanged, ToppedUp, TopUpBody
from moorage.wire.delegates import DelegateEnded, DelegateItem, DelegateList, DelegatesEnded
from moorage.wire.deploy import (
    Deployed,
    DeployPurse,
    DigestUpload,
    ExportUpload,
    Quoted,
    UploadStored,
)
from moorage.wire.deployments import Cancelled, DeploymentList, DeploymentProgress, LogBody, LogItem
from moorage.wire.events import EventPage, WebhookMade, WebhookRemoved, WebhookShown
from moorage.wire.projects import (
    AcceptBody,
    ChangeBody,
    DomainItem,
    DomainList,
    DomainRemoved,
    ExportBody,
    ExportItem,
    ProjectAdopted,
    ProjectChanged,
    ProjectDeleted,
    ProjectList,
    ProjectShown,
    ProjectTransferred,
    ProjectUsage,
    TransferBody,
    TransferExpected,
    TransferItem,
)
from moorage.wire.public import (
    Balances,
    ChainList,
    Health,
    LinkBody,
    LinkList,
    LinkMade,
    LinkRemoved,
    SizeList,
)
from moorage.wire.receipts import ReceiptKeys, SignedReceipt
from moorage.wire.recovery import ClaimBody, RecoveryBody, RecoveryShown
from moorage.wire.refunds import RefundList, RefundQuoteBody, RefundQuoted, RefundShown
from moorage.wire.runs import RunBody, RunItem, RunList, RunQueued


class File(msgspec.Struct, frozen=True):
    """A file of the upload; `content` is sent as base64."""

    path: str
    content: bytes


class Files(msgspec.Struct, frozen=True, tag_field="type", tag="files"):
    """An upload file by file."""

    files: tuple[File, ...]


class Zip(msgspec.Struct, frozen=True, tag_field="type", tag="zip"):
    """An upload as one archive; `data` is sent as base64."""

    data: bytes
    filename: str


class Settings(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The settings that differ from the gateway's defaults; `None` leaves the default."""

    port: int | None = None
    runtime: str | None = None
    install_command: str | None = None
    build_command: str | None = None
    run_command: str | None = None
    release_command: str | None = None
    kind: Literal["web", "worker"] | None = None
    framework: str | None = None
    has_dockerfile: bool = False
    directory_path: str | None = None
    build_dir: str | None = None
    run_envs: dict[str, str] | None = None
    build_vars: dict[str, str] | None = None
    health_path: str | None = None
    size: str | None = None
    volume: bool = False
    sleep_after_seconds: int | None = None
    schedules: list[dict[str, str | int]] | None = None


class DeployRequest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The body of `POST /agent/deploy`. Equal requests encode to equal bytes."""

    unique_name: str
    display_name: str
    upload: Files | Zip | DigestUpload | ExportUpload
    description: str | None = None
    months: int = 1
    settings: Settings = Settings()
    discard_written: bool | None = msgspec.field(name="discard_written", default=None)
    """Whether what the running version has written may be lost; False: the gateway refuses."""
    purse: DeployPurse | None = None
    """Of a new project."""

    def encode(self) -> bytes:
        """Encodes the body: the same bytes each time, because the gateway compares digests."""
        return _NUMBERS.encode(self)


class PaymentProof(msgspec.Struct, frozen=True):
    """A transaction that pays; or an authorization, as its header has it."""

    tx_hash: str
    chain: str
    token: str
    authorization: str = ""


_DAY_SECONDS = 86_400
_LACKING = frozenset({404, 405})  # of a gateway that knows no such endpoint


class StoredUploads:
    """What this client has stored. An upload that can't be stored goes along with its request."""

    def __init__(self, put: Callable[[str, bytes], Awaitable[object]]) -> None:
        """`put` stores a body under its SHA-256 in hex. It raises ClientError."""
        self._put = put
        self._known: set[str] = set()
        self._is_lacking = False

    async def named(self, request: DeployRequest) -> DeployRequest:
        """Returns the request with its upload stored and named, or as it is."""
        if self._is_lacking or isinstance(request.upload, DigestUpload | ExportUpload):
            return request
        content = msgspec.json.encode(request.upload)
        digest = sha256(content).hexdigest()
        if digest not in self._known:
            try:
                await self._put(digest, content)
            except ClientError as error:  # the request itself tells what is wrong
                self._is_lacking = isinstance(error, GatewayError) and error.status in _LACKING
                return request
            self._known.add(digest)
        return msgspec.structs.replace(request, upload=DigestUpload(sha256=digest))

    def forget(self) -> None:
        """Has uploads stored again: the gateway keeps them no longer."""
        self._known.clear()


_NUMBERS = msgspec.json.Encoder(decimal_format="number")
_PAID_SECONDS = 300  # the gateway holds a paid request while its transaction is mined

# Quick at first, then slow enough for the limit of 30 polls a minute for a deployment (§1.5).
_POLL_PAUSES_SECONDS = (0.1, 0.15, 0.25, 0.5, 0.5, 1.0, 1.5, 2.0)
_POLL_STEADY_SECONDS = 3.0
_RECONNECT_SECONDS = 1.0
_UPLOAD_NOT_FOUND = "upload_not_found"


class Client(Transport):
    """Calls one gateway, for one wallet if there is a signer. Use it as an async context.

    Calls raise the errors of `sdk.errors`. A GET is repeated a few times when its failure is
    retryable; a POST or DELETE only when the gateway itself answered so.
    """

    async def deploy(
        self,
        request: DeployRequest,
        *,
        chain: str | None = None,
        token: str | None = None,
        use_existing_credits: bool = False,
        idempotency_key: str | None = None,
    ) -> Deployed:
        """Asks to deploy without paying, which succeeds if credits suffice.

        The same request with the same `idempotency_key` gets the first one's answer for a day.
        Raises PaymentRequired, with a quote on `chain` in `token`, if they don't suffice.
        """
        headers = _payment_headers(chain=chain, token=token) | _key_header(idempotency_key)
        if use_existing_credits:
            headers["X-Use-Existing-Credits"] = "true"
        return await self._patiently(lambda: self._deploy(request, headers), even_if_lost=False)

    async def deploy_paid(
        self, request: DeployRequest, proof: PaymentProof, *, idempotency_key: str | None = None
    ) -> Deployed:
        """Asks to deploy with a payment that was made, in a single attempt."""
        return await self._deploy(request, _proof_headers(proof) | _key_header(idempotency_key))

    async def stored(self, request: DeployRequest) -> DeployRequest:
        """Returns the request with its upload stored at the gateway and named by its digest.

        Where the gateway can't store it, returns the request as it is. `deploy` does this itself.
        """
        return await self._uploads.named(request)

    async def quote(self, request: DeployRequest) -> Quoted:
        """Returns what a deploy costs, and how it would be built; changes nothing.

        Its upload is stored, so that the deploy need not send it again.
        """
        return msgspec.convert(await self.quote_document(request), Quoted)

    async def quote_document(self, request: DeployRequest) -> dict[str, Any]:
        """Returns what `quote` does, as the gateway answered it."""
        body = (await self.stored(request)).encode()
        return await self.ask(ApiRequest(calls.QUOTE.method, calls.QUOTE.path, body))

    async def top_up(
        self,
        request: TopUpBody,
        *,
        chain: str | None = None,
        token: str | None = None,
        idempotency_key: str | None = None,
    ) -> ToppedUp:
        """Asks what credits cost: raises PaymentRequired, with a quote on `chain` in `token`.

        Returns the answer of the first request with `idempotency_key`, if that one was paid.
        """
        headers = _payment_headers(chain=chain, token=token) | _key_header(idempotency_key)
        return await self._patiently(
            lambda: self._buy(
                calls.TOP_UP, _NUMBERS.encode(request), headers, bound=bool(request.for_)
            ),
            even_if_lost=False,
        )

    async def top_up_paid(
        self, request: TopUpBody, proof: PaymentProof, *, idempotency_key: str | None = None
    ) -> ToppedUp:
        """Asks to credit a payment that was made, in a single attempt."""
        headers = _proof_headers(proof) | _key_header(idempotency_key)
        content = _NUMBERS.encode(request)
        return await self._buy(calls.TOP_UP, content, headers, bound=bool(request.for_))

    async def status(self, project_id: str, deployment_id: str) -> DeploymentProgress:
        """Returns the status of a deployment of this wallet."""
        return await self.call(calls.STATUS, project_id, deployment_id)

    async def logs(
        self,
        project_id: str,
        deployment_id: str,
        *,
        kind: str = "runtime",
        tail: int | None = None,
        since: str | None = None,
        after: str | None = None,
    ) -> LogBody:
        """Returns a page of a deployment's log: of its build (`build`) or its app (`runtime`)."""
        return await self.call(
            calls.LOGS, project_id, deployment_id, kind=kind, tail=tail, since=since, after=after
        )

    async def follow_logs(
        self,
        project_id: str,
        deployment_id: str,
        *,
        kind: str = "runtime",
        tail: int | None = None,
        since: str | None = None,
        after: str | None = None,
    ) -> AsyncIterator[LogItem]:
        """Yields the lines of a log as they arrive until it is over; reconnects after outages.

        Raises errors that are not retryable, and any error of the first request.
        """
        query = {"tail": tail, "since": since, "after": after, "follow": "true"}
        request = calls.LOGS.request(project_id, deployment_id, kind=kind, **query)
        async for line in self._followed(request):
            yield line

    async def _followed(self, request: ApiRequest) -> AsyncIterator[LogItem]:
        seen, is_first = "", True
        while True:
            headers = {"Last-Event-ID": seen} if seen else {}
            failure: ClientError = AnswerLost("the log broke off")
            try:
                async with aclosing(read_events(self._stream(request, headers))) as events:
                    async for event in events:
                        seen = event.id
                        if event.kind == "end":
                            return
                        if event.kind == "line":
                            yield _decoded(event.data)
            except ClientError as error:
                if not error.retryable or (is_first and not isinstance(error, AnswerLost)):
                    raise
                failure = error
            is_first = False
            await self._wait(max(_RECONNECT_SECONDS, failure.retry_after_seconds or 0), failure)

    async def deployments(self, project_id: str, *, limit: int = 20) -> DeploymentList:
        """Returns up to `limit` (1–100) deployments of a project, newest first."""
        return await self.call(calls.DEPLOYMENTS, project_id, limit=limit)

    async def rollback(self, project_id: str, deployment_id: str | None = None) -> Deployed:
        """Serves a release again, by default the previous one. Follow it like a deploy."""
        return await self.call(calls.ROLLBACK, project_id, body={"deploymentId": deployment_id})

    async def cancel(self, project_id: str, deployment_id: str) -> Cancelled:
        """Ends a deployment under way; nothing of it runs when this returns."""
        return await self.call(calls.CANCEL, project_id, deployment_id)

    async def run(
        self,
        project_id: str,
        command: str,
        *,
        timeout_seconds: int = 600,
        size: str | None = None,
    ) -> RunQueued:
        """Queues a command that runs once beside the app; `follow_run` shows what it writes."""
        body = RunBody(command=command, timeout_seconds=timeout_seconds, size=size)
        return await self.call(calls.RUN, project_id, body=body)

    async def runs(self, project_id: str, *, limit: int = 20) -> RunList:
        """Returns up to `limit` (1–100) runs of a project, newest first."""
        return await self.call(calls.RUNS, project_id, limit=limit)

    async def run_state(self, project_id: str, run_id: str) -> RunItem:
        """Returns where a run stands."""
        return await self.call(calls.RUN_STATE, project_id, run_id)

    async def end_run(self, project_id: str, run_id: str) -> RunItem:
        """Ends a run that waits or runs; one that has ended stays as it is."""
        return await self.call(calls.END_RUN, project_id, run_id)

    async def follow_run(self, project_id: str, run_id: str) -> AsyncIterator[LogItem]:
        """Yields what a run writes until it has ended, as `follow_logs` does."""
        request = calls.RUN_LOGS.request(project_id, run_id, after=0, follow="true")
        async for line in self._followed(request):
            yield line

    async def projects(self) -> ProjectList:
        """Returns this wallet's projects."""
        return await self.call(calls.PROJECTS)

    async def credits(self, *, limit: int = 20) -> Credits:
        """Returns this wallet's credits, what burns them, and the last `limit` (1–100) changes."""
        return await self.call(calls.CREDITS, limit=limit)

    async def receipts(self, tx_hash: str) -> list[SignedReceipt]:
        """Returns the receipts of what this wallet paid by a transaction."""
        return (await self.call(calls.RECEIPT, tx_hash)).receipts

    async def receipt_keys(self) -> ReceiptKeys:
        """Returns the addresses that sign the gateway's receipts, and did so before. Public."""
        return await self.call(calls.RECEIPT_KEYS)

    async def quote_refund(
        self, *, project_id: str = "", max_usd: Decimal | None = None, suspend: bool = False
    ) -> RefundQuoted:
        """Returns what of this wallet's payments would go back now; changes nothing."""
        body = RefundQuoteBody(project_id=project_id, max_usd=max_usd, suspend=suspend)
        return await self.call(calls.QUOTE_REFUND, body=body)

    async def refund(self, quote: RefundQuoted, *, suspend: bool = False) -> RefundShown:
        """Has sent back what a quote says, to who paid; `suspend` as it was asked for."""
        expect = {"refundable_usd": quote.refundable_usd}
        body = {"quote": quote.id, "expect": expect, "suspend": suspend}
        return await self.call(calls.REFUND, body=body)

    async def refunds(self, *, limit: int = 20) -> RefundList:
        """Returns the last `limit` (1–100) refunds that this wallet asked for."""
        return await self.call(calls.REFUNDS, limit=limit)

    async def refund_state(self, refund_id: str) -> RefundShown:
        """Returns how far a refund has come."""
        return await self.call(calls.REFUND_STATE, refund_id)

    async def events(self, *, after: int = 0, limit: int = 50) -> EventPage:
        """Returns up to `limit` (1–200) events of this wallet after a sequence, oldest first."""
        return await self.call(calls.EVENTS, after=after, limit=limit)

    async def set_webhook(self, url: str) -> WebhookMade:
        """Sends this wallet's events to `url` from now on, signed with a new secret."""
        return await self.call(calls.SET_WEBHOOK, body={"url": url})

    async def webhook(self) -> WebhookShown:
        """Returns this wallet's webhook, and the state of its deliveries."""
        return await self.call(calls.WEBHOOK)

    async def remove_webhook(self) -> WebhookRemoved:
        """Stops sending events, including those that wait."""
        return await self.call(calls.REMOVE_WEBHOOK)

    async def usage(
        self, project_id: str, *, since: str | None = None, until: str | None = None, by: str = ""
    ) -> ProjectUsage:
        """Returns what a project used between two times; `by` is "hour", or "5m" for `spans`."""
        times = {"from": since or None, "to": until or None, "by": by or None}
        return await self.call(calls.USAGE, project_id, **times)

    async def domains(self, project_id: str) -> DomainList:
        """Returns a project's domains and their states."""
        return await self.call(calls.DOMAINS, project_id)

    async def add_domain(self, project_id: str, domain: str) -> DomainItem:
        """Claims a domain for a project; the answer says which DNS records to set."""
        return await self.call(calls.ADD_DOMAIN, project_id, body={"domain": domain})

    async def verify_domain(self, project_id: str, domain: str) -> DomainItem:
        """Asks the gateway to look up a domain's record now; allowed six times a minute."""
        return await self.call(calls.VERIFY_DOMAIN, project_id, domain)

    async def remove_domain(self, project_id: str, domain: str) -> DomainRemoved:
        """Removes a domain from its project."""
        return await self.call(calls.REMOVE_DOMAIN, project_id, domain)

    async def project(self, project_id: str) -> ProjectShown:
        """Returns a project of this wallet with all details."""
        return await self.call(calls.PROJECT, project_id)

    async def change(self, project_id: str, change: ChangeBody) -> ProjectChanged:
        """Changes a project's names, or how its app is run."""
        return await self.call(calls.CHANGE, project_id, body=change)

    async def delete(self, project_id: str) -> ProjectDeleted:
        """Stops and removes a project of this wallet; its unspent credits stay."""
        return await self.call(calls.DELETE, project_id)

    async def export(self, project_id: str, *, public_key: str = "") -> ExportItem:
        """Asks for an archive of a project, with its variables sealed to a key of X25519, in hex.

        Asked again, returns the same one, until it is `ready` and for ten minutes.
        """
        body = ExportBody(public_key=public_key or UNSET)
        return await self.call(calls.EXPORT, project_id, body=body)

    async def fetch_export(self, export: ExportItem) -> AsyncIterator[bytes]:
        """Yields the bytes of an export that is ready."""
        request = calls.FETCH_EXPORT.request(export.project_id, export.id)
        async for chunk in self._stream(request, {}):
            yield chunk

    async def store_export(self, content: bytes) -> ExportUpload:
        """Stores an export at the gateway for an hour; returns what names it in a deploy."""
        digest = sha256(content).hexdigest()
        await self._store(digest, content)
        return ExportUpload(sha256=digest)

    async def set_purse(self, project_id: str, change: PurseBody) -> PurseChanged:
        """Moves credits between this wallet and a project's purse, and sets the purse's terms."""
        return await self.call(calls.SET_PURSE, project_id, body=change)

    async def adopt(self, project_id: str) -> ProjectAdopted:
        """Lets a project that a payment alone has opened share the credits of this wallet."""
        return await self.call(calls.ADOPT, project_id)

    async def offer(self, project_id: str, body: TransferBody) -> TransferItem:
        """Offers a project to another wallet; an earlier open offer of it ends."""
        return await self.call(calls.OFFER, project_id, body=body)

    async def transfers(self) -> list[TransferItem]:
        """Returns what this wallet has offered or was offered, the newest first."""
        return (await self.call(calls.TRANSFERS)).transfers

    async def accept(self, offer: str, *, purse_usd: Decimal | None = None) -> ProjectTransferred:
        """Takes over a project that was offered to this wallet, with so much in its purse, or more.

        Else, `terms_changed`, nothing changes.
        """
        body = None
        if purse_usd is not None:
            body = AcceptBody(expect=TransferExpected(purse_usd=purse_usd))
        return await self.call(calls.ACCEPT, offer, body=body)

    async def withdraw(self, offer: str) -> TransferItem:
        """Ends an offer, as its giver or as the wallet that it is for."""
        return await self.call(calls.WITHDRAW, offer)

    async def recovery(self, wallet: str | None = None) -> RecoveryShown:
        """Returns who may take this wallet over; of another that names this one as well."""
        return await self.call(calls.RECOVERY, wallet=wallet)

    async def set_recovery(self, address: str | None, *, wait_days: int) -> RecoveryShown:
        """Names who may take this wallet over when its key is lost; None is nobody."""
        return await self.call(
            calls.SET_RECOVERY, body=RecoveryBody(address=address, wait_days=wait_days)
        )

    async def claim(self, wallet: str) -> RecoveryShown:
        """Begins to take a wallet over that has named this one."""
        return await self.call(calls.CLAIM, body=ClaimBody(wallet=wallet))

    async def object(self) -> RecoveryShown:
        """Ends a claim of this wallet."""
        return await self.call(calls.OBJECT)

    async def dashboard(self) -> LinkMade:
        """Makes a link that opens this wallet's pages once, within 10 minutes."""
        return await self.make_link(LinkBody(once=True))

    async def make_link(self, link: LinkBody) -> LinkMade:
        """Makes a link; its URL is in this answer alone."""
        return await self.call(calls.MAKE_LINK, body=link)

    async def links(self) -> LinkList:
        """Returns this wallet's read-only links, and when each was last opened."""
        return await self.call(calls.LINKS)

    async def remove_link(self, link_id: str) -> LinkRemoved:
        """Ends a link, and whatever it has opened."""
        return await self.call(calls.REMOVE_LINK, link_id)

    async def delegates(self) -> DelegateList:
        """Returns who may act for this wallet."""
        return await self.call(calls.DELEGATES)

    async def add_delegate(
        self,
        delegate: str,
        *,
        scopes: Sequence[str],
        limit_usd_month: int,
        days: int,
        project: str = "",
    ) -> DelegateItem:
        """Lets another wallet act for this one: by its scopes, on one project or on all.

        Raises ClientMisconfigured for what is no address, and without a key.
        """
        if self.signer is None:
            raise ClientMisconfigured("a delegation must be signed, and there is no private key")
        try:
            address = checksum_address(delegate)
        except ValueError:
            raise ClientMisconfigured(f"{delegate!r} is no address of a wallet") from None
        typed = Delegation(
            owner=self.signer.address,
            host=host_of(self.gateway_url),
            delegate=address,
            project=project,
            scopes=list(scopes),
            limit_usd_month=limit_usd_month,
            not_after=self._clock.now_ms() // 1000 + days * _DAY_SECONDS,
            epoch=(await self.delegates()).epoch,
        )
        body = {"typed": typed, "signature": self.signer.sign_digest(typed.digest())}
        return await self.call(calls.MAKE_DELEGATE, body=body)

    async def end_delegate(self, delegation_id: str) -> DelegateEnded:
        """Ends a delegation for good."""
        return await self.call(calls.END_DELEGATE, delegation_id)

    async def end_delegates(self) -> DelegatesEnded:
        """Ends all delegations, those that were signed and never shown as well."""
        return await self.call(calls.END_DELEGATES)

    async def balance(self, address: str, *, chain: str = "arbitrum") -> Balances:
        """Returns the token balances of `address` on `chain`. Public."""
        return await self.call(calls.BALANCE, address, chain=chain)

    async def chains(self) -> ChainList:
        """Returns the chains that payments are accepted on. Public."""
        return await self.call(calls.CHAINS)

    async def sizes(self) -> SizeList:
        """Returns the sizes of apps, with their prices. Public."""
        return await self.call(calls.SIZES)

    async def health(self) -> Health:
        """Returns `ok` when the gateway answers. Public."""
        return await self.call(calls.HEALTH)

    async def follow(
        self,
        project_id: str,
        deployment_id: str,
        *,
        on_status: Callable[[DeploymentProgress], None] | None = None,
        deadline_seconds: float = 1800,
    ) -> DeploymentProgress:
        """Polls until the deployment is `ready` or `failed`, also through outages of the gateway.

        Raises FollowTimedOut after `deadline_seconds`, and errors that are not retryable at once.
        """
        deadline = self._clock.monotonic_seconds() + deadline_seconds
        polls = 0
        while True:
            failure: ClientError | None = None
            try:
                status = await self.status(project_id, deployment_id)
            except ClientError as error:
                if not error.retryable:
                    raise
                failure = error
            else:
                if on_status is not None:
                    on_status(status)
                if status.status in {"ready", "failed"}:
                    return status
            if self._clock.monotonic_seconds() >= deadline:
                raise FollowTimedOut
            pause_seconds = _poll_pause_seconds(polls)
            if failure is None:
                await self._pause(pause_seconds)
            else:
                await self._wait(max(failure.retry_after_seconds or 0, pause_seconds), failure)
            polls += 1

    @cached_property
    def _uploads(self) -> StoredUploads:
        return StoredUploads(self._store)

    async def _store(self, digest: str, content: bytes) -> UploadStored:
        request = msgspec.structs.replace(calls.STORE_UPLOAD.request(digest), body=content)
        return await self._send(request, UploadStored, {}, read_seconds=_PAID_SECONDS)

    async def _deploy(self, request: DeployRequest, headers: Mapping[str, str]) -> Deployed:
        named = await self._uploads.named(request)
        try:
            return await self._buy(calls.DEPLOY, named.encode(), headers)
        except RequestRefused as error:
            if error.code != _UPLOAD_NOT_FOUND or named is request:
                raise
        self._uploads.forget()
        return await self._buy(calls.DEPLOY, request.encode(), headers)

    async def _buy(
        self, call: Call[Answer], body: bytes, headers: Mapping[str, str], *, bound: bool = False
    ) -> Answer:
        request = ApiRequest(call.method, call.path, body, bound)
        return await self._send(request, call.answer, headers, read_seconds=_PAID_SECONDS)


def verify_receipt(signed: SignedReceipt, keys: ReceiptKeys) -> None:
    """Raises ReceiptInvalid unless a key of this gateway signed the receipt while it was in use.

    `keys` are what the gateway itself answers, over HTTPS: they say whose the receipt is. What the
    document says of its own types and its signer does not count.
    """
    message, issued_ms = signed.message, int(signed.message.issued_at_ms)
    if message.host != keys.host:
        raise ReceiptInvalid(f"It names the gateway {message.host}, and this is {keys.host}.")
    try:
        signature = bytes.fromhex(signed.signature.removeprefix("0x"))
        signer = key_signer(message.digest(), signature)
    except (ValueError, OverflowError):
        signer = None
    key = next((each for each in keys.keys if each.address.lower() == signer), None)
    if key is None:
        raise ReceiptInvalid(f"{keys.host} never had the key that signed it, or it was changed.")
    if not key.since_ms <= issued_ms < (key.until_ms or issued_ms + 1):
        raise ReceiptInvalid(f"{key.address} did not sign receipts when it was issued.")


def _payment_headers(*, chain: str | None, token: str | None) -> dict[str, str]:
    headers = {}
    if chain is not None:
        headers["X-Payment-Chain"] = chain
    if token is not None:
        headers["X-Payment-Token"] = token
    return headers


def _proof_headers(proof: PaymentProof) -> dict[str, str]:
    headers = _payment_headers(chain=proof.chain, token=proof.token)
    if proof.authorization:
        return headers | {AUTHORIZATION: proof.authorization}
    return headers | {"X-Payment-Tx": proof.tx_hash}


def _key_header(idempotency_key: str | None) -> dict[str, str]:
    return {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}


def _decoded(data: str) -> LogItem:
    try:
        return read_answer(data, LogItem)
    except msgspec.DecodeError as error:
        raise AnswerUnreadable(f"an event of the log is not the contract's: {error}") from error


def _poll_pause_seconds(polls: int) -> float:
    if polls < len(_POLL_PAUSES_SECONDS):
        return _POLL_PAUSES_SECONDS[polls]
    return _POLL_STEADY_SECONDS
