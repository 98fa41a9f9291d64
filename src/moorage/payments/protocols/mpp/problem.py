"""The problem type of RFC 9457 that a refusal of payment has."""

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
    PaymentPending: NOT_A_PROBLEM_OF_ITS_OWN,  # no type of the draft's lets a client just wait
}


def problem_type(because: MoorageError | None) -> ProblemType:
    """The type for what was wrong with the payment that came; None when none came.

    Source: draft-httpauth-payment-00, Error Codes. What the draft has no type for, RFC 9457 calls
    `about:blank`: the status says it all.
    """
    if because is None:
        return PAYMENT_REQUIRED
    return _TYPES.get(type(because), NOT_A_PROBLEM_OF_ITS_OWN)
