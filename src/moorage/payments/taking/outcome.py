"""What became of a payment that came with a request, told beside whatever else is answered."""

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
        """As an answer has it."""
        return PaymentTold(
            tx=self.tx_hash,
            chain=self.chain,
            state=self.state,
            credited_usd=usd_number(self.credited),
            do_not_pay_again=self.do_not_pay_again,
        )

    @property
    def sentence(self) -> str:
        """For who reads nothing else of a refusal; "" where nothing was paid."""
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
    """What a payment is that was refused so, and of which nothing is in the books."""
    return _REFUSED.get(type(refusal), PaymentState.PENDING)
