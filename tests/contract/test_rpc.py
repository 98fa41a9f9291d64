"""A chain's nodes, when they fail: each way of failing, and what takes over."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web

from moorage.chains.chain import KNOWN_CHAINS
from moorage.chains.rpc import (
    RETRY_BATCHES_AFTER_SECONDS,
    RETRY_FIRST_AFTER_SECONDS,
    Call,
    OtherChain,
    RpcClient,
    RpcError,
)
from moorage.errors import ChainUnavailable
from support.chains.chain_fixture import LocalChains
from support.chains.paying import mine
from support.chains.rpc_proxy import RpcProxy

ARBITRUM = KNOWN_CHAINS["arbitrum"]
HEAD: list[Call] = [("eth_blockNumber", [])]
Make = Callable[..., RpcClient]


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic_seconds(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def make(clock: HandClock) -> AsyncIterator[Make]:
    clients = []

    def make_client(*urls: str, **options: Any) -> RpcClient:
        chain = msgspec.structs.replace(ARBITRUM, rpc_urls=urls)
        clients.append(RpcClient(chain, clock=clock, **options))
        return clients[-1]

    yield make_client
    for client in clients:
        await client.close()


@pytest.fixture
async def second(local_chains: LocalChains) -> AsyncIterator[RpcProxy]:
    async with RpcProxy(local_chains.arbitrum.rpc_urls[0]) as proxy:
        yield proxy


def answering(body: bytes | str, *, status: int = 200) -> Any:
    async def respond(_request: web.Request) -> web.Response:
        content = body.encode() if isinstance(body, str) else body
        return web.Response(status=status, body=content, content_type="application/json")

    return respond


async def hang(_request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def trickle(request: web.Request) -> web.StreamResponse:
    """A byte now and then, for ever: no read ever times out."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


async def hang_up(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def batch_of(*answers: dict[str, Any]) -> Any:
    return answering(json.dumps([{"jsonrpc": "2.0", **answer} for answer in answers]))


FAULTS: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
    "hangs": hang,
    "trickles": trickle,
    "hangs up": hang_up,
    "has an inner error": answering("oops", status=500),
    "limits the rate": answering("{}", status=429),
    "forbids": answering("", status=403),
    "answers nothing": answering(""),
    "answers a web page": answering("<html>"),
    "answers half": answering('[{"jsonrpc": "2.0", "id": 0, "res'),
    "answers no UTF-8": answering(b'[{"id": 0, "result": "\xff"}]'),
    "nests deeply": answering("[" * 100_000),
    "answers null": answering("null"),
    "answers too much": batch_of(
        {"id": 0, "result": "0x" + "0" * 100_000}, {"id": 1, "result": "0xa4b1"}
    ),
    "answers one call less": batch_of({"id": 1, "result": "0xa4b1"}),
    "answers one call twice": batch_of({"id": 0, "result": "0x1"}, {"id": 0, "result": "0xa4b1"}),
    "answers another call": batch_of({"id": 7, "result": "0x1"}, {"id": 1, "result": "0xa4b1"}),
    "answers nothing to a call": batch_of({"id": 0}, {"id": 1, "result": "0xa4b1"}),
    "serves another chain": batch_of({"id": 0, "result": "0x1"}, {"id": 1, "result": "0x2105"}),
    "says no chain": batch_of({"id": 0, "result": "0x1"}, {"id": 1, "result": None}),
    "is overloaded": answering('{"id": null, "error": {"code": -32005, "message": "slow down"}}'),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_failing_node_is_unavailable_and_the_second_url_takes_over(
    arbitrum_proxy: RpcProxy, second: RpcProxy, make: Make, fault: str
) -> None:
    arbitrum_proxy.respond = FAULTS[fault]
    most = {"max_response_bytes": 50_000}
    async with asyncio.timeout(60):
        with pytest.raises(ChainUnavailable) as refusal:
            await make(arbitrum_proxy.url, timeout_seconds=0.2, **most).batch(HEAD)
    assert "node 1" in refusal.value.message
    assert "127.0.0.1" not in refusal.value.message  # URLs hold keys

    # Time enough for the second, on a busy machine too.
    client = make(arbitrum_proxy.url, second.url, timeout_seconds=4.0, **most)
    (head,) = await client.batch(HEAD)
    assert int(head, 16) >= 0
    assert second.requests == 1


async def test_redirect_is_not_followed(
    arbitrum_proxy: RpcProxy, second: RpcProxy, make: Make
) -> None:
    """Where the operator's URLs point is the operator's choice, not a node's."""

    async def redirect(_request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": second.url})

    arbitrum_proxy.respond = redirect
    with pytest.raises(ChainUnavailable, match="HTTP 307"):
        await make(arbitrum_proxy.url).batch(HEAD)
    assert second.requests == 0


async def test_closed_port_is_unavailable(make: Make, second: RpcProxy) -> None:
    with socket.socket() as closed:  # bound, so that it is nobody else's; nobody listens
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ChainUnavailable, match="node 1: cannot be reached"):
            await make(url).batch(HEAD)
        assert await make(url, second.url).batch(HEAD)


async def test_all_urls_failing_names_each_reason(
    arbitrum_proxy: RpcProxy, second: RpcProxy, make: Make
) -> None:
    arbitrum_proxy.respond = answering("", status=502)
    second.respond = FAULTS["serves another chain"]
    with pytest.raises(
        ChainUnavailable, match="node 1: answered HTTP 502; node 2: serves chain 8453, not 42161"
    ):
        await make(arbitrum_proxy.url, second.url).batch(HEAD)


async def test_each_url_that_was_asked_is_told(
    arbitrum_proxy: RpcProxy, second: RpcProxy, make: Make
) -> None:
    told: list[tuple[str, int, bool]] = []
    arbitrum_proxy.respond = answering("", status=502)
    client = make(arbitrum_proxy.url, second.url, on_asked=lambda *asked: told.append(asked))
    await client.batch(HEAD)
    assert told == [("arbitrum", 1, False), ("arbitrum", 2, True)]
    arbitrum_proxy.behave()
    told.clear()
    await client.each(HEAD)
    assert sorted(told) == [("arbitrum", 1, True), ("arbitrum", 2, True)]


async def test_real_node_of_another_chain_is_not_believed(
    local_chains: LocalChains, make: Make
) -> None:
    with pytest.raises(OtherChain, match="serves chain 8453"):
        await make(*local_chains.base.rpc_urls).batch(HEAD)


async def test_url_that_took_over_is_asked_first_for_a_while(
    arbitrum_proxy: RpcProxy, second: RpcProxy, make: Make, clock: HandClock
) -> None:
    client = make(arbitrum_proxy.url, second.url)
    arbitrum_proxy.respond = answering("", status=503)
    await client.batch(HEAD)
    arbitrum_proxy.respond = None
    clock.seconds += RETRY_FIRST_AFTER_SECONDS - 1
    await client.batch(HEAD)
    assert (arbitrum_proxy.requests, second.requests) == (1, 2)
    clock.seconds += 1
    await client.batch(HEAD)
    await client.batch(HEAD)
    assert (arbitrum_proxy.requests, second.requests) == (3, 2)


async def test_first_url_steps_in_when_the_second_fails(
    arbitrum_proxy: RpcProxy, second: RpcProxy, make: Make
) -> None:
    client = make(arbitrum_proxy.url, second.url)
    client.contradiction("its heads are out of order")
    second.respond = answering("", status=503)
    await client.batch(HEAD)
    assert (arbitrum_proxy.requests, second.requests) == (1, 1)


def refusing_batches(upstream: RpcProxy, refusal: web.Response | None) -> Any:
    """Answers single calls as the node does, batches with `refusal`; None: each call refused."""

    async def respond(request: web.Request) -> web.StreamResponse:
        calls = json.loads(await request.read())
        if isinstance(calls, dict):
            return await upstream.forward(request)
        if refusal is not None:
            return web.Response(status=refusal.status, body=refusal.body)
        error = {"code": -32600, "message": "no batches"}
        return web.json_response([{"id": call["id"], "error": error} for call in calls])

    return respond


@pytest.mark.parametrize(
    "refusal",
    [
        web.Response(status=400, body=b"batch too large"),
        web.Response(status=413),
        web.Response(body=b'{"id": null, "error": {"code": -32600, "message": "no batches"}}'),
        None,
    ],
    ids=["400", "413", "object", "each call"],
)
async def test_node_that_refuses_batches_is_asked_in_single_calls(
    arbitrum_proxy: RpcProxy, make: Make, clock: HandClock, refusal: web.Response | None
) -> None:
    arbitrum_proxy.respond = refusing_batches(arbitrum_proxy, refusal)
    client = make(arbitrum_proxy.url)
    calls = [("eth_chainId", []), ("eth_getCode", ["0x" + "00" * 20, "latest"])]
    assert await client.batch(calls) == ["0xa4b1", "0x"]
    first = arbitrum_proxy.requests
    assert await client.batch(calls) == ["0xa4b1", "0x"]
    assert arbitrum_proxy.requests - first == 3  # remembered: each call, and the chain's id
    clock.seconds += RETRY_BATCHES_AFTER_SECONDS
    arbitrum_proxy.respond = None
    first = arbitrum_proxy.requests
    assert await client.batch(calls) == ["0xa4b1", "0x"]
    assert arbitrum_proxy.requests - first == 1


async def test_single_calls_check_the_chain_too(
    arbitrum_proxy: RpcProxy, make: Make, second: RpcProxy
) -> None:
    arbitrum_proxy.alter = lambda method, result: "0x1" if method == "eth_chainId" else result
    arbitrum_proxy.respond = refusing_batches(arbitrum_proxy, web.Response(status=400))
    with pytest.raises(ChainUnavailable, match="serves chain 1,"):
        await make(arbitrum_proxy.url).batch(HEAD)


async def test_answers_come_in_the_order_of_the_calls(arbitrum_proxy: RpcProxy, make: Make) -> None:
    arbitrum_proxy.respond = batch_of(
        {"id": 2, "result": "0xa4b1"}, {"id": 1, "result": "b"}, {"id": 0, "result": "a"}
    )
    assert await make(arbitrum_proxy.url).batch([("x", []), ("y", [])]) == ["a", "b"]


async def test_refused_call_leaves_the_others(arbitrum_proxy: RpcProxy, make: Make) -> None:
    client = make(arbitrum_proxy.url)
    head, refusal = await client.batch([*HEAD, ("eth_nonesuch", [])])
    assert int(head, 16) >= 0
    assert isinstance(refusal, RpcError)
    assert refusal.code == -32601
    with pytest.raises(RpcError):
        await client.call("eth_nonesuch")


async def test_idle_connection_closed_by_the_node_costs_nothing(
    local_chains: LocalChains, make: Make
) -> None:
    """As after a node's restart: the pooled connection is dead, the node is not."""
    connections: list[asyncio.StreamWriter] = []
    body = json.dumps([{"id": 0, "result": "0x1"}, {"id": 1, "result": "0xa4b1"}]).encode()

    async def serve_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keeps the connection open after the first answer, drops it at the second request."""
        connections.append(writer)
        await reader.readuntil(b"eth_chainId")
        await reader.readuntil(b"}]")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        await reader.read(1)
        writer.transport.abort()

    server = await asyncio.start_server(serve_once, "127.0.0.1", 0)
    async with server:
        client = make(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert await client.batch(HEAD) == ["0x1"]
        assert await client.batch(HEAD) == ["0x1"]
        await client.close()
    assert len(connections) == 2


async def test_client_without_a_url_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no RPC URL"):
        RpcClient(ARBITRUM)


async def test_concurrent_batches_do_not_mix(local_chains: LocalChains, make: Make) -> None:
    client = make(*local_chains.arbitrum.rpc_urls)
    await mine(local_chains.arbitrum.rpc_urls[0], 40)
    answers = await asyncio.gather(
        *(client.batch([("eth_getBlockByNumber", [hex(number), False])]) for number in range(1, 41))
    )
    assert [int(block["number"], 16) for (block,) in answers] == list(range(1, 41))
