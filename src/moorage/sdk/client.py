"""The gateway's calls, one method each (contract §1.2 and §1.4)."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from moorage.clock import Clock, SystemClock
from moorage.sdk.answers import (
    Balances,
    Chains,
    Credits,
    Deleted,
    Deploying,
    EventPage,
    Health,
    Projects,
    Status,
    ToppedUp,
    WebhookMade,
    WebhookRemoved,
    WebhookShown,
)
from moorage.sdk.errors import (
    AnswerLost,
    AnswerUnreadable,
    ClientError,
    ClientMisconfigured,
    FollowTimedOut,
    GatewayError,
    GatewayUnreachable,
)
from moorage.sdk.gateway_url import normalise_gateway_url
from moorage.sdk.refusal import read_refusal
from moorage.sdk.request import DeployRequest, PaymentProof, TopUpRequest
from moorage.sdk.signer import Signer
from moorage.signed_request import NO_BODY, Target, host_of

Answer = TypeVar("Answer")
Pause = Callable[[float], Awaitable[None]]

_WEBHOOK = "/agent/webhook"
_CONNECT_SECONDS = 10
_READ_SECONDS = 30
_PAID_SECONDS = 300  # a paid request is held while its transaction is mined
_ANSWER_BYTES = 8 * 1024 * 1024
_RETRY_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)  # outlasts the 5 s a gateway needs after a start
_RETRY_AFTER_CEILING_SECONDS = 60
_UNBOUND = "signature_unbound"  # the gateway takes signatures of version 2 alone

# Quick at first, then slow enough for the 30 polls a minute that a deployment is allowed (§1.5).
_POLL_PAUSES_SECONDS = (0.1, 0.15, 0.25, 0.5, 0.5, 1.0, 1.5, 2.0)
_POLL_STEADY_SECONDS = 3.0


class Client:
    """Calls one gateway, for one wallet if there is a signer. Use it as an async context.

    Every attempt is signed afresh; with `bound`, and once a gateway asks for it, so that the
    signature is good for that request alone. Calls raise the errors of `sdk.errors`. A GET is
    repeated a few times when its failure is retryable; a POST or DELETE only when the gateway
    itself answered so.
    """

    def __init__(
        self,
        gateway_url: str,
        signer: Signer | None = None,
        *,
        bound: bool = False,
        clock: Clock | None = None,
        pause: Pause = asyncio.sleep,
    ) -> None:
        """Raises ClientMisconfigured unless `gateway_url` is an http(s) URL."""
        self.gateway_url = normalise_gateway_url(gateway_url)
        self.signer = signer
        self._bound = bound
        self._clock = clock or SystemClock()
        self._pause = pause
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # No connection is kept: on one that died, aiohttp repeats a GET with the same nonce.
        connector = aiohttp.TCPConnector(force_close=True)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def deploy(
        self,
        request: DeployRequest,
        *,
        chain: str | None = None,
        token: str | None = None,
        use_existing_credits: bool = False,
    ) -> Deploying:
        """Asks to deploy without paying: begun if credits suffice.

        Raises PaymentRequired, with a quote on `chain` in `token`, when they don't.
        """
        headers = _payment_headers(chain=chain, token=token)
        if use_existing_credits:
            headers["X-Use-Existing-Credits"] = "true"
        return await self._patiently(
            lambda: self._buy("deploy", request, headers, Deploying), even_if_lost=False
        )

    async def deploy_paid(self, request: DeployRequest, proof: PaymentProof) -> Deploying:
        """Asks to deploy with a payment that was made: a single attempt, never repeated here."""
        return await self._buy("deploy", request, _proof_headers(proof), Deploying)

    async def top_up(
        self, request: TopUpRequest, *, chain: str | None = None, token: str | None = None
    ) -> ToppedUp:
        """Asks what credits cost: raises PaymentRequired, with a quote on `chain` in `token`."""
        headers = _payment_headers(chain=chain, token=token)
        return await self._patiently(
            lambda: self._buy("credits", request, headers, ToppedUp), even_if_lost=False
        )

    async def top_up_paid(self, request: TopUpRequest, proof: PaymentProof) -> ToppedUp:
        """Has a payment that was made credited: a single attempt, never repeated here."""
        return await self._buy("credits", request, _proof_headers(proof), ToppedUp)

    async def status(self, project_id: str, deployment_id: str) -> Status:
        """Where a deployment of this wallet stands."""
        path = _path("agent", "deploy", project_id, deployment_id, "status")
        return await self._get(path, Status)

    async def projects(self) -> Projects:
        """This wallet's projects."""
        return await self._get(_path("agent", "projects"), Projects)

    async def credits(self, *, limit: int = 20) -> Credits:
        """This wallet's credits, what burns them, and the last `limit` (1–100) changes."""
        return await self._get(_path("agent", "credits") + f"?limit={limit}", Credits)

    async def events(self, *, after: int = 0, limit: int = 50) -> EventPage:
        """This wallet's events after a sequence, oldest first, `limit` (1–200) of them."""
        return await self._get(
            _path("agent", "events") + f"?after={after}&limit={limit}", EventPage
        )

    async def set_webhook(self, url: str) -> WebhookMade:
        """Has this wallet's events sent to `url`, signed with a new secret."""
        body = msgspec.json.encode({"url": url})
        return await self._patiently(
            lambda: self._send("PUT", _WEBHOOK, WebhookMade, body=body), even_if_lost=False
        )

    async def webhook(self) -> WebhookShown:
        """This wallet's webhook, and how its deliveries go."""
        return await self._get(_WEBHOOK, WebhookShown)

    async def remove_webhook(self) -> WebhookRemoved:
        """Has nothing sent any more, not even what waits."""
        return await self._patiently(
            lambda: self._send("DELETE", _WEBHOOK, WebhookRemoved), even_if_lost=False
        )

    async def delete(self, project_id: str) -> Deleted:
        """Stops and removes a project of this wallet; its unspent credits stay."""
        path = _path("agent", "projects", project_id)
        return await self._patiently(
            lambda: self._send("DELETE", path, Deleted), even_if_lost=False
        )

    async def balance(self, address: str, *, chain: str = "arbitrum") -> Balances:
        """What `address` holds on `chain`. Public."""
        path = _path("agent", "balance", address) + f"?chain={quote(chain, safe='')}"
        return await self._get(path, Balances, signed=False)

    async def chains(self) -> Chains:
        """The chains payments are taken on. Public."""
        return await self._get(_path("agent", "chains"), Chains, signed=False)

    async def health(self) -> Health:
        """`ok` when the gateway answers. Public."""
        return await self._get(_path("health"), Health, signed=False)

    async def follow(
        self,
        project_id: str,
        deployment_id: str,
        *,
        on_status: Callable[[Status], None] | None = None,
        deadline_seconds: float = 1800,
    ) -> Status:
        """Polls until the deployment is `ready` or `failed`, through outages of the gateway.

        Raises FollowTimedOut after `deadline_seconds`, and what is not retryable at once.
        """
        deadline = self._clock.monotonic_seconds() + deadline_seconds
        polls = 0
        while True:
            least = 0.0
            try:
                status = await self.status(project_id, deployment_id)
            except ClientError as error:
                if not error.retryable:
                    raise
                least = error.retry_after_seconds or 0
            else:
                if on_status is not None:
                    on_status(status)
                if status.status in {"ready", "failed"}:
                    return status
            if self._clock.monotonic_seconds() >= deadline:
                raise FollowTimedOut
            await self._pause(max(least, _poll_pause_seconds(polls)))
            polls += 1

    async def _buy(
        self,
        what: str,
        request: DeployRequest | TopUpRequest,
        headers: Mapping[str, str],
        shape: type[Answer],
    ) -> Answer:
        return await self._send(
            "POST",
            _path("agent", what),
            shape,
            body=request.encode(),
            headers=headers,
            read_seconds=_PAID_SECONDS,
        )

    async def _get(self, path: str, shape: type[Answer], *, signed: bool = True) -> Answer:
        return await self._patiently(
            lambda: self._send("GET", path, shape, signed=signed), even_if_lost=True
        )

    async def _patiently(
        self, attempt: Callable[[], Awaitable[Answer]], *, even_if_lost: bool
    ) -> Answer:
        for pause_seconds in _RETRY_PAUSES_SECONDS:
            try:
                return await attempt()
            except (GatewayError, AnswerLost) as error:
                if not error.retryable or (isinstance(error, AnswerLost) and not even_if_lost):
                    raise
                asked = min(error.retry_after_seconds or 0, _RETRY_AFTER_CEILING_SECONDS)
                await self._pause(max(pause_seconds, asked))
        return await attempt()

    async def _send(
        self,
        method: str,
        path: str,
        shape: type[Answer],
        *,
        signed: bool = True,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_seconds: float = _READ_SECONDS,
    ) -> Answer:
        """One attempt, with a signature of its own."""
        all_headers = dict(headers or {})
        if signed:
            all_headers |= self._signed_headers(method, path, body)
        if body is not None:
            all_headers["Content-Type"] = "application/json"
        status, answer_headers, content = await self._exchange(
            method, path, body=body, headers=all_headers, read_seconds=read_seconds
        )
        if not 200 <= status < 300:
            refusal = read_refusal(status=status, content=content, headers=answer_headers)
            if refusal.code != _UNBOUND or self._bound:
                raise refusal
            self._bound = True
            return await self._send(
                method, path, shape, body=body, headers=headers, read_seconds=read_seconds
            )
        try:
            return msgspec.json.decode(content, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise AnswerUnreadable(
                f"{self.gateway_url} answered {method} {path} with something else than the "
                f"contract's JSON ({error}). Is it a Moorage gateway?"
            ) from error

    def _signed_headers(self, method: str, path: str, body: bytes | None) -> dict[str, str]:
        if self.signer is None:
            raise ClientMisconfigured("this call must be signed, and there is no private key")
        if not self._bound:
            return self.signer.headers()
        digest = NO_BODY if body is None else sha256(body).digest()
        target = Target(
            host=host_of(self.gateway_url), method=method, path=path, body_digest=digest
        )
        return self.signer.headers(target)

    async def _exchange(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None,
        headers: Mapping[str, str],
        read_seconds: float,
    ) -> tuple[int, Mapping[str, str], bytes]:
        if self._session is None:
            raise RuntimeError("use the client as an async context: async with Client(…) as client")
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=read_seconds
        )
        try:
            async with self._session.request(
                method,
                URL(self.gateway_url + path, encoded=True),
                data=None if body is None else io.BytesIO(body),
                headers=headers,
                timeout=timeout,
                allow_redirects=False,  # a signature is for this gateway alone
            ) as response:
                content = await _read_at_most(response, _ANSWER_BYTES)
                return response.status, response.headers, content
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise GatewayUnreachable(self.gateway_url) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise AnswerLost(
                f"{self.gateway_url} gave no answer to {method} {path} "
                f"({type(error).__name__}): whether it was carried out is unknown"
            ) from error


async def _read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > limit:
            raise AnswerUnreadable(f"an answer of more than {limit} bytes is not the contract's")
    return bytes(content)


def _payment_headers(*, chain: str | None, token: str | None) -> dict[str, str]:
    headers = {}
    if chain is not None:
        headers["X-Payment-Chain"] = chain
    if token is not None:
        headers["X-Payment-Token"] = token
    return headers


def _proof_headers(proof: PaymentProof) -> dict[str, str]:
    headers = _payment_headers(chain=proof.chain, token=proof.token)
    return headers | {"X-Payment-Tx": proof.tx_hash}


def _path(*segments: str) -> str:
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def _poll_pause_seconds(polls: int) -> float:
    if polls < len(_POLL_PAUSES_SECONDS):
        return _POLL_PAUSES_SECONDS[polls]
    return _POLL_STEADY_SECONDS
