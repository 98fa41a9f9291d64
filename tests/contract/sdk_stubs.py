"""A gateway and a chain's node that answer as told: faults that no real ones produce on demand."""

import asyncio
import base64
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from moorage.sdk.client import DeployRequest, File, Files

USDC = "0xaf88d065e77c8cC2239327C5EDb3A432268e5831"
PAY_TO = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
PRICE = 500_000
AUTHORIZATION = [
    {"name": "from", "type": "address"},
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"},
    {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]
"""TransferWithAuthorization of EIP-3009."""
AUTHORIZATION_STATE = "0x" + keccak(text="authorizationState(address,bytes32)")[:4].hex()
ACCEPTS = {
    "scheme": "exact",
    "network": "eip155:42161",
    "amount": str(PRICE),
    "asset": USDC,
    "payTo": PAY_TO,
    "maxTimeoutSeconds": 600,
    "extra": {"assetTransferMethod": "eip3009", "name": "USD Coin", "version": "2"},
}
PROJECT = "0b6e0d5e-9d4c-4b5e-8a39-6e1f4a8a0001"
DEPLOYMENT = "0b6e0d5e-9d4c-4b5e-8a39-6e1f4a8a0002"

REQUEST = DeployRequest(
    unique_name="hello",
    display_name="Hello",
    upload=Files(files=(File(path="index.html", content=b"<h1>hello</h1>"),)),
)

Behaviour = Callable[[str], Awaitable[Any]]
"""What a paid POST does, given the hash: returns the answer."""


class Crash(BaseException):
    """The process dies here."""


class FakeTime:
    """A clock that moves only when something waits."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.waits: list[float] = []

    def now_ms(self) -> int:
        return 1_700_000_000_000

    def monotonic_seconds(self) -> float:
        return self.seconds

    async def pause(self, seconds: float) -> None:
        self.seconds += seconds
        self.waits.append(seconds)
        await asyncio.sleep(0)


class CutShort:
    """An answer that breaks off: the connection closes in the middle of the body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"1000"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


def problem(status: int, code: str, *, retryable: bool = False, **extra: Any) -> Response:
    body = {"error": f"the gateway says {code}", "code": code, "retryable": retryable, **extra}
    return JSONResponse(body, status_code=status)


def demand(**changes: Any) -> Response:
    body = {
        "error": "Payment required",
        "amount_usd": 0.5,
        "amount_token": str(PRICE),
        "current_credit_balance_usd": 0,
        "active_projects": 0,
        "pay_to": PAY_TO,
        "payment_chain": "arbitrum",
        "token": "usdc",
        "decimals": 6,
        "supported_chains": [{"chain": "arbitrum", "chain_id": 42161, "tokens": ["usdc", "usdt"]}],
    }
    return JSONResponse(body | changes, status_code=402)


def settling(accepts: list[dict[str, Any]] | None) -> Response:
    """A demand whose PAYMENT-REQUIRED offers to settle what `accepts` lists."""
    answer = demand()
    if accepts is not None:
        required = json.dumps({"x402Version": 2, "accepts": accepts})
        answer.headers["PAYMENT-REQUIRED"] = base64.b64encode(required.encode()).decode()
    return answer


def deploying() -> Response:
    return JSONResponse(
        {
            "projectId": PROJECT,
            "deploymentId": DEPLOYMENT,
            "status": "deploying",
            "message": "Deployment started. Poll status for updates.",
        }
    )


def topped_up(tx_hash: str) -> Response:
    return JSONResponse(
        {"credited_usd": 0.5, "balance_usd": 0.75, "chain_id": 42161, "tx_hash": tx_hash}
    )


class StubNode:
    """A chain: transactions are decoded and checked by eth_account, not by what made them."""

    def __init__(self) -> None:
        self.balance = 1_000_000_000
        self.wei = 10**18
        self.chain_id = 42161
        self.base_fee: int | None = 10_000_000
        self.mining = True
        self.reverting = False
        self.refusal: str | None = None
        self.answers_lost = 0
        self.finalized_count = 0
        self.sent: list[str] = []
        self.used_nonces: set[str] = set()
        """Of authorizations that the token has carried out."""
        self.block_time = 0
        self.url = ""

    @property
    def payments(self) -> set[str]:
        """The hashes of the different transactions that were broadcast."""
        return set(self.sent)

    async def serve(self, request: Request) -> Response:
        questions = json.loads(await request.body())
        answered = [self._answer(question) for question in questions]
        is_sent = any(question["method"] == "eth_sendRawTransaction" for question in questions)
        if is_sent and self.answers_lost:
            self.answers_lost -= 1
            return CutShort()  # type: ignore[return-value]
        return JSONResponse(answered)

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        answer = {"jsonrpc": "2.0", "id": question["id"]}
        try:
            return answer | {"result": self._result(question["method"], question["params"])}
        except ValueError as error:
            return answer | {"error": {"code": -32000, "message": str(error)}}

    def _result(self, method: str, params: list[Any]) -> Any:
        match method:
            case "eth_chainId":
                return hex(self.chain_id)
            case "eth_call" if params[0]["data"].startswith(AUTHORIZATION_STATE):
                return "0x" + f"{'0x' + params[0]['data'][-64:] in self.used_nonces:064x}"
            case "eth_call":
                return "0x" + f"{self.balance:064x}"
            case "eth_getBalance":
                return hex(self.wei)
            case "eth_getTransactionCount":
                return hex(self.finalized_count if params[1] == "finalized" else 7 + len(self.sent))
            case "eth_estimateGas":
                return hex(60_000)
            case "eth_gasPrice":
                return hex(20_000_000)
            case "eth_maxPriorityFeePerGas":
                return hex(1_000)
            case "eth_getBlockByNumber":
                fee = {} if self.base_fee is None else {"baseFeePerGas": hex(self.base_fee)}
                return {"timestamp": hex(self.block_time)} | fee
            case "eth_sendRawTransaction":
                return self._send(params[0])
            case "eth_getTransactionReceipt":
                mined = self.mining and params[0] in self.sent
                return {"status": "0x0" if self.reverting else "0x1"} if mined else None
            case "eth_getTransactionByHash":
                return {"hash": params[0]} if params[0] in self.sent else None
        raise ValueError(f"no method {method}")

    def _send(self, raw: str) -> str:
        if self.refusal:
            raise ValueError(self.refusal)
        tx_hash = "0x" + keccak(hexstr=raw).hex()
        if tx_hash in self.sent:
            raise ValueError("already known")
        self.sent.append(tx_hash)
        return tx_hash


class StubGateway:
    """The contract's endpoints; each signed request is checked with eth_account.

    `paid` holds what the next paid POSTs do, one each; after them, a hash pays once and then is
    used (409 with the ids). `unpaid` answers POSTs without payment, until the name is deployed.
    """

    def __init__(self) -> None:
        self.paid: list[Behaviour] = []
        self.unpaid: Callable[[Request], Response] = lambda _: demand()
        self.statuses: list[dict[str, Any] | Response] = []
        self.deploys: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.puts: list[bytes] = []
        self.authorizations: list[dict[str, str]] = []
        self.uploads: dict[str, bytes] = {}
        self.storing: Response | CutShort | None = None
        """What a PUT of an upload is answered, if it is not stored."""
        self.queries: list[str] = []
        self.nonces: set[str] = set()
        self.used: set[str] = set()
        self.gate: asyncio.Barrier | None = None
        """Where the first unpaid POSTs wait for each other."""
        nothing_yet = {"wallet": PAY_TO, "count": 0, "projects": []}
        self.other: dict[tuple[str, str], list[Response]] = {
            ("GET", "/agent/projects"): [JSONResponse(nothing_yet)]
        }
        self.url = ""

    @property
    def hashes(self) -> list[str]:
        """The hash each paid POST presented, in order."""
        found = (headers.get("x-payment-tx") for headers in self.deploys)
        return [tx_hash for tx_hash in found if tx_hash is not None]

    async def deploy(self, request: Request) -> Response:
        self._authenticate(request)
        self.deploys.append(dict(request.headers))
        self.bodies.append(await request.body())
        tx_hash = request.headers.get("x-payment-tx") or self._authorized(request)
        if tx_hash is None:
            if self.gate is not None:
                await self.gate.wait()
                self.gate = None
            return deploying() if self.used else self.unpaid(request)
        if self.paid:
            answer: Response = await self.paid.pop(0)(tx_hash)
            return answer
        return self.take(tx_hash)

    async def store(self, request: Request) -> Response:
        self._authenticate(request)
        body, named = await request.body(), request.path_params["sha256"]
        self.puts.append(body)
        if self.storing is not None:
            return self.storing  # type: ignore[return-value]
        assert named == hashlib.sha256(body).hexdigest()
        self.uploads[named] = body
        upload = {"type": "digest", "sha256": named}
        stored = {"sha256": named, "bytes": len(body), "expires_at": 2_000_000_000}
        return JSONResponse(stored | {"upload": upload})

    async def top_up(self, request: Request) -> Response:
        """A payment is credited once, and answered alike each time it is shown."""
        self._authenticate(request)
        self.deploys.append(dict(request.headers))
        self.bodies.append(await request.body())
        tx_hash = request.headers.get("x-payment-tx") or self._authorized(request)
        if tx_hash is None:
            return self.unpaid(request)
        if self.paid:
            answer: Response = await self.paid.pop(0)(tx_hash)
            return answer
        self.used.add(tx_hash)
        return topped_up(tx_hash)

    def take(self, tx_hash: str) -> Response:
        if tx_hash in self.used:
            return problem(409, "payment_already_used", projectId=PROJECT, deploymentId=DEPLOYMENT)
        self.used.add(tx_hash)
        return deploying()

    async def status(self, request: Request) -> Response:
        self._authenticate(request)
        answer = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    async def anything(self, request: Request) -> Response:
        if "x-signature" in request.headers:
            self._authenticate(request)
        self.queries.append(request.url.query)
        self.bodies.append(await request.body())
        answers = self.other[request.method, request.url.path]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _authorized(self, request: Request) -> str | None:
        """The nonce of an authorization, after a look at what was signed."""
        header = request.headers.get("payment-signature")
        if header is None:
            return None
        shown = json.loads(base64.b64decode(header))
        signed = shown["payload"]["authorization"]
        assert shown["accepted"]["network"] == "eip155:42161"
        assert shown["accepted"]["asset"] == USDC.lower()
        numbers = {name: int(signed[name]) for name in ("value", "validAfter", "validBefore")}
        message = encode_typed_data(
            {
                "name": "USD Coin",
                "version": "2",
                "chainId": 42161,
                "verifyingContract": to_checksum_address(USDC),
            },
            {"TransferWithAuthorization": AUTHORIZATION},
            signed | numbers,
        )
        signature = shown["payload"]["signature"]
        assert Account.recover_message(message, signature=signature) == to_checksum_address(
            signed["from"]
        )
        self.authorizations.append(signed)
        return str(signed["nonce"])

    def _authenticate(self, request: Request) -> None:
        wallet = request.headers["x-wallet-address"]
        nonce = request.headers["x-nonce"]
        assert nonce not in self.nonces, "a nonce was used twice"
        self.nonces.add(nonce)
        text = f"{wallet}:{request.headers['x-timestamp']}:{nonce}"
        signature = request.headers["x-signature"]
        assert Account.recover_message(encode_defunct(text=text), signature=signature) == wallet


def settles(gateway: "StubGateway", response: Response | CutShort) -> Behaviour:
    """A paid POST that takes the payment, and is answered so all the same."""

    async def behave(reference: str) -> Any:
        gateway.used.add(reference)
        return response

    return behave


def answers(response: Response | CutShort) -> Behaviour:
    """A paid POST that is answered so, the hash left unused."""

    async def behave(_tx_hash: str) -> Any:
        return response

    return behave


@asynccontextmanager
async def serving(gateway: StubGateway, node: StubNode) -> AsyncIterator[None]:
    """Both on one free port of 127.0.0.1."""
    app = Starlette(
        routes=[
            Route("/rpc", node.serve, methods=["POST"]),
            Route("/agent/deploy", gateway.deploy, methods=["POST"]),
            Route("/agent/uploads/{sha256}", gateway.store, methods=["PUT"]),
            Route("/agent/credits", gateway.top_up, methods=["POST"]),
            Route("/agent/deploy/{project}/{deployment}/status", gateway.status),
            Route("/{path:path}", gateway.anything, methods=["GET", "POST", "PUT", "DELETE"]),
        ]
    )
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:  # asyncio sets TCP_NODELAY by it
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        gateway.url, node.url = origin, f"{origin}/rpc"
        config = uvicorn.Config(app, log_level="critical", lifespan="off")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            server.should_exit = True
            server.force_exit = True
            await task
