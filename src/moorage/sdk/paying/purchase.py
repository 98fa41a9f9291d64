"""What a payment is for: a deployment, or credits. Each asks the gateway in its own way."""

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
_CREDITS_IN_JOURNAL = "$credits"  # no project can have this name


class Purchase(Protocol[Answer]):
    """Something the gateway sells, requested without a payment and then with one."""

    @property
    def name(self) -> str:
        """Its name for a person."""
        ...

    @property
    def journal_name(self) -> str:
        """The name that its payments are recorded under; at most one payment of a name is open."""
        ...

    @property
    def months(self) -> int | None:
        """How many months the price is for; None for credits."""
        ...

    @property
    def limit(self) -> MicroUsd | None:
        """The highest price to accept, if the purchase itself sets one."""
        ...

    async def ask(self, client: Client, *, chain: str, token: str) -> Answer:
        """Requests it. Raises PaymentRequired, with a quote on `chain` in `token`."""
        ...

    async def present(self, client: Client, proof: PaymentProof) -> Answer:
        """Requests it with a payment, in a single attempt."""
        ...

    async def recover(self, client: Client, payment: Payment, used: HashAlreadyUsed) -> Answer:
        """Returns the answer that the payment led to. Raises ClientError if it can't be found."""
        ...

    def taken(self, payment: Payment, answer: Answer) -> Payment:
        """Returns the payment for the journal, after the gateway accepted it."""
        ...


class Deployment(msgspec.Struct, frozen=True):
    """A deploy, paid for if credits don't suffice."""

    request: DeployRequest
    use_existing_credits: bool = False
    limit: MicroUsd | None = None
    idempotency_key: str | None = None

    @property
    def name(self) -> str:
        """The name it is deployed under."""
        return self.request.unique_name

    @property
    def journal_name(self) -> str:
        """The name in lower case, as the gateway compares names."""
        return self.request.unique_name.lower()

    @property
    def months(self) -> int | None:
        """How long it is to run."""
        return self.request.months

    async def ask(self, client: Client, *, chain: str, token: str) -> Deployed:
        """Deploys if credits suffice."""
        return await client.deploy(
            self.request,
            chain=chain,
            token=token,
            use_existing_credits=self.use_existing_credits,
            idempotency_key=self.idempotency_key,
        )

    async def present(self, client: Client, proof: PaymentProof) -> Deployed:
        """Deploys with a payment."""
        return await client.deploy_paid(self.request, proof, idempotency_key=self.idempotency_key)

    async def recover(self, client: Client, payment: Payment, used: HashAlreadyUsed) -> Deployed:
        """Returns the deployment that it started, or a new one paid from its credits."""
        if used.project_id and used.deployment_id:
            message = "This payment had already started the deployment."
            return Deployed(
                project_id=used.project_id, deployment_id=used.deployment_id, message=message
            )
        return await client.deploy(
            self.request,
            chain=payment.chain,
            token=payment.token,
            use_existing_credits=True,
            idempotency_key=self.idempotency_key,
        )

    def taken(self, payment: Payment, answer: Deployed) -> Payment:
        """Marks the payment as deployed, with the ids."""
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
    idempotency_key: str | None = None

    @property
    def limit(self) -> MicroUsd | None:
        """A dollar of credits costs a dollar."""
        return self.amount

    @property
    def _body(self) -> TopUpBody:
        return TopUpBody(amount_usd=Decimal(self.amount) / MICRO_USD_PER_USD)

    async def ask(self, client: Client, *, chain: str, token: str) -> ToppedUp:
        """Requests a quote."""
        return await client.top_up(
            self._body, chain=chain, token=token, idempotency_key=self.idempotency_key
        )

    async def present(self, client: Client, proof: PaymentProof) -> ToppedUp:
        """Requests the credit of a payment, which is given once."""
        return await client.top_up_paid(self._body, proof, idempotency_key=self.idempotency_key)

    async def recover(self, client: Client, payment: Payment, used: HashAlreadyUsed) -> ToppedUp:  # noqa: ARG002 (as the protocol has it)
        """Raises `used`: a payment of this wallet would have got the same answer again."""
        raise used

    def taken(self, payment: Payment, answer: ToppedUp) -> Payment:  # noqa: ARG002 (as above)
        """Marks the payment as credited."""
        return msgspec.structs.replace(payment, state=PaymentState.CREDITED)


async def titled(client: Client, request: DeployRequest) -> DeployRequest:
    """Returns the request with its project's present title, if there is a project."""
    for found in (await client.projects()).projects:
        if found.name == request.unique_name and found.display_name:
            return msgspec.structs.replace(request, display_name=found.display_name)
    return request
