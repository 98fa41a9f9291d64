"""Every error Moorage raises on purpose, as one tree.

    MoorageError
    ├── InvalidRequest              the request itself can't be accepted
    │   ├── FieldError              names a field of the body, or a header
    │   │   └── InvalidField  RuntimeUnsupported  PaymentMalformed  UploadNotFound
    │   └── UploadInvalid  NameUnavailable  PlanNotFound  PlanTooCostly
    ├── BodyTooLarge  BodyStalled
    ├── AuthError
    │   ├── AuthMissing  TimestampExpired  SignatureInvalid  SignatureUnbound  NonceReused
    │   └── TokenInvalid
    ├── AuthUnavailable  AlreadyRunning     no nonce can be recorded; the data directory is in use
    ├── WrongWallet  TokenScope  DelegateScope  DelegateLimit  LinkScope  ConfirmationMissing
    ├── DelegateNotFound  TooManyDelegates
    ├── (Project|Deployment|Run|Export|Domain|Webhook|Event|Link|Receipt|Refund)NotFound
    ├── TooManyLinks  ExportFailed
    ├── ProjectBlocked              the operator has suspended the project, or the wallet
    ├── ProjectPaused               its owner has paused it
    ├── WalletNotListed  TooManyProjects  Maintenance      the operator takes no (new) deploys
    ├── TransferNotFound  TransferRefused      an offer of a project to another wallet
    ├── (RecoveryNotFound  RecoveryPending  RecoveryRefused  WalletRecovered)   keys that get lost
    ├── SignatureNeeded             asked by a payment alone; the signed answer says why
    ├── ReleaseServing  ReleaseNeverServed  ReleaseGone  NoEarlierRelease  DeploymentOver
    ├── NothingServes               no version of the project serves yet
    ├── FilesWouldBeLost            what the running version has written would be lost
    ├── OutOfCredits  CreditsShort  IdempotencyKeyReused  IdempotencyInProgress
    ├── RateLimited (TooManyStreams  TooManyUploads  TooManyRuns)
    ├── PaymentError                the payment that was sent does not (yet) pay
    │   ├── PaymentPending          its outcome is not known yet; the same one may be sent again
    │   ├── PaymentNotFound  PayerMismatch      it has no transfer by this wallet
    │   ├── PaymentShort  PaymentHeld           credited, but less than the price; held apart
    │   ├── ChallengeInvalid  ChallengeExpired  AuthorizationRefused      unspent
    │   └── PaymentAlreadyUsed      this hash has already paid for a deployment, or topped up
    ├── TermsChanged                a quote for a refund, or an offer, is not what was expected
    ├── RefundInProgress            by its customer; nothing was taken
    ├── BackupFailed  BackupInvalid  RefundRefused     by the operator's commands; nothing was done
    ├── BooksWrong                  a report can't be made, as the ledger breaks its own rules
    ├── ChainUnavailable            the node can't be reached or contradicts itself
    ├── NoCapacity  PlannersBusy  UploadDisplaced     there is no room for the request now
    ├── LeaderAway  ClusterUnavailable  ContentUnavailable      apps or files are out of reach now
    ├── VariablesUnreadable         a project's sealed variables can't be opened
    ├── DatabaseUnavailable         the database can't be read or written right now; nothing changed
    │   ├── WriteConflict  UniqueViolation      a row changed, or its key exists; nothing written
    │   ├── SchemaUnknown           it is of a newer version, or from before the first release
    │   └── CommitUnknown           whether the transaction was committed is not known
    ├── DeployFailed                a deployment ended before `ready`, and why
    └── IsolationMissing  ConfigurationInvalid  LocalChainFailed  ProxyFailed      it can't run

A class's docstring is the message for a person, unless the instance has its own. Details are
fields, never parsed out of text. HTTP statuses and machine codes are in `api.http.problems`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum


class MoorageError(Exception):
    """Something went wrong."""

    receipt: object | None = None
    """The `PaymentReceipt` of what was paid before the error, if anything was."""

    advice = ""
    """What the sender of a request does, which the API says behind the message."""

    payment: object | None = None
    """The `PaymentOutcome` of the payment that came with the request."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))

    @property
    def message(self) -> str:
        """The message for a person."""
        return str(self.args[0])


class InvalidRequest(MoorageError):
    """The request is invalid."""


class FieldError(InvalidRequest):
    """`field`, of the body or a header, is to be fixed."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem

    @classmethod
    @contextmanager
    def of(cls, field: str, problem: str = "") -> Iterator[None]:
        """Raises it for a ValueError, which says the problem unless that is given."""
        try:
            yield
        except ValueError as error:
            raise cls(field, problem or str(error)) from error


class InvalidField(FieldError):
    """A field of the body or a header breaks its rule; `field` is its dotted name."""


class UploadInvalid(InvalidRequest):
    """The upload breaks a rule; `path` names the file, as far as one is to blame."""

    def __init__(self, problem: str, *, path: str | None = None) -> None:
        super().__init__(f"upload: {problem}" if path is None else f"upload: {path!r} {problem}")
        self.path, self.problem = path, problem


class UploadNotFound(FieldError):
    """No upload of this wallet is stored here under this digest; `field` names the digest."""


class NameUnavailable(InvalidRequest):
    """This uniqueName is taken. Choose another."""

    held_until_ms: int | None = None  # if it is not taken for good
    openly = False  # asked by a payment alone, which does not say who asks


class PlanNotFound(InvalidRequest):
    """No way to build this upload was found; `looked_for` lists what would have been one."""

    def __init__(self, message: str, *, looked_for: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.looked_for = looked_for


class RuntimeUnsupported(FieldError):
    """This gateway cannot run what the settings ask for; `field` names the setting."""


class PlanTooCostly(InvalidRequest):
    """Reading the upload takes more than `limit`; `path` is the file it was at, where known."""

    def __init__(self, limit: str, *, path: str | None = None) -> None:
        at = f" It was at {path!r}: shorten that file, or leave it out." if path else ""
        super().__init__(f"upload: to read and plan it takes more than {limit}.{at}")
        self.path = path


class PaymentMalformed(FieldError):
    """A payment header cannot be read; `field` names it.

    `tx_hash` is that of a payment that stands where it is not read.
    """

    def __init__(self, field: str, problem: str, *, tx_hash: str | None = None) -> None:
        super().__init__(field, problem)
        self.tx_hash = tx_hash


class BodyTooLarge(MoorageError):
    """The request body is larger than this gateway accepts."""

    of_upload = False  # then leaving files out helps


class BodyStalled(MoorageError):
    """The body came slower than 16 KiB/s: send it again, faster. A payment made still counts."""


class AuthError(MoorageError):
    """The request is not signed by its wallet; `header` is the one that is missing or wrong."""

    def __init__(self, message: str = "", *, header: str | None = None) -> None:
        super().__init__(message)
        self.header = header


class AuthMissing(AuthError):
    """Sign the request: send X-Wallet-Address, X-Signature, X-Timestamp and X-Nonce."""

    open_path = ""  # where a payment alone says who sends such a request


class TimestampExpired(AuthError):
    """X-Timestamp must lie within 60 seconds of the server's clock. Sign again with a fresh one."""


class SignatureInvalid(AuthError):
    """X-Signature is not this wallet's signature of `{wallet}:{timestamp}:{nonce}`."""


class SignatureUnbound(AuthError):
    """Sign this very request (X-Signature-Version: 2): nothing else moves money or power here."""


class NonceReused(AuthError):
    """This X-Nonce was used before. Nothing was done or taken: sign again with a fresh UUID."""


class TokenInvalid(AuthError):
    """This manage token is revoked or has expired, or its project is gone.

    The project's wallet makes another: POST /agent/projects/{projectId}/tokens.
    """


class TokenScope(MoorageError):
    """A manage token does what its scopes say, to its own project: sign this with the wallet."""


class DelegateScope(MoorageError):
    """No delegation of that wallet covers this request: it has none for you, or another scope."""


class DelegateLimit(MoorageError):
    """The delegation's limitUsdMonth does not allow this: its owner can sign another."""


class DelegateNotFound(MoorageError):
    """There is no such delegation of this wallet."""


class TooManyDelegates(MoorageError):
    """This wallet has as many delegations as are kept: end all (POST /agent/delegates/epoch)."""


class LinkScope(MoorageError):
    """This link only shows, and only what it was made for: sign in with the wallet to do this."""


class ConfirmationMissing(MoorageError):
    """This cannot be undone, or lets others in: the wallet has to sign what exactly is done."""


class AuthUnavailable(MoorageError):
    """The gateway cannot record that this request was made. Nothing was done; try again shortly."""


class AlreadyRunning(MoorageError):
    """Another gateway runs on this data directory; stop it first, or choose another directory."""


class WrongWallet(MoorageError):
    """This project belongs to another wallet."""


class ProjectNotFound(MoorageError):
    """There is no such project."""


class DeploymentNotFound(MoorageError):
    """There is no such deployment of this project."""


class RunNotFound(MoorageError):
    """This project has no such run."""


class NothingServes(MoorageError):
    """No version of this project serves yet, whose files a run could have: deploy it first."""


class ReleaseServing(MoorageError):
    """This deployment serves already. Nothing was changed."""


class ReleaseNeverServed(MoorageError):
    """This deployment has never served: choose one whose canRollBack is true."""


class ReleaseGone(MoorageError):
    """The files of this deployment are kept no longer: deploy it again from its source."""


class NoEarlierRelease(MoorageError):
    """This project has no earlier release to go back to. Nothing was changed."""


class DeploymentOver(MoorageError):
    """This deployment is ready or over: there is nothing to cancel."""


class ProjectBlocked(MoorageError):
    """The operator has suspended this; `why` is the operator's reason."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The gateway's operator has suspended this: {why.rstrip('. ')}. "
            "Credits do not change that, and are kept."
        )
        self.why = why


class ProjectPaused(MoorageError):
    """You have paused this project. Resume it first: PATCH it with {"paused": false}."""


class TransferNotFound(MoorageError):
    """There is no such offer from this wallet or to it."""


class TransferRefused(MoorageError):
    """The project can't change hands now. Nothing has changed."""


class RecoveryNotFound(MoorageError):
    """There is no recovery address or claim of this kind."""


class RecoveryPending(MoorageError):
    """The wallet's recovery address claims it: until that ends, this waits.

    Object by DELETE /agent/recovery/claim, signed by the wallet.
    """


class RecoveryRefused(MoorageError):
    """The recovery of this wallet can't be changed or claimed so now."""


class WalletRecovered(MoorageError):
    """This wallet's recovery address has taken it over: its own key opens nothing here any more.

    That address signs as itself (version 2), and adds X-On-Behalf-Of.
    """


class SignatureNeeded(MoorageError):
    """A payment alone opens nothing here for this payer: sign the request with the wallet."""


class WalletNotListed(MoorageError):
    """This gateway serves wallets alone that its operator has listed, and yours is not."""

    def __init__(self, *, signed: bool = True) -> None:
        sign = "" if signed else " Sign the request, so that it can be seen whose it is."
        super().__init__(
            "This gateway takes deploys and payments only of wallets that its operator has listed."
            f"{sign} Nothing was paid."
        )


class TooManyProjects(MoorageError):
    """The wallet has as many projects as its operator allows; deleting one makes room."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"Your wallet has as many projects as this gateway allows it ({limit}). Delete one, "
            "deploy a new version of one, or ask the operator for more. Nothing was paid."
        )
        self.limit = limit


class Maintenance(MoorageError):
    """New deploys are refused for a while; all that runs continues."""

    def __init__(self, words: str) -> None:
        said = f" The operator says: {words}" if words else ""
        super().__init__(
            f"This gateway takes no new deploys at the moment; all that runs continues.{said}"
        )


class FilesWouldBeLost(MoorageError):
    """Files that the running version has written would be lost; `paths` are the first of them."""

    def __init__(self, message: str = "", *, paths: tuple[str, ...] = ()) -> None:
        super().__init__(message and f"{message} Nothing was changed.")
        self.paths = paths


class OutOfCredits(MoorageError):
    """This is free, for wallets with credits only: top up first. Nothing was done."""


class CreditsShort(MoorageError):
    """There are fewer credits than that. Nothing was done."""


class DomainNotFound(MoorageError):
    """This project has no such domain; POST …/domains adds one."""


class ReceiptNotFound(MoorageError):
    """This wallet has no payment by that transaction; `GET /agent/payments` lists those it has."""


class IdempotencyKeyReused(MoorageError):
    """This Idempotency-Key was used for another request. Choose a fresh key; nothing was done."""


class IdempotencyInProgress(MoorageError):
    """An earlier request with this Idempotency-Key is still carried out. Send it again shortly."""


class WebhookNotFound(MoorageError):
    """This wallet has no webhook; PUT /agent/webhook makes one."""


class EventNotFound(MoorageError):
    """This wallet has no such event; events are kept for 60 days."""


class ExportNotFound(MoorageError):
    """The project has no such export, or its time is over: POST …/exports makes another."""


class ExportFailed(MoorageError):
    """The export could not be made; the message says why."""


class LinkNotFound(MoorageError):
    """This wallet has no such link."""


class RefundNotFound(MoorageError):
    """This wallet has asked for no such refund."""


class TermsChanged(MoorageError):
    """The quote does not hold any more. Nothing was sent back: ask for another quote."""


class RefundInProgress(MoorageError):
    """An earlier refund of this wallet is on its way. Nothing changed: follow that one first."""


class TooManyLinks(MoorageError):
    """The wallet has as many links as may be; removing one makes room."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"Your wallet has {limit} links, as many as may be. Remove one first.")


class RateLimited(MoorageError):
    """Too many requests; `retry_after_seconds` says when the next one passes."""

    def __init__(self, retry_after_seconds: int, message: str = "") -> None:
        super().__init__(message or f"Too many requests. Try again in {retry_after_seconds} s.")
        self.retry_after_seconds = retry_after_seconds


class TooManyStreams(RateLimited):
    """As many logs are followed as may be; the message says whose."""


class TooManyUploads(RateLimited):
    """Uploads take all the room they get before they are paid for; the message says what to do."""


class TooManyRuns(RateLimited):
    """As many runs of the project wait as may; the message says how many."""


class PaymentError(MoorageError):
    """The payment named does not pay for this request."""


class PaymentPending(PaymentError):
    """The payment is not confirmed yet. Do not pay again: send the same hash again."""

    seen = True  # False: of a transaction that the chain's node does not know

    def __init__(self, message: str = "", *, retry_after_seconds: int = 5) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class PaymentNotFound(PaymentError):
    """The transaction holds no transfer that pays; `looked_for` says what was searched."""

    def __init__(self, message: str, *, looked_for: dict[str, str]) -> None:
        super().__init__(message)
        self.looked_for = looked_for


class PayerMismatch(PaymentError):
    """This payment was made by another wallet; it is credited to that one, never to you."""


class PaymentShort(PaymentError):
    """The payment is credited, but is less than what was due: pay the rest only, amount_token."""


class PaymentHeld(PaymentError):
    """The payment arrived and is recorded, but held for the operator's review. Do not pay again."""


class ChallengeInvalid(PaymentError):
    """This challenge is not for this request. Nothing was spent: answer one of the new ones."""


class ChallengeExpired(PaymentError):
    """This challenge has expired. Nothing was spent: answer one of the new ones."""


class AuthorizationRefused(PaymentError):
    """The authorization can't be settled, nothing was spent; `by_chain`: its chain refused it."""

    def __init__(self, why: str, *, by_chain: bool = False) -> None:
        super().__init__(f"The authorization cannot be settled: {why}. Nothing was spent.")
        self.why, self.by_chain = why, by_chain


class PaymentAlreadyUsed(PaymentError):
    """This transaction has already paid; the ids say for what, if it was yours."""

    def __init__(
        self,
        message: str = "",
        *,
        project_id: str | None = None,
        deployment_id: str | None = None,
        used_by: str | None = None,
        for_another: bool = False,
    ) -> None:
        """`used_by` is the transaction that used an authorization, and paid here.

        `for_another` tells that the request is for another project than it has paid for.
        """
        super().__init__(message)
        self.project_id, self.deployment_id = project_id, deployment_id
        self.used_by, self.for_another = used_by, for_another


class FailureCause(StrEnum):
    """Why a deployment ended before `ready`: the contract's `reason_code`."""

    UPLOAD_INVALID = "upload_invalid"
    PLAN_NOT_FOUND = "plan_not_found"
    INSTALL_FAILED = "install_failed"
    BUILD_FAILED = "build_failed"
    BUILD_TIMEOUT = "build_timeout"
    RELEASE_FAILED = "release_failed"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"
    CRASHED = "crashed"
    PORT_NOT_BOUND = "port_not_bound"
    PORT_MISMATCH = "port_mismatch"
    UNHEALTHY = "unhealthy"
    INTERRUPTED = "interrupted"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    BLOCKED = "project_blocked"
    PAUSED = "project_paused"
    OUT_OF_CREDITS = "out_of_credits"
    AT_LIMIT = "limit_reached"
    NO_CAPACITY = "no_capacity"


class BackupFailed(MoorageError):
    """The backup cannot be made or put back; the message says why. Nothing was changed."""


class BackupInvalid(MoorageError):
    """The file is no whole backup of a gateway; the message says why. Nothing was changed."""


class BooksWrong(MoorageError):
    """The ledger holds what no rule explains; `moorage operator audit` names the rows."""


class RefundRefused(MoorageError):
    """The refund cannot be made. Nothing was sent."""


class ChainUnavailable(MoorageError):
    """The chain cannot be read right now."""

    advice = "Nothing was recorded; send the same request again."


class VariablesUnreadable(MoorageError):
    """The project's stored variables cannot be opened. Tell the gateway's operator."""


class DatabaseUnavailable(MoorageError):
    """The gateway cannot tell your balance right now. Nothing changed: do not pay, try again."""


class WriteConflict(DatabaseUnavailable):
    """Another request changed the same at the same moment. Nothing changed."""

    advice = "Send the same request again."


class UniqueViolation(WriteConflict):
    """Another request made the same at the same moment. Nothing changed."""


class CommitUnknown(DatabaseUnavailable):
    """Whether this was recorded is not known. Do not pay again; look before you do it once more."""


class SchemaUnknown(DatabaseUnavailable):
    """The database is of a version of Moorage that this one does not know."""


class LeaderAway(MoorageError):
    """The gateway that keeps the apps is being replaced by another."""

    advice = "Send the same request again."


class ClusterUnavailable(MoorageError):
    """The cluster that runs the apps does not answer."""

    advice = "Send the same request again shortly."


class ContentUnavailable(MoorageError):
    """Stored files cannot be reached right now."""

    advice = "A payment still counts: send the same request again."


class NoCapacity(MoorageError):
    """This gateway has no room for another app right now. Nothing was charged; try again later."""


class PlannersBusy(MoorageError):
    """The gateway reads other uploads right now. Nothing was charged; send it again shortly."""


class UploadDisplaced(MoorageError):
    """Too many upload at once, and this was slow: send it again. A payment made still counts."""


class DeployFailed(MoorageError):
    """A deployment ended before `ready`.

    `reason` is a sentence a person can act on, `log_tail` the last lines of the app or the build.
    """

    def __init__(self, cause: FailureCause, reason: str, *, log_tail: str = "") -> None:
        super().__init__(reason)
        self.cause, self.reason, self.log_tail = cause, reason, log_tail


class IsolationMissing(MoorageError):
    """This machine cannot isolate apps; `missing` lists what and the command that fixes it."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__("apps cannot be isolated here: " + "; ".join(missing))
        self.missing = missing


class ConfigurationInvalid(MoorageError):
    """The gateway cannot start with this configuration."""


class LocalChainFailed(MoorageError):
    """A local chain cannot run; the message says why and, if one does, which command fixes it."""


class ProxyFailed(MoorageError):
    """The proxy cannot run; the message says why."""
