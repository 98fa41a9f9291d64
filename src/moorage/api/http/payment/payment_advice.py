"""What to do next after a refusal, by what became of the payment that came with the request.

Nobody is told to pay while money is there, or may be on its way; but for the remainder of a price.
"""

from collections.abc import Iterable

from moorage.errors import (
    MoorageError,
    PayerMismatch,
    PaymentAlreadyUsed,
    PaymentHeld,
    PaymentMalformed,
    PaymentPending,
    PaymentShort,
)
from moorage.payments.protocols.demand import PaymentRequired
from moorage.payments.taking.outcome import PaymentOutcome
from moorage.wire.problems import PaymentState

_SAME_AGAIN = "Send the same request with the same payment again. Do not pay again."
_MEND = "Fix the request as `error` says and send it with the same payment. Do not pay again."
_RELEASE = "Ask the operator to release or refund it. Do not pay again."
_AS_THE_PAYER = "Sign the request with the wallet that paid: the payment is credited to that one."
_AS_ITS_WALLET = (
    "Sign the request with the wallet that paid, and send it without this payment: the credits "
    "that it brought count. Do not pay again."
)
_WITHOUT_IT = "If that wallet is not yours, send the request without this payment."
_REMAINDER = (
    "Your payment is credited. Pay the rest only, amount_token, from the same wallet before "
    "expires_at, and send the same body with that payment."
)
_OWN_AUTHORIZATION = "Nothing was spent: sign authorization and request with the same wallet."
_UNREADABLE = (
    "Nothing of this payment was used. If you have transferred tokens already, do not pay again: "
    "send the same request with X-Payment-Tx, the hash of your transaction."
)
_BEFORE_PAYING: dict[type[MoorageError], tuple[str]] = {
    PayerMismatch: (_OWN_AUTHORIZATION,),
    PaymentMalformed: (_UNREADABLE,),
}
_BRINGS_NOTHING = "Compare looked_for with what you sent: this transaction brings nothing here."
_AS_A_HEADER = "Send the same request with the header X-Payment-Tx: {tx_hash}. Do not pay again."
_NO_PAYMENT = "Leave the hash out: its transaction brings nothing here."
_UNSEEN = (
    (
        "If it stays unknown for minutes, look the hash up in your wallet: a transaction that was "
        "replaced has another hash, so send that one; one that is confirmed is found without you."
    ),
    "Only if your wallet never sent it: send the request without X-Payment-Tx.",
)
_FOR_ANOTHER = (
    "Send the request without this payment: credits that are left count, and the answer says what "
    "is due for this project, if anything. Do not pay again before that."
)
_CREDITS_PAY = (
    "Send the request without this payment: the credits that it brought count. Do not pay again."
)
_SENT_BACK = "Send the request without this payment: the answer says what is due."


def payment_actions(error: MoorageError, ways: Iterable[str] = ()) -> list[str]:
    """Returns what to do next; `ways` are those to pay what a 402 asks for. May be empty."""
    outcome = error.payment if isinstance(error.payment, PaymentOutcome) else None
    cause = (error.because or error) if isinstance(error, PaymentRequired) else error
    state = _state(cause, outcome)
    if isinstance(cause, PaymentShort):
        return [_REMAINDER, *ways]
    if state is PaymentState.NOT_FOUND and isinstance(cause, PaymentMalformed):
        return [_NO_PAYMENT]
    if state is PaymentState.NOT_FOUND:
        return [_SENT_BACK] if isinstance(cause, PaymentAlreadyUsed) else [_BRINGS_NOTHING, *ways]
    if state is PaymentState.UNUSED:
        return [*_BEFORE_PAYING.get(type(cause), ()), *ways]
    if state is None:
        return list(ways)
    openly = outcome is not None and outcome.openly
    return _while_money_is_there(cause, state, openly=openly)


def _state(cause: MoorageError, outcome: PaymentOutcome | None) -> PaymentState | None:
    if outcome is not None:
        return outcome.state
    if isinstance(cause, PaymentHeld):
        return PaymentState.HELD
    return PaymentState.PENDING if isinstance(cause, PaymentPending) else None


def _while_money_is_there(cause: MoorageError, state: PaymentState, *, openly: bool) -> list[str]:
    match state:
        case PaymentState.FOREIGN:
            return [_AS_THE_PAYER, _WITHOUT_IT]
        case PaymentState.HELD:
            return [_RELEASE]
    if openly and not isinstance(cause, PaymentPending):
        return [_AS_ITS_WALLET]
    match cause:
        case PaymentAlreadyUsed():
            return [_once_used(cause)]
        case PaymentPending():
            return [_SAME_AGAIN, *(() if cause.seen else _UNSEEN)]
        case PaymentMalformed(tx_hash=str()):
            return [_AS_A_HEADER.format(tx_hash=cause.tx_hash)]
    return [_MEND]


def _once_used(used: PaymentAlreadyUsed) -> str:
    if used.for_another:
        return _FOR_ANOTHER
    if used.project_id is None:
        return _CREDITS_PAY
    status = f"/agent/deploy/{used.project_id}/{used.deployment_id}/status"
    return f"Follow what it paid for: GET {status}. Do not pay again."
