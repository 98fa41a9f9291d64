"""Deploys and top-ups of the local server: priced, held to the budget, paid at most once."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from moorage.chains.chain import Chain
from moorage.mcp.local.arguments import DeployDirectory, QuoteDirectory
from moorage.mcp.local.failures import purchase_failure, still_paying
from moorage.mcp.tools.api_request import api_request
from moorage.mcp.tools.arguments import App, AppSettings, TopUp
from moorage.mcp.tools.outcome import Outcome, answered
from moorage.money import MICRO_USD_PER_USD, MicroUsd
from moorage.sdk.archive import collect
from moorage.sdk.budget import Budget
from moorage.sdk.client import Client
from moorage.sdk.errors import ClientError
from moorage.sdk.journal import Journal, Payment
from moorage.sdk.payer import Bought, Payer, PayStep
from moorage.sdk.paying.offer import Offer
from moorage.sdk.paying.purchase import titled
from moorage.sdk.request import DeployRequest, Settings
from moorage.sdk.signer import Signer

PAYING_SECONDS = 40.0
"""How long a call goes on after its payment is signed: clients give a tool 30 to 60 s."""

_FOLLOW = "Call wait_for_deployment with this project_id and deployment_id."
_Answer = TypeVar("_Answer", bound=msgspec.Struct)


class Wallet(msgspec.Struct, frozen=True):
    """The key that pays, where it may pay, what it has paid, and how much it may."""

    signer: Signer
    chains: Mapping[str, Chain]
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
        stored = await self._client.stored(request)  # for the deploy that follows
        answer = await self._client.ask(
            "POST", api_request("POST", "quote").path, body=stored.encode()
        )
        return answered(answer, **warnings)

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
        collected = await asyncio.to_thread(lambda: collect(Path(directory).expanduser()))
        request = DeployRequest(
            unique_name=app.name,
            display_name=app.display_name or app.name,
            description=app.description,
            months=app.months,
            settings=_settings(app.settings),
            upload=collected.upload,
        )
        if app.display_name is None:
            request = await titled(self._client, request)
        return request, {"left_out": collected.warnings} if collected.warnings else {}


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
