"""A JSON-RPC client for a chain's nodes: one HTTP round trip a batch, the next URL if one fails.

Every batch also asks for `eth_chainId`, so that answers of another chain's node are never used.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from moorage.chains.chain import Chain
from moorage.chains.receipt import parse_quantity
from moorage.clock import Clock, SystemClock
from moorage.errors import ChainUnavailable
from moorage.signing import keccak256
from moorage.trust import trusting


class Pace:
    """A batch size from 1 to `max_`, found by trying, as nodes do not state their limits."""

    def __init__(self, *, first: int, max_: int) -> None:
        self.size = first
        self._max = max_

    def refused(self, asked: int) -> None:
        """Halves the size, as `asked` was too much."""
        self.size = max(1, asked // 2)

    def answered(self, asked: int) -> None:
        """Raises the size by a quarter, if as many as that were `asked` for and answered."""
        if asked >= self.size:
            self.size = min(self._max, self.size + max(1, self.size // 4))


DEFAULT_TIMEOUT_SECONDS: Final = 4.0
MAX_RESPONSE_BYTES: Final = 8 * 1024 * 1024
RETRY_FIRST_AFTER_SECONDS: Final = 30.0
RETRY_BATCHES_AFTER_SECONDS: Final = 600.0
OVERLOADED_CODES: Final = frozenset({429, -32005})  # EIP-1474: limit exceeded

QUICK_ANSWER_BYTES: Final = 256 * 1024
"""An answer of this size is parsed without delaying other tasks."""

_CHUNK_BYTES = 64 * 1024
_REVERTED = 3  # the code that geth and most others use for a revert with data
_ERROR_SELECTOR = "0x08c379a0"  # Error(string)
_REASON_CHARACTERS = 120
_TEXT_AT = 4 + 32 + 32  # selector, offset, length
_BATCH_REFUSED_STATUSES = frozenset({400, 405, 413, 415, 422, 501})
_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}

Told = TypeVar("Told")

Call = tuple[str, Sequence[Any]]
"""A method and its parameters."""

OnAsked = Callable[[str, int, bool], None]
"""Told of each URL that was asked: the chain's name, the URL's number from 1, if it answered."""


class RpcError(ChainUnavailable):
    """The node answered a call with an error; `code`, `detail` and `data` are the node's own."""

    def __init__(self, method: str, code: int, detail: str, data: object = None) -> None:
        super().__init__(f"The node refused {method} (code {code}).")
        self.method = method
        self.code = code
        self.detail = detail
        self.data = data


class NoAnswer(ChainUnavailable):
    """No URL gave a valid answer; `reasons` says why, without naming a URL."""

    def __init__(self, chain: str, reasons: str) -> None:
        super().__init__(f"The chain {chain} cannot be read right now ({reasons}).")
        self.reasons = reasons


class AnswerTooLarge(NoAnswer):
    """The answer is larger than may be read at once: ask for less."""


class OtherChain(NoAnswer):
    """Every URL that was asked serves another chain."""


class _Request(msgspec.Struct):
    id: int
    method: str
    params: Sequence[Any]
    jsonrpc: str = "2.0"


class _ErrorAnswer(msgspec.Struct):
    code: int
    message: str = ""
    data: Any = None


class _Answer(msgspec.Struct):
    id: int | None = None  # null when the node could not read the request
    result: Any = msgspec.UNSET
    error: _ErrorAnswer | None = None


_SINGLE = msgspec.json.Decoder(_Answer)
_BATCH = msgspec.json.Decoder(list[_Answer])


class _NodeFailed(Exception):
    """One URL gave no valid answer; the message says why."""


class _AnsweredTooMuch(_NodeFailed):
    """The answer has too many bytes."""


class _ServesOtherChain(_NodeFailed):
    """The node serves another chain."""


class _BatchRefused(Exception):
    """The node refuses batches, or this one."""


class _Session:
    """The connections of a client, and of those that ask one of its URLs alone."""

    def __init__(self, given: aiohttp.ClientSession | None) -> None:
        self._session = given
        self._is_ours = given is None

    def get(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trusting()), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None and self._is_ours:
            await self._session.close()


class _Node:
    def __init__(self, url: str, number: int) -> None:
        self.url = url
        self.number = number  # from 1, as an operator counts the URLs
        self.singles_until = 0.0  # monotonic; batches are tried again after that


class RpcClient:
    """Reads one chain through its `rpc_urls`, in order.

    A URL that times out, can't be reached, answers garbage or serves another chain is skipped. The
    next one that answers is then asked first for RETRY_FIRST_AFTER_SECONDS. A node that refuses
    batches is sent single calls concurrently. A client belongs to one event loop.

    `timeout_seconds` limits the time of one URL's answer, `max_response_bytes` its size. The caller
    closes a `session` that it passes. `on_asked` is told of each URL that was asked.
    """

    def __init__(
        self,
        chain: Chain,
        *,
        session: aiohttp.ClientSession | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        clock: Clock | None = None,
        on_asked: OnAsked = lambda _chain, _number, _answered: None,
    ) -> None:
        if not chain.rpc_urls:
            raise ValueError(f"{chain.name}: no RPC URL")
        self.chain = chain
        self._nodes = tuple(_Node(url, number) for number, url in enumerate(chain.rpc_urls, 1))
        self._session = _Session(session)
        self._timeout_seconds = timeout_seconds
        self._max_response_bytes = max_response_bytes
        self._clock = clock or SystemClock()
        self._on_asked = on_asked
        self._favourite = 0  # index of the node that is asked first
        self._favourite_until = 0.0  # monotonic; after that the first URL is asked first again

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()

    @cached_property
    def nodes(self) -> "tuple[RpcClient, ...]":
        """A client for each URL, which asks that URL alone."""
        return tuple(map(self._alone, self._nodes))

    @property
    def key(self) -> str:
        """Names the first URL without telling it, the same after a restart."""
        return keccak256(self._nodes[0].url.encode())[:8].hex()

    @property
    def quorum(self) -> int:
        """How many nodes must agree on what is for good: two, or the one that there is."""
        return min(2, len(self._nodes))

    def _alone(self, node: _Node) -> "RpcClient":
        alone = RpcClient(
            msgspec.structs.replace(self.chain, rpc_urls=(node.url,)),
            timeout_seconds=self._timeout_seconds,
            max_response_bytes=self._max_response_bytes,
            clock=self._clock,
            on_asked=self._on_asked,
        )
        alone._nodes, alone._session = (node,), self._session
        return alone

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        """Returns one call's result. Raises RpcError if the node refuses it; also as `batch`."""
        (answer,) = await self.batch([(method, params)])
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def batch(
        self, calls: Sequence[Call], *, max_response_bytes: int | None = None
    ) -> list[Any]:
        """Returns the results of `calls`, in their order, from one node in one HTTP round trip.

        The result of a call that the node refuses is an RpcError. Raises ChainUnavailable if no URL
        gives an answer; the message names no URL, as it may contain a key. It is AnswerTooLarge if
        an answer was too large; with `max_response_bytes`, no other URL is asked after that.
        """
        failures: list[tuple[_Node, _NodeFailed]] = []
        for node in self._in_order():
            try:
                answers = await self._ask(node, calls, max_response_bytes)
            except _NodeFailed as failure:
                failures.append((node, failure))
                if max_response_bytes is not None and isinstance(failure, _AnsweredTooMuch):
                    break
                self._on_asked(self.chain.name, node.number, False)
            else:
                self._on_asked(self.chain.name, node.number, True)
                self._favour(node)
                return answers
        raise self._unavailable(failures)

    async def each(self, calls: Sequence[Call]) -> list[list[Any]]:
        """Returns the results of `calls` from each URL that answers. Otherwise like `batch`."""
        views = await self.every(lambda node: node.batch(calls))
        answers = [view for view in views if not isinstance(view, ChainUnavailable)]
        if not answers:
            raise self.silence(views)
        return answers

    async def every(
        self, ask: "Callable[[RpcClient], Awaitable[Told]]"
    ) -> list[Told | ChainUnavailable]:
        """Returns what `ask` reads from each URL, all asked at once, in their order.

        For a URL that gives nothing valid it is the ChainUnavailable that says why.
        """
        told: list[Told | ChainUnavailable] = []
        for one in await asyncio.gather(*map(ask, self.nodes), return_exceptions=True):
            if isinstance(one, BaseException) and not isinstance(one, ChainUnavailable):
                raise one
            told.append(one)
        return told

    def silence(self, views: Sequence[object]) -> ChainUnavailable:
        """Returns the error for what `every` read from no URL."""
        errors = [view for view in views if isinstance(view, ChainUnavailable)]
        reasons = "; ".join(
            error.reasons if isinstance(error, NoAnswer) else error.message for error in errors
        )
        kinds = {type(error) for error in errors}
        if AnswerTooLarge in kinds:
            return AnswerTooLarge(self.chain.name, reasons)
        return (OtherChain if kinds == {OtherChain} else NoAnswer)(self.chain.name, reasons)

    def _unavailable(self, failures: Sequence[tuple[_Node, _NodeFailed]]) -> NoAnswer:
        reasons = "; ".join(f"node {node.number}: {failure}" for node, failure in failures)
        kinds = {type(failure) for _, failure in failures}
        if _AnsweredTooMuch in kinds:
            return AnswerTooLarge(self.chain.name, reasons)
        return (OtherChain if kinds == {_ServesOtherChain} else NoAnswer)(self.chain.name, reasons)

    def contradiction(self, problem: object) -> ChainUnavailable:
        """Returns the error for an answer that can't be true; asks another URL first afterwards."""
        self._favour(self._nodes[(self._first_index() + 1) % len(self._nodes)])
        return ChainUnavailable(f"The chain {self.chain.name} contradicts itself: {problem}.")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Reads answers: a ValueError is raised as what `contradiction` returns."""
        try:
            yield
        except ValueError as problem:
            raise self.contradiction(problem) from problem

    def _first_index(self) -> int:
        if self._favourite and self._clock.monotonic_seconds() >= self._favourite_until:
            self._favourite = 0
        return self._favourite

    def _in_order(self) -> Iterator[_Node]:
        first = self._nodes[self._first_index()]
        yield first
        yield from (node for node in self._nodes if node is not first)

    def _favour(self, node: _Node) -> None:
        index = self._nodes.index(node)
        if index != self._favourite:
            self._favourite = index
            self._favourite_until = self._clock.monotonic_seconds() + RETRY_FIRST_AFTER_SECONDS

    async def _ask(
        self, node: _Node, calls: Sequence[Call], max_response_bytes: int | None = None
    ) -> list[Any]:
        max_bytes = max_response_bytes or self._max_response_bytes
        requests = [
            _Request(id=number, method=method, params=params)
            for number, (method, params) in enumerate([*calls, ("eth_chainId", ())])
        ]
        try:
            async with asyncio.timeout(self._timeout_seconds):
                *answers, chain_id_answer = await self._exchange(node, requests, max_bytes)
                chain_id = parse_quantity(chain_id_answer)
        except TimeoutError as late:
            raise _NodeFailed("timed out") from late
        except (aiohttp.ClientError, OSError) as broken:
            raise _NodeFailed("cannot be reached") from broken
        except (ValueError, RecursionError) as garbage:  # msgspec's errors are ValueErrors
            raise _NodeFailed("answered garbage") from garbage
        if chain_id != self.chain.chain_id:
            raise _ServesOtherChain(f"serves chain {chain_id}, not {self.chain.chain_id}")
        return answers

    async def _exchange(self, node: _Node, requests: list[_Request], max_bytes: int) -> list[Any]:
        if self._clock.monotonic_seconds() >= node.singles_until:
            try:
                return _batch_results(requests, *await self._post(node, requests, max_bytes))
            except _BatchRefused:
                node.singles_until = self._clock.monotonic_seconds() + RETRY_BATCHES_AFTER_SECONDS
        singles = (self._single(node, request, max_bytes) for request in requests)
        answers: list[_Answer] = []
        for answer in await asyncio.gather(*singles, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            answers.append(answer)
        return _results(requests, answers)

    async def _single(self, node: _Node, request: _Request, max_bytes: int) -> _Answer:
        status, body = await self._post(node, request, max_bytes)
        if status != HTTPStatus.OK:
            raise _NodeFailed(f"answered HTTP {status}")
        return _SINGLE.decode(body)

    async def _post(self, node: _Node, content: object, max_bytes: int) -> tuple[int, bytes]:
        body = msgspec.json.encode(content)
        try:
            return await self._post_once(node, body, max_bytes)
        except (aiohttp.ServerDisconnectedError, ConnectionResetError):
            # The node had closed an idle connection, which aiohttp reuses; it retries only GET.
            # Every call here may be sent twice.
            return await self._post_once(node, body, max_bytes)

    async def _post_once(self, node: _Node, body: bytes, max_bytes: int) -> tuple[int, bytes]:
        async with self._session.get().post(
            node.url, data=body, headers=_HEADERS, allow_redirects=False
        ) as response:
            return response.status, await _bounded(response, max_bytes)


async def _bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    while chunk := await response.content.read(_CHUNK_BYTES):
        body += chunk
        if len(body) > max_bytes:
            raise _AnsweredTooMuch("answered too much")
    return bytes(body)


def _batch_results(requests: Sequence[_Request], status: int, body: bytes) -> list[Any]:
    results = _results(requests, _parse_batch(status, body))
    chain_id = results[-1]  # no node refuses this call alone
    if isinstance(chain_id, RpcError) and chain_id.code not in OVERLOADED_CODES:
        raise _BatchRefused
    return results


def _parse_batch(status: int, body: bytes) -> list[_Answer]:
    if status in _BATCH_REFUSED_STATUSES:
        raise _BatchRefused
    if status != HTTPStatus.OK:
        raise _NodeFailed(f"answered HTTP {status}")
    if not body.lstrip().startswith(b"{"):
        return _BATCH.decode(body)
    error = _SINGLE.decode(body).error
    if error is not None and error.code not in OVERLOADED_CODES:
        raise _BatchRefused
    raise _NodeFailed("answered a batch with a single object")


def _results(requests: Sequence[_Request], answers: Sequence[_Answer]) -> list[Any]:
    by_id = {answer.id: answer for answer in answers}
    if len(answers) != len(requests) or by_id.keys() != {request.id for request in requests}:
        raise ValueError("not one answer a request")
    return [_result(request, by_id[request.id]) for request in requests]


def _result(request: _Request, answer: _Answer) -> Any:
    if answer.error is not None:
        error = answer.error
        return RpcError(request.method, error.code, error.message, error.data)
    if answer.result is msgspec.UNSET:
        raise ValueError("neither a result nor an error")
    return answer.result


def revert_reason(answer: object) -> str | None:
    """Returns the contract's reason, printable and short, if `answer` says that the call reverts.

    None for any other answer, also for a failure of the node.
    """
    if not isinstance(answer, RpcError):
        return None
    if answer.code != _REVERTED and "revert" not in answer.detail.lower():
        return None
    reason = _error_text(answer.data) or answer.detail
    printable = "".join(letter for letter in reason if letter.isascii() and letter.isprintable())
    return printable[:_REASON_CHARACTERS].strip() or "the token refuses it"


def _error_text(data: object) -> str | None:
    """Decodes the string of `Error(string)`; returns None for other data."""
    if not isinstance(data, str) or not data.startswith(_ERROR_SELECTOR):
        return None
    try:
        encoded = bytes.fromhex(data[2:])
    except ValueError:
        return None
    length = int.from_bytes(encoded[_TEXT_AT - 32 : _TEXT_AT], "big")
    return encoded[_TEXT_AT : _TEXT_AT + min(length, _REASON_CHARACTERS)].decode(errors="replace")
