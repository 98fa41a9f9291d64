"""The tools on standard input and output: files from a directory, payments within a budget."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from mcp.server.stdio import stdio_server
from msgspec import Meta

from moorage.chains.chain import Chain as KnownChain
from moorage.mcp.server import ToolCall, make_server
from moorage.mcp.tools import (
    NEVER_ANEW,
    App,
    AppSettings,
    Chain,
    DeleteProject,
    Deploy,
    Outcome,
    SingleRequest,
    Token,
    Tool,
    TopUp,
    WaitForDeployment,
    answered,
    catalog,
    deletion_preview,
    purse_of,
    refused,
    status_of,
)
from moorage.money import MICRO_USD_PER_USD, MicroUsd
from moorage.sdk.archive import Collected, OpenExport, read_upload
from moorage.sdk.budget import Budget
from moorage.sdk.client import Client, DeployRequest, Settings
from moorage.sdk.errors import AnswerLost, ClientError, FollowTimedOut, GatewayError, PaymentKept
from moorage.sdk.journal import Journal, Payment
from moorage.sdk.payer import Bought, Payer, PayStep, deploy_request
from moorage.sdk.payment import Offer
from moorage.sdk.signer import Signer
from moorage.wire.calls import ApiRequest

Directory = Annotated[
    str,
    Meta(
        description="its absolute path, or an export's; .gitignore and .moorageignore count",
        min_length=1,
    ),
]


class DeployDirectory(Deploy, frozen=True, kw_only=True):
    """What is deployed, and how it is paid for."""

    directory: Directory
    max_usd: Annotated[float, Meta(description="pay at most this", ge=0)] | None = None


class QuoteDirectory(App, frozen=True, kw_only=True):
    """What would be deployed."""

    directory: Directory
    chain: Chain | None = None
    token: Token | None = None


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


PAYING_SECONDS = 40.0
"""How long a call lasts after its payment is signed: clients give a tool 30 to 60 s."""

_FOLLOW = "Call wait_for_deployment with this project_id and deployment_id."
_Answer = TypeVar("_Answer", bound=msgspec.Struct)


class Wallet(msgspec.Struct, frozen=True):
    """The key that pays, where it may pay, what it has paid, and how much it may."""

    signer: Signer
    chains: Mapping[str, KnownChain]
    journal: Journal
    budget: Budget
    paying_seconds: float = PAYING_SECONDS


class _Signed:
    """The payment of a call, once there is one; it gives the call a time to end."""

    def __init__(self, timer: asyncio.Timeout, *, seconds: float) -> None:
        self.payment: Payment | None = None
        self._timer = timer
        self._seconds = seconds

    def note(self, _step: PayStep, payment: Payment, _why: str) -> None:
        """Starts the time at the first step."""
        if self.payment is None:
            self._timer.reschedule(asyncio.get_running_loop().time() + self._seconds)
        self.payment = payment


class Purchases:
    """What the local server buys for one wallet."""

    def __init__(self, client: Client, wallet: Wallet) -> None:
        self._client = client
        self._wallet = wallet

    async def deploy(self, asked: DeployDirectory) -> Outcome:
        """Deploys a directory; with `dry_run` only prices it."""
        if asked.dry_run:
            return await self.quote(asked)
        request, warnings = await self._request(asked, asked.directory)
        request = msgspec.structs.replace(request, discard_written=asked.discard_written)
        key = asked.idempotency_key or str(uuid.uuid4())

        def buy(payer: Payer) -> Coroutine[Any, Any, Bought[Any]]:
            return payer.deploy(
                request,
                chain=asked.chain or "arbitrum",
                token=asked.token or "usdc",
                use_existing_credits=asked.use_existing_credits,
                idempotency_key=key,
            )

        return await self._bought("deploy", buy, key, asked.max_usd, next=_FOLLOW, **warnings)

    async def quote(self, asked: DeployDirectory | QuoteDirectory) -> Outcome:
        """Prices a directory."""
        request, warnings = await self._request(asked, asked.directory)
        return answered(await self._client.quote_document(request), **warnings)

    async def top_up(self, asked: TopUp) -> Outcome:
        """Buys credits."""
        key = asked.idempotency_key or str(uuid.uuid4())

        def buy(payer: Payer) -> Coroutine[Any, Any, Bought[Any]]:
            return payer.top_up(
                _micro_usd(asked.amount_usd),
                chain=asked.chain or "arbitrum",
                token=asked.token or "usdc",
                idempotency_key=key,
            )

        return await self._bought("top_up", buy, key, None)

    async def _bought(
        self,
        tool: str,
        buy: Callable[[Payer], Coroutine[Any, Any, Bought[Any]]],
        key: str,
        max_usd: float | None,
        **more: Any,
    ) -> Outcome:
        """Buys, for `paying_seconds` after a payment was signed; a later call resumes that one."""
        wallet = self._wallet
        try:
            async with asyncio.timeout(None) as timer:
                signed = _Signed(timer, seconds=wallet.paying_seconds)
                payer = Payer(
                    self._client,
                    wallet.signer,
                    chains=wallet.chains,
                    journal=wallet.journal,
                    approve=_within_budget,
                    ceiling=None if max_usd is None else _micro_usd(max_usd),
                    budget=wallet.budget,
                    on_step=signed.note,
                )
                bought = await buy(payer)
        except ClientError as error:
            return purchase_failure(error, tool=tool, key=key)
        except TimeoutError:
            if signed.payment is None:
                raise
            paid = signed.payment
            return still_paying(tool=tool, key=key, chain=paid.chain, tx_hash=paid.tx_hash)
        answer = msgspec.to_builtins(bought.answer)
        return answered(answer, paid=_paid(bought.payment), idempotency_key=key, **more)

    async def _request(
        self, app: App, directory: str
    ) -> tuple[DeployRequest, dict[str, tuple[str, ...]]]:
        """Returns the request, and what is to be said of files left out.

        Raises DirectoryInvalid.
        """
        found = await asyncio.to_thread(_read, directory)
        request = await deploy_request(
            self._client,
            found,
            name=app.name,
            display_name=app.display_name,
            description=app.description,
            months=app.months,
            settings=_settings(app.settings),
        )
        request = msgspec.structs.replace(request, purse=purse_of(app))
        return request, {"left_out": found.warnings} if found.warnings else {}


def _read(directory: str) -> Collected | OpenExport:
    return read_upload(Path(directory).expanduser())


def _within_budget(_offer: Offer) -> bool:
    """Approves: what is too much was refused before, by the budget or `max_usd`."""
    return True


def _settings(settings: AppSettings) -> Settings:
    given = {name: getattr(settings, name) for name in settings.__struct_fields__}
    return Settings(**given)


def _micro_usd(dollars: float) -> MicroUsd:
    return MicroUsd(int(Decimal(repr(dollars)) * MICRO_USD_PER_USD))


def _paid(payment: Payment | None) -> dict[str, str | None] | None:
    if payment is None:
        return None
    return {
        "chain": payment.chain,
        "token": payment.token,
        "amount_token": str(payment.amount),
        "tx_hash": payment.tx_hash or None,
    }


class LocalCalls:
    """Carries out calls for the wallet of the machine's own key."""

    def __init__(self, client: Client, wallet: Wallet) -> None:
        self._client = client
        self._purchases = Purchases(client, wallet)

    async def call(self, call: ToolCall) -> Outcome:
        """Carries one out; a refusal of gateway or chain is an outcome too."""
        try:
            match call.arguments:
                case DeployDirectory() as asked:
                    return await self._purchases.deploy(asked)
                case QuoteDirectory() as asked:
                    return await self._purchases.quote(asked)
                case TopUp() as asked:
                    return await self._purchases.top_up(asked)
                case WaitForDeployment() as asked:
                    with suppress(FollowTimedOut):
                        await self._client.follow(
                            asked.project, asked.deployment, deadline_seconds=asked.timeout_seconds
                        )
                    return status_of(await self._ask(asked.request()))
                case DeleteProject() as asked:
                    shown = await self._ask(asked.preview())
                    if asked.confirm_name != shown["name"]:
                        return deletion_preview(shown, confirmed=asked.confirm_name)
                    return answered(await self._ask(asked.request()))
                case SingleRequest() as asked:
                    return answered(await self._ask(asked.request(), asked.key))
            raise TypeError(f"{call.tool} has no such arguments")
        except ClientError as error:
            return failure(error)

    async def _ask(self, request: ApiRequest, key: str | None = None) -> dict[str, object]:
        return await self._client.ask(request, key=key)


USUAL_BUDGET = Budget(per_call=MicroUsd(5_000_000), per_day=MicroUsd(20_000_000))
"""What counts for a limit that the environment does not set: a model pays unasked."""


def local_tools() -> tuple[Tool, ...]:
    """Returns the tools as this server lists them."""
    return catalog(deploys=DeployDirectory, quotes=QuoteDirectory, files="a directory")


def with_limits(budget: Budget) -> Budget:
    """Returns `budget` with the usual limits in place of those it lacks."""
    return Budget(
        per_call=USUAL_BUDGET.per_call if budget.per_call is None else budget.per_call,
        per_day=USUAL_BUDGET.per_day if budget.per_day is None else budget.per_day,
    )


async def serve(client: Client, wallet: Wallet, *, read_only: bool = False) -> None:
    """Answers on standard output until standard input ends; `read_only`: with tools that look."""
    limited = msgspec.structs.replace(wallet, budget=with_limits(wallet.budget))
    async with client:
        server = make_server(
            local_tools(), LocalCalls(client, limited).call, reads_only=lambda _: read_only
        )
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
