"""What became of a payment that came with a request; part of every answer to that request."""

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
from moorage.money import NOTHING, MicroUsd, usd_number
from moorage.wire.problems import PaymentState, PaymentTold


class PaymentOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one payment."""

    tx_hash: str | None  # None: an authorization that nobody has sent
    chain: str
    state: PaymentState
    credited: MicroUsd = NOTHING

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
            state=self.state,
            credited_usd=usd_number(self.credited),
            do_not_pay_again=self.do_not_pay_again,
        )

    @property
    def sentence(self) -> str:
        """What the refusal's message says of the payment; "" where nothing was paid."""
        return _SENTENCES.get(self.state, "")


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
