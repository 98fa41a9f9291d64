"""Deploys and tops up, and pays the 402 at most once, also after crashes and outages.

A payment is written to the journal before it is broadcast. While the journal holds an open one for
the same gateway, wallet and name, that payment is resumed: the same signed transaction and the same
hash are sent again, and no other is signed.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal
from enum import StrEnum
from itertools import chain as chain_of
from itertools import repeat
from typing import Generic, NoReturn, Protocol

import msgspec
from msgspec import UNSET

from moorage.chains.chain import Chain, Token
from moorage.clock import Clock, SystemClock
from moorage.money import MICRO_USD_PER_USD, MicroUsd
from moorage.sdk.archive import Collected, OpenExport
from moorage.sdk.budget import DAY_MS, Budget
from moorage.sdk.client import Client, DeployRequest, PaymentProof, Settings
from moorage.sdk.errors import (
    ClientError,
    ClientMisconfigured,
    Forbidden,
    GasShort,
    HashAlreadyUsed,
    JournalUnwritable,
    NodeError,
    NotFound,
    PaymentRefused,
    PaymentReplaced,
    PaymentRequired,
    PaymentReverted,
    PaymentShort,
)
from moorage.sdk.journal import Journal, Payment, PaymentKey, PaymentState
from moorage.sdk.payment import (
    Node,
    Offer,
    Sighting,
    accepted_domain,
    authorize,
    check_gas_balance,
    is_expired,
    money_text,
    node_needed,
    read_offer,
    said_balance,
    see_mined,
    send,
    sign_transfer,
    transfer_call,
    uncertain,
    unspent,
    with_balance,
)
from moorage.sdk.signer import Signer
from moorage.sdk.transport import Answer, Pause
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
    given_to: str = ""

    @property
    def limit(self) -> MicroUsd | None:
        """A dollar of credits costs a dollar."""
        return self.amount

    @property
    def _body(self) -> TopUpBody:
        dollars = Decimal(self.amount) / MICRO_USD_PER_USD
        return TopUpBody(amount_usd=dollars, for_=self.given_to or UNSET)

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


async def deploy_request(
    client: Client,
    found: Collected | OpenExport,
    *,
    name: str,
    display_name: str | None,
    description: str | None,
    months: int,
    settings: Settings,
) -> DeployRequest:
    """Returns the request that deploys what was read; an export is stored, if it can be sent.

    Without `display_name` a project keeps its title; a new one gets the export's, or its own name.
    The variables of an export count where `settings` do not name them.
    """
    title, upload = "", found.upload
    if isinstance(found, OpenExport):
        if found.manifest.display_name != found.manifest.project:  # a title of its own
            title = found.manifest.display_name
        if found.content is not None:
            await client.store_export(found.content)
        settings = msgspec.structs.replace(
            settings,
            run_envs={**found.run, **(settings.run_envs or {})} or None,
            build_vars={**found.build, **(settings.build_vars or {})} or None,
        )
    if display_name is None:
        display_name = await _title_of(client, name) or title or name
    return DeployRequest(
        unique_name=name,
        display_name=display_name,
        description=description,
        months=months,
        settings=settings,
        upload=upload,
    )


async def _title_of(client: Client, name: str) -> str:
    """Returns the title of the wallet's project of that name; empty if there is none."""
    try:
        own = (await client.projects()).projects
        return next((each.display_name for each in own if each.name == name), "")
    except Forbidden:  # a delegate for one project may not list its owner's
        with suppress(Forbidden, NotFound):
            return (await client.project(name)).display_name
    return ""


_ROUNDS = 3  # another run may pay for the same between quote and payment
_PROOF_PAUSES_SECONDS = (1.0, 2.0, 3.0)
_PROOF_STEADY_SECONDS = 5.0
_PROOF_PATIENCE_SECONDS = 900
_UNNAMED_402_ATTEMPTS = 6
_FINAL_402_CODES = frozenset({"payment_not_found", "payer_mismatch"})
_UNSPENT_402_CODES = frozenset({"authorization_refused", "challenge_invalid", "challenge_expired"})


class PayStep(StrEnum):
    """The steps of a payment."""

    RESUMED = "resumed"  # an open payment of an earlier run is used again
    SIGNED = "signed"  # on the disk, about to be broadcast
    MINED = "mined"  # the node has seen it succeed
    WAITING = "waiting"  # the gateway does not accept it yet; it is sent again


class Bought(msgspec.Struct, Generic[Answer], frozen=True):
    """The gateway's answer, and the payment for it, if one was made."""

    answer: Answer
    payment: Payment | None


Approve = Callable[[Offer], bool]
OnStep = Callable[[PayStep, Payment, str], None]
"""Takes a step, its payment, and why the gateway does not accept it yet; "" if it was not asked."""


def refuse_to_pay(_offer: Offer) -> bool:
    """An `Approve` that never pays."""
    return False


def _ignore_step(_step: PayStep, _payment: Payment, _why: str) -> None:
    return


@dataclass(frozen=True)
class Payer:
    """Deploys and tops up for one wallet at one gateway, and pays if credits don't suffice.

    `chains` are those it may pay on, by name. On one without an RPC URL, or on which it has no
    coin for gas, it signs an authorization, which the gateway settles and pays the gas for. A price
    above `ceiling` or beyond `budget` is refused; else `approve` decides, by default against it.
    """

    client: Client
    signer: Signer
    _: KW_ONLY
    chains: Mapping[str, Chain]
    journal: Journal
    approve: Approve = refuse_to_pay
    ceiling: MicroUsd | None = None
    budget: Budget = field(default_factory=Budget)
    on_step: OnStep = _ignore_step
    clock: Clock = field(default_factory=SystemClock)
    pause: Pause = asyncio.sleep

    async def deploy(
        self,
        request: DeployRequest,
        *,
        chain: str = "arbitrum",
        token: str = "usdc",  # noqa: S107 - a token that pays, not one that logs in
        use_existing_credits: bool = False,
        idempotency_key: str | None = None,
    ) -> Bought[Deployed]:
        """Deploys, and pays at most once.

        With an `idempotency_key`, the same call again has the first one's answer.
        Raises NotPaid if no money has moved, PaymentKept if it may have, and errors of `Client`
        before any payment.
        """
        purchase = Deployment(
            request, use_existing_credits=use_existing_credits, idempotency_key=idempotency_key
        )
        return Bought(*await self._buy(purchase, chain, token))

    async def top_up(
        self,
        amount: MicroUsd,
        *,
        chain: str = "arbitrum",
        token: str = "usdc",  # noqa: S107 - as above
        idempotency_key: str | None = None,
        given_to: str = "",
    ) -> Bought[ToppedUp]:
        """Buys credits of `amount`, and pays at most once and at most that; `given_to` gets them.

        An open payment of an earlier top-up is used instead, whatever its amount. Raises as
        `deploy` does.
        """
        name = f"{_CREDITS_IN_JOURNAL} for {given_to.lower()}" if given_to else _CREDITS_IN_JOURNAL
        purchase = Credit(
            amount, journal_name=name, idempotency_key=idempotency_key, given_to=given_to
        )
        return Bought(*await self._buy(purchase, chain, token))

    async def _buy(
        self, purchase: Purchase[Answer], chain: str, token: str
    ) -> tuple[Answer, Payment | None]:
        key = PaymentKey(
            gateway=self.client.gateway_url,
            wallet=self.signer.address.lower(),
            name=purchase.journal_name,
        )
        for _ in range(_ROUNDS):
            known = self.journal.payments(key)
            open_payment = next(
                (found for found in known if found.state is PaymentState.SIGNED), None
            )
            if open_payment is not None:
                self.on_step(PayStep.RESUMED, open_payment, "")
                return await self._claim(purchase, open_payment)
            try:
                answer = await purchase.ask(self.client, chain=chain, token=token)
            except PaymentRequired as required:
                paid = await self._pay(required, purchase, key, len(known), chain, token)
            else:
                return answer, None
            if paid is not None:
                return await self._claim(purchase, paid)
        raise PaymentRefused("other runs keep paying for the same meanwhile. Nothing was paid.")

    async def _pay(
        self,
        required: PaymentRequired,
        purchase: Purchase[Answer],
        key: PaymentKey,
        known: int,
        chain_name: str,
        token_name: str,
    ) -> Payment | None:
        """Has the offer approved and pays it; None when another run paid for `key` meanwhile."""
        chain, token = self._means(chain_name, token_name)
        if self.client.on_behalf_of is not None:
            raise _of_owner(required, self.client.on_behalf_of)
        if required.quote is None:
            raise required
        offer = read_offer(
            required.quote,
            name=purchase.name,
            months=purchase.months,
            chain=chain,
            token=token,
            wallet=self.signer.address,
        )
        async with AsyncExitStack() as opened:
            node = await opened.enter_async_context(Node(chain)) if chain.rpc_urls else None
            offer = await self._with_means(node, offer, required)
            self._weigh(offer, purchase.limit)
            async with self.journal.locked():
                if self._paid_meanwhile(offer, key, known):
                    return None
                payment = await self._sign(node, offer, required, key)
                self.journal.append(payment)
                self.on_step(PayStep.SIGNED, payment, "")
                if node is not None and payment.raw_transaction:
                    await send(node, payment)
        return payment

    def _paid_meanwhile(self, offer: Offer, key: PaymentKey, known: int) -> bool:
        """Whether another run paid for `key`. Raises BudgetExceeded."""
        if len(self.journal.payments(key)) != known:
            return True
        made = self.journal.signed_since(self.clock.now_ms() - DAY_MS)
        self.budget.check(offer.price, made=made)
        return False

    def _means(self, chain_name: str, token_name: str) -> tuple[Chain, Token]:
        chain = self.chains.get(chain_name)
        if chain is None:
            known = ", ".join(sorted(self.chains)) or "none"
            raise ClientMisconfigured(f"chain {chain_name!r} is not configured here; {known} are")
        token = chain.token(token_name)
        if token is None:
            names = ", ".join(each.name for each in chain.tokens)
            raise ClientMisconfigured(
                f"{chain_name} has no token {token_name!r} here; it has {names}"
            )
        return chain, token

    async def _with_means(
        self, node: Node | None, offer: Offer, required: PaymentRequired
    ) -> Offer:
        """Returns the offer with the wallet's balance, and whether it is paid without gas.

        A transfer is preferred; an authorization, which the gateway settles, is for a wallet that
        knows no node, or has no coin for gas. Raises ClientError if it can pay neither.
        """
        if node is None:
            accepted_domain(required.x402, offer, refusal=node_needed(offer))
            balances = await self.client.balance(self.signer.address, chain=offer.chain.name)
            return with_balance(offer, said_balance(balances, offer.token), gasless=True)
        await node.check_chain()
        held = await node.holdings(self.signer.address, offer.token)
        try:
            check_gas_balance(offer, needed=1, wei=held.wei)
        except GasShort as short:
            offer = with_balance(offer, held.tokens, gasless=True)
            accepted_domain(required.x402, offer, refusal=short)
            return offer
        return with_balance(offer, held.tokens)

    def _weigh(self, offer: Offer, limit: MicroUsd | None) -> None:
        limits = [each for each in (self.ceiling, limit) if each is not None]
        if limits and offer.price > min(limits):
            allowed = money_text(min(limits), decimals=6)
            raise PaymentRefused(
                f"{offer.name} costs {offer.price_text}, more than the ${allowed} allowed. "
                "Nothing was paid."
            )
        if not self.approve(offer):
            raise PaymentRefused(f"{offer.price_text} was not approved. Nothing was paid.")

    async def _sign(
        self, node: Node | None, offer: Offer, required: PaymentRequired, key: PaymentKey
    ) -> Payment:
        """Signs one payment: a transfer, or an authorization where its gas can't be paid."""
        now_ms, wallet = self.clock.now_ms(), self.signer.address
        refusal: ClientError = node_needed(offer)
        if node is not None and not offer.gasless:
            terms = await node.sending_terms(wallet, transfer_call(offer, wallet=wallet))
            try:
                return sign_transfer(offer, terms, self.signer, key, now_ms=now_ms)
            except GasShort as short:
                refusal = short
        domain = accepted_domain(required.x402, offer, refusal=refusal)
        return authorize(offer, domain, self.signer, key, now_ms=now_ms)

    async def _claim(self, purchase: Purchase[Answer], payment: Payment) -> tuple[Answer, Payment]:
        """Waits until the payment is mined, then presents its hash until the gateway decides."""
        await self._see_mined(payment)
        proof = PaymentProof(
            tx_hash=payment.tx_hash,
            chain=payment.chain,
            token=payment.token,
            authorization=payment.authorization,
        )
        deadline = self.clock.monotonic_seconds() + _PROOF_PATIENCE_SECONDS
        unnamed = 0
        for pause_seconds in chain_of(_PROOF_PAUSES_SECONDS, repeat(_PROOF_STEADY_SECONDS)):
            try:
                answer = await purchase.present(self.client, proof)
            except HashAlreadyUsed as used:
                answer = await self._recover(purchase, payment, used)
                return answer, self._record(purchase.taken(payment, answer))
            except ClientError as error:
                unnamed += isinstance(error, PaymentRequired) and error.code != "payment_pending"
                await self._give_up(payment, error, unnamed=unnamed)
                left_seconds = deadline - self.clock.monotonic_seconds()
                if left_seconds <= 0:
                    raise uncertain(payment, error) from error
                self.on_step(PayStep.WAITING, payment, error.message)
                asked = min(error.retry_after_seconds or 0, left_seconds)
                await self.pause(max(pause_seconds, asked))
            else:
                return answer, self._record(purchase.taken(payment, answer))
        raise AssertionError("the loop above only returns or raises")

    async def _give_up(self, payment: Payment, error: ClientError, *, unnamed: int) -> None:
        """Raises when presenting the hash again would not help."""
        if not isinstance(error, PaymentRequired):
            if not error.retryable:
                raise uncertain(payment, error) from error
            return
        if error.code == "payment_short":
            self._close(payment, PaymentState.CREDITED)
            raise PaymentShort(
                f"{error.message} What you paid is credited; the same command pays the remainder.",
                chain=payment.chain,
                tx_hash=payment.tx_hash,
                cause=error,
            ) from error
        if payment.authorization and error.code in _UNSPENT_402_CODES:
            await self._give_up_unspent(payment, error)
        if error.code in _FINAL_402_CODES or unnamed >= _UNNAMED_402_ATTEMPTS:
            raise uncertain(payment, error) from error

    async def _give_up_unspent(self, payment: Payment, error: PaymentRequired) -> NoReturn:
        """Raises; closes the payment if no chain can carry it out any more, and none has."""
        expired = is_expired(payment, now_ms=self.clock.now_ms())
        if expired:
            if not await self._is_unused(payment):
                raise uncertain(payment, error) from error
            self._close(payment, PaymentState.EXPIRED)
        raise unspent(error, expired=expired) from error

    async def _is_unused(self, payment: Payment) -> bool:
        """Whether the chain bears out that an expired authorization moved nothing.

        Where no node is known the gateway's word counts, and the budget bounds what it can cost.
        """
        chain = self.chains.get(payment.chain)
        token = chain.token(payment.token) if chain else None
        if chain is None or token is None or not chain.rpc_urls:
            return True
        try:
            async with Node(chain) as node:
                return await node.is_unused(payment, token)
        except NodeError:
            return False

    async def _recover(
        self, purchase: Purchase[Answer], payment: Payment, used: HashAlreadyUsed
    ) -> Answer:
        try:
            return await purchase.recover(self.client, payment, used)
        except ClientError as error:
            raise uncertain(payment, error) from error

    def _close(self, payment: Payment, state: PaymentState) -> None:
        self._record(msgspec.structs.replace(payment, state=state))

    def _record(self, payment: Payment) -> Payment:
        try:
            self.journal.append(payment)
        except JournalUnwritable as error:
            raise uncertain(payment, error) from error
        return payment

    async def _see_mined(self, payment: Payment) -> None:
        """Waits until the payment is mined, or the node can't tell: the gateway asks its own node.

        Raises PaymentReverted, PaymentReplaced, or PaymentUncertain when the node refuses it.
        """
        chain = self.chains.get(payment.chain)
        if payment.authorization or chain is None or not chain.rpc_urls:
            return
        async with Node(chain) as node:
            sighting = await see_mined(node, payment, pause=self.pause)
        if sighting is Sighting.MINED:
            self.on_step(PayStep.MINED, payment, "")
        elif sighting is Sighting.REVERTED:
            self._close(payment, PaymentState.REVERTED)
            raise PaymentReverted(
                f"the transfer {payment.tx_hash} failed on {payment.chain}: no token moved. "
                "The same command tries again.",
                tx_hash=payment.tx_hash,
            )
        elif sighting is Sighting.REPLACED:
            self._close(payment, PaymentState.REPLACED)
            raise PaymentReplaced(
                f"another transaction took the place of {payment.tx_hash} on {payment.chain}, "
                "which moved nothing. The same command pays again.",
                tx_hash=payment.tx_hash,
            )


def _of_owner(required: PaymentRequired, owner: str) -> PaymentRequired:
    """Returns what a delegate hears: what it paid would be its own credits, not its owner's."""
    error = f"The credits of {owner} don't pay for this, and a delegate pays nothing for it here."
    actions = [
        f"Buy credits for it: moorage topup AMOUNT --for {owner}",
        "If it has enough, and its other projects share them: send X-Use-Existing-Credits: true",
    ]
    body = {**required.body, "error": error, "next_actions": actions}
    return PaymentRequired(
        status=required.status, code=required.code, error=error, retryable=False, body=body
    )
