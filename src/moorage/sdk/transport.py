"""Signs and sends requests to a gateway, repeats them if that is safe, and reads the answers."""

import asyncio
import io
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
)
from contextlib import asynccontextmanager
from enum import Enum
from functools import cache, reduce
from hashlib import sha256
from http import HTTPStatus
from operator import or_
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Self,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import NODEFAULT, UNSET
from yarl import URL

from moorage.address import parse_address
from moorage.clock import Clock, SystemClock
from moorage.sdk.errors import (
    AnswerLost,
    AnswerUnreadable,
    ClientError,
    ClientMisconfigured,
    FilesWouldBeLost,
    Forbidden,
    GatewayError,
    GatewayUnavailable,
    GatewayUnreachable,
    HashAlreadyUsed,
    NotAuthenticated,
    NotFound,
    PaymentRequired,
    RequestRefused,
    TooManyRequests,
)
from moorage.sdk.signer import Signer
from moorage.signing import NO_BODY, Target, host_of
from moorage.wire.calls import ApiRequest, Call
from moorage.wire.problems import PaymentDemand
from moorage.wire.shape import Absent

_BY_STATUS: dict[int, type[GatewayError]] = {
    400: RequestRefused,
    401: NotAuthenticated,
    402: PaymentRequired,
    403: Forbidden,
    404: NotFound,
    409: HashAlreadyUsed,
    413: RequestRefused,
    429: TooManyRequests,
}
_BY_CODE: dict[str, type[GatewayError]] = {"files_would_be_lost": FilesWouldBeLost}
_RETRYABLE = frozenset({429, 500, 502, 503, 504})
_EXCERPT_CHARACTERS = 200
_SECONDS_DIGITS = 6  # eleven days

Answer = TypeVar("Answer", bound=msgspec.Struct)


def read_answer(content: bytes | str, shape: type[Answer]) -> Answer:
    """Decodes an answer. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return cast("Answer", _decoder(shape).decode(content))


def read_refusal(*, status: int, content: bytes, headers: Mapping[str, str]) -> GatewayError:
    """Returns the error for an answer with `status`.

    A body that is not the contract's (a proxy's page, say) gives an error by its status alone,
    which then decides whether it is retryable. Fields come from the body, never from its message.
    """
    body = _json_object(content)
    family = _BY_STATUS.get(status, GatewayUnavailable if status >= 500 else GatewayError)
    code = _text(body, "code") or f"http_{status}"
    error = _BY_CODE.get(code, family)(
        status=status,
        code=code,
        error=_text(body, "error") or _excerpt(status, content),
        retryable=body["retryable"] is True if "retryable" in body else status in _RETRYABLE,
        body=body,
        retry_after_seconds=_seconds(headers.get("Retry-After")),
    )
    if isinstance(error, PaymentRequired):
        error.quote = _quote(content)
        error.x402 = headers.get("PAYMENT-REQUIRED")
    if isinstance(error, HashAlreadyUsed):
        error.project_id = _text(body, "projectId")
        error.deployment_id = _text(body, "deploymentId")
    return error


@cache
def _decoder(shape: type[msgspec.Struct]) -> msgspec.json.Decoder[msgspec.Struct]:
    return msgspec.json.Decoder(_lenient(shape))


@cache
def _lenient(shape: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Returns a subclass of `shape` whose types accept answers of other versions."""
    fields = [
        (field.name, _read_as(field.type), _with_default(field))
        for field in msgspec.structs.fields(shape)
    ]
    return msgspec.defstruct(shape.__name__, fields, bases=(shape,), frozen=True, kw_only=True)


def _with_default(field: msgspec.structs.FieldInfo) -> Any:
    said = get_args(field.type) if get_origin(field.type) is Annotated else ()
    absent = [each.value for each in said if isinstance(each, Absent)]
    default = UNSET if field.default is UNSET else NODEFAULT
    return msgspec.field(name=field.encode_name, default=absent[0] if absent else default)


def _read_as(kind: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _read_as(arguments[0])
    if origin in (Union, UnionType):
        return reduce(or_, map(_read_as, arguments))
    if origin in (list, dict):
        return origin[tuple(map(_read_as, arguments))]
    if origin is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
        return str
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _lenient(kind)
    return kind


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return body if isinstance(body, dict) else {}


def _text(body: dict[str, Any], field: str) -> str | None:
    value = body.get(field)
    return value if isinstance(value, str) and value else None


def _excerpt(status: int, content: bytes) -> str:
    text = " ".join(content.decode(errors="replace").split())[:_EXCERPT_CHARACTERS]
    return f"the gateway answered {status}" + (f": {text}" if text else "")


def _seconds(header: str | None) -> int | None:
    if not header or len(header) > _SECONDS_DIGITS or not (header.isascii() and header.isdigit()):
        return None
    return int(header)


def _quote(content: bytes) -> PaymentDemand | None:
    try:
        return read_answer(content, PaymentDemand)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


Pause = Callable[[float], Awaitable[None]]
OnWait = Callable[[float, ClientError], None]
"""Called with the seconds that a call waits before its next attempt, and the reason."""

_CONNECT_SECONDS = 10
_READ_SECONDS = 30
_STREAM_SECONDS = 45  # a gateway sends a keep-alive every 15 s
_ANSWER_BYTES = 8 * 1024 * 1024
_LINE_BYTES = 1024 * 1024
_RETRY_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)  # outlasts the 5 s a gateway needs after a start
_RETRY_AFTER_CEILING_SECONDS = 60
_Given = TypeVar("_Given")
_OBJECT = msgspec.json.Decoder(dict[str, Any])

_UNBOUND = "signature_unbound"  # the gateway accepts only signatures of version 2


class Transport:
    """Sends requests to one gateway. Use it as an async context.

    Every attempt gets a new signature. With `bound`, or once the gateway asks for it, a signature
    is valid for its request alone.
    """

    def __init__(
        self,
        gateway_url: str,
        signer: Signer | None = None,
        *,
        bound: bool = False,
        on_behalf_of: str | None = None,
        clock: Clock | None = None,
        pause: Pause = asyncio.sleep,
        on_wait: OnWait | None = None,
    ) -> None:
        """With `on_behalf_of`, an address, the signer acts for that wallet, as a delegate of it.

        Raises ClientMisconfigured unless `gateway_url` is an http(s) URL, and that an address.
        """
        self.gateway_url = normalise_gateway_url(gateway_url)
        try:
            self.on_behalf_of = None if on_behalf_of is None else parse_address(on_behalf_of)
        except ValueError:
            raise ClientMisconfigured("on_behalf_of is a wallet: 0x and 40 hex digits") from None
        self.signer = signer
        self._bound = bound or on_behalf_of is not None
        self._clock = clock or SystemClock()
        self._pause = pause
        self._on_wait = on_wait
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # No connection is reused: if it had died, aiohttp would repeat a GET with the same nonce.
        connector = aiohttp.TCPConnector(force_close=True)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self, call: Call[Answer], *ids: str, body: object = None, **query: str | int | None
    ) -> Answer:
        """Calls an operation of `wire.calls`; again if it did nothing, or may be repeated.

        One that moves money or power gets a key that all its attempts share, so it may be repeated.
        """
        request = call.request(*ids, body=body, **query)
        headers = key_header(request)
        return await self._patiently(
            lambda: self._send(request, call.answer, headers),
            even_if_lost=call.repeatable or call.bound,
        )

    async def ask(self, request: ApiRequest, *, key: str | None = None) -> dict[str, Any]:
        """Sends a request and returns the JSON object that is answered, as it is.

        It is repeated as any other; `key` names what moves money or power, over several calls.
        """
        headers = key_header(request, key)
        return await self._patiently(
            lambda: self._read(request, headers, _OBJECT.decode),
            even_if_lost=request.method == "GET" or request.bound,
        )

    async def _patiently(
        self, attempt: Callable[[], Awaitable[_Given]], *, even_if_lost: bool
    ) -> _Given:
        for pause_seconds in _RETRY_PAUSES_SECONDS:
            try:
                return await attempt()
            except (GatewayError, AnswerLost) as error:
                if not error.retryable or (isinstance(error, AnswerLost) and not even_if_lost):
                    raise
                asked = min(error.retry_after_seconds or 0, _RETRY_AFTER_CEILING_SECONDS)
                await self._wait(max(pause_seconds, asked), error)
        return await attempt()

    async def _wait(self, seconds: float, because: ClientError) -> None:
        if self._on_wait is not None:
            self._on_wait(seconds, because)
        await self._pause(seconds)

    async def _send(
        self,
        request: ApiRequest,
        shape: type[Answer],
        headers: Mapping[str, str],
        *,
        read_seconds: float = _READ_SECONDS,
    ) -> Answer:
        """Makes one attempt, with a signature of its own."""
        return await self._read(
            request, headers, lambda content: read_answer(content, shape), read_seconds
        )

    async def _read(
        self,
        request: ApiRequest,
        headers: Mapping[str, str],
        decode: Callable[[bytes], _Given],
        read_seconds: float = _READ_SECONDS,
    ) -> _Given:
        async with self._answer(request, headers, read_seconds) as response:
            content = await _read_at_most(response, _ANSWER_BYTES)
        if not 200 <= response.status < 300:
            self._raise_unless_unbound(response, content, request)
            return await self._read(request, headers, decode, read_seconds)
        try:
            return decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise AnswerUnreadable(
                f"{self.gateway_url} answered {request.method} {request.path} with something else "
                f"than the contract's JSON ({error}). Is it a Moorage gateway?"
            ) from error

    def _raise_unless_unbound(
        self, response: aiohttp.ClientResponse, content: bytes, request: ApiRequest
    ) -> None:
        """Raises the error of a refusal, unless its request is to be signed by version 2."""
        refusal = read_refusal(status=response.status, content=content, headers=response.headers)
        if refusal.code != _UNBOUND or request.bound or self._bound:
            raise refusal
        self._bound = True

    def _signed(self, request: ApiRequest, headers: Mapping[str, str]) -> dict[str, str]:
        """Returns the headers of one attempt, with its signature."""
        content_type = {} if request.body is None else {"Content-Type": "application/json"}
        sent = {**headers, **content_type}
        if not request.signed:
            return sent
        if self.signer is None:
            raise ClientMisconfigured("this call must be signed, and there is no private key")
        if not (request.bound or self._bound):
            return sent | self.signer.headers()
        target = Target(
            host=host_of(self.gateway_url),
            method=request.method,
            path=request.path,
            body_digest=NO_BODY if request.body is None else sha256(request.body).digest(),
            on_behalf_of=self.on_behalf_of or "",
        )
        owner = {} if self.on_behalf_of is None else {"X-On-Behalf-Of": self.on_behalf_of}
        return sent | owner | self.signer.headers(target)

    async def _stream(
        self, request: ApiRequest, headers: Mapping[str, str]
    ) -> AsyncIterator[bytes]:
        """Yields the bytes of the answer to a GET as they come, until it ends."""
        async with self._answer(request, headers, _STREAM_SECONDS) as response:
            if response.status == HTTPStatus.OK:
                async for chunk in response.content.iter_any():
                    yield chunk
                return
            content = await _read_at_most(response, _ANSWER_BYTES)
        self._raise_unless_unbound(response, content, request)
        async for chunk in self._stream(request, headers):
            yield chunk

    @asynccontextmanager
    async def _answer(
        self, request: ApiRequest, headers: Mapping[str, str], read_seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yields the answer to read; raises errors of the connection as this package's."""
        if self._session is None:
            raise RuntimeError("use the client as an async context: async with Client(…) as client")
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=read_seconds
        )
        try:
            async with self._session.request(
                request.method,
                URL(self.gateway_url + request.path, encoded=True),
                data=None if request.body is None else io.BytesIO(request.body),
                headers=self._signed(request, headers),
                timeout=timeout,
                allow_redirects=False,  # a signature is meant for this gateway alone
            ) as response:
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise GatewayUnreachable(self.gateway_url) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise AnswerLost(
                f"{self.gateway_url} gave no answer to {request.method} {request.path} "
                f"({type(error).__name__}): whether it was carried out is unknown"
            ) from error


def key_header(request: ApiRequest, key: str | None = None) -> dict[str, str]:
    """Returns the Idempotency-Key of a request that moves money or power: `key`, or a new one."""
    return {"Idempotency-Key": key or str(uuid.uuid4())} if request.bound else {}


async def _read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > limit:
            raise AnswerUnreadable(f"an answer of more than {limit} bytes is not the contract's")
    return bytes(content)


def normalise_gateway_url(text: str) -> str:
    """Returns `text` in one spelling: no trailing slash, lower-case host, 127.0.0.1 for localhost.

    Raises ClientMisconfigured unless it is an http(s) URL without a query.
    """
    parts = urlsplit(text.strip())
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or port == -1:
        raise ClientMisconfigured(f"{text!r} is not a gateway's address, as https://example.com")
    if parts.username is not None:
        raise ClientMisconfigured("a gateway's address holds no user name and no password")
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    host = f"[{host}]" if ":" in host else host
    place = host if port is None else f"{host}:{port}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


class ServerEvent(NamedTuple):
    """One event; `id` is the last id that was sent, with this event or before."""

    kind: str
    data: str
    id: str


async def read_events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[ServerEvent, None]:
    """Yields the server-sent events in `chunks` as they arrive (HTML standard, 9.2.6).

    An event without its blank line is dropped. Raises AnswerUnreadable.
    """
    fields: dict[str, str] = {}
    last_id = ""
    async for line in _lines(chunks):
        if not line:
            if "data" in fields:
                yield ServerEvent(fields.get("event", "message"), fields["data"], last_id)
            fields = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            last_id = value
        elif name == "data" and "data" in fields:
            fields["data"] += "\n" + value
        else:
            fields[name] = value


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """Yields the lines without their ends, LF or CRLF."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise AnswerUnreadable("the stream has a line without an end")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
