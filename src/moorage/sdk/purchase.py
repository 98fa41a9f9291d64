"""What a payment is for: a deployment, or credits. They differ in what the gateway is asked."""

from decimal import Decimal
from typing import Protocol

import msgspec

from moorage.money import MICRO_USD_PER_USD, MicroUsd
from moorage.sdk.answers import Answer
from moorage.sdk.client import Client
from moorage.sdk.errors import HashAlreadyUsed
from moorage.sdk.journal import Payment, PaymentState
from moorage.sdk.request import DeployRequest, PaymentProof
from moorage.wire.credits import ToppedUp, TopUpBody
from moorage.wire.deploy import Deployed

_CREDITS = "credits"
_CREDITS_IN_JOURNAL = "$credits"  # as no project can be called


class Purchase(Protocol[Answer]):
    """Something the gateway sells, asked for without a payment and then with one."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        ...

    @property
    def journal_name(self) -> str:
        """The name its payments are recorded under; at most one payment a name is open."""
        ...

    @property
    def months(self) -> int | None:
        """How many months are paid for; None for credits."""
        ...

    @property
    def limit(self) -> MicroUsd | None:
        """The highest price to accept, if the purchase itself sets one."""
        ...

    async def ask(self, client: Client, *, chain: str, token: str) -> Answer:
        """Asks for it. Raises PaymentRequired, with a quote on `chain` in `token`."""
        ...

    async def present(self, client: Client, proof: PaymentProof) -> Answer:
        """Asks for it with a payment: a single attempt."""
        ...

    async def recover(self, client: Client, payment: Payment, used: HashAlreadyUsed) -> Answer:
        """The answer that the payment led to before. Raises ClientError if it can't be found."""
        ...

    def taken(self, payment: Payment, answer: Answer) -> Payment:
        """The payment as the journal keeps it after the gateway took it."""
        ...


class Deployment(msgspec.Struct, frozen=True):
    """A deploy, paid for where credits fall short."""

    request: DeployRequest
    use_existing_credits: bool = False
    limit: MicroUsd | None = None

    @property
    def name(self) -> str:
        """The name it is deployed under."""
        return self.request.unique_name

    @property
    def journal_name(self) -> str:
        """The same, as the gateway folds it."""
        return self.request.unique_name.lower()

    @property
    def months(self) -> int | None:
        """How long it is to run."""
        return self.request.months

    async def ask(self, client: Client, *, chain: str, token: str) -> Deployed:
        """Deploys if credits suffice."""
        return await client.deploy(
            self.request, chain=chain, token=token, use_existing_credits=self.use_existing_credits
        )

    async def present(self, client: Client, proof: PaymentProof) -> Deployed:
        """Deploys with a payment."""
        return await client.deploy_paid(self.request, proof)

    async def recover(self, client: Client, payment: Payment, used: HashAlreadyUsed) -> Deployed:
        """The deployment it started, or a new one from the credits that it became."""
        if used.project_id and used.deployment_id:
            message = "This payment had already started the deployment."
            return Deployed(
                project_id=used.project_id, deployment_id=used.deployment_id, message=message
            )
        return await client.deploy(
            self.request, chain=payment.chain, token=payment.token, use_existing_credits=True
        )

    def taken(self, payment: Payment, answer: Deployed) -> Payment:
        """Deployed, with the ids."""
        return msgspec.structs.replace(
            payment,
            state=PaymentState.DEPLOYED,
            project_id=answer.project_id,
            deployment_id=answer.deployment_id,
        )


class Credit(msgspec.Struct, frozen=True):
    """Credits of a dollar amount, which is also the most that is paid for them."""

    amount: MicroUsd
    name: str = _CREDITS
    journal_name: str = _CREDITS_IN_JOURNAL
    months: int | None = None

    @property
    def limit(self) -> MicroUsd | None:
        """A dollar of credits costs a dollar."""
        return self.amount

    @property
    def _body(self) -> TopUpBody:
        return TopUpBody(amount_usd=Decimal(self.amount) / MICRO_USD_PER_USD)

    async def ask(self, client: Client, *, chain: str, token: str) -> ToppedUp:
        """Asks what to pay."""
        return await client.top_up(self._body, chain=chain, token=token)

    async def present(self, client: Client, proof: PaymentProof) -> ToppedUp:
        """Asks to credit a payment: what it brought, once."""
        return await client.top_up_paid(self._body, proof)

    async def recover(self, client: Client, payment: Payment, used: HashAlreadyUsed) -> ToppedUp:  # noqa: ARG002 (as the protocol has it)
        """Raises `used`: the gateway answers a payment of this wallet the same each time."""
        raise used

    def taken(self, payment: Payment, answer: ToppedUp) -> Payment:  # noqa: ARG002 (as above)
        """Credited."""
        return msgspec.structs.replace(payment, state=PaymentState.CREDITED)
