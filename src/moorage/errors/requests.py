"""A request that cannot be carried out as it is."""

from moorage.errors.root import MoorageError


class InvalidRequest(MoorageError):
    """The request is invalid."""


class FieldError(InvalidRequest):
    """`field`, of the body or a header, is to be fixed."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


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
    """Sign this very request: this gateway takes signatures with X-Signature-Version: 2 alone."""


class NonceReused(AuthError):
    """This X-Nonce was used before. Nothing was done or taken: sign again with a fresh UUID."""


class TokenInvalid(AuthError):
    """This manage token is revoked, or its project is gone. The project's wallet makes another."""


class TokenScope(MoorageError):
    """A manage token reads and changes its own project alone: sign this with the wallet."""


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


class DomainNotFound(MoorageError):
    """This project has no such domain; POST …/domains adds one."""


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
