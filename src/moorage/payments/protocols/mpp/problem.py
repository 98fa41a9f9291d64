"""The RFC 9457 problem type of each refusal of a payment."""

from typing import NamedTuple

from moorage.errors import (
    AuthorizationRefused,
    ChallengeExpired,
    ChallengeInvalid,
    MoorageError,
    PayerMismatch,
    PaymentMalformed,
    PaymentNotFound,
    PaymentPending,
    PaymentShort,
)

_BASE = "https://paymentauth.org/problems/"


class ProblemType(NamedTuple):
    """The members `type` and `title` of a problem."""

    type: str
    title: str


PAYMENT_REQUIRED = ProblemType(_BASE + "payment-required", "Payment Required")
NOT_A_PROBLEM_OF_ITS_OWN = ProblemType("about:blank", "Payment Required")

_TYPES: dict[type[MoorageError], ProblemType] = {
    PaymentMalformed: ProblemType(_BASE + "malformed-credential", "Malformed Credential"),
    ChallengeInvalid: ProblemType(_BASE + "invalid-challenge", "Invalid Challenge"),
    ChallengeExpired: ProblemType(_BASE + "payment-expired", "Payment Expired"),
    PaymentShort: ProblemType(_BASE + "payment-insufficient", "Payment Insufficient"),
    PaymentNotFound: ProblemType(_BASE + "verification-failed", "Verification Failed"),
    PayerMismatch: ProblemType(_BASE + "verification-failed", "Verification Failed"),
    AuthorizationRefused: ProblemType(_BASE + "verification-failed", "Verification Failed"),
    PaymentPending: NOT_A_PROBLEM_OF_ITS_OWN,  # the draft has no type that tells a client to wait
}


def problem_type(because: MoorageError | None) -> ProblemType:
    """Returns the problem type of a refused payment; `because` is None when no payment came.

    Source: draft-httpauth-payment-00, Error Codes. Where the draft has no type, it is `about:blank`
    (RFC 9457): the status says everything.
    """
    if because is None:
        return PAYMENT_REQUIRED
    return _TYPES.get(type(because), NOT_A_PROBLEM_OF_ITS_OWN)
