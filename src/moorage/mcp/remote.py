"""The endpoint `/mcp`: what a request must pass before the protocol's own server reads it.

That server, with all that its library brings, is made when the first request comes: most starts of
a gateway see none. It decodes and checks a message several times, some microseconds for each value:
so it is given small messages of few values alone. The arguments of a larger one, such as a call's
files, are decoded in a parser process and travel beside it.
"""

import asyncio
import re
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from hashlib import sha256
from http import HTTPStatus
from itertools import chain, repeat
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorage.api.http.caller import TOKEN
from moorage.api.http.connections import Arrivals
from moorage.api.http.in_process import ApiAnswer, Header, forwarded_headers, in_process
from moorage.api.http.problems import BAD_ORIGIN, problem_of, problem_response
from moorage.api.http.request import IN_LOOP_BYTES, decode_whole, read_whole
from moorage.auth.rate_limit import RateLimiter
from moorage.clock import Clock
from moorage.errors import BodyTooLarge, MoorageError, RateLimited
from moorage.mcp.tools import (
    UNLISTED,
    App,
    ArgumentsInvalid,
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
    in_tool_words,
    purse_of,
    refused,
    status_of,
)
from moorage.parsers.documents import MAX_DEPTH, MAX_VALUES, is_bounded
from moorage.parsers.pool import ParserPool
from moorage.payments.protocols.authorization import canonical_json, encode_base64, encode_base64url
from moorage.signing import content_digest, host_of
from moorage.uploads.request import DOCUMENTS
from moorage.wire import calls
from moorage.wire.calls import ApiRequest, Call

if TYPE_CHECKING:
    from moorage.mcp.server import ToolCall  # it imports the protocol's library

MANAGE_TOKEN = "manage_token"  # noqa: S105 - its name
COMMON = {MANAGE_TOKEN: {"type": "string", "description": "of the project, as deploy gave it"}}
"""What a tool about one project takes here besides: a model sets no headers of its requests."""


SIGNED = "signed"
_SIGNED_ARGUMENT = {
    SIGNED: {
        "type": "string",
        "description": "wallet:timestamp:nonce:signature, of what a refusal names in sign",
    }
}
"""What a tool takes besides that moves money or power, where headers cannot carry it."""


class InlineFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A small file."""

    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    text: str | None = None
    content: Annotated[str, Meta(description="base64, instead of text")] | None = None
    base64: Annotated[str, Meta(extra_json_schema=UNLISTED)] | None = None  # content's first name

    def uploaded(self) -> dict[str, str]:
        """Returns it as an upload has it. Raises ArgumentsInvalid unless it is given once."""
        given = [each for each in (self.text, self.content, self.base64) if each is not None]
        if len(given) != 1:
            raise ArgumentsInvalid(f"files: {self.path!r} needs text, or content in base64")
        content = b64encode(self.text.encode()).decode() if self.text is not None else given[0]
        return {"path": self.path, "content": content}


Inline = Annotated[
    list[InlineFile], Meta(description="a few small files; else upload_sha256", max_length=100)
]
Sha256 = Annotated[
    str,
    Meta(
        description="of what was uploaded; call without files to learn the shell line",
        pattern=r"^[0-9a-f]{64}\Z",
    ),
]

ExportSha256 = Annotated[
    str, Meta(description="of an export of this wallet's projects", pattern=r"^[0-9a-f]{64}\Z")
]


class DeployUpload(Deploy, frozen=True, kw_only=True):
    """What is deployed, and how it is paid for."""

    files: Inline | None = None
    upload_sha256: Sha256 | None = None
    export_sha256: ExportSha256 | None = None


class QuoteUpload(App, frozen=True, kw_only=True):
    """What would be deployed."""

    files: Inline | None = None
    upload_sha256: Sha256 | None = None
    export_sha256: ExportSha256 | None = None
    chain: Chain | None = None
    token: Token | None = None


def deploy_body(app: DeployUpload | QuoteUpload, upload: dict[str, Any]) -> dict[str, Any]:
    """Returns the body of a deploy: equal for equal arguments, as payments are bound to it."""
    body = {
        "uniqueName": app.name,
        "displayName": app.display_name or app.name,
        "months": app.months,
        "settings": msgspec.to_builtins(app.settings),
        "upload": upload,
    }
    if isinstance(app, DeployUpload) and not app.dry_run:
        body["discard_written"] = app.discard_written
    if (purse := purse_of(app)) is not None:
        body["purse"] = msgspec.to_builtins(purse)
    return body if app.description is None else {**body, "description": app.description}


def upload_line(public_url: str) -> str:
    """Returns the shell line that uploads the present directory, and prints its digest."""
    return (
        "zip -qr - . -x '.git/*' 'node_modules/*' '.env*' | base64 | tr -d '\\n' | "
        'sed \'s/^/{"type":"zip","filename":"app.zip","data":"/; s/$/"}/\' > /tmp/upload.json && '
        "SHA=$(sha256sum /tmp/upload.json | cut -d' ' -f1) && "
        'curl -sS --fail-with-body -T /tmp/upload.json -H "Authorization: Bearer $MANAGE_TOKEN" '
        f'{public_url}/agent/uploads/$SHA && echo "upload_sha256: $SHA"'
    )


def upload_of(app: DeployUpload | QuoteUpload) -> dict[str, Any] | None:
    """Returns the `upload` of the request; None without files."""
    if app.export_sha256 is not None:
        return {"type": "export", "sha256": app.export_sha256}
    if app.upload_sha256 is not None:
        return {"type": "digest", "sha256": app.upload_sha256}
    if app.files:
        return {"type": "files", "files": [file.uploaded() for file in app.files]}
    return None


def remote_tools() -> tuple[Tool, ...]:
    """Returns the tools; those that are about one project take its manage token as well."""
    tools = catalog(deploys=DeployUpload, quotes=QuoteUpload, files="files")
    return tuple(msgspec.structs.replace(tool, common=_common(tool)) for tool in tools)


def _common(tool: Tool) -> Mapping[str, Any]:
    call: Call[Any] | None = getattr(tool.takes, "call", None)
    if call is not None and call.bound:
        return _SIGNED_ARGUMENT
    if tool.takes is DeployUpload:  # bound, where it fills a purse
        return {**COMMON, **_SIGNED_ARGUMENT}
    return COMMON if call is None or call.by_token else {}


X402_PAYMENT = "x402/payment"
X402_RESPONSE = "x402/payment-response"
MPP_CREDENTIAL = "org.paymentauth/credential"
MPP_RECEIPT = "org.paymentauth/receipt"
MPP_REQUIRED = "org.paymentauth/payment-required"
MPP_PREFIX = "org.paymentauth/"

PAYMENT_REQUIRED = -32042
VERIFICATION_FAILED = -32043

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


def payment_headers(meta: Mapping[str, Any]) -> list[Header]:
    """Returns the headers of the payment in a call's `_meta`. Raises ArgumentsInvalid."""
    headers: list[Header] = []
    if (payment := meta.get(X402_PAYMENT)) is not None:
        headers.append(("payment-signature", encode_base64(_encoded(X402_PAYMENT, payment))))
    if (credential := meta.get(MPP_CREDENTIAL)) is not None:
        written = _encoded(MPP_CREDENTIAL, _as_sent(credential))
        headers.append(("authorization", f"Payment {encode_base64url(written)}"))
    if len(headers) > 1:
        raise ArgumentsInvalid(f"_meta holds {X402_PAYMENT} and {MPP_CREDENTIAL}: send one")
    return headers


def demanded(answer: ApiAnswer, meta: Mapping[str, Any]) -> Outcome:
    """Returns a 402 in the forms of both protocols.

    Raises MCPError, as the draft has it, for a client that shows by its `_meta` that it speaks MPP.
    A client of x402 reads the structured content; mppx reads the draft's data in `_meta` as well.
    """
    body = answer.body
    data = {
        "httpStatus": answer.status,
        "challenges": [_challenge(header) for header in answer.all_of("www-authenticate")],
        "problem": body,
    }
    if any(name.startswith(MPP_PREFIX) for name in meta):
        was_refused = MPP_CREDENTIAL in meta and body.get("code") != "payment_required"
        code = VERIFICATION_FAILED if was_refused else PAYMENT_REQUIRED
        from mcp.shared.exceptions import MCPError

        raise MCPError(code, str(body.get("error")), data)
    required = answer.header("payment-required")
    x402 = {} if required is None else _decoded(b64decode(required))
    return Outcome(
        {**in_tool_words(body), **x402},
        is_error=True,
        meta={**receipts(answer), **({MPP_REQUIRED: data} if data["challenges"] else {})},
    )


def receipts(answer: ApiAnswer) -> dict[str, Any]:
    """Returns the receipts that came with an answer, by their names in `_meta`."""
    found = {}
    if (response := answer.header("payment-response")) is not None:
        found[X402_RESPONSE] = _decoded(b64decode(response))
    if (receipt := answer.header("payment-receipt")) is not None:
        found[MPP_RECEIPT] = _decoded(urlsafe_b64decode(receipt + "=" * (-len(receipt) % 4)))
    return found


def _challenge(header: str) -> dict[str, Any]:
    """Returns a challenge as JSON has it: `request` is an object."""
    parameters: dict[str, Any] = dict(_PARAMETER.findall(header))
    request = parameters["request"]
    parameters["request"] = _decoded(urlsafe_b64decode(request + "=" * (-len(request) % 4)))
    return parameters


def _as_sent(credential: Any) -> Any:
    """Returns a credential with its challenge's `request` encoded as in the header."""
    match credential:
        case {"challenge": {"request": dict() as request, **challenge}, **rest}:
            encoded = encode_base64url(canonical_json(request))
            return {**rest, "challenge": {**challenge, "request": encoded}}
    return credential


def _encoded(name: str, payment: Any) -> bytes:
    if not isinstance(payment, dict):
        raise ArgumentsInvalid(f'_meta["{name}"] must be an object')
    return msgspec.json.encode(payment)


def _decoded(content: bytes) -> dict[str, Any]:
    return msgspec.json.decode(content, type=dict[str, Any])


_POLL_PAUSES_SECONDS = (0.25, 0.5, 1.0, 2.0)
_POLL_STEADY_SECONDS = 3.0  # 30 polls a minute are allowed for a deployment
_FOLLOW = (
    "Call wait_for_deployment with this project_id and deployment_id, and with the manage_token "
    "if there is one."
)
_SIGNED_HEADERS = ("x-wallet-address", "x-timestamp", "x-nonce", "x-signature")
_WALLET_HEADERS = frozenset({"x-wallet-address", "sign-in-with-x"})
_PLACE_HEADERS = frozenset({"host", "x-forwarded-for"})
_PAYMENT_REQUIRED = 402
_BEARER = "Bearer "
_BOUGHT: dict[tuple[str, bool], Call[Any]] = {
    ("deploy", True): calls.DEPLOY,
    ("deploy", False): calls.PAY_TO_DEPLOY,
    ("credits", True): calls.TOP_UP,
    ("credits", False): calls.PAY_FOR_CREDITS,
}
"""What is called to buy something, and whether anything but a payment says who calls."""


class Caller(msgspec.Struct, frozen=True):
    """Who calls: the request that brought the call, and the headers that go along with it."""

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


def caller_of(call: "ToolCall") -> Caller:
    """Returns who makes a call; a token or signature among the arguments goes before headers.

    Raises ArgumentsInvalid.
    """
    scope: Scope = call.request.scope
    caller = Caller(scope, forwarded_headers(scope), call.meta)
    token, signed = call.common.get(MANAGE_TOKEN), call.common.get(SIGNED)
    kept = [each for each in caller.headers if each[0] in _PLACE_HEADERS]
    if token is not None:
        kept.append(("authorization", f"Bearer {token}"))
    elif signed is not None:
        parts = signed.split(":")
        if len(parts) != len(_SIGNED_HEADERS):
            raise ArgumentsInvalid(f"{SIGNED} must be wallet:timestamp:nonce:signature")
        kept += [*zip(_SIGNED_HEADERS, parts, strict=True), ("x-signature-version", "2")]
    else:
        return caller
    return msgspec.structs.replace(caller, headers=kept)


class RemoteCalls:
    """Carries out calls by `api`, in this process."""

    def __init__(self, api: ASGIApp, *, public_url: str, clock: Clock) -> None:
        self._api = api
        self._public_url = public_url
        self._clock = clock

    async def call(self, call: "ToolCall") -> Outcome:
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
                request = asked.request()
                if request.bound:
                    return await self._bound(caller, request, asked.key)
                return _outcome(await self._send(caller, request), caller)
        raise TypeError(f"{call.tool} has no such arguments")

    async def _deploy(self, caller: Caller, asked: DeployUpload | QuoteUpload) -> Outcome:
        upload = upload_of(asked)
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
        request = (calls.QUOTE if caller.is_named else calls.PAY_TO_DEPLOY).request(body=body)
        if not caller.is_named:
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
        """Deploys or tops up, with the payment in `_meta` if there is one.

        A deploy that fills a purse needs a bound signature.
        """
        paying = payment_headers(caller.meta)
        if any(name == "authorization" for name, _ in paying):
            caller = caller.with_token_apart()
        is_bound = "purse" in body
        request = _BOUGHT[what, is_bound or caller.is_named].request(body=body)
        more = {"next": _FOLLOW} if what == "deploy" else {}
        if is_bound:
            return await self._bound(caller, request, key, (*headers, *paying), **more)
        if key is not None:
            headers = [*headers, ("idempotency-key", key)]
        answer = await self._send(caller, request, [*headers, *paying])
        return _outcome(answer, caller, **more)

    async def _bound(
        self,
        caller: Caller,
        request: ApiRequest,
        key: str | None,
        others: Sequence[Header] = (),
        **more: str,
    ) -> Outcome:
        """Sends what moves money or power; a refusal for its signature says what to sign.

        Without an Idempotency-Key, its nonce is the key.
        """
        digest = sha256(request.body or b"").digest()
        given = dict(caller.headers)
        headers = [("idempotency-key", key or given.get("x-nonce", ""))]
        if "x-wallet-address" in given and "content-digest" not in given:
            headers.append(("content-digest", content_digest(digest)))
        headers = [*others, *(each for each in headers if each[1])]
        answer = await self._send(caller, request, headers)
        outcome = _outcome(answer, caller, **more)
        if answer.status != HTTPStatus.UNAUTHORIZED:
            return outcome
        asked = {
            "host": host_of(self._public_url),
            "method": request.method,
            "path": request.path,
            "bodyDigest": "0x" + digest.hex(),
            "body": (request.body or b"").decode(),
        }
        return msgspec.structs.replace(outcome, body={**outcome.body, "sign": asked})

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


MAX_BODY_BYTES = 512 * 1024
_ARGUMENTS = "moorage.arguments"
"""The scope's key for a call's arguments, where they are not in its message."""

MAX_CALLS = 256
MAX_CALLS_OF_AN_ADDRESS = 16
_RETRY_SECONDS = 5
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(eq=False)
class McpEndpoint:
    """An ASGI app for POST. It keeps nothing from one request to the next.

    `limiter` counts requests by client address, which `address_of` tells; calls of tools count as
    requests to `api`, too.
    """

    api: ASGIApp
    _: KW_ONLY
    public_url: str
    address_of: Callable[[Request], str]
    arrivals: Arrivals
    limiter: RateLimiter
    parsers: ParserPool
    clock: Clock

    def __post_init__(self) -> None:
        self._under_way: Counter[str] = Counter()
        self._is_wanted = asyncio.Event()
        self._is_ready = asyncio.Event()
        self._manager: Any = None

    async def run(self) -> None:
        """Serves until it is cancelled."""
        await self._is_wanted.wait()
        self._manager = await asyncio.to_thread(self._make_manager)
        async with self._manager.run():
            self._is_ready.set()
            await asyncio.Event().wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        arrival = self.arrivals.begin(scope, receive)
        refusal: Response | None = None
        try:
            await self._serve(scope, arrival.receive, send)
        except ClientDisconnect:
            return
        except MoorageError as error:  # nothing was sent: the body is read before
            refusal = _refusal(error)
        finally:
            arrival.end()
        if refusal is not None:
            await refusal(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_own_origin(Headers(scope=scope).get("origin")):
            said = "This origin may not use the tools: a page of another site would act for you."
            await problem_response(BAD_ORIGIN, said)(scope, receive, send)
            return
        scope["headers"] = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        address = self.address_of(Request(scope))
        await self.limiter.check(address)
        body = await read_whole(Request(scope, receive), max_bytes=MAX_BODY_BYTES)
        self._enter(address)
        try:
            self._is_wanted.set()
            await self._is_ready.wait()
            message = await self._small_message(body, scope)
            await self._manager.handle_request(scope, _replayed(message, receive), send)
        finally:
            self._leave(address)

    async def _small_message(self, body: bytes, scope: Scope) -> bytes:
        """Returns a message for the protocol's server; what is too large of it goes into `scope`.

        Raises BodyTooLarge for one of many values, or large without a call's arguments; also what
        `decode_whole` raises.
        """
        if len(body) <= IN_LOOP_BYTES:
            return _checked(body)
        document = await decode_whole(body, scope, self.parsers)
        match document:
            case {"params": {"arguments": dict() as arguments} as params}:
                scope[_ARGUMENTS] = arguments
                document["params"] = {**params, "arguments": {}}
        message = msgspec.json.encode(document)
        if len(message) > IN_LOOP_BYTES:
            raise BodyTooLarge(_BESIDE_ARGUMENTS)
        return message

    def _is_own_origin(self, origin: str | None) -> bool:
        """Whether a page may call: none sends no Origin, and those of this machine may."""
        if origin is None or origin == self.public_url:
            return True
        try:
            return urlsplit(origin).hostname in _LOOPBACK
        except ValueError:
            return False

    def _enter(self, address: str) -> None:
        of_address = self._under_way[address]
        if of_address >= MAX_CALLS_OF_AN_ADDRESS or self._under_way.total() >= MAX_CALLS:
            raise RateLimited(_RETRY_SECONDS)
        self._under_way[address] += 1

    def _leave(self, address: str) -> None:
        self._under_way[address] -= 1
        if not self._under_way[address]:
            del self._under_way[address]

    def _make_manager(self) -> Any:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from moorage.mcp.server import make_server

        calls = RemoteCalls(self.api, public_url=self.public_url, clock=self.clock)
        return StreamableHTTPSessionManager(
            make_server(
                remote_tools(),
                calls.call,
                beside=lambda request: request.scope.get(_ARGUMENTS),
                reads_only=lambda request: (
                    request.query_params.get("read_only", "false") != "false"
                ),
            ),
            json_response=True,
            stateless=True,
            max_request_body_size=MAX_BODY_BYTES,
        )


def _checked(body: bytes) -> bytes:
    """Returns a small message if it has few values; b"" for what is no JSON. Raises BodyTooLarge.

    The protocol's server says by itself that b"" is none. Its own decoder takes more than ours.
    """
    try:
        document = DOCUMENTS.decode(body)
    except (ValueError, RecursionError):  # msgspec's DecodeError, and of bytes that are no UTF-8
        return b""
    if not is_bounded(document):
        raise BodyTooLarge(_TOO_MANY_VALUES)
    return body


_TOO_MANY_VALUES = f"A message holds at most {MAX_VALUES:,} values, {MAX_DEPTH} deep."
_BESIDE_ARGUMENTS = (
    f"Beside the arguments of a call, a message may have {IN_LOOP_BYTES // 1024} KiB."
)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Returns what gives a body that was read before, and then what `receive` gives."""
    arrived: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return arrived.pop() if arrived else await receive()

    return replay


def _refusal(error: MoorageError) -> Response:
    wait = (
        [("Retry-After", str(error.retry_after_seconds))] if isinstance(error, RateLimited) else []
    )
    return problem_response(problem_of(error), error.message, headers=wait)
