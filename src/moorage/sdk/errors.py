"""The errors of a gateway's client, as one branch of the tree.

MoorageError
└── ClientError                 `code`, `retryable`, `retry_after_seconds`
    ├── GatewayError            the gateway answered with an error: `status`, `error`, `body`
    │   ├── RequestRefused      400 413: change the request
    │   ├── NotAuthenticated    401
    │   ├── PaymentRequired     402, with the `quote` when the answer holds one
    │   ├── Forbidden           403
    │   ├── NotFound            404
    │   ├── HashAlreadyUsed     409, with the ids when the payment was this wallet's
    │   ├── TooManyRequests     429
    │   └── GatewayUnavailable  5xx
    ├── GatewayUnreachable      no connection: nothing was sent
    ├── AnswerLost              sent, and no answer came: what happened is unknown
    ├── AnswerUnreadable        an answer that is not the contract's
    ├── ReceiptInvalid          its signature is no key's of the gateway that it names
    ├── FollowTimedOut          the deployment is still going on
    ├── AppFailed               the deployment has failed: `status` says why
    ├── DirectoryInvalid        the directory can't be uploaded
    ├── ClientMisconfigured     a gateway, key, chain or node is missing or malformed
    ├── JournalUnwritable       payments can't be recorded, so none is made
    ├── NodeError               the chain's node, not the gateway
    │   ├── NodeUnreachable     no (readable) answer: what happened is unknown
    │   └── NodeRefused         the node answered with an error
    ├── NotPaid                 nothing was paid
    │   ├── QuoteInconsistent   the 402 asks for something else than it says
    │   ├── PaymentRefused      too expensive, or the person said no
    │   │   └── BudgetExceeded  more than the environment's budget allows
    │   ├── BalanceShort        the wallet holds too little of the token
    │   │   └── GasShort        it holds too little of the chain's own coin
    │   ├── PaymentReverted     mined, but it moved nothing
    │   └── PaymentReplaced     another transaction took its place; it can never be mined
    └── PaymentKept             money has moved or may have: never pay again for this
        ├── PaymentUncertain    the outcome is unknown; the same call resumes it
        └── PaymentShort        credited, but a remainder is due
"""

from typing import Any

from moorage.errors import MoorageError
from moorage.wire.deployments import DeploymentProgress
from moorage.wire.problems import PaymentDemand


class ClientError(MoorageError):
    """A call to the gateway did not succeed."""

    code = "client_error"
    retryable = False
    retry_after_seconds: int | None = None


class GatewayError(ClientError):
    """The gateway answered with an error; `body` is its whole answer."""

    def __init__(
        self,
        *,
        status: int,
        code: str,
        error: str,
        retryable: bool,
        body: dict[str, Any],
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.code = code
        self.error = error
        self.retryable = retryable
        self.body = body
        self.retry_after_seconds = retry_after_seconds


class RequestRefused(GatewayError):
    """The request is invalid; `body` names the field or the file."""


class FilesWouldBeLost(RequestRefused):
    """The deploy would lose what the running version has written; nothing was changed."""


class NotAuthenticated(GatewayError):
    """The gateway did not accept the signature."""


class PaymentRequired(GatewayError):
    """The gateway asks to be paid, or does not (yet) accept the payment named."""

    quote: PaymentDemand | None = None
    x402: str | None = None
    """The value of PAYMENT-REQUIRED."""


class Forbidden(GatewayError):
    """The project belongs to another wallet."""


class NotFound(GatewayError):
    """There is no such project or deployment."""


class HashAlreadyUsed(GatewayError):
    """The transaction has already paid; the ids say for what, if it was this wallet's."""

    project_id: str | None = None
    deployment_id: str | None = None


class TooManyRequests(GatewayError):
    """The gateway asks to slow down; `retry_after_seconds` says for how long."""


class GatewayUnavailable(GatewayError):
    """The gateway, or a chain it reads, can't answer right now."""


class GatewayUnreachable(ClientError):
    """The gateway can't be reached; nothing was sent."""

    code = "gateway_unreachable"
    retryable = True

    def __init__(self, gateway_url: str) -> None:
        super().__init__(f"no gateway answers at {gateway_url}")
        self.gateway_url = gateway_url


class AnswerLost(ClientError):
    """The request was sent, but no answer came: whether it was carried out is unknown."""

    code = "answer_lost"
    retryable = True


class AnswerUnreadable(ClientError):
    """The answer is not the contract's. Is this address a Moorage gateway?"""

    code = "answer_unreadable"


class ReceiptInvalid(ClientError):
    """This is no receipt of the gateway that it names. Do not rely on it."""

    code = "receipt_invalid"


class FollowTimedOut(ClientError):
    """The deployment is still going on."""

    code = "follow_timed_out"
    retryable = True


class AppFailed(ClientError):
    """The deployment has failed; credits that were paid stay. `status` is what the gateway says."""

    code = "app_failed"

    def __init__(self, status: DeploymentProgress) -> None:
        self.status = status
        super().__init__(status.reason or "The deployment failed.")


class DirectoryInvalid(ClientError):
    """The directory can't be uploaded."""

    code = "directory_invalid"


class ClientMisconfigured(ClientError):
    """A gateway, key, chain or node is missing or malformed."""

    code = "configuration_invalid"


class JournalUnwritable(ClientError):
    """Payments can't be recorded on this disk, so none is made."""

    code = "journal_unwritable"


class NodeError(ClientError):
    """The chain's node did not do what was asked."""

    code = "node_error"


class NodeUnreachable(NodeError):
    """The chain's node gives no readable answer."""

    code = "node_unreachable"
    retryable = True


class NodeRefused(NodeError):
    """The chain's node answered with an error."""

    code = "node_refused"


class NotPaid(ClientError):
    """Nothing was paid."""

    code = "not_paid"


class QuoteInconsistent(NotPaid):
    """The gateway asks for something else than it says. Nothing was paid."""

    code = "quote_inconsistent"


class PaymentRefused(NotPaid):
    """The payment was not approved. Nothing was paid."""

    code = "payment_refused"


class BudgetExceeded(PaymentRefused):
    """The payment is beyond the budget of this machine. Nothing was signed or paid."""

    code = "budget_exceeded"


class BalanceShort(NotPaid):
    """The wallet can't pay this. Nothing was paid."""

    code = "balance_short"


class GasShort(BalanceShort):
    """The wallet can't pay the gas of a transfer. Nothing was paid."""


class PaymentReverted(NotPaid):
    """The payment's transaction was mined but failed: no token moved."""

    code = "payment_reverted"

    def __init__(self, message: str, *, tx_hash: str) -> None:
        super().__init__(message)
        self.tx_hash = tx_hash


class AuthorizationUnspent(NotPaid):
    """The gateway refused the authorization, and says that it was not carried out."""

    code = "authorization_unspent"


class PaymentReplaced(NotPaid):
    """Another transaction of the wallet took the payment's place: it can never be mined."""

    code = "payment_replaced"
    retryable = True

    def __init__(self, message: str, *, tx_hash: str) -> None:
        super().__init__(message)
        self.tx_hash = tx_hash


class PaymentKept(ClientError):
    """Money has moved, or may have. Do not pay again.

    `tx_hash` is the payment's transaction; "" for an authorization, which the gateway sends.
    """

    code = "payment_kept"

    def __init__(
        self, message: str, *, chain: str, tx_hash: str, cause: ClientError | None = None
    ) -> None:
        super().__init__(message)
        self.chain = chain
        self.tx_hash = tx_hash
        self.cause = cause


class PaymentUncertain(PaymentKept):
    """The payment was sent, but what came of it is unknown. Do not pay again."""

    code = "payment_uncertain"


class PaymentShort(PaymentKept):
    """The payment is credited, but a remainder is due. The next call asks for that alone."""

    code = "payment_short"
