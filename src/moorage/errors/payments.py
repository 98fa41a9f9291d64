"""A payment that does not, or does not yet, pay."""

from moorage.errors.root import MoorageError


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
