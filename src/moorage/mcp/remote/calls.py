"""Carries out the calls of the gateway's own server, each by requests to the gateway's own API."""

import asyncio
from collections.abc import Mapping
from itertools import chain, repeat
from typing import Any

import msgspec
from starlette.types import ASGIApp, Scope

from moorage.api.http.in_process import ApiAnswer, Header, forwarded_headers, in_process
from moorage.api.http.managed import TOKEN
from moorage.clock import Clock
from moorage.mcp.remote.arguments import (
    MANAGE_TOKEN,
    DeployUpload,
    QuoteUpload,
    deploy_body,
    upload_line,
)
from moorage.mcp.remote.payment import demanded, payment_headers, receipts
from moorage.mcp.tools.api_request import ApiRequest, api_request
from moorage.mcp.tools.arguments import DeleteProject, SingleRequest, TopUp, WaitForDeployment
from moorage.mcp.tools.outcome import Outcome, answered, refused
from moorage.mcp.tools.outcomes import deletion_preview, status_of
from moorage.mcp.tools.server import ToolCall

_POLL_PAUSES_SECONDS = (0.25, 0.5, 1.0, 2.0)
_POLL_STEADY_SECONDS = 3.0  # 30 polls a minute are allowed for a deployment
_FOLLOW = (
    "Call wait_for_deployment with this project_id and deployment_id, and with the manage_token "
    "if there is one."
)
_WALLET_HEADERS = frozenset({"x-wallet-address", "sign-in-with-x"})
_PLACE_HEADERS = frozenset({"host", "x-forwarded-for"})
_PAYMENT_REQUIRED = 402
_BEARER = "Bearer "


class Caller(msgspec.Struct, frozen=True):
    """Who calls: the request that brought the call, and the headers that go on with it."""

    scope: Scope
    headers: list[Header]
    meta: Mapping[str, Any]
    token: str | None = None
    """A manage token whose header another credential takes."""

    @property
    def is_named(self) -> bool:
        """Whether headers or a token say who calls; else a payment does."""
        return self.token is not None or any(
            name in _WALLET_HEADERS or name == "authorization" for name, _ in self.headers
        )

    @property
    def may_ask_again(self) -> bool:
        """Whether its headers are good for several requests: a nonce is good for one."""
        return not any(name in _WALLET_HEADERS for name, _ in self.headers)

    def with_token_apart(self) -> "Caller":
        """Returns it with the header of a manage token free for another credential."""
        kept = [each for each in self.headers if each[0] != "authorization"]
        tokens = [value[len(_BEARER) :] for name, value in self.headers if name == "authorization"]
        return msgspec.structs.replace(self, headers=kept, token=tokens[0] if tokens else None)


def caller_of(call: ToolCall) -> Caller:
    """Returns who makes a call; a manage token among the arguments goes before headers."""
    scope: Scope = call.request.scope
    caller = Caller(scope, forwarded_headers(scope), call.meta)
    token = call.common.get(MANAGE_TOKEN)
    if token is None:
        return caller
    kept = [each for each in caller.headers if each[0] in _PLACE_HEADERS]
    return msgspec.structs.replace(caller, headers=[*kept, ("authorization", f"Bearer {token}")])


class RemoteCalls:
    """Carries out calls by `api`, in this process."""

    def __init__(self, api: ASGIApp, *, public_url: str, clock: Clock) -> None:
        self._api = api
        self._public_url = public_url
        self._clock = clock

    async def call(self, call: ToolCall) -> Outcome:
        """Carries one out."""
        caller = caller_of(call)
        match call.arguments:
            case DeployUpload() | QuoteUpload() as asked:
                return await self._deploy(caller, asked)
            case TopUp() as asked:
                body = {"amount_usd": asked.amount_usd}
                return await self._buy(
                    caller, "credits", body, _means(asked), asked.idempotency_key
                )
            case WaitForDeployment() as asked:
                return await self._wait(caller, asked)
            case DeleteProject() as asked:
                return await self._delete(caller, asked)
            case SingleRequest() as asked:
                return _outcome(await self._send(caller, asked.request()), caller)
        raise TypeError(f"{call.tool} has no such arguments")

    async def _deploy(self, caller: Caller, asked: DeployUpload | QuoteUpload) -> Outcome:
        upload = asked.upload
        if upload is None:
            return _without_files(self._public_url)
        body = deploy_body(asked, upload)
        if isinstance(asked, QuoteUpload) or asked.dry_run:
            return await self._quote(caller, body, _means(asked))
        headers = _means(asked)
        if asked.use_existing_credits:
            headers.append(("x-use-existing-credits", "true"))
        return await self._buy(caller, "deploy", body, headers, asked.idempotency_key)

    async def _quote(self, caller: Caller, body: dict[str, Any], headers: list[Header]) -> Outcome:
        """Prices a deploy, for who is not named as well."""
        if caller.is_named:
            request = api_request("POST", "quote", body=body)
        else:
            request = open_request("deploy", body)
            headers = [*headers, ("x-dry-run", "true")]
        return _outcome(await self._send(caller, request, headers), caller)

    async def _buy(
        self,
        caller: Caller,
        what: str,
        body: dict[str, Any],
        headers: list[Header],
        key: str | None,
    ) -> Outcome:
        """Deploys or tops up, with the payment in `_meta` if there is one."""
        paying = payment_headers(caller.meta)
        if any(name == "authorization" for name, _ in paying):
            caller = caller.with_token_apart()
        if caller.is_named:
            request = api_request("POST", what, body=body)
        else:
            request = open_request(what, body)
        if key is not None:
            headers = [*headers, ("idempotency-key", key)]
        answer = await self._send(caller, request, [*headers, *paying])
        more = {"next": _FOLLOW} if what == "deploy" else {}
        return _outcome(answer, caller, **more)

    async def _wait(self, caller: Caller, asked: WaitForDeployment) -> Outcome:
        """Polls until the deployment has ended; once for a caller whose nonce is good for one."""
        deadline = self._clock.monotonic_seconds() + asked.timeout_seconds
        pauses = chain(_POLL_PAUSES_SECONDS, repeat(_POLL_STEADY_SECONDS))
        while True:
            answer = await self._send(caller, asked.request())
            if not answer.is_success:
                return _outcome(answer, caller)
            status = answer.body
            is_over = status["status"] != "deploying"
            pause_seconds = next(pauses)
            time_is_up = self._clock.monotonic_seconds() + pause_seconds > deadline
            if is_over or time_is_up or not caller.may_ask_again:
                return status_of(status)
            await asyncio.sleep(pause_seconds)

    async def _delete(self, caller: Caller, asked: DeleteProject) -> Outcome:
        """Deletes a project that is named twice; else says what that would take away."""
        if asked.names_it_twice:
            return _outcome(await self._send(caller, asked.request()), caller)
        answer = await self._send(caller, asked.preview())
        if not answer.is_success:
            return _outcome(answer, caller)
        shown = answer.body
        if asked.confirm_name == shown["name"] and caller.may_ask_again:
            return _outcome(await self._send(caller, asked.request()), caller)
        return deletion_preview(shown, confirmed=asked.confirm_name)

    async def _send(
        self, caller: Caller, request: ApiRequest, headers: list[Header] | None = None
    ) -> ApiAnswer:
        every = [*caller.headers, *(headers or [])]
        told = {} if caller.token is None else {TOKEN: caller.token}
        return await in_process(self._api, caller.scope, request, every, told)


def open_request(what: str, body: dict[str, Any]) -> ApiRequest:
    """Returns the request of a payer who is named by the payment alone (contract 2.5)."""
    return ApiRequest("POST", f"/{what}", msgspec.json.encode(body))


def _outcome(answer: ApiAnswer, caller: Caller, **more: Any) -> Outcome:
    """Returns what an answer of the API is to a tool. Raises MCPError as `demanded` does."""
    if answer.status == _PAYMENT_REQUIRED:
        return demanded(answer, caller.meta)
    outcome = answered(answer.body, **(more if answer.is_success else {}))
    return msgspec.structs.replace(
        outcome, is_error=not answer.is_success, meta=receipts(answer) or None
    )


def _means(asked: DeployUpload | QuoteUpload | TopUp) -> list[Header]:
    named = {"x-payment-chain": asked.chain, "x-payment-token": asked.token}
    return [(name, value) for name, value in named.items() if value is not None]


def _without_files(public_url: str) -> Outcome:
    return refused(
        "files_missing",
        "Give files, or upload_sha256 of an upload: this shell line uploads the directory in which "
        "it is run, and prints the digest. MANAGE_TOKEN is one that deploy gave; the wallet's own "
        "signature headers do as well. The server of `moorage mcp` takes a directory instead.",
        shell=upload_line(public_url),
    )
