"""Turns the client's errors into refusals that a model can act on."""

from typing import Any

from moorage.mcp.tools.outcome import NEVER_ANEW, Outcome, refused
from moorage.sdk.errors import AnswerLost, ClientError, GatewayError, PaymentKept

_SAID = frozenset({"error", "code", "retryable"})


def failure(error: ClientError) -> Outcome:
    """Returns the refusal for an error; of the gateway's own, with all that it said."""
    more: dict[str, Any] = {}
    if isinstance(error, GatewayError):
        more = {name: of for name, of in error.body.items() if name not in _SAID}
    return refused(error.code, error.message, retryable=error.retryable, **more)


def purchase_failure(error: ClientError, *, tool: str, key: str) -> Outcome:
    """Returns the refusal for an error of a call that may have paid."""
    if isinstance(error, PaymentKept):
        return refused(
            error.code,
            f"{error.message} {NEVER_ANEW.format(tool=tool, key=key)}",
            retryable=True,
            payment={"chain": error.chain, "tx_hash": error.tx_hash or None},
            idempotency_key=key,
        )
    if isinstance(error, AnswerLost):
        return refused(
            error.code,
            f"{error.message}. {NEVER_ANEW.format(tool=tool, key=key)}",
            retryable=True,
            idempotency_key=key,
        )
    return failure(error)


def still_paying(*, tool: str, key: str, chain: str, tx_hash: str) -> Outcome:
    """Returns the refusal of a call whose time was up while its payment was under way."""
    return refused(
        "payment_uncertain",
        "The payment is signed and sent, and the gateway has not confirmed it yet. "
        + NEVER_ANEW.format(tool=tool, key=key),
        retryable=True,
        payment={"chain": chain, "tx_hash": tx_hash or None},
        idempotency_key=key,
    )
