"""What became of a payment that came with a request; part of every answer to that request."""

from collections.abc import Iterable, Sequence

import msgspec

from moorage.errors import (
    AuthorizationRefused,
    ChallengeExpired,
    ChallengeInvalid,
    MoorageError,
    PayerMismatch,
    PaymentHeld,
    PaymentNotFound,
)
from moorage.money import NOTHING, AtomicUnits, MicroUsd, usd_number
from moorage.payments.protocols.evidence import PaymentWay
from moorage.records.payments import Payment, PaymentStatus
from moorage.wire.problems import PaymentState, PaymentTold


class PaymentReceipt(msgspec.Struct, frozen=True):
    """A payment on chain that was verified and claimed.

    `credited` is what it brought its payer in all, even if it was claimed before.
    """

    chain_id: int
    tx_hash: str
    payer: str
    credited: MicroUsd
    at_ms: int
    way: PaymentWay
    challenge_id: str | None = None
    """The id of the MPP challenge that it answers."""
    reference: str = ""
    """The `externalId` of that challenge."""
    authorized: AtomicUnits | None = None
    """The amount of the authorization, if it was paid by one."""
    chain: str = ""  # names; receipts that were stored before these two lack them
    token: str = ""
    purse: str | None = None
    """The project whose purse it fills, if it was sent for that."""


class PaymentOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one payment."""

    tx_hash: str | None  # None: an authorization that nobody has sent, or a hash that is none
    chain: str
    token: str
    state: PaymentState
    credited: MicroUsd = NOTHING
    openly: bool = False
    """Whether nothing else says who sent the request: then it pays for that one body alone."""

    @property
    def do_not_pay_again(self) -> bool:
        """Whether the payer has paid, or may have."""
        return self.state in (PaymentState.CREDITED, PaymentState.PENDING, PaymentState.HELD)

    @property
    def told(self) -> PaymentTold:
        """The outcome as the answer's body contains it."""
        return PaymentTold(
            tx=self.tx_hash,
            chain=self.chain,
            token=self.token,
            state=self.state,
            credited_usd=usd_number(self.credited),
            do_not_pay_again=self.do_not_pay_again,
        )

    @property
    def sentence(self) -> str:
        """What the refusal's message says of the payment."""
        return (_OPENLY if self.openly else _SENTENCES).get(self.state, _SENTENCES[self.state])


_SENTENCES = {
    PaymentState.CREDITED: (
        "Your payment is credited: do not pay again, "
        "send the same payment with the request as it should be."
    ),
    PaymentState.PENDING: (
        "Whether your payment arrived is not known yet: do not pay again, "
        "send the same payment with the request as it should be."
    ),
    PaymentState.HELD: "Your payment is held by the operator's screening: do not pay again.",
    PaymentState.UNUSED: "The authorization to pay was not spent.",
    PaymentState.FOREIGN: "This payment was made by another wallet, not by yours.",
    PaymentState.NOT_FOUND: "This transaction brings nothing here.",
}
_OPENLY = {
    PaymentState.CREDITED: (
        "Your payment is credited to the wallet that paid: do not pay again, sign the request with "
        "that wallet."
    ),
    PaymentState.PENDING: (
        "Whether your payment arrived is not known yet: do not pay again. What arrives is credited "
        "to the wallet that paid."
    ),
}
_REFUSED: dict[type[MoorageError], PaymentState] = {
    PaymentHeld: PaymentState.HELD,
    PayerMismatch: PaymentState.FOREIGN,
    PaymentNotFound: PaymentState.NOT_FOUND,
    ChallengeInvalid: PaymentState.UNUSED,
    ChallengeExpired: PaymentState.UNUSED,
    AuthorizationRefused: PaymentState.UNUSED,
}


def state_after(refusal: MoorageError) -> PaymentState:
    """Returns the state of a payment that was refused with `refusal` and is not in the books."""
    return _REFUSED.get(type(refusal), PaymentState.PENDING)


def state_in_books(payments: Iterable[Payment], wallet: str) -> PaymentState | None:
    """Returns the state of a transaction's `payments` for `wallet`; None when they don't tell.

    Money that was sent back pays for nothing: NOT_FOUND.
    """
    standing = [one for one in payments if one.status is not PaymentStatus.REVERSED]
    statuses = {one.status for one in standing if one.payer == wallet}
    if PaymentStatus.CREDITED in statuses:
        return PaymentState.CREDITED
    if PaymentStatus.HELD in statuses:
        return PaymentState.HELD
    if PaymentStatus.REFUNDED in statuses:
        return PaymentState.NOT_FOUND
    return PaymentState.FOREIGN if standing else None


def outcome_of(receipt: PaymentReceipt) -> PaymentOutcome:
    """Returns the outcome of a payment that was credited."""
    return PaymentOutcome(
        tx_hash=receipt.tx_hash,
        chain=receipt.chain,
        token=receipt.token,
        state=PaymentState.CREDITED,
        credited=receipt.credited,
    )


def tokens_of(payments: Sequence[Payment]) -> str:
    """Returns the token's name; several, in the order of the transaction, with commas."""
    return ",".join(dict.fromkeys(one.token for one in payments))
